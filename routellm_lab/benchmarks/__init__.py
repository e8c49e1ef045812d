"""Outcomes: who was right. Schema, sources, answer grading."""

from routellm_lab.benchmarks.frames import outcomes_from_frames
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.benchmarks.sources import (
    default_pair,
    list_outcomes,
    load_outcomes,
    load_prompts,
    outcome_names,
    score_columns,
)

__all__ = [
    "Outcomes",
    "default_pair",
    "list_outcomes",
    "load_outcomes",
    "load_prompts",
    "outcome_names",
    "outcomes_from_frames",
    "score_columns",
]

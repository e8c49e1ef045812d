"""Systems: the neighbours of routing, played back on logged answers: cascades, blenders, panels, a cache."""

from routellm_lab.systems.base import (
    METRICS,
    Replay,
    System,
    cheapest_match,
    compare_systems,
    mixed_at,
    paired_gains,
    replayed_choices,
    systems_table,
)
from routellm_lab.systems.verdicts import best_settings, count_significant
from routellm_lab.systems.word_problems import WordProblems, load_word_problems

__all__ = [
    "METRICS",
    "Replay",
    "System",
    "WordProblems",
    "best_settings",
    "cheapest_match",
    "compare_systems",
    "count_significant",
    "load_word_problems",
    "mixed_at",
    "paired_gains",
    "replayed_choices",
    "systems_table",
]

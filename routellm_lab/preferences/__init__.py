"""Battles: who was preferred. Schema, sources, the simulated sample, ratings and tiers, augmentation, judges, splits,
decontamination."""

from routellm_lab.preferences.augment import battles_from_outcomes, pool_battles, relabel_as
from routellm_lab.preferences.battles import models_of, prompt_key, score_a, validate_battles, vote_weights
from routellm_lab.preferences.decontamination import decontaminate, largest_cosine
from routellm_lab.preferences.endpoint import BudgetError, Endpoint, EndpointError
from routellm_lab.preferences.judge import (
    PAIRWISE,
    JudgeTemplate,
    JudgingEstimate,
    answer_missing,
    estimate_judging,
    judge_battles,
)
from routellm_lab.preferences.models import PAPER_PAIR, STAND_INS, ModelPair, find_model, resolve_pair
from routellm_lab.preferences.ratings import Tiers, fit_ratings, fit_tiers
from routellm_lab.preferences.sources import battle_names, list_battles, load_battles
from routellm_lab.preferences.splits import sample_questions, split_by_prompt

__all__ = [
    "PAIRWISE",
    "PAPER_PAIR",
    "STAND_INS",
    "BudgetError",
    "Endpoint",
    "EndpointError",
    "JudgeTemplate",
    "JudgingEstimate",
    "ModelPair",
    "Tiers",
    "answer_missing",
    "battle_names",
    "battles_from_outcomes",
    "decontaminate",
    "estimate_judging",
    "find_model",
    "fit_ratings",
    "fit_tiers",
    "judge_battles",
    "largest_cosine",
    "list_battles",
    "load_battles",
    "models_of",
    "pool_battles",
    "prompt_key",
    "relabel_as",
    "resolve_pair",
    "sample_questions",
    "score_a",
    "split_by_prompt",
    "validate_battles",
    "vote_weights",
]

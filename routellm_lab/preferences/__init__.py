"""Battles: who was preferred. Schema, sources, the simulated sample, ratings and tiers, augmentation, difficulty,
splits, decontamination."""

from routellm_lab._moved import moved
from routellm_lab.preferences.augment import (
    battles_from_outcomes,
    length_controlled,
    pool_battles,
    relabel_as,
    soft_votes,
)
from routellm_lab.preferences.battles import models_of, prompt_key, result_for_a, validate_battles, vote_weights
from routellm_lab.preferences.decontamination import GoldSplit, decontaminate, gold_split, largest_cosine
from routellm_lab.preferences.difficulty import Difficulty, battles_from_difficulty, fit_difficulty
from routellm_lab.preferences.models import PAPER_PAIR, STAND_INS, ModelPair, find_model, judges_of, resolve_pair
from routellm_lab.preferences.ratings import Tiers, fit_ratings, fit_tiers
from routellm_lab.preferences.sources import battle_names, list_battles, load_battles, with_answer_lengths
from routellm_lab.preferences.splits import sample_questions, split_by_prompt

__all__ = [
    "PAPER_PAIR",
    "STAND_INS",
    "Difficulty",
    "GoldSplit",
    "ModelPair",
    "Tiers",
    "battle_names",
    "battles_from_difficulty",
    "battles_from_outcomes",
    "decontaminate",
    "find_model",
    "fit_difficulty",
    "fit_ratings",
    "fit_tiers",
    "gold_split",
    "judges_of",
    "largest_cosine",
    "length_controlled",
    "list_battles",
    "load_battles",
    "models_of",
    "pool_battles",
    "prompt_key",
    "relabel_as",
    "resolve_pair",
    "result_for_a",
    "sample_questions",
    "soft_votes",
    "split_by_prompt",
    "validate_battles",
    "vote_weights",
    "with_answer_lengths",
]

__getattr__ = moved(
    __name__,
    {
        "judging": [
            "BudgetError",
            "Endpoint",
            "EndpointError",
            "JudgeTemplate",
            "JudgingEstimate",
            "PAIRWISE",
            "answer_missing",
            "estimate_judging",
            "judge_battles",
        ]
    },
)

"""Judging: a model as judge of answers over a paid endpoint, and how far judges agree."""

from routellm_lab.judging.agreement import (
    Agreement,
    Bias,
    agreement,
    agreement_by,
    bias_table,
    judges_compared,
    length_bias,
    length_groups,
    length_ratio,
    match_votes,
    position_bias,
)
from routellm_lab.judging.endpoint import BudgetError, Endpoint, EndpointError
from routellm_lab.judging.judge import (
    JudgingEstimate,
    answer_missing,
    estimate_judging,
    judge_battles,
    placeholder_answers,
)
from routellm_lab.judging.template import PAIRWISE, JudgeTemplate

__all__ = [
    "PAIRWISE",
    "Agreement",
    "Bias",
    "BudgetError",
    "Endpoint",
    "EndpointError",
    "JudgeTemplate",
    "JudgingEstimate",
    "agreement",
    "agreement_by",
    "answer_missing",
    "bias_table",
    "estimate_judging",
    "judge_battles",
    "judges_compared",
    "length_bias",
    "length_groups",
    "length_ratio",
    "match_votes",
    "placeholder_answers",
    "position_bias",
]

"""Evaluation: routing curves, significance, power, ablation, and the paper's figures beside ours."""

from routellm_lab.evaluation.ablation import ablation
from routellm_lab.evaluation.achievable import achieved_share, best_possible
from routellm_lab.evaluation.curve import RoutingCurve, evaluate
from routellm_lab.evaluation.groups import Correlation, apgr_by_group, rank_correlation
from routellm_lab.evaluation.learning import learning_curve
from routellm_lab.evaluation.paper import (
    PAPER_SOURCE,
    commercial_points,
    comparison_table,
    paper_figure,
    paper_other_tables,
    paper_results,
)
from routellm_lab.evaluation.power import Power, questions_needed, questions_to_tell
from routellm_lab.evaluation.significance import Comparison, compare_all, holm
from routellm_lab.evaluation.training_sets import TrainingSets, paper_training_sets

__all__ = [
    "PAPER_SOURCE",
    "Comparison",
    "Correlation",
    "Power",
    "RoutingCurve",
    "TrainingSets",
    "ablation",
    "achieved_share",
    "apgr_by_group",
    "best_possible",
    "commercial_points",
    "compare_all",
    "comparison_table",
    "evaluate",
    "holm",
    "learning_curve",
    "paper_figure",
    "paper_other_tables",
    "paper_results",
    "paper_training_sets",
    "questions_needed",
    "questions_to_tell",
    "rank_correlation",
]

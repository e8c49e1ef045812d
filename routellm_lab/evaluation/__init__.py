"""Evaluation: routing curves, significance, and the paper's figures beside ours."""

from routellm_lab.evaluation.achievable import achieved_share, best_possible
from routellm_lab.evaluation.curve import RoutingCurve, evaluate
from routellm_lab.evaluation.learning import learning_curve
from routellm_lab.evaluation.paper import (
    PAPER_SOURCE,
    comparison_table,
    paper_figure,
    paper_other_tables,
    paper_results,
)
from routellm_lab.evaluation.significance import Comparison, holm
from routellm_lab.evaluation.training_sets import TrainingSets, paper_training_sets

__all__ = [
    "PAPER_SOURCE",
    "Comparison",
    "RoutingCurve",
    "TrainingSets",
    "achieved_share",
    "best_possible",
    "comparison_table",
    "evaluate",
    "holm",
    "learning_curve",
    "paper_figure",
    "paper_other_tables",
    "paper_results",
    "paper_training_sets",
]

"""Evaluation: routing curves, their cost, significance, power, groups, verdicts, the paper's figures."""

from routellm_lab._moved import moved
from routellm_lab.evaluation.achievable import achieved_share, best_possible
from routellm_lab.evaluation.cost_curve import PairCostCurve, cost_savings, cost_table
from routellm_lab.evaluation.curve import RoutingCurve, evaluate
from routellm_lab.evaluation.groups import Correlation, apgr_by_group, rank_correlation
from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.evaluation.paper import commercial_points, comparison_table
from routellm_lab.evaluation.power import Power, detectable_difference, power_curve, power_table, required_questions
from routellm_lab.evaluation.refits import (
    RefitCurves,
    Spread,
    apgr_table,
    compare_recipes,
    evaluate_fits,
    fit_again,
    gains_over,
)
from routellm_lab.evaluation.significance import Comparison, compare_all, compare_with, holm
from routellm_lab.evaluation.verdict import Estimate, Verdict, should_route, verdict_table
from routellm_lab.paper import PAPER_SOURCE, paper_other_tables, paper_results, paper_value
from routellm_lab.resampling import Bootstrap

__all__ = [
    "PAPER_SOURCE",
    "Bootstrap",
    "Comparison",
    "Correlation",
    "Estimate",
    "PairCostCurve",
    "Power",
    "RefitCurves",
    "RoutingCurve",
    "Spread",
    "Verdict",
    "achieved_share",
    "apgr_by_group",
    "apgr_table",
    "best_possible",
    "commercial_points",
    "compare_all",
    "compare_recipes",
    "compare_with",
    "comparison_table",
    "cost_savings",
    "cost_table",
    "detectable_difference",
    "evaluate",
    "evaluate_fits",
    "fit_again",
    "gains_over",
    "holm",
    "paper_other_tables",
    "paper_results",
    "paper_value",
    "power_curve",
    "power_table",
    "rank_correlation",
    "required_questions",
    "share_interval",
    "should_route",
    "verdict_table",
]

__getattr__ = moved(__name__, {"studies": ["paper_training_sets"]})

"""Evaluation: routing curves, significance, power, ablation, robustness, agreement of judges, the paper's figures."""

from routellm_lab.evaluation.ablation import ablation
from routellm_lab.evaluation.achievable import achieved_share, best_possible
from routellm_lab.evaluation.agreement import (
    Agreement,
    Bias,
    agreement,
    agreement_by,
    length_bias,
    length_groups,
    length_ratio,
    match_votes,
    position_bias,
)
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
from routellm_lab.evaluation.refits import (
    RefitCurves,
    Spread,
    apgr_table,
    compare_recipes,
    evaluate_fits,
    fit_again,
    gains_over,
)
from routellm_lab.evaluation.robustness import (
    PERTURBATIONS,
    SUFFIX_WORDS,
    AdversarialSuffix,
    adversarial_suffix,
    flip_rates,
    perturb,
)
from routellm_lab.evaluation.significance import Comparison, compare_all, holm
from routellm_lab.evaluation.training_sets import TrainingSets, paper_training_sets
from routellm_lab.evaluation.transfer import (
    cross_fitted,
    cross_group_matrix,
    leave_group_out,
    pair_properties,
    pairs_by_gap,
    transfer_table,
    unseen_prompts,
)
from routellm_lab.evaluation.validation import HeldOut, outcomes_from_battles, random_groups, validate_router
from routellm_lab.evaluation.verdict import Estimate, Verdict, should_route, verdict_table

__all__ = [
    "PAPER_SOURCE",
    "PERTURBATIONS",
    "SUFFIX_WORDS",
    "AdversarialSuffix",
    "Agreement",
    "Bias",
    "Comparison",
    "Correlation",
    "Estimate",
    "HeldOut",
    "Power",
    "RefitCurves",
    "RoutingCurve",
    "Spread",
    "TrainingSets",
    "Verdict",
    "ablation",
    "achieved_share",
    "adversarial_suffix",
    "agreement",
    "agreement_by",
    "apgr_by_group",
    "apgr_table",
    "best_possible",
    "commercial_points",
    "compare_all",
    "compare_recipes",
    "comparison_table",
    "cross_fitted",
    "cross_group_matrix",
    "evaluate",
    "evaluate_fits",
    "fit_again",
    "flip_rates",
    "gains_over",
    "holm",
    "learning_curve",
    "leave_group_out",
    "length_bias",
    "length_groups",
    "length_ratio",
    "match_votes",
    "outcomes_from_battles",
    "pair_properties",
    "pairs_by_gap",
    "paper_figure",
    "paper_other_tables",
    "paper_results",
    "paper_training_sets",
    "perturb",
    "position_bias",
    "questions_needed",
    "questions_to_tell",
    "random_groups",
    "rank_correlation",
    "should_route",
    "transfer_table",
    "unseen_prompts",
    "validate_router",
    "verdict_table",
]

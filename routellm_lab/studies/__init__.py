"""Studies: what the notebooks do at length. Training sets, ablation, learning curves, transfer, robustness,
validation."""

from routellm_lab.studies.ablation import ablation
from routellm_lab.studies.deployment import Deployment, deployment_decision, rival_curves, surest_prompts
from routellm_lab.studies.gold_labels import GoldLabelDraws, gold_label_draws
from routellm_lab.studies.learning_curves import learning_curve
from routellm_lab.studies.robustness import (
    PERTURBATIONS,
    SUFFIX_WORDS,
    AdversarialSuffix,
    adversarial_suffix,
    flip_rates,
    perturb,
)
from routellm_lab.studies.training_sets import TrainingSets, paper_training_sets
from routellm_lab.studies.transfer import (
    cross_fitted,
    cross_group_matrix,
    leave_group_out,
    pair_properties,
    pairs_by_gap,
    transfer_table,
    unseen_prompts,
)
from routellm_lab.studies.validation import ValidationSource, outcomes_from_battles, random_groups, validate_router
from routellm_lab.studies.vote_loss import vote_loss

__all__ = [
    "PERTURBATIONS",
    "SUFFIX_WORDS",
    "AdversarialSuffix",
    "Deployment",
    "GoldLabelDraws",
    "TrainingSets",
    "ValidationSource",
    "ablation",
    "adversarial_suffix",
    "cross_fitted",
    "cross_group_matrix",
    "deployment_decision",
    "flip_rates",
    "gold_label_draws",
    "learning_curve",
    "leave_group_out",
    "outcomes_from_battles",
    "pair_properties",
    "pairs_by_gap",
    "paper_training_sets",
    "perturb",
    "random_groups",
    "rival_curves",
    "surest_prompts",
    "transfer_table",
    "unseen_prompts",
    "validate_router",
    "vote_loss",
]

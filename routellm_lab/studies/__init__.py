"""Studies: what the notebooks do at length. Training sets, ablation, learning curves, transfer, robustness,
validation."""

from routellm_lab.studies.ablation import ablation
from routellm_lab.studies.deployment import best_published, deployment_advice, deployment_table, joined
from routellm_lab.studies.label_draws import LabelDraws, label_draws
from routellm_lab.studies.learning_curves import gain_per_doubling, label_growth, learning_curve
from routellm_lab.studies.pair_transfer import (
    apgr_by_familiarity,
    compare_encoders,
    pairs_better,
    property_correlations,
    transfer_advice,
    transfer_study,
)
from routellm_lab.studies.recipes import (
    RECIPE_NAME,
    Attempt,
    label_sets,
    labels_and_places,
    mmlu_attempt,
    recipe_attempts,
    validate_attempts,
    validation_sources,
)
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
from routellm_lab.studies.validation import (
    ValidationSource,
    outcomes_from_battles,
    random_groups,
    validate_router,
    validation_ranking,
)

__all__ = [
    "PERTURBATIONS",
    "RECIPE_NAME",
    "SUFFIX_WORDS",
    "AdversarialSuffix",
    "Attempt",
    "LabelDraws",
    "TrainingSets",
    "ValidationSource",
    "ablation",
    "adversarial_suffix",
    "apgr_by_familiarity",
    "best_published",
    "compare_encoders",
    "cross_fitted",
    "cross_group_matrix",
    "deployment_advice",
    "deployment_table",
    "flip_rates",
    "gain_per_doubling",
    "joined",
    "label_draws",
    "label_growth",
    "label_sets",
    "labels_and_places",
    "learning_curve",
    "leave_group_out",
    "mmlu_attempt",
    "outcomes_from_battles",
    "pair_properties",
    "pairs_better",
    "pairs_by_gap",
    "paper_training_sets",
    "perturb",
    "property_correlations",
    "random_groups",
    "recipe_attempts",
    "transfer_advice",
    "transfer_study",
    "transfer_table",
    "unseen_prompts",
    "validate_attempts",
    "validate_router",
    "validation_ranking",
    "validation_sources",
]

"""Studies: what the notebooks do at length. Training sets, ablation, learning curves, transfer, robustness,
validation."""

from routellm_lab.studies.ablation import ablation, ablation_findings, paper_changes
from routellm_lab.studies.deployment import Deployment, deployment_decision, rival_curves, surest_prompts
from routellm_lab.studies.first_router import (
    deployment_sentences,
    recommended_and_questions,
    rival_sentence,
    rivals_table,
)
from routellm_lab.studies.gold_labels import GoldLabelDraws, gold_label_draws
from routellm_lab.studies.held_out import halves, held_out_benchmarks
from routellm_lab.studies.learning_curves import learning_curve
from routellm_lab.studies.paper_tables import (
    BENCHMARK_TITLES,
    benchmark_findings,
    better_by_grading,
    better_than,
    bounded_intervals,
    evaluate_recipes,
    fit_recipes,
    fits_table,
    gradings_table,
    oracle_curves,
    recipe_tables,
    table_columns,
    training_set_table,
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
from routellm_lab.studies.validation import ValidationSource, outcomes_from_battles, random_groups, validate_router
from routellm_lab.studies.vote_loss import vote_loss

__all__ = [
    "BENCHMARK_TITLES",
    "PERTURBATIONS",
    "SUFFIX_WORDS",
    "AdversarialSuffix",
    "Deployment",
    "GoldLabelDraws",
    "TrainingSets",
    "ValidationSource",
    "ablation",
    "ablation_findings",
    "adversarial_suffix",
    "benchmark_findings",
    "better_by_grading",
    "better_than",
    "bounded_intervals",
    "cross_fitted",
    "cross_group_matrix",
    "deployment_decision",
    "deployment_sentences",
    "evaluate_recipes",
    "fit_recipes",
    "fits_table",
    "flip_rates",
    "gold_label_draws",
    "gradings_table",
    "halves",
    "held_out_benchmarks",
    "learning_curve",
    "leave_group_out",
    "oracle_curves",
    "outcomes_from_battles",
    "pair_properties",
    "pairs_by_gap",
    "paper_changes",
    "paper_training_sets",
    "perturb",
    "random_groups",
    "recipe_tables",
    "recommended_and_questions",
    "rival_curves",
    "rival_sentence",
    "rivals_table",
    "surest_prompts",
    "table_columns",
    "training_set_table",
    "transfer_table",
    "unseen_prompts",
    "validate_router",
    "vote_loss",
]

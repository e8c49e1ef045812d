"""Routers: from prompts to win rates."""

from routellm_lab.routers.base import ManyModelRouter, PairOnlyRouter, Router, load_router, tier_votes
from routellm_lab.routers.baselines import ConstantRouter, KNNRouter, PromptLengthRouter, RandomRouter, RidgeRouter
from routellm_lab.routers.bert import BertRouter
from routellm_lab.routers.causal import CausalLMRouter
from routellm_lab.routers.factorization import MatrixFactorizationRouter
from routellm_lab.routers.kernel import KernelRouter
from routellm_lab.routers.recommended import (
    RECIPE,
    gold_prompt_ids,
    recommended_router,
    recommended_sets,
    router_card,
)
from routellm_lab.routers.similarity import SimilarityWeightedRouter
from routellm_lab.routers.training import Training

__all__ = [
    "RECIPE",
    "BertRouter",
    "CausalLMRouter",
    "ConstantRouter",
    "KNNRouter",
    "KernelRouter",
    "ManyModelRouter",
    "MatrixFactorizationRouter",
    "PairOnlyRouter",
    "PromptLengthRouter",
    "RandomRouter",
    "RidgeRouter",
    "Router",
    "SimilarityWeightedRouter",
    "Training",
    "gold_prompt_ids",
    "load_router",
    "recommended_router",
    "recommended_sets",
    "router_card",
    "tier_votes",
]

"""Routers: from prompts to win rates."""

from routellm_lab.routers.base import ManyModelRouter, PairOnlyRouter, Router, tier_votes
from routellm_lab.routers.baselines import ConstantRouter, KNNRouter, PromptLengthRouter, RandomRouter, RidgeRouter
from routellm_lab.routers.factorization import MatrixFactorizationRouter
from routellm_lab.routers.kernel import KernelRouter
from routellm_lab.routers.recommended import (
    RECIPE,
    gold_prompt_ids,
    recommended_router,
    recommended_sets,
    router_card,
)
from routellm_lab.routers.saving import load_router
from routellm_lab.routers.similarity import SimilarityWeightedRouter
from routellm_lab.routers.transformers.bert import BertRouter
from routellm_lab.routers.transformers.causal import CausalLMRouter
from routellm_lab.routers.transformers.training import Training
from routellm_lab.routers.utility import (
    ClusterUtility,
    ConstantUtility,
    LogisticUtility,
    NearestUtility,
    RatedUtility,
    ResponseTheoryUtility,
    RidgeUtility,
    UtilityRouter,
    random_battles,
)

__all__ = [
    "RECIPE",
    "BertRouter",
    "CausalLMRouter",
    "ClusterUtility",
    "ConstantRouter",
    "ConstantUtility",
    "KNNRouter",
    "KernelRouter",
    "LogisticUtility",
    "ManyModelRouter",
    "MatrixFactorizationRouter",
    "NearestUtility",
    "PairOnlyRouter",
    "PromptLengthRouter",
    "RandomRouter",
    "RatedUtility",
    "ResponseTheoryUtility",
    "RidgeRouter",
    "RidgeUtility",
    "Router",
    "SimilarityWeightedRouter",
    "Training",
    "UtilityRouter",
    "gold_prompt_ids",
    "load_router",
    "random_battles",
    "recommended_router",
    "recommended_sets",
    "router_card",
    "tier_votes",
]

"""Routers: from prompts to win rates."""

from routellm_lab.routers.base import ManyModelRouter, PairOnlyRouter, Router, WinRateRouter
from routellm_lab.routers.baselines import ConstantRouter, KNNRouter, PromptLengthRouter, RandomRouter, RidgeRouter
from routellm_lab.routers.factorization import MatrixFactorizationRouter
from routellm_lab.routers.kernel import KernelRouter
from routellm_lab.routers.pair_votes import PairVotes, tier_votes
from routellm_lab.routers.recommended import (
    RECIPE,
    gold_prompt_ids,
    recommended_router,
    recommended_sets,
    router_card,
)
from routellm_lab.routers.saving import load_router
from routellm_lab.routers.scores import (
    ClusterScores,
    ConstantScores,
    IRTScores,
    KNNScores,
    LogisticScores,
    RidgeScores,
    ScoreRouter,
    VotesScores,
    random_battles,
)
from routellm_lab.routers.similarity import SimilarityWeightedRouter
from routellm_lab.routers.transformers.bert import BertRouter
from routellm_lab.routers.transformers.causal import CausalLMRouter
from routellm_lab.routers.transformers.training import Training

RidgeUtility, LogisticUtility, NearestUtility, ClusterUtility = RidgeScores, LogisticScores, KNNScores, ClusterScores
ConstantUtility, ResponseTheoryUtility, RatedUtility = ConstantScores, IRTScores, VotesScores
UtilityRouter = ScoreRouter
"""Names of version 0.1 that still work."""

__all__ = [
    "RECIPE",
    "BertRouter",
    "CausalLMRouter",
    "ClusterScores",
    "ConstantRouter",
    "ConstantScores",
    "IRTScores",
    "KNNRouter",
    "KNNScores",
    "KernelRouter",
    "LogisticScores",
    "ManyModelRouter",
    "MatrixFactorizationRouter",
    "PairOnlyRouter",
    "PairVotes",
    "PromptLengthRouter",
    "RandomRouter",
    "RidgeRouter",
    "RidgeScores",
    "Router",
    "ScoreRouter",
    "SimilarityWeightedRouter",
    "Training",
    "VotesScores",
    "WinRateRouter",
    "gold_prompt_ids",
    "load_router",
    "random_battles",
    "recommended_router",
    "recommended_sets",
    "router_card",
    "tier_votes",
]

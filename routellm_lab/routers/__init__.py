"""Routers: which model should answer this prompt? There are two kinds, both scikit-learn estimators.

=============  ==============================================  =============================================
..             `WinRateRouter`                                 `ScoreRouter`
=============  ==============================================  =============================================
learns from    votes (battles)                                 graded answers (`Outcomes`)
says           `win_rate`: P(strong wins) + P(tie) / 2 of a    `expected_scores`: a column per model, in the
               pair of models, (n,)                            unit of the grades, (n, models)
chooses        `route`: the strong model where its win rate    `route`: the model with the highest expected
               is at least a threshold                         score; `policies.route_many` minds prices
kinds          `PairOnlyRouter` (one pair) and                 one regression per model, neighbours, clusters,
               `ManyModelRouter`, which serves any pair and    item response theory, or votes (`VotesScores`)
               has `log_strengths`, a column per model
=============  ==============================================  =============================================

From one to the other: graded answers become votes (`random_battles`, or `battles_from_outcomes` for one pair);
`VotesScores` makes a router of scores from a `ManyModelRouter`; and where grades are 0 or 1, half of one plus the
difference of two expected scores is a win rate.

>>> from routellm_lab import ModelPair, load_outcomes
>>> from routellm_lab.routers import MatrixFactorizationRouter, RidgeScores, VotesScores, random_battles
>>> outcomes = load_outcomes("mmlu_pro", data="sample")
>>> outcomes = outcomes.select(outcomes.prompts.index[:200])
>>> strong, weak = outcomes.models[-1], outcomes.models[0]
>>> router = MatrixFactorizationRouter(ModelPair(strong, weak), "hashing", epochs=2)
>>> router.fit(random_battles(outcomes)).win_rate(outcomes.prompts).shape
(200,)
>>> scores = VotesScores(router).fit(outcomes).expected_scores(outcomes.prompts)
>>> list(scores) == outcomes.models
True
>>> scores = RidgeScores("hashing").fit(outcomes).expected_scores(outcomes.prompts)
>>> win_rate = (1 + scores[strong] - scores[weak]) / 2
>>> bool(win_rate.between(0, 1).all())
True

**A router of your own** derives from one of the four bases. Its constructor stores parameters and nothing else. It
overrides these methods, and `fit`, `win_rate` and the others of the base check what goes in and comes out:

=================  ===============================================  =============================================
base               learns in                                        answers in
=================  ===============================================  =============================================
`WinRateRouter`    ``learn(battles)``                               ``compute_win_rate(texts)``, (n,)
`PairOnlyRouter`   ``learn_prompts(prompts, label, weight)``        ``compute_win_rate(texts)``, (n,)
`ManyModelRouter`  ``learn(battles)``, which sets ``models_``       ``compute_log_strengths(texts, models)``,
                                                                    (n, models)
`ScoreRouter`      ``learn(outcomes, scores)``, scores (n, models)  ``compute_expected_scores(texts)``,
                   with NaN where missing                           (n, models)
=================  ===============================================  =============================================

What ``learn`` sets, by names ending in an underscore, is declared in ``saved`` (`routellm_lab.routers.saving.fields`);
``check_parameters`` refuses parameters that cannot be used; `check_router` says whether the contract is kept. An
encoder of your own derives from `routellm_lab.encoders.Encoder` and has ``spec`` (a name that changes whenever its
vectors would), ``dimensions`` and ``encode_texts(texts)``, which returns (n, dimensions) numbers of any length; a
router with such an encoder works but cannot be saved, for `load_router` makes encoders by name.
"""

from routellm_lab.routers.base import ManyModelRouter, PairOnlyRouter, Router, WinRateRouter
from routellm_lab.routers.baselines import ConstantRouter, KNNRouter, PromptLengthRouter, RandomRouter, RidgeRouter
from routellm_lab.routers.checks import check_router
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
    "check_router",
    "gold_prompt_ids",
    "load_router",
    "random_battles",
    "recommended_router",
    "recommended_sets",
    "router_card",
    "tier_votes",
]

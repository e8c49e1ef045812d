"""The loss on votes that a router did not see."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError
from routellm_lab.preferences import result_for_a

if TYPE_CHECKING:
    from routellm_lab.routers import MatrixFactorizationRouter, SimilarityWeightedRouter


def vote_loss(router: "SimilarityWeightedRouter | MatrixFactorizationRouter", votes: pd.DataFrame) -> float:
    """Mean cross-entropy of votes, in nats, under the strengths that a router gives to the models on each prompt.

    Parameters
    ----------
    router : SimilarityWeightedRouter or MatrixFactorizationRouter
        Fitted on other votes.
    votes : DataFrame
        Those with a model that the router does not know are left out. A tie counts one half.

    Returns
    -------
    float
        0.693 (the logarithm of 2) for a router that takes all models as equal.

    Raises
    ------
    DataError
        When no vote is left.
    """
    models = pd.Index(router.models_)
    known = votes[votes["model_a"].isin(models) & votes["model_b"].isin(models)]
    if known.empty:
        raise DataError("vote_loss: no vote is between two models that the router knows")
    strengths = router.log_strengths(known["prompt"]).to_numpy()
    rows = np.arange(len(known))
    first, second = (models.get_indexer(pd.Index(known[side])) for side in ("model_a", "model_b"))
    logit = strengths[rows, first] - strengths[rows, second]
    return float(np.mean(np.logaddexp(0, logit) - result_for_a(known) * logit))


def gamma_sentence(losses: Mapping[float, float]) -> str:
    """Which gamma of the similarity-weighted router predicts held-out votes best, in a sentence or two.

    Parameters
    ----------
    losses : dict of float to float
        Held-out loss in nats per vote, by gamma (see `vote_loss`); 1 is one ranking for all questions.

    Examples
    --------
    >>> gamma_sentence({1.0: 0.6, 10.0: 0.5})
    'Of 2 values of gamma, 10 predicts held-out votes best: 0.5000 nats per vote. One ranking for all questions (gamma 1) has 0.6000 (not tested).'
    >>> gamma_sentence({1.0: 0.5, 10.0: 0.6})
    'No gamma above 1 predicts held-out votes better than one ranking for all questions (0.5000 nats per vote; not tested).'
    """  # noqa: E501
    best, plain = min(losses, key=lambda gamma: losses[gamma]), losses[1.0]
    if losses[best] >= plain:
        return (
            "No gamma above 1 predicts held-out votes better than one ranking for all questions "
            f"({plain:.4f} nats per vote; not tested)."
        )
    return (
        f"Of {len(losses)} values of gamma, {best:g} predicts held-out votes best: {losses[best]:.4f} nats per vote. "
        f"One ranking for all questions (gamma 1) has {plain:.4f} (not tested)."
    )

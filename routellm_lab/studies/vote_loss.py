"""The loss on votes that a router did not see."""

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

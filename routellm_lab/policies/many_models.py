"""The policy of many models: each question goes to the highest utility less lambda times the model's price.

A router says how good every model is expected to be on a question (its `utilities`). Lambda 0 asks for quality whatever
it costs; infinity for the cheapest model always. What that buys: `routellm_lab.evaluation.cost_quality`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError
from routellm_lab.evaluation.net_utility import (
    checked_cost_weight,
    choose,
    finite_utilities,
    model_prices,
    require_utilities,
)


def route_many(utilities: pd.DataFrame, prices: Mapping[str, float] | pd.Series, cost_weight: float) -> np.ndarray:
    """The model to call for each question: the highest utility less lambda times the price.

    Parameters
    ----------
    utilities : DataFrame
        (n, models) expected scores, or any scale on which more is better.
    prices : dict or Series of float
        By model: mean USD per 1,000 questions, known before an answer is. May hold more models.
    cost_weight : float
        Utility that a USD per 1,000 questions must bring, from 0; infinity: the cheapest model always.

    Returns
    -------
    (n,) array of str
        Ties go to the cheaper model.

    Raises
    ------
    DataError
        When there are no models, or a utility is not a finite number.
    ParameterError
        When a model has no price above 0, or lambda is below 0.
    """
    require_utilities(utilities)
    if utilities.shape[1] == 0:
        raise DataError("utilities: no models; give one column per model of the panel")
    models = [str(model) for model in utilities]
    return np.array(models)[
        choose(finite_utilities(utilities), model_prices(prices, models), checked_cost_weight(cost_weight))
    ]

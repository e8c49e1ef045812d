"""Expected scores by item response theory: the difficulty of a prompt predicted from its text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.encoders import as_texts
from routellm_lab.preferences.difficulty import fit_difficulty
from routellm_lab.routers.base import sigmoid
from routellm_lab.routers.saving.fields import NUMBER, Array, Field
from routellm_lab.routers.scores.base import ScoreRouter, check_positive
from routellm_lab.routers.scores.fitting import OWN_LEVEL, PENALTIES, logistic, one_more, training_parts


class IRTScores(ScoreRouter):
    """Item response theory: P(m is right on x) = sigmoid(a_m (theta_m - b(x))), b predicted from the text.

    The difficulty of the training prompts comes from `routellm_lab.preferences.difficulty.fit_difficulty`, that of a
    new one from ridge regression on the encoded prompt. What is predicted from a text varies less than the difficulty
    itself; abilities and discriminations are therefore fitted again, on predicted difficulties of held-out prompts.

    Parameters
    ----------
    encoder : str or Encoder
    alphas : sequence of float
        Penalties of the ridge regression to choose from, by the leave-one-prompt-out squared error.
    folds : int
        Parts of the prompts, by ``keys``, whose difficulty is predicted from the others.
    random_state : int

    Attributes
    ----------
    coefficients_, intercept_ : (d,) array, float
        Of the difficulty, on the encoded prompt.
    response_ : (2, m) array
        a_m theta_m and a_m of every model.
    ability_, discrimination_ : Series
        theta_m and a_m, by model.
    explained_ : float
        Share of the variance of the difficulty that the text tells on held-out prompts.

    Notes
    -----
    One difficulty for all models: which of two models is better can differ between prompts only through their
    discriminations. At least two models are needed to tell difficulty from luck.
    """

    name = "response_theory"
    saved: ClassVar[Mapping[str, Field]] = {
        "response_": Array(2, "m"),
        "coefficients_": Array("d"),
        "intercept_": NUMBER,
        "explained_": NUMBER,
    }

    def __init__(
        self, encoder: Any = "static", alphas: Sequence[float] = PENALTIES, folds: int = 5, random_state: int = 0
    ) -> None:
        self.encoder = encoder
        self.alphas = alphas
        self.folds = folds
        self.random_state = random_state

    def learn(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        from sklearn.linear_model import RidgeCV
        from sklearn.model_selection import PredefinedSplit, cross_val_predict

        check_positive(self, "alphas")
        parts = training_parts(outcomes, self.folds, self.random_state)
        shares = pd.DataFrame(self._to_share(scores), outcomes.scores.index, outcomes.scores.columns)
        difficulty = fit_difficulty(replace(outcomes, scores=shares)).difficulty.to_numpy()
        vectors, ridge = self._encode(outcomes.prompts), RidgeCV(alphas=list(self.alphas))
        told = cross_val_predict(ridge, vectors, difficulty, cv=PredefinedSplit(parts.argmin(axis=0)))
        self.explained_ = float(1 - ((told - difficulty) ** 2).mean() / difficulty.var())
        ridge.fit(vectors, difficulty)
        self.coefficients_, self.intercept_ = ridge.coef_, float(ridge.intercept_)
        self.response_ = logistic(_response_features(told), shares.to_numpy(), np.full(2, 1e-2))

    @property
    def ability_(self) -> pd.Series:
        """theta, (m,): the difficulty at which a model gets half of the range."""
        return pd.Series(self.response_[0] / self.response_[1], self.models_, name="ability")

    @property
    def discrimination_(self) -> pd.Series:
        """a, (m,): how sharply a model's scores fall with the difficulty told."""
        return pd.Series(self.response_[1], self.models_, name="discrimination")

    def difficulty(self, prompts: Iterable[str]) -> np.ndarray:
        """Difficulty predicted from the text, (n,): 0 is the mean and 1 the standard deviation of those measured."""
        check_is_fitted(self, "models_")
        texts = as_texts(prompts)
        return self._encode(texts) @ self.coefficients_ + self.intercept_ if texts else np.zeros(0)

    def compute_expected_scores(self, texts: list[str]) -> np.ndarray:
        return self._from_share(sigmoid(_response_features(self.difficulty(texts)) @ self.response_))

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        features, own = _response_features(self.difficulty(texts)), np.diag([4 * OWN_LEVEL, 0.2])
        return {"response_": one_more(self.response_, own, features, self._to_share(scores))}


def _response_features(difficulty: np.ndarray) -> np.ndarray:
    """What the log-odds a theta - a b are linear in, (n, 2)."""
    return np.column_stack([np.ones(len(difficulty)), -difficulty])

"""Expected scores by ridge regression."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError
from routellm_lab.routers.saving.fields import NUMBER, Array, Field
from routellm_lab.routers.scores.base import ScoreRouter, check_positive
from routellm_lab.routers.scores.fitting import OWN_LEVEL, OWN_SHARE, PENALTIES, one_more


class RidgeScores(ScoreRouter):
    """Ridge regression of every model's score on the encoded prompt.

    Parameters
    ----------
    encoder : str or Encoder
    alphas : sequence of float
        Penalties to choose from, for each model, by the leave-one-prompt-out squared error.

    Attributes
    ----------
    alphas_ : (m,) array
        The chosen penalties.
    coefficients_ : (d + 1, m) array
        The last row is the intercept.
    """

    name = "ridge"
    saved: ClassVar[Mapping[str, Field]] = {"alphas_": Array("m"), "coefficients_": Array("f", "m"), "noise_": NUMBER}

    def __init__(self, encoder: Any = "static", alphas: Sequence[float] = PENALTIES) -> None:
        self.encoder = encoder
        self.alphas = alphas

    def learn(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        from sklearn.linear_model import RidgeCV

        check_positive(self, "alphas")
        vectors, known = self._encode(outcomes.prompts), ~np.isnan(scores)
        self.alphas_, self.coefficients_ = np.empty(scores.shape[1]), np.empty((vectors.shape[1] + 1, scores.shape[1]))
        error = 0.0
        # models with scores on the same prompts are solved at once
        patterns, pattern_of = np.unique(known, axis=1, return_inverse=True)
        for number, rows in enumerate(patterns.T):
            models = np.flatnonzero(pattern_of == number)
            if rows.sum() < 2:
                raise DataError(f"RidgeScores: model {self.models_[models[0]]!r} has a single score; leave it out")
            targets = scores[np.ix_(rows, models)]
            ridge = RidgeCV(alphas=list(self.alphas), alpha_per_target=True).fit(vectors[rows], targets)
            self.alphas_[models] = ridge.alpha_
            self.coefficients_[:-1, models] = np.atleast_2d(ridge.coef_).T
            self.coefficients_[-1, models] = ridge.intercept_
            error += ((targets - ridge.predict(vectors[rows]).reshape(targets.shape)) ** 2).sum()
        self.noise_ = error / known.sum()

    def compute_expected_scores(self, texts: list[str]) -> np.ndarray:
        return self._features(texts) @ self.coefficients_

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        alpha = float(np.exp(np.log(self.alphas_).mean()))
        own = np.sqrt(self.noise_ / alpha * OWN_SHARE) * np.eye(len(self.coefficients_))
        own[-1, -1] = OWN_LEVEL * (self.high_ - self.low_)
        features = self._features(texts)
        return {
            "alphas_": np.array(alpha),
            "coefficients_": one_more(self.coefficients_, own, features, scores, self.noise_),
        }

"""Expected scores by logistic regression."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.routers.base import sigmoid
from routellm_lab.routers.saving.fields import NUMBER, Array, Field
from routellm_lab.routers.scores.base import ScoreRouter, check_positive
from routellm_lab.routers.scores.fitting import OWN_LEVEL, OWN_SHARE, logistic, one_more, training_parts


class LogisticScores(ScoreRouter):
    """Logistic regression of every model's score, as a share of the range, on the encoded prompt.

    Parameters
    ----------
    encoder : str or Encoder
    penalties : sequence of float
        Of the squared coefficients (half of them), to choose from, for all models, by the held-out log loss.
    folds : int
        Parts of the prompts, by ``keys``, each of which is held out in turn.
    random_state : int

    Attributes
    ----------
    penalty_ : float
    coefficients_ : (d + 1, m) array
        Of the log-odds; the last row is the intercept.
    """

    name = "logistic"
    saved: ClassVar[Mapping[str, Field]] = {"coefficients_": Array("f", "m"), "penalty_": NUMBER}

    def __init__(
        self,
        encoder: Any = "static",
        penalties: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0),
        folds: int = 3,
        random_state: int = 0,
    ) -> None:
        self.encoder = encoder
        self.penalties = penalties
        self.folds = folds
        self.random_state = random_state

    def learn(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        check_positive(self, "penalties")
        parts = training_parts(outcomes, self.folds, self.random_state)
        features, targets = self._features(outcomes.prompts), self._to_share(scores)
        penalty = [np.append(np.full(features.shape[1] - 1, float(value)), 1e-3) for value in self.penalties]
        losses = np.zeros(len(penalty))
        for train in parts if len(penalty) > 1 else ():
            start = None
            for place in np.argsort(self.penalties)[::-1]:
                start = logistic(features[train], targets[train], penalty[place], start=start)
                logit = features[~train] @ start
                losses[place] += np.nansum(np.logaddexp(0, logit) - targets[~train] * logit)
        best = int(np.argmin(losses))
        self.penalty_ = float(self.penalties[best])
        self.coefficients_ = logistic(features, targets, penalty[best])

    def compute_expected_scores(self, texts: list[str]) -> np.ndarray:
        return self._from_share(sigmoid(self._features(texts) @ self.coefficients_))

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        own = np.sqrt(OWN_SHARE / self.penalty_) * np.eye(len(self.coefficients_))
        own[-1, -1] = 4 * OWN_LEVEL  # log-odds have a slope of 4 at one half
        features = self._features(texts)
        return {"coefficients_": one_more(self.coefficients_, own, features, self._to_share(scores))}

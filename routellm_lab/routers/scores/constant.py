"""The same expected scores for every prompt."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.routers.saving.fields import Array, Field
from routellm_lab.routers.scores.base import ScoreRouter


class ConstantScores(ScoreRouter):
    """Every model's mean score, whatever the prompt: the best single model, and what any other router has to beat.

    Attributes
    ----------
    mean_ : (m,) array
    """

    name = "constant"
    saved: ClassVar[Mapping[str, Field]] = {"mean_": Array("m")}

    def learn(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        self.mean_ = np.nanmean(scores, axis=0)

    def compute_expected_scores(self, texts: list[str]) -> np.ndarray:
        return np.tile(self.mean_, (len(texts), 1))

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean_": np.array(scores.mean())}

"""PanelRouter: a router that chooses per question one of the models or one of the panels."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.tokens import PER
from routellm_lab.encoders import as_texts, make_encoder
from routellm_lab.errors import ParameterError, require_number
from routellm_lab.systems.base import Replay
from routellm_lab.systems.panels import Panel, answer_codes, checked_panel, panel_vote, ranked_panel, sample_panels

_ALPHAS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # by leave-one-out error, one for all architectures


class PanelRouter:
    """Chooses the architecture per question: one of the models, or one of the panels.

    Score and dollars of every architecture are predicted from the text of the question (ridge regressions on its
    encoding); the largest predicted score - cost_weight x dollars is asked.

    Parameters
    ----------
    panels : sequence of sequences of str, optional
        Beside the single models, which are always there; by default 20 panels each of 3, 5 and 7 of the log's models
        (`sample_panels`), sizes that the log has too few models for left out.
    cost_weight : float
        What a dollar per 1,000 questions must bring in mean score, from 0. Which weights mix panels and single models
        depends on the prices (on real answers to GSM8K .003 to .02 do): `cost_weight_at` finds the one for a budget.
    encoder : str or Encoder
    random_state : int
        Of the default panels.

    Attributes
    ----------
    architectures_ : list of tuple of str
        Members of each, best first on the training part.
    quality_, dollars_ : (a,) arrays
        Means on the training part: score, and USD per question.
    """

    name = "panel router"

    def __init__(
        self,
        panels: Sequence[Sequence[str]] | None = None,
        cost_weight: float = 0.0,
        encoder: Any = "static",
        random_state: int = 0,
    ) -> None:
        self.panels = panels
        self.cost_weight = cost_weight
        self.encoder = encoder
        self.random_state = random_state

    def fit(self, log: AnswerLog) -> "PanelRouter":
        """Learn from a training log.

        Raises
        ------
        ParameterError, DataError
            As `majority`.
        """
        from sklearn.linear_model import RidgeCV

        require_number("PanelRouter: cost_weight", self.cost_weight, 0)
        panels = self.panels
        if panels is None:
            sizes = [size for size in (3, 5, 7) if size <= len(log.models)]
            panels = sample_panels(log, sizes, random_state=self.random_state)
        checked = [(model,) for model in log.models] + [checked_panel(panel, log) for panel in panels]
        self.architectures_ = list(dict.fromkeys(ranked_panel(panel, log) for panel in checked))
        codes = answer_codes(log, self.architectures_)
        played = [panel_vote(log, panel, codes) for panel in self.architectures_]
        quality = np.stack([one.quality for one in played], axis=1)
        dollars = np.stack([one.dollars for one in played], axis=1)
        self.quality_, self.dollars_ = quality.mean(axis=0), dollars.mean(axis=0)
        vectors = make_encoder(self.encoder).transform(log.prompts).astype(float)
        self._quality_model = RidgeCV(alphas=_ALPHAS).fit(vectors, quality)
        self._dollars_model = RidgeCV(alphas=_ALPHAS).fit(vectors, dollars * PER)
        return self

    def utilities(self, prompts: Iterable[str]) -> np.ndarray:
        """Predicted score - cost_weight x dollars of every architecture: (n, a)."""
        require_number("PanelRouter: cost_weight", self.cost_weight, 0)
        quality, dollars = self._predicted(prompts)
        return quality - self.cost_weight * dollars

    def cost_weight_at(self, dollars: float, prompts: Iterable[str]) -> float:
        """The smallest cost_weight that is predicted to spend at most a budget.

        Parameters
        ----------
        dollars : float
            USD per 1,000 questions.
        prompts : iterable of str
            To spend it on; those of the training part, say.

        Raises
        ------
        ParameterError
            When not even the cheapest architecture is within the budget.
        """
        quality, costs = self._predicted(prompts)
        if not costs.min(axis=1).mean() < dollars < math.inf:
            raise ParameterError(
                f"PanelRouter: the cheapest architectures cost {costs.min(axis=1).mean():.3g} USD per 1,000 questions; "
                f"the budget must be above, got {dollars!r}"
            )

        def within(cost_weight: float) -> bool:
            best = (quality - cost_weight * costs).argmax(axis=1)
            return bool(costs[np.arange(len(costs)), best].mean() <= dollars)

        if within(0.0):
            return 0.0
        low, high = 0.0, 1.0
        while not within(high):
            low, high = high, 2 * high
        for _ in range(50):
            low, high = (low, (low + high) / 2) if within((low + high) / 2) else ((low + high) / 2, high)
        return high

    def _predicted(self, prompts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Score and USD per 1,000 questions of every architecture: (n, a) each."""
        if not hasattr(self, "architectures_"):
            raise ParameterError("PanelRouter: not fitted; call fit with the log of a training part first")
        vectors = make_encoder(self.encoder).transform(as_texts(prompts)).astype(float)
        n, a = len(vectors), len(self.architectures_)
        quality, dollars = (m.predict(vectors).reshape(n, a) for m in (self._quality_model, self._dollars_model))
        return quality, np.maximum(dollars, 0.0)

    def choose(self, prompts: Iterable[str]) -> list[Panel]:
        """The architecture for each prompt."""
        return [self.architectures_[best] for best in self.utilities(prompts).argmax(axis=1)]

    def play(self, log: AnswerLog) -> Replay:
        """Played back on logged answers."""
        best = self.utilities(log.prompts).argmax(axis=1)
        used = np.unique(best)
        codes = answer_codes(log, [self.architectures_[number] for number in used])
        figures = np.empty((4, len(log)))
        for number in used:
            rows = best == number
            vote = panel_vote(log, self.architectures_[number], codes)
            figures[:, rows] = np.stack([vote.quality, vote.dollars, vote.calls, vote.rounds])[:, rows]
        return Replay(f"{self.name}, cost weight {self.cost_weight:.3g}", log.prompts.index, *figures)

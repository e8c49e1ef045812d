"""Expected scores from a router that learned from votes."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.base import clone

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, listed, require_number
from routellm_lab.preferences.battles import validate_battles
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.splits import split_by_prompt
from routellm_lab.routers.base import ManyModelRouter
from routellm_lab.routers.saving.fields import NUMBER, Array, Field, Nested
from routellm_lab.routers.scores.base import ScoreRouter


class VotesScores(ScoreRouter):
    """A router that learns from votes, with its log-strengths as expected scores.

    Gold votes between random pairs of models (see `random_battles`) teach the router. Votes compare models and do not
    say how hard a prompt is: only a log-strength less the mean of all models on the prompt counts, and of that what
    differs from prompt to prompt. The expected score is the model's mean score plus this difference times one slope,
    fitted to prompts that the router has not seen; then the router learns again from all. No model can be added.

    Parameters
    ----------
    router : ManyModelRouter
        Unfitted. Its ``pair`` is of no account: the best and the worst model take its place. A
        `SimilarityWeightedRouter` wants as many tiers as there are models: those of one tier are alike to it.
    pairs_per_prompt : int
        Votes on one prompt, at most.
    held_out : float
        Share of the prompts that the slope is fitted to, in (0, 1).
    random_state : int

    Attributes
    ----------
    router_ : ManyModelRouter
    slope_ : float
        Score per unit of log-strength, >= 0.
    """

    saved: ClassVar[Mapping[str, Field]] = {
        "mean_": Array("m"),
        "usual_": Array("m"),
        "slope_": NUMBER,
        "router_": Nested("_unfitted"),
    }

    def __init__(
        self, router: ManyModelRouter, pairs_per_prompt: int = 20, held_out: float = 0.2, random_state: int = 0
    ) -> None:
        self.router = router
        self.pairs_per_prompt = pairs_per_prompt
        self.held_out = held_out
        self.random_state = random_state

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.router.name

    def learn(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        self.mean_ = np.nanmean(scores, axis=0)
        battles = random_battles(outcomes, self.pairs_per_prompt, self.random_state)
        train, rest = split_by_prompt(pd.DataFrame({"prompt_key": outcomes.keys}), self.held_out, self.random_state)
        learned = self._learn(battles[battles["prompt_key"].isin(outcomes.keys.iloc[train])])
        strength, targets = self._strength(learned, outcomes.prompts.iloc[rest]), scores[rest]
        known = ~np.isnan(targets)
        apart, above = strength - strength.mean(axis=0), targets - self.mean_
        # a negative slope would say that the votes mislead: then they count for nothing
        self.slope_ = max(float((apart * above)[known].sum() / max((apart[known] ** 2).sum(), 1e-12)), 0.0)
        self.router_ = self._learn(battles)
        self.usual_ = self._strength(self.router_, outcomes.prompts).mean(axis=0)

    def _learn(self, battles: pd.DataFrame) -> ManyModelRouter:
        best, worst = (self.models_[int(place)] for place in (np.argmax(self.mean_), np.argmin(self.mean_)))
        if best == worst:  # all are alike
            best, worst = self.models_[:2]
        router = self._unfitted(ModelPair(best, worst)).fit(battles.reset_index(drop=True))
        silent = [model for model in self.models_ if model not in router.models_]
        if silent:
            raise DataError(f"VotesScores: no vote on model {listed(silent)}; give more prompts, or leave it out")
        return router

    def _unfitted(self, pair: ModelPair) -> ManyModelRouter:
        return clone(self.router).set_params(pair=pair)

    def _strength(self, router: ManyModelRouter, texts: Iterable[str]) -> np.ndarray:
        """Log-strengths less the mean of all models that the router knows, (n, m)."""
        strengths = router.log_strengths(texts)
        return strengths.sub(strengths.mean(axis=1), axis=0)[self.models_].to_numpy()

    def _encoder_identity(self) -> str | None:
        return self.router._encoder_identity()

    def check_learned(self) -> None:
        super().check_learned()
        if not set(self.models_) <= set(self.router_.models_):
            raise ValueError(f"no votes on model {listed(set(self.models_) - set(self.router_.models_))}")

    def compute_expected_scores(self, texts: list[str]) -> np.ndarray:
        return self.mean_ + self.slope_ * (self._strength(self.router_, texts) - self.usual_)


def random_battles(outcomes: Outcomes, pairs_per_prompt: int = 20, random_state: int = 0) -> pd.DataFrame:
    """Gold votes between random pairs of models: the higher score wins, equal ones tie.

    Parameters
    ----------
    outcomes : Outcomes
    pairs_per_prompt : int
        Different pairs on each prompt, at most; those with a missing score are left out.
    random_state : int

    Returns
    -------
    DataFrame
        Battles with ``judge`` "gold" and the benchmark as ``source``.

    Raises
    ------
    DataError
        When no prompt has the scores of two models.
    """
    require_number("pairs_per_prompt", pairs_per_prompt, 1, whole=True)
    scores, rng = outcomes.scores.to_numpy(float), np.random.default_rng(random_state)
    a, b = np.triu_indices(scores.shape[1], 1)
    if not len(a):
        raise DataError(f"outcomes {outcomes.name}: votes need the scores of at least 2 models")
    drawn = rng.random((len(scores), len(a)))
    drawn[np.isnan(scores[:, a]) | np.isnan(scores[:, b])] = np.inf
    pair = np.argsort(drawn, axis=1)[:, :pairs_per_prompt]
    row, place = np.nonzero(np.isfinite(np.take_along_axis(drawn, pair, axis=1)))
    if not len(row):
        raise DataError(f"outcomes {outcomes.name}: no prompt has the scores of two models")
    a, b = a[pair[row, place]], b[pair[row, place]]
    turned = rng.random(len(row)) < 0.5  # neither side belongs to the models that are listed first
    a, b = np.where(turned, b, a), np.where(turned, a, b)
    gap, names = scores[row, a] - scores[row, b], np.array(outcomes.models, dtype=object)
    battles = pd.DataFrame(
        {
            "prompt": outcomes.prompts.to_numpy()[row],
            "prompt_key": outcomes.keys.to_numpy()[row],
            "model_a": names[a],
            "model_b": names[b],
            "winner": np.select([gap > 0, gap < 0], ["model_a", "model_b"], "tie"),
            "judge": "gold",
            "source": outcomes.name,
        }
    )
    return validate_battles(battles, where=f"votes of random pairs on {outcomes.name}")

"""Routers that learn from votes: scikit-learn estimators that turn prompts into win rates of a pair of models."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from routellm_lab.encoders import as_texts
from routellm_lab.errors import require_threshold
from routellm_lab.preferences.battles import models_of, validate_battles, with_prompts
from routellm_lab.preferences.models import ModelPair, require_pair, resolve_pair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.pair_votes import PairVotes
from routellm_lab.routers.saving import RouterBase
from routellm_lab.routers.saving.fields import NAMES, PAIR, TIERS, WHOLE, Field, saved_pair


class WinRateRouter(RouterBase):
    """Base of the routers that learn from votes which of two models wins (`Router` is the same class).

    The constructor only stores; `fit` learns from battles; `win_rate` answers. A new router overrides `learn` and
    `compute_win_rate`, declares in `saved` what it learns, and refuses in `check_parameters` parameters that cannot be
    used.

    Parameters
    ----------
    pair : ModelPair
        The models to choose between.

    Attributes
    ----------
    pair_used_ : ModelPair
        The pair as the votes know it (stand-ins resolved). Name it beside every result.
    """

    name: ClassVar[str] = "router"
    """What tables and plots call it; the paper's name where it has one."""

    saved: ClassVar[Mapping[str, Field]] = {"pair_used_": PAIR}
    _needs_votes: ClassVar[bool] = True
    """Whether the models of the pair, or stand-ins, must be in the votes."""

    pair: ModelPair
    pair_used_: ModelPair

    def fit(self, battles: pd.DataFrame, y: Any = None) -> Self:
        """Learn from votes.

        Parameters
        ----------
        battles : DataFrame
            See `routellm_lab.preferences.battles`; a ``weight`` column is honoured.

        Raises
        ------
        DataError
            When the votes break their contract or have no prompts.
        ParameterError
            When a model of the pair has neither votes nor a stand-in with votes.
        """
        self.learn(self._check_votes(battles))
        return self

    def _check_votes(self, battles: pd.DataFrame) -> pd.DataFrame:
        """The votes with prompts, checked, and the pair as they know it."""
        require_pair(self.pair)
        battles = with_prompts(validate_battles(battles))
        if self._needs_votes:
            self.pair_used_ = resolve_pair(self.pair, models_of(battles), getattr(self, "stand_ins", None))
        else:
            self.pair_used_ = self.pair
        return battles

    def win_rate(self, prompts: Iterable[str]) -> np.ndarray:
        """P(strong wins) + P(tie) / 2 for each prompt.

        Parameters
        ----------
        prompts : iterable of str, (n,)

        Returns
        -------
        (n,) float64 array in [0, 1]

        Raises
        ------
        DataError
            When the prompts are no list of texts, or a win rate is NaN or outside [0, 1].
        """
        check_is_fitted(self, "pair_used_")
        texts = as_texts(prompts)
        if not texts:
            return np.zeros(0)
        return self._usable(self.compute_win_rate(texts), 0, 1)

    def route(self, prompts: Iterable[str], threshold: float = 0.5) -> np.ndarray:
        """The model to call for each prompt: the strong one when its win rate is at least ``threshold``.

        Parameters
        ----------
        prompts : iterable of str, (n,)
        threshold : float
            In [0, 1]; 0 calls the strong model always, infinity never.

        Returns
        -------
        (n,) array of str

        Raises
        ------
        ParameterError
            When the threshold is outside, such as a percentage.
        DataError
            As `win_rate` does.
        """
        require_threshold("threshold", threshold)
        return np.where(self.win_rate(prompts) >= threshold, self.pair.strong, self.pair.weak)

    def learn(self, battles: pd.DataFrame) -> None:
        """Learn from votes that keep their contract and all have prompts."""
        raise NotImplementedError

    def compute_win_rate(self, texts: list[str]) -> np.ndarray:
        """Win rates in [0, 1] of one prompt or more, (n,)."""
        raise NotImplementedError

    def check_learned(self) -> None:
        super().check_learned()
        saved_pair(self.pair)


Router = WinRateRouter


class ManyModelRouter(WinRateRouter):
    """A router that learns every model's strength from votes, and serves any pair of models without refitting.

    A new one overrides `learn` and `compute_log_strengths`, and names in ``models_`` what models it knows.
    """

    models_: list[str]

    def log_strengths(self, prompts: Iterable[str]) -> pd.DataFrame:
        """How good each known model is for each prompt.

        Returns
        -------
        (n, models) DataFrame
            Log-strengths: sigmoid of a difference is the win rate of one model over the other.

        Raises
        ------
        DataError
            When the prompts are no list of texts, or a log-strength is NaN or infinite.
        """
        check_is_fitted(self, "pair_used_")
        texts = as_texts(prompts)
        values = self.compute_log_strengths(texts, self.models_) if texts else np.zeros((0, len(self.models_)))
        return pd.DataFrame(self._usable(values), columns=self.models_)

    def win_rate(self, prompts: Iterable[str], pair: ModelPair | None = None) -> np.ndarray:
        """P(strong wins) + P(tie) / 2 for each prompt, for the router's own or any other pair of known models.

        Parameters
        ----------
        prompts : iterable of str, (n,)
        pair : ModelPair, optional

        Returns
        -------
        (n,) float64 array in [0, 1]
        """
        check_is_fitted(self, "pair_used_")
        texts = as_texts(prompts)
        if not texts:
            return np.zeros(0)
        used = self.pair_used_
        if pair is not None and pair != self.pair:
            used = resolve_pair(pair, self.models_, getattr(self, "stand_ins", None))
        both = self._usable(self.compute_log_strengths(texts, [used.strong, used.weak]))
        return sigmoid(both[:, 0] - both[:, 1])

    def compute_log_strengths(self, texts: list[str], models: list[str]) -> np.ndarray:
        """Log-strengths of one prompt or more, (n, models)."""
        raise NotImplementedError


class PairOnlyRouter(WinRateRouter):
    """A router that learns one pair, from the votes between the models at or above the strong one's tier and those in
    the weak one's tier (section 4.1 of the paper; see `PairVotes`).

    A new one takes the parameters of `PairVotes` and overrides `learn_prompts` and `compute_win_rate`.
    """

    saved: ClassVar[Mapping[str, Field]] = {"tiers_": TIERS, "n_votes_": WHOLE, "vote_sources_": NAMES}
    tiers_: Tiers
    strong_models_: list[str]
    weak_models_: list[str]
    n_votes_: int
    vote_sources_: list[str]

    def learn(self, battles: pd.DataFrame) -> None:
        self.learn_votes(self._prompt_votes(battles, []))

    def _pair_votes(self) -> PairVotes:
        return PairVotes(**{field.name: getattr(self, field.name) for field in fields(PairVotes)})

    def _prompt_votes(self, battles: pd.DataFrame, within: list[str]) -> pd.DataFrame:
        """The votes between the two sides as one row per distinct prompt (see `PairVotes.table`)."""
        votes = self._pair_votes()
        self.tiers_, self.pair_used_ = votes.resolve(battles, self.pair_used_)
        self.strong_models_, self.weak_models_ = votes.sides(self.tiers_, self.pair_used_)
        table, self.n_votes_, self.vote_sources_ = votes.table(
            battles, self.strong_models_, self.weak_models_, self.tiers_.source, within
        )
        return table

    def learn_votes(self, votes: pd.DataFrame) -> None:
        """Learn from the rows of `PairVotes.table`."""
        self.learn_prompts(
            votes["prompt"].tolist(), (votes["strong"] + votes["tie"] / 2).to_numpy(), votes["weight"].to_numpy()
        )

    def learn_prompts(self, prompts: list[str], label: np.ndarray, weight: np.ndarray) -> None:
        """Learn from distinct prompts: mean result of the strong side in [0, 1], and the weight of the votes on it."""
        raise NotImplementedError

    def check_learned(self) -> None:
        super().check_learned()
        self.strong_models_, self.weak_models_ = self._pair_votes().sides(self.tiers_, self.pair_used_)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow."""
    from scipy.special import expit

    return expit(x)

"""What every router is: a scikit-learn estimator that turns prompts into win rates."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from routellm_lab.encoders import as_texts
from routellm_lab.errors import DataError, ParameterError, listed, require_threshold
from routellm_lab.preferences.battles import models_of, results_between, validate_battles, vote_weights, with_prompts
from routellm_lab.preferences.models import ModelPair, find_model, judges_of, known_judge, require_pair, resolve_pair
from routellm_lab.preferences.ratings import Tiers, fit_tiers
from routellm_lab.routers.saving import RouterBase, saved_number, saved_tiers


class Router(RouterBase):
    """Base of all routers. The constructor only stores; `fit` learns from battles; `win_rate` answers.

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

    _in_config = ("pair_used_",)
    _needs_votes: ClassVar[bool] = True

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
        self._fit(self._check_votes(battles))
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
        return self._usable(self._win_rate(texts), 0, 1)

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

    def _fit(self, battles: pd.DataFrame) -> None:
        raise NotImplementedError

    def _win_rate(self, texts: list[str]) -> np.ndarray:
        raise NotImplementedError

    def _check_config(self) -> None:
        if not isinstance(self.pair, ModelPair) or not isinstance(self.pair_used_, ModelPair):
            raise ValueError(f"pair {self.pair!r} and pair_used {self.pair_used_!r} must be pairs of models")


class ManyModelRouter(Router):
    """A router that knows many models: serves any pair of them without refitting."""

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
        values = self._log_strengths(texts, self.models_) if texts else np.zeros((0, len(self.models_)))
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
        both = self._usable(self._log_strengths(texts, [used.strong, used.weak]))
        return sigmoid(both[:, 0] - both[:, 1])

    def _log_strengths(self, texts: list[str], models: list[str]) -> np.ndarray:
        raise NotImplementedError


class TieredRouter(Router):
    """A router that groups models into tiers (section 4.2 of the paper)."""

    tiers: Tiers | None
    n_tiers: int
    tiers_: Tiers

    def _resolve_tiers(self, battles: pd.DataFrame) -> Tiers:
        stand_ins = getattr(self, "stand_ins", None)
        tiers = self.tiers
        if tiers is None:
            source, votes = tier_votes(battles, self.pair, stand_ins)
            known = resolve_pair(self.pair, models_of(votes), stand_ins)
            tiers = fit_tiers(votes, self.n_tiers, source=source, pair=known)
        tiers = tiers.including(models_of(battles), stand_ins)
        if any(name not in tiers.tier for name in (self.pair_used_.strong, self.pair_used_.weak)):
            self.pair_used_ = resolve_pair(self.pair, tiers.tier, stand_ins)
        return tiers


class PairOnlyRouter(TieredRouter):
    """A router that learns one pair, from the votes between the models at or above the strong one's tier and those in
    the weak one's tier (section 4.1 of the paper)."""

    strong_tiers: Sequence[int] | None
    weak_tiers: Sequence[int] | str | None
    strong_models_: list[str]
    weak_models_: list[str]
    n_votes_: int
    vote_sources_: list[str]

    def _fit(self, battles: pd.DataFrame) -> None:
        self._fit_votes(self._prompt_votes(battles, []))

    def _prompt_votes(self, battles: pd.DataFrame, within: list[str]) -> pd.DataFrame:
        """The votes between the two sides as one row per distinct prompt (see `_fit_votes`) of each value of the
        columns ``within``."""
        self.tiers_ = self._resolve_tiers(battles)
        self._name_sides()
        won = results_between(battles, self.strong_models_, self.weak_models_)
        self.n_votes_, rows = len(won), won.index
        if won.empty:
            raise DataError(
                f"no vote between the strong tiers ({listed(self.strong_models_)}) and the weak tiers "
                f"({listed(self.weak_models_)}) of {self.tiers_.source!r}; use other votes or tiers"
            )
        self.vote_sources_ = sorted(battles.loc[rows, "source"].dropna().unique()) if "source" in battles else []
        weight = vote_weights(battles.loc[rows])
        votes = battles.loc[rows, [*within, "prompt_key", "prompt"]].assign(
            strong=weight * (won == 1), tie=weight * (won == 0.5), weak=weight * (won == 0), weight=weight
        )
        per_prompt = votes.groupby([*within, "prompt_key"], sort=False).agg(
            {"prompt": "first", "strong": "sum", "tie": "sum", "weak": "sum", "weight": "sum"}
        )
        results = ["strong", "tie", "weak"]
        per_prompt[results] = per_prompt[results].div(per_prompt["weight"], axis=0)
        return per_prompt.reset_index()

    def _name_sides(self) -> None:
        """The models of either side: those at or above the strong tier and those in the weak one, or as told."""
        strong, weak = self.tiers_.pair(self.pair_used_)
        known = set(self.tiers_.tier.values())
        strong_tiers = range(strong + 1) if self.strong_tiers is None else tuple(self.strong_tiers)
        weak_tiers: Sequence[Any] = (weak,) if self.weak_tiers is None else tuple(self.weak_tiers)
        if isinstance(self.weak_tiers, str):
            if self.weak_tiers != "below":
                raise ParameterError(f"weak_tiers must be 'below', numbers of tiers or None, got {self.weak_tiers!r}")
            weak_tiers = tuple(tier for tier in known if tier >= weak)
        for name, tiers in (("strong_tiers", strong_tiers), ("weak_tiers", weak_tiers)):
            if not tiers or not set(tiers) <= known:
                raise ParameterError(f"{name}: the tiers of {self.tiers_.source!r} are {sorted(known)}, got {tiers!r}")
        if max(strong_tiers) >= min(weak_tiers):
            raise ParameterError(
                f"strong_tiers {listed(strong_tiers)} must all be above (have lower numbers than) weak_tiers "
                f"{listed(weak_tiers)}"
            )
        self.strong_models_ = [model for model, tier in self.tiers_.tier.items() if tier in strong_tiers]
        self.weak_models_ = [model for model, tier in self.tiers_.tier.items() if tier in weak_tiers]

    def _fit_votes(self, votes: pd.DataFrame) -> None:
        """Learn from one row per distinct prompt: ``prompt_key``, ``prompt``, shares of the votes on it that are
        ``strong`` wins, ``tie`` and ``weak`` wins, and their total ``weight``."""
        self._fit_prompts(
            votes["prompt"].tolist(), (votes["strong"] + votes["tie"] / 2).to_numpy(), votes["weight"].to_numpy()
        )

    def _fit_prompts(self, prompts: list[str], label: np.ndarray, weight: np.ndarray) -> None:
        """Learn from distinct prompts: mean result of the strong side in [0, 1], and the weight of the votes on it."""
        raise NotImplementedError

    def _tier_state(self) -> dict[str, Any]:
        return {"tiers": self.tiers_, "n_votes": self.n_votes_, "vote_sources": self.vote_sources_}

    def _restore_tiers(self, state: dict[str, Any]) -> None:
        self.tiers_, self.n_votes_ = saved_tiers(state["tiers"]), saved_number(state["n_votes"], whole=True)
        self.vote_sources_ = list(state["vote_sources"])
        self._name_sides()


def tier_votes(
    battles: pd.DataFrame, pair: ModelPair, stand_ins: Mapping[str, Iterable[str]] | None = None
) -> tuple[str, pd.DataFrame]:
    """The votes of the one judge that tiers are read from when none are named: judges are never pooled.

    Of the judges who saw both models of the pair (or stand-ins), the one with more of the pair's own names, then with
    more models, then with more votes; a judge of only two models (gold labels) comes last. People are one judge,
    whatever the ids of the voters are, as are votes that do not name who judged (see `preferences.judges_of`). A
    warning names the judge where less than half of the votes are used and the judges may be people.

    Returns
    -------
    name : str
        The judge and its sources.
    votes : DataFrame

    Raises
    ------
    DataError
        When no judge saw both models.
    """
    if "judge" not in battles:
        return battles.attrs.get("name", "the votes given"), battles
    candidates = []
    judges = judges_of(battles)
    for judge, votes in battles.groupby(judges, sort=True):
        models = models_of(votes)
        try:
            used = {find_model(name, models, stand_ins) for name in (pair.strong, pair.weak)}
        except ParameterError:
            continue
        if len(used) == 2:
            own = len({pair.strong, pair.weak} & set(models))
            candidates.append(((len(models) > 2, own, len(models), len(votes)), str(judge), votes))
    if not candidates:
        raise DataError(
            f"no single judge saw both {pair.strong!r} and {pair.weak!r} (or stand-ins); pass tiers=fit_tiers(...) of "
            f"a set that did. Judges: {listed(sorted(judges.unique()))}"
        )
    _, judge, votes = max(candidates, key=lambda candidate: candidate[:2])
    by_name = judges[~judges.isin(models_of(battles)) & ~judges.map(known_judge)]
    if judge in by_name.values and len(votes) < len(by_name) / 2:
        warnings.warn(
            f"the tiers are read from the {len(votes):,} votes of judge {judge!r} alone, of {len(by_name):,} by "
            f"{by_name.nunique()} judges: {listed(sorted(by_name.unique()), 5)}. If they are people, set judge='human'",
            UserWarning,
            stacklevel=3,
        )
    sources = listed(sorted(votes["source"].dropna().astype(str).unique()), 3) if "source" in votes else ""
    return f"{judge} on {sources or 'all votes'}", votes


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow."""
    from scipy.special import expit

    return expit(x)

"""Ratings of models from votes, and the tiers they fall into."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.files import disk_errors, read_json, replacing
from routellm_lab.preferences.battles import models_of, result_for_a, validate_battles, vote_weights, win_matrix
from routellm_lab.preferences.models import STAND_INS, ModelPair, find_model
from routellm_lab.resampling import Bootstrap

ELO_SCALE = 400 / np.log(10)
"""Elo points per unit of a Bradley-Terry log-strength."""

_VIRTUAL = "\0prior"
_STEPS = 200
_DIGITS = 6
"""Decimals of an Elo point from which on two ratings are equal."""
_CLOSE = 1e-11
"""A step, in log-strength, after which the solution is reached: to a billionth of an Elo point."""


def fit_ratings(
    battles: pd.DataFrame, prior: float = 1.0, bootstrap: Bootstrap | None = None, *, n_resamples: int | None = None
) -> pd.DataFrame:
    """Bradley-Terry ratings with ties as half wins: by evalica, and Newton's method from there on.

    Parameters
    ----------
    battles : DataFrame
        Votes of one set (do not pool judges); prompts are not needed.
    prior : float
        Ties of every model against one virtual opponent, in votes: keeps a model that never won finite. 0 gives the
        maximum-likelihood ratings, which need every model to have won and lost.
    bootstrap : Bootstrap, optional
        Of the votes, for the interval; by default there is none.
    n_resamples : int, optional
        Short for a bootstrap with this number of resamples.

    Returns
    -------
    DataFrame
        Indexed by model, strongest first: ``rating`` (Elo points, mean 1000), ``votes``, and ``low``, ``high``.

    Raises
    ------
    DataError
        When the votes break their contract, and with ``prior=0`` when some model never won or never lost against the
        rest.
    ParameterError
        When a number is outside its range.

    Notes
    -----
    The iteration of evalica takes ever smaller steps where few votes connect groups of models, and none where only the
    prior does. Newton's method takes a handful of steps there, and one step elsewhere. So it always has the last word,
    and its gradient, not the size of a step, decides that the solution is reached. With a prior, groups that never met
    are rated as if each were as good as the others.
    """
    require_number("prior", prior, 0)
    if n_resamples is not None:
        bootstrap = (bootstrap or Bootstrap()).replace(n_resamples=n_resamples)
    battles = _checked(battles)
    models = models_of(battles)
    index = pd.Index([*models, _VIRTUAL])
    a, b = (index.get_indexer(pd.Index(battles[side])) for side in ("model_a", "model_b"))
    wins = np.zeros((len(index), len(index)))
    wins[:-1, :-1] = win_matrix(battles)
    weight, score = vote_weights(battles), result_for_a(battles)
    if prior == 0:
        outside = _outside_main_component(wins[:-1, :-1])
        if outside.any():
            raise DataError(
                f"ratings: without a prior {listed(np.array(models)[outside])} cannot be rated (never won or never "
                "lost against the rest); pass prior=1"
            )
    ratings = pd.DataFrame({"rating": _ratings(wins, prior)}, index=pd.Index(models, name="model"))
    ratings["votes"] = pd.concat([battles["model_a"], battles["model_b"]]).value_counts().reindex(models).to_numpy()
    if bootstrap is not None:
        rng = np.random.default_rng(bootstrap.random_state)
        draws = np.empty((bootstrap.n_resamples, len(models)))
        for row in range(bootstrap.n_resamples):
            count = rng.multinomial(len(battles), np.full(len(battles), 1 / len(battles)))
            resampled = np.zeros_like(wins)
            np.add.at(resampled, (a, b), count * weight * score)
            np.add.at(resampled, (b, a), count * weight * (1 - score))
            draws[row] = _ratings(resampled, max(prior, 1e-3))
        ratings["low"], ratings["high"] = bootstrap.interval(draws)
    # equal ratings differ by rounding errors, which must not decide their order
    return ratings.iloc[np.argsort(-ratings["rating"].round(_DIGITS).to_numpy(), kind="stable")]


def _checked(battles: pd.DataFrame) -> pd.DataFrame:
    """What ratings read of votes, checked against the contract; without prompts, which they may lack."""
    if isinstance(battles, pd.DataFrame):
        read = [column for column in ("model_a", "model_b", "winner", "weight") if column in battles]
        battles = battles[read].assign(prompt=None, prompt_key="")
    return validate_battles(battles, "ratings")


def _ratings(wins: np.ndarray, prior: float) -> np.ndarray:
    """Elo ratings of all but the last, virtual, player, from a matrix of wins (ties split in half) without the
    prior."""
    if prior > 0:
        wins = wins.copy()
        wins[-1, :-1] = wins[:-1, -1] = prior / 2
        strength = _solve(wins)[:-1]
    else:
        strength = _solve(wins[:-1, :-1])
    return 1000 + ELO_SCALE * (strength - strength.mean())


def _solve(wins: np.ndarray) -> np.ndarray:
    """Log-strengths of highest likelihood, the last one 0: damped Newton steps from the ratings of evalica.

    The likelihood is concave, so that there is one solution, and steps that raise it lead there.
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.special import expit

    strength, games = _first_guess(wins), wins + wins.T
    rounding = 4 * len(wins) * np.finfo(float).eps
    for _ in range(_STEPS):
        lost = expit(strength - strength[:, None])  # the chance that the one in the row loses
        surprise = wins * lost
        won, missed = surprise.sum(axis=1), surprise.sum(axis=0)
        gradient = won - missed
        curved = games * lost * lost.T
        hessian = np.diag(curved.sum(axis=1)) - curved
        try:
            step = cho_solve(cho_factor(hessian[:-1, :-1]), gradient[:-1])
        except (np.linalg.LinAlgError, ValueError):  # so far apart that nothing curves any more
            break
        at_rounding = (np.abs(gradient) <= rounding * (won + missed))[:-1].all()
        if at_rounding or np.abs(step).max() <= _CLOSE:
            return strength + np.append(step, 0) if np.abs(step).max() <= 1 else strength
        strength = _raised(wins, strength, np.append(step, 0), float(gradient[:-1] @ step))
    raise DataError("ratings: no solution found; the weights of the votes, or the prior, lie too far apart")


def _first_guess(wins: np.ndarray) -> np.ndarray:
    """Log-strengths of evalica after a limited number of steps, the last one 0; zeros where it has none."""
    import evalica

    rows, columns = np.nonzero(wins)
    names = [str(i) for i in range(len(wins))]
    result = evalica.bradley_terry(
        [names[row] for row in rows],
        [names[column] for column in columns],
        [evalica.Winner.X] * len(rows),
        weights=wins[rows, columns].tolist(),
        tolerance=1e-12,
        limit=1_000,
    )
    scores = result.scores.reindex(names).to_numpy(float)
    if not (np.isfinite(scores) & (scores > 0)).all():
        return np.zeros(len(wins))
    return np.log(scores / scores[-1])


def _raised(wins: np.ndarray, strength: np.ndarray, step: np.ndarray, slope: float) -> np.ndarray:
    """The strengths after as much of a step as raises the likelihood by a part of what its slope promises."""
    from scipy.special import log_expit

    def likelihood(values: np.ndarray) -> float:
        return float((wins * log_expit(values[:, None] - values)).sum())

    now, size = likelihood(strength), 1.0
    slack = 1e-12 * abs(now)
    while size > 1e-9 and likelihood(strength + size * step) < now + 1e-4 * size * slope - slack:
        size /= 2
    return strength + size * step


def _outside_main_component(wins: np.ndarray) -> np.ndarray:
    """Which players are outside the largest set in which everyone has beaten everyone, directly or through others."""
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(wins > 0, directed=True, connection="strong")
    return labels != np.bincount(labels).argmax()


_MOST_TIERS = 100_000


@dataclass(frozen=True)
class Tiers:
    """Models grouped by rating; tier 0 is the strongest.

    Attributes
    ----------
    tier : dict of str to int
        Tier of each model.
    source : str
        The one vote set that the ratings come from.
    """

    tier: Mapping[str, int]
    source: str

    @property
    def n_tiers(self) -> int:
        return max(self.tier.values()) + 1

    def members(self, tier: int) -> list[str]:
        """Models of one tier."""
        return [model for model, number in self.tier.items() if number == tier]

    def to_frame(self) -> pd.DataFrame:
        """One row per tier: its size and its members."""
        rows = [(tier, len(self.members(tier)), ", ".join(self.members(tier))) for tier in range(self.n_tiers)]
        return pd.DataFrame(rows, columns=["tier", "models", "members"]).set_index("tier")

    def save(self, path: str | Path) -> None:
        """Write the tiers as JSON."""
        path, tier = Path(path).expanduser(), {str(model): int(number) for model, number in self.tier.items()}
        with disk_errors(path), replacing(path) as aside:
            aside.write_text(json.dumps({"source": self.source, "tier": tier}, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tiers":
        """Read tiers written by `save`."""
        try:
            content = read_json(Path(path).expanduser())
            return cls.from_json(content["tier"], content["source"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not a file of tiers: {error!r}") from error

    @classmethod
    def from_json(cls, tier: Mapping[str, int], source: str) -> "Tiers":
        """Tiers as a file names them.

        Raises
        ------
        ValueError
            For a source that is no text, or tiers that are no whole numbers from 0 on.
        """
        odd = [n for n in tier.values() if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < _MOST_TIERS]
        if odd or not tier or not isinstance(source, str):
            raise ValueError(f"source {source!r} must be text, and tiers whole numbers from 0 to {_MOST_TIERS:,}")
        return cls(dict(tier), source)

    def including(self, models: Iterable[str], stand_ins: Mapping | None = None) -> "Tiers":
        """Tiers in which each unknown model that has a stand-in here joins its stand-in's tier."""
        table = STAND_INS if stand_ins is None else stand_ins
        extra = {}
        for model in models:
            if model not in self.tier and any(name in self.tier for name in table.get(model, ())):
                extra[model] = self.tier[find_model(model, self.tier, table)]
        return Tiers({**self.tier, **extra}, self.source)

    def pair(self, pair: ModelPair) -> tuple[int, int]:
        """Tier of the strong and of the weak model.

        Raises
        ------
        DataError
            When both fall into one tier, or a model has none.
        """
        for name in (pair.strong, pair.weak):
            if name not in self.tier:
                raise DataError(f"tiers of {self.source!r} do not hold {name!r}; they hold {listed(self.tier)}")
        strong, weak = self.tier[pair.strong], self.tier[pair.weak]
        if strong >= weak:
            how = "share tier" if strong == weak else "are the wrong way round: tiers"
            raise DataError(
                f"{pair.strong!r} and {pair.weak!r} {how} {strong}{'' if strong == weak else f' and {weak}'} in the "
                f"tiers of {self.source!r} ({listed(self.members(strong))}); use more tiers, other votes or "
                "another pair (models of equal rating share a tier: pass tiers=Tiers(...) to name the stronger one)"
            )
        return strong, weak


def fit_tiers(
    battles: pd.DataFrame,
    n_tiers: int = 10,
    source: str | None = None,
    rule: str = "squares",
    pair: ModelPair | None = None,
) -> Tiers:
    """Group the models of one vote set into tiers of similar rating; models of equal rating share a tier.

    Parameters
    ----------
    battles : DataFrame
        Votes of one set.
    n_tiers : int
        10 in the paper (section 4.2); fewer when there are fewer distinct ratings.
    source : str, optional
        Name of the set; by default what the votes say of themselves.
    rule : {"squares", "variances"}
        What to make smallest (see `optimal_partition`).
    pair : ModelPair, optional
        If its two models are rated equal, the strong one gets a tier of its own above the other: votes that favour
        neither do not contradict who names the pair, and its win rate may still differ from prompt to prompt.

    Returns
    -------
    Tiers
    """
    require_number("n_tiers", n_tiers, 1, whole=True)
    ratings = fit_ratings(battles)["rating"].round(_DIGITS)
    labels = optimal_partition(ratings.to_numpy(), min(n_tiers, ratings.nunique()), rule)
    # the votes do not say which of two equal models is better, and their names must not
    _, labels = np.unique(pd.Series(labels).groupby(ratings.to_numpy()).transform("min"), return_inverse=True)
    tier = dict(zip(ratings.index, labels.tolist(), strict=True))
    if pair and n_tiers > 1 and {pair.strong, pair.weak} <= set(tier) and ratings[pair.strong] == ratings[pair.weak]:
        above = ratings > ratings[pair.strong]
        tier = {model: place + int(model != pair.strong and not above[model]) for model, place in tier.items()}
        _, labels = np.unique(list(tier.values()), return_inverse=True)
        tier = dict(zip(tier, labels.tolist(), strict=True))
    names = sorted(battles["source"].dropna().astype(str).unique()) if "source" in battles else []
    return Tiers(tier, source or battles.attrs.get("name") or " + ".join(names) or "the votes given")


def optimal_partition(values: np.ndarray, n_groups: int, rule: str = "squares") -> np.ndarray:
    """Split sorted values into contiguous groups that lie close together, exactly (dynamic programming).

    Parameters
    ----------
    values : (n,) array, sorted either way
    n_groups : int
        At most n.
    rule : {"squares", "variances"}
        Smallest sum of squares within groups (section 4.2 of the paper), or smallest sum of the groups' variances (the
        released code), which counts a group the less, the more members it has.

    Returns
    -------
    (n,) int array
        Group of each value, 0 first.
    """
    if rule not in ("squares", "variances"):
        raise ParameterError(f"the rule of tiers must be 'squares' or 'variances', got {rule!r}")
    values = np.asarray(values, float)
    n = len(values)
    if not 1 <= n_groups <= n:
        raise ParameterError(f"cannot split {n} values into {n_groups} groups")
    centred = values - values.mean()
    total, square = np.concatenate([[0], centred.cumsum()]), np.concatenate([[0], (centred**2).cumsum()])

    def spread(start: np.ndarray, stop: int) -> np.ndarray:
        squares = square[stop] - square[start] - (total[stop] - total[start]) ** 2 / (stop - start)
        return squares if rule == "squares" else squares / (stop - start)

    best = np.full((n_groups + 1, n + 1), np.inf)
    cut = np.zeros((n_groups + 1, n + 1), int)
    best[0, 0] = 0
    for group in range(1, n_groups + 1):
        for stop in range(group, n + 1):
            starts = np.arange(group - 1, stop)
            costs = best[group - 1, starts] + spread(starts, stop)
            cut[group, stop] = starts[costs.argmin()]
            best[group, stop] = costs.min()
    labels, stop = np.empty(n, int), n
    for group in range(n_groups, 0, -1):
        start = cut[group, stop]
        labels[start:stop] = group - 1
        stop = start
    return labels


def merge_unrateable_tiers(tiers: Tiers, battles: pd.DataFrame) -> Tiers:
    """Merge tiers until each has won and lost against the others, directly or through others.

    A tier that never won (or never lost) has no finite Bradley-Terry rating; it joins its neighbour.
    """
    known = battles[battles["model_a"].isin(tiers.tier) & battles["model_b"].isin(tiers.tier)]
    a, b = known["model_a"].map(tiers.tier).to_numpy(int), known["model_b"].map(tiers.tier).to_numpy(int)
    score = result_for_a(known)
    labels = np.arange(tiers.n_tiers)
    while True:
        size = labels.max() + 1
        wins = np.zeros((size, size))
        np.add.at(wins, (labels[a], labels[b]), score)
        np.add.at(wins, (labels[b], labels[a]), 1 - score)
        outside = _outside_main_component(wins)
        if not outside.any():
            break
        lone = int(np.flatnonzero(outside)[0])
        inside = np.flatnonzero(~outside)
        neighbour = lone + 1 if (inside > lone).any() and (lone == 0 or inside.min() > lone) else lone - 1
        upper = max(lone, neighbour)
        labels = np.where(labels >= upper, labels - 1, labels)
    return Tiers({model: int(labels[number]) for model, number in tiers.tier.items()}, tiers.source)

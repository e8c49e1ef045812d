"""Choosing a recipe without looking at a benchmark: validation on sources and groups held out of the votes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.engine import parallel
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.evaluation.groups import matched_groups
from routellm_lab.preferences.battles import results_between, validate_battles, vote_weights, with_prompts
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.splits import prompt_ranks
from routellm_lab.resampling import Bootstrap

if TYPE_CHECKING:
    from routellm_lab.routers import Router


@dataclass(frozen=True)
class ValidationSource:
    """A source of graded prompts to validate on.

    Attributes
    ----------
    outcomes : Outcomes
        Never a benchmark that is reported later.
    pairs : tuple of ModelPair
        Whose gaps are ranked; the mean over them counts.
    groups : Series or None
        Group of each prompt, indexed by prompt id: each group in turn is held out of the votes. None: the source is
        held out whole.
    within : Series or None
        Finer groups, such as subjects: prompts are ranked within them. None: within what is held out at once.
    kind : str
        What kind of prompts it stands for, such as "exam": `validation_ranking` takes the mean over kinds. By default
        the source is a kind of its own.
    """

    outcomes: Outcomes
    pairs: tuple[ModelPair, ...]
    groups: pd.Series | None = None
    within: pd.Series | None = None
    kind: str = ""


def random_groups(outcomes: Outcomes, folds: int = 5, random_state: int = 0) -> pd.Series:
    """Folds of the prompts of a source, copies of a prompt together, for `ValidationSource.groups`."""
    require_number("folds", folds, 2, whole=True)
    fold = prompt_ranks(outcomes.keys, random_state) % folds
    return pd.Series(fold.astype(str), index=outcomes.prompts.index)


def validate_router(
    router: "Router",
    battles: pd.DataFrame,
    held_out: Mapping[str, ValidationSource],
    n_resamples: int = 500,
    random_state: int = 0,
) -> pd.DataFrame:
    """How well a router ranks prompts of sources, or of groups of a source, that were held out of its votes.

    Parameters
    ----------
    router : Router
        Cloned for every fit. One that weighs sets of votes (`KernelRouter`) does without a set that is held out whole.
    battles : DataFrame
        All votes to train on; those on a held-out prompt are taken out for the fit that is tested on it. Where none is
        left the router knows nothing, and its win rates are all .5.
    held_out : dict of ValidationSource
    n_resamples : int
        Of the prompts within each group, for the standard error.
    random_state : int

    Returns
    -------
    DataFrame
        One row per source: ``source``, ``apgr`` (the mean over the pairs), ``se`` (its standard error by bootstrap),
        ``random_sd`` (spread of a random ranking), ``prompts``. The APGR ranks within each group: the groups' gains are
        added up and divided by their total gap, so that win rates of different fits are never compared. A missing score
        counts as no difference.

    Raises
    ------
    DataError
        When the strong model of a pair is not better.
    """
    require_number("n_resamples", n_resamples, 1, whole=True)
    battles = validate_battles(battles)
    groups_of = {}
    fits: list[tuple[pd.Series, list[tuple[str, np.ndarray]]]] = []  # votes to leave out, and what is then tested
    whole: list[tuple[str, np.ndarray]] = []  # parts on which there is no vote share one fit
    for name, source in held_out.items():
        outcomes = source.outcomes
        groups_of[name] = (
            pd.Series("all", index=outcomes.prompts.index)
            if source.groups is None
            else matched_groups(outcomes.prompts.index, source.groups, name)
        )
        for group in groups_of[name].dropna().unique():
            inside = (groups_of[name] == group).to_numpy()
            seen = battles["prompt_key"].isin(set(outcomes.keys[inside]))
            if seen.any():
                fits.append((seen, [(name, inside)]))
            else:
                if not whole:
                    fits.append((seen, whole))
                whole.append((name, inside))
    tasks = (
        (router, battles, seen, [held_out[name].outcomes.prompts[inside] for name, inside in parts])
        for seen, parts in fits
    )
    win_rates = {name: np.full(len(source.outcomes), np.nan) for name, source in held_out.items()}
    for (_, parts), rates in zip(fits, parallel(_tested, tasks, "held out", len(fits)), strict=True):
        for (name, inside), rate in zip(parts, rates, strict=True):
            win_rates[name][inside] = rate
    rows = []
    for name, source in held_out.items():
        outcomes, groups, win_rate = source.outcomes, groups_of[name], win_rates[name]
        if source.within is not None:
            within = matched_groups(outcomes.prompts.index, source.within, name)
            groups = groups.astype(str) + "\0" + within.astype(str)
        if not source.pairs:
            raise ParameterError(f"held-out source {name!r}: needs one pair of models or more, got none")
        gaps = np.column_stack([outcomes.gap(pair).fillna(0.0) for pair in source.pairs])
        value, error, luck = _grouped_apgr(win_rate, gaps, groups.to_numpy(), n_resamples, random_state, name)
        row = {"source": name, "apgr": value, "se": error, "random_sd": luck}
        rows.append(row | {"prompts": int(np.isfinite(win_rate).sum())})
    return pd.DataFrame(rows)


def _tested(
    router: "Router", battles: pd.DataFrame, seen: pd.Series, parts: list[pd.Series]
) -> list[np.ndarray | float]:
    """Win rates of parts of the prompts, by a fit without the votes that are seen there."""
    from sklearn.base import clone

    fitted = _fitted_without(router, battles, seen) if seen.any() else clone(router).fit(battles)
    return [0.5 if fitted is None else fitted.win_rate(prompts) for prompts in parts]


def _fitted_without(router: "Router", battles: pd.DataFrame, seen: pd.Series) -> "Router | None":
    """A clone of the router, fitted on the other votes; one that weighs sets of votes does without those that are held
    out whole. None where it has no vote left."""
    from sklearn.base import clone

    left, fresh = battles[~seen].reset_index(drop=True), clone(router)
    sets = router.get_params().get("sets")
    if sets and "set" in battles:
        gone = set(battles["set"]) - set(left["set"])
        sets = {name: weight for name, weight in sets.items() if name not in gone}
        fresh.set_params(sets=sets)
        return fresh.fit(left) if sets else None
    return None if left.empty else fresh.fit(left)


def _grouped_apgr(
    win_rate: np.ndarray, gaps: np.ndarray, groups: np.ndarray, n_resamples: int, random_state: int, name: str
) -> tuple[float, float, float]:
    """Mean over the pairs of the APGR within groups, its standard error over resampled prompts, and the spread that a
    random ranking would have (the mean over the pairs, which rank the same prompts)."""
    bootstrap = Bootstrap(n_resamples=n_resamples).replace(random_state=np.random.default_rng(random_state))
    gains, totals = np.zeros((n_resamples + 1, gaps.shape[1])), np.zeros((n_resamples + 1, gaps.shape[1]))
    variance = np.zeros(gaps.shape[1])
    for group in pd.unique(groups[np.isfinite(win_rate)]):
        rows = np.flatnonzero(groups == group)
        variance += gaps[rows].var(axis=0) * (len(rows) + 1) / 12
        times = np.vstack([np.ones(len(rows)), *bootstrap.counts(len(rows))])
        gains += (times * _centred_ranks(win_rate[rows], times)) @ gaps[rows]
        totals += times @ gaps[rows]
    if (totals[0] <= 0).any():
        raise DataError(
            f"held-out source {name!r}: the strong model of a pair is not better there; swap it or leave it out"
        )
    apgr = 0.5 + (gains / np.where(totals > 0, totals, np.nan)).mean(axis=1)
    return (
        float(apgr[0]),
        float(np.nanstd(apgr[1:])),
        float((np.sqrt(variance) / totals[0]).mean()),
    )


def _centred_ranks(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Ranks of values, each of which occurs ``times`` times, less their middle and divided by their number; ties share
    one.

    Parameters
    ----------
    values : (n,) array
    times : (draws, n) array
        With the same sum in every row.
    """
    _, tied = np.unique(values, return_inverse=True)
    order = np.argsort(tied, kind="stable")
    count = np.add.reduceat(times[:, order], np.flatnonzero(np.diff(tied[order], prepend=-1)), axis=1)
    rank = count.cumsum(axis=1) - count / 2
    total = times[0].sum()
    return (rank[:, tied] - total / 2) / total


def validation_ranking(checks: pd.DataFrame) -> pd.DataFrame:
    """Attempts by their mean over the kinds of sources; the sources of one kind share its weight.

    Parameters
    ----------
    checks : DataFrame
        One row per attempt and source: ``attempt``, ``source``, ``kind``, ``apgr``, ``se``.

    Returns
    -------
    DataFrame
        Indexed by attempt, best first: ``mean`` and ``se`` (its standard error, of independent sources); ``low`` and
        ``high`` (one standard error below and above it); ``place``; ``close`` (within one standard error of the first,
        by the standard error of the first); a column per kind. And where there are word problems,
        ``place without word problems``.
    """
    value, error = (checks.pivot(index="attempt", columns="source", values=name) for name in ("apgr", "se"))
    kinds = checks.drop_duplicates("source").set_index("source")["kind"]
    weight = (1 / kinds.map(kinds.value_counts())).reindex(value.columns)
    weight /= weight.sum()
    ranked = pd.DataFrame({"mean": (value * weight).sum(axis=1), "se": np.sqrt((error**2 * weight**2).sum(axis=1))})
    ranked = ranked.assign(low=ranked["mean"] - ranked["se"], high=ranked["mean"] + ranked["se"])
    ranked["place"] = ranked["mean"].rank(ascending=False).astype(int)
    ranked["close"] = ranked["mean"] >= ranked["low"].iloc[int(ranked["mean"].argmax())]
    if "word problems" in weight:
        rest = weight.drop("word problems").index
        ranked["place without word problems"] = (value[rest] * weight[rest]).sum(axis=1).rank(ascending=False)
    by_kind = value.T.groupby(kinds.reindex(value.columns), sort=False).mean().T
    return ranked.join(by_kind).sort_values("mean", ascending=False, kind="stable")


def outcomes_from_battles(
    battles: pd.DataFrame, pair: ModelPair, strong: Iterable[str], weak: Iterable[str], name: str = "votes"
) -> Outcomes:
    """Votes as a benchmark: per prompt, the mean result of the strong models against the weak ones.

    Parameters
    ----------
    battles : DataFrame
    pair : ModelPair
        Under whose names the results are filed.
    strong, weak : iterable of str
        Models of either side; votes between them count.
    name : str

    Returns
    -------
    Outcomes
        Score of the strong model: the mean result in [0, 1]; of the weak one: 1 minus it.

    Raises
    ------
    DataError
        When no vote is between the two sides.
    """
    battles = with_prompts(validate_battles(battles, where=name), where=name)
    strong, weak = set(strong), set(weak)
    if strong & weak:
        raise ParameterError(f"{name}: on both sides: {listed(sorted(strong & weak))}")
    won = results_between(battles, strong, weak)
    if won.empty:
        raise DataError(f"{name}: no vote between {sorted(strong)[:3]} and {sorted(weak)[:3]}")
    weight = vote_weights(battles.loc[won.index])
    frame = battles.loc[won.index, ["prompt_key", "prompt"]].assign(won=won * weight, weight=weight)
    table = frame.groupby("prompt_key", sort=False).agg({"prompt": "first", "won": "sum", "weight": "sum"})
    index = pd.Index([f"{name}-{number:05d}" for number in range(len(table))], name="prompt_id")
    result = (table["won"] / table["weight"]).to_numpy()
    scores: dict[str, Any] = {pair.strong: result, pair.weak: 1 - result}
    return Outcomes(
        name=name,
        prompts=pd.Series(table["prompt"].to_numpy(), index=index, dtype="str"),
        scores=pd.DataFrame(scores, index=index),
        groups=pd.Series(name, index=index),
        keys=pd.Series(table.index.to_numpy(), index=index),
        score_unit="share of votes won",
    )

"""How far a router carries: to other pairs of models (the paper's Table 4), and to prompts of kinds it never saw."""

import itertools
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.groups import apgr_by_group, matched_groups
from routellm_lab.evaluation.inputs import checked_win_rates
from routellm_lab.preferences.augment import battles_from_outcomes
from routellm_lab.preferences.battles import keys_of
from routellm_lab.preferences.decontamination import evaluated_prompts
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.resampling import Bootstrap
from routellm_lab.settings import settings

if TYPE_CHECKING:
    from routellm_lab.routers import Router


def transfer_table(
    win_rates: Mapping[str, Any],
    outcomes: Outcomes,
    pairs: Iterable[ModelPair],
    prompts: Any = None,
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """Routers used unchanged on every pair of models: what a ranking of prompts is worth to models it was not made for.

    Parameters
    ----------
    win_rates : dict of str to (n,) array
        By router; of every prompt of ``outcomes``, in its order.
    outcomes : Outcomes
    pairs : iterable of ModelPair
        See `pair_properties` for what each of them offers.
    prompts : boolean mask or list of prompt ids, optional
        Where to evaluate, such as the prompts that no router was trained on; everywhere by default.
    bootstrap : Bootstrap
        Of the prompts, for the intervals: the same resamples for all routers of a pair. As many permutations, with the
        same seed, for the p-values.

    Returns
    -------
    DataFrame
        One row per pair and router: ``strong``, ``weak`` (the models), ``router``, ``prompts`` (with both scores),
        ``gap`` (mean score of the strong less that of the weak model), ``apgr``, ``low``, ``high`` (see
        `RoutingCurve.interval`; NaN where the two models do not differ significantly), ``p_random`` (permutation
        test against random, not corrected for the number of rows: see `holm`), ``ceiling`` (APGR of the oracle),
        ``achieved`` (apgr - .5) / (ceiling - .5), ``random_sd`` (spread of a random router's APGR).

    Raises
    ------
    ParameterError
        When there is no router or no pair.
    DataError
        When a model has no scores, the strong model of a pair is not better, or win rates are not one per prompt in
        [0, 1]; before any resample.

    Notes
    -----
    The ceiling is the oracle's, which knows every answer; much of it is luck that no router can foresee. It tells pairs
    apart: a pair whose models fail on the same prompts leaves little to route.
    """
    from tqdm.auto import tqdm

    pairs = list(dict.fromkeys(pairs))
    if not win_rates or not pairs:
        raise ParameterError(f"transfer_table: needs {'pairs' if win_rates else 'win_rates'}, got none")
    part = outcomes if prompts is None else outcomes.select(prompts)
    places = outcomes.prompts.index.get_indexer(part.prompts.index)
    rates = {}
    for name, values in win_rates.items():
        try:
            rates[name] = checked_win_rates(values, outcomes)[places]
        except DataError as error:
            raise DataError(f"router {name!r}: {error}") from error
    known = pair_properties(part, pairs)
    if known["ceiling"].isna().any():
        worse = [f"{row.strong} / {row.weak} ({row.gap:+.3g})" for row in known[known["ceiling"].isna()].itertuples()]
        raise DataError(
            f"outcomes {outcomes.name}: the strong model is not better in {len(worse)} of {len(pairs)} pairs (mean "
            f"score, strong minus weak): {listed(worse)}. Swap these pairs, or leave them out."
        )
    rows = []
    for pair, facts in tqdm(
        list(zip(pairs, known.to_dict("records"), strict=True)),
        desc="pairs",
        disable=not settings().progress,
        leave=False,
    ):
        curves = [RoutingCurve.from_win_rates(values, part, pair) for values in rates.values()]
        for name, curve in zip(rates, curves, strict=True):
            low = high = np.nan
            with suppress(DataError):  # there are too few prompts to tell the two models apart
                low, high = curve.interval("apgr", bootstrap)
            gain = facts["ceiling"] - 0.5
            rows.append(
                {
                    "strong": pair.strong,
                    "weak": pair.weak,
                    "router": name,
                    "prompts": len(curve),
                    "gap": facts["gap"],
                    "apgr": curve.apgr,
                    "low": low,
                    "high": high,
                    "p_random": curve.p_value_vs_random(bootstrap.n_resamples, bootstrap.random_state),
                    "ceiling": facts["ceiling"],
                    "achieved": (curve.apgr - 0.5) / gain if gain > 0 else np.nan,
                    "random_sd": curve.random_sd,
                }
            )
    return pd.DataFrame(rows)


def pairs_won(table: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """On how many pairs of models each router is better than random.

    By Holm's correction where the table has a column ``p_holm``, else by each interval of `transfer_table`.

    Returns
    -------
    DataFrame
        One row per router, best first: ``router``, ``pairs``, ``apgr`` (mean on these pairs; NaN: there are none).
    """
    won = (table["p_holm"] < alpha) & (table["apgr"] > 0.5) if "p_holm" in table else table["low"] > 0.5
    better = table.assign(pairs=won, apgr=table["apgr"].where(won))
    ranked = better.groupby("router", sort=False).agg({"pairs": "sum", "apgr": "mean"}).reset_index()
    return ranked.sort_values(["pairs", "apgr"], kind="stable", na_position="first")[::-1].reset_index(drop=True)


def pair_properties(outcomes: Outcomes, pairs: Iterable[ModelPair]) -> pd.DataFrame:
    """What each pair of models offers to a router, whatever the router.

    Parameters
    ----------
    outcomes : Outcomes
    pairs : iterable of ModelPair

    Returns
    -------
    DataFrame
        One row per pair: ``strong``, ``weak`` (the models), ``strong_mean``, ``weak_mean``, ``gap`` (in the
        benchmark's unit), ``strong_better``, ``weak_better`` (shares of the prompts), ``phi`` (correlation of the two
        scores: the phi coefficient of right and wrong; NaN where a model's score never varies), ``ceiling`` (APGR of
        the oracle; NaN where the strong model is not better), ``hard_share``, ``easy_share`` (prompts on which both are
        wrong, or both right; NaN unless all scores are 0 or 1), ``n`` (prompts with both scores).

    Raises
    ------
    DataError
        When a model has no scores, or the two have none on the same prompt.
    """
    rows = []
    for pair in pairs:
        curve = RoutingCurve.from_win_rates(np.linspace(0, 1, len(outcomes)), outcomes, pair)
        strong, weak = curve.strong_scores, curve.weak_scores
        varies = np.ptp(strong) > 0 and np.ptp(weak) > 0
        graded = not np.isin([strong, weak], [0, 1]).all()
        row = {
            "strong": pair.strong,
            "weak": pair.weak,
            "strong_mean": curve.strong_mean,
            "weak_mean": curve.weak_mean,
            "gap": curve.strong_mean - curve.weak_mean,
            "strong_better": curve.strong_better,
            "weak_better": curve.weak_better,
            "phi": np.corrcoef(strong, weak)[0, 1] if varies else np.nan,
            "ceiling": np.nan,
            "hard_share": np.nan if graded else np.mean(strong + weak == 0),
            "easy_share": np.nan if graded else np.mean(strong + weak == 2),
            "n": len(curve),
        }
        with suppress(DataError):  # the strong model is not better
            row["ceiling"] = curve.oracle().apgr
        rows.append(row)
    return pd.DataFrame(rows)


def pairs_by_gap(outcomes: Outcomes, number: int = 6, smallest: float = 0.05) -> list[ModelPair]:
    """Pairs of models with gaps from small to large, no model in more than two of them.

    Parameters
    ----------
    outcomes : Outcomes
    number : int
        Pairs wanted; fewer where there are too few models.
    smallest : float
        Least mean score of the strong less that of the weak model. Models without a score for nine prompts in ten are
        left out.

    Returns
    -------
    list of ModelPair
        By gap, smallest first.
    """
    known = outcomes.scores.loc[:, outcomes.scores.notna().mean() >= 0.9]
    means = known.mean().sort_values()
    gaps = {
        ModelPair(strong, weak): means[strong] - means[weak]
        for weak, strong in itertools.combinations(means.index, 2)
        if means[strong] - means[weak] >= smallest
    }
    if not gaps:
        raise DataError(f"outcomes {outcomes.name}: no two models are {smallest:g} apart")
    uses: dict[str, int] = {}
    chosen = []
    for target in np.linspace(min(gaps.values()), max(gaps.values()), number):
        free = [pair for pair in gaps if max(uses.get(pair.strong, 0), uses.get(pair.weak, 0)) < 2]
        if not free:
            break
        nearest_pair = min(free, key=lambda pair: abs(gaps[pair] - target))
        chosen.append(nearest_pair)
        del gaps[nearest_pair]
        for model in (nearest_pair.strong, nearest_pair.weak):
            uses[model] = uses.get(model, 0) + 1
    return sorted(chosen, key=lambda pair: means[pair.strong] - means[pair.weak])


def unseen_prompts(outcomes: Outcomes, battles: pd.DataFrame, **rules: Any) -> np.ndarray:
    """Which prompts of a benchmark may be evaluated after training on some votes: no vote is, or nearly is, on them.

    The other side of `decontaminate`, which takes out votes: for a benchmark that shares questions with the votes.

    Parameters
    ----------
    outcomes : Outcomes
    battles : DataFrame
    **rules
        ``encoder``, ``cosine``, ``jaccard`` of `decontaminate`.

    Returns
    -------
    (n,) boolean array
    """
    votes = battles["prompt"].set_axis(pd.Index(keys_of(battles))).dropna()
    votes = votes[~votes.index.duplicated()]
    trained = Outcomes(
        name="training votes",
        prompts=votes,
        scores=pd.DataFrame(index=votes.index),
        groups=pd.Series("votes", index=votes.index),
        keys=votes.index.to_series(),
    )
    asked = outcomes.prompts.set_axis(outcomes.keys)
    seen = {key for *_, key in evaluated_prompts(asked[~asked.index.duplicated()], trained, **rules)}
    return ~outcomes.keys.isin(seen).to_numpy()


def cross_fitted(
    router: "Router",
    outcomes: Outcomes,
    pair: ModelPair,
    folds: int = 5,
    groups: pd.Series | None = None,
    random_state: int | None = 0,
) -> np.ndarray:
    """Out-of-fold win rates of a router trained on a benchmark's own answers: what labels at home are worth.

    Parameters
    ----------
    router : Router
        Cloned for every fold and given ``pair``; itself left as it is. Where it knows tiers, the two models are its
        tiers, since the gold labels know no others.
    outcomes : Outcomes
    pair : ModelPair
    folds : int
        2 or more. Copies of a prompt share a fold, and every fold has its share of strong wins, weak wins and ties.
    groups : Series, optional
        Of each prompt, indexed by prompt id, such as ``outcomes.groups``: then every group is left out in turn instead,
        and copies of its prompts in other groups are left out with it.
    random_state : int, optional
        Of the folds.

    Returns
    -------
    (n,) array in [0, 1]
        Of every prompt of ``outcomes``, also of those with a missing score, which no fit is made on.

    Raises
    ------
    ParameterError
        When ``folds`` is not an integer above 1.
    DataError
        When there are fewer distinct prompts than folds, fewer than two groups, or a prompt has no group.

    Notes
    -----
    A curve of these win rates ranks prompts across fits, so these must be comparable. A fit on the rest lies the lower,
    the better the strong model is in the part held out: where the parts differ, a router that learned nothing but the
    mean is pushed below an APGR of .5 ("stratification bias"; Parker, Günter and Bedo, BMC Bioinformatics 8:326, 2007).
    Stratified folds differ by no more than rounding. Groups do differ: read leave-one-group-out win rates within
    groups, by `apgr_by_group`, not as one curve.
    """
    from tqdm.auto import tqdm

    fold = _random_folds(outcomes, pair, folds, random_state) if groups is None else _group_folds(outcomes, groups)
    win_rate = np.full(len(outcomes), np.nan)
    for number in tqdm(np.unique(fold), desc="folds", disable=not settings().progress, leave=False):
        held_out = fold == number
        # a copy in another group would give the answer away
        others = ~outcomes.keys.isin(outcomes.keys[held_out]).to_numpy()
        win_rate[held_out] = _fitted(router, outcomes, pair, others).win_rate(outcomes.prompts[held_out])
    return win_rate


def cross_group_matrix(
    router: "Router",
    outcomes: Outcomes,
    pair: ModelPair,
    groups: pd.Series | None = None,
    minimum: int = 100,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """A router trained on the answers of one group of prompts and tested on each other group.

    Parameters
    ----------
    router : Router
        Cloned for every group (see `cross_fitted`).
    outcomes : Outcomes
    pair : ModelPair
    groups : Series, optional
        Of each prompt, indexed by prompt id; ``outcomes.groups`` by default. Prompts whose group is missing are left
        out.
    minimum : int
        Groups with fewer prompts that have both scores are left out.
    random_state : int, optional
        Of the folds on the diagonal.

    Returns
    -------
    DataFrame
        One row per pair of groups, sorted: ``trained_on``, ``tested_on``, ``apgr`` (within the group tested on; on the
        diagonal by cross-fitting; NaN where the strong model is not better there), ``random_sd`` (spread of a random
        router's APGR), ``prompts`` (of the group tested on). A prompt with a copy in another group serves for training
        on the diagonal only.

    Raises
    ------
    DataError
        When fewer than two groups are large enough, or a prompt has no entry in ``groups``.

    Notes
    -----
    A fit off the diagonal sees all prompts of its group, one on the diagonal four fifths of them. Large groups teach
    more than small ones: compare within a column.
    """
    from tqdm.auto import tqdm

    own = matched_groups(outcomes.prompts.index, outcomes.groups if groups is None else groups, outcomes.name)
    sizes = own[outcomes.gap(pair).notna()].value_counts()
    kept = sorted(sizes.index[sizes >= minimum])
    if len(kept) < 2:
        raise DataError(
            f"outcomes {outcomes.name}: needs two groups of minimum={minimum} prompts with both scores, found "
            f"{len(kept)} (sizes: {listed(sizes.tolist(), 5)}); lower minimum, or pass coarser groups"
        )
    own = own.where(own.isin(kept))
    tables = []
    for group in tqdm(kept, desc="groups", disable=not settings().progress, leave=False):
        inside = (own == group).to_numpy()
        elsewhere = outcomes.keys.isin(outcomes.keys[~inside]).to_numpy()
        win_rate = _fitted(router, outcomes, pair, inside & ~elsewhere).win_rate(outcomes.prompts)
        win_rate[inside] = cross_fitted(router, outcomes.select(inside), pair, random_state=random_state)
        curve = RoutingCurve.from_win_rates(win_rate, outcomes, pair)
        tables.append(apgr_by_group(curve, own, minimum).assign(trained_on=group))
    names = {"group": "tested_on"}
    return pd.concat(tables, ignore_index=True).rename(columns=names)[
        ["trained_on", "tested_on", "apgr", "random_sd", "prompts"]
    ]


def leave_group_out(
    router: "Router",
    outcomes: Outcomes,
    pair: ModelPair,
    groups: pd.Series | None = None,
    folds: int = 5,
    minimum: int = 100,
    bootstrap: Bootstrap = Bootstrap(),
    random_state: int | None = 0,
) -> pd.DataFrame:
    """What a group's own answers are worth on it: trained on all other groups against trained on all groups.

    Parameters
    ----------
    router : Router
        Cloned for every fit (see `cross_fitted`).
    outcomes : Outcomes
    pair : ModelPair
    groups : Series, optional
        Of each prompt, indexed by prompt id; ``outcomes.groups`` by default.
    folds : int
        For the win rates with the group's own labels.
    minimum : int
        Prompts with both scores below which a group gets no APGR.
    bootstrap : Bootstrap
        Paired, over the group's prompts.
    random_state : int, optional
        Of the folds.

    Returns
    -------
    DataFrame
        One row per group, sorted: ``group``, ``prompts``, ``apgr_out`` (its labels left out), ``apgr_in`` (cross-fitted
        within all groups), ``difference`` (out minus in), ``low``, ``high``, ``p_value`` (not corrected for their
        number: see `holm`), ``random_sd``. NaN where the group is too small or the strong model not better, and no
        interval where that changes in more than 5 % of the resamples.

    Raises
    ------
    DataError
        As `cross_fitted` does.

    Notes
    -----
    The two differ in size as well: with 5 folds, four fifths of all labels against all labels of the other groups. A
    group with less than a fifth of the prompts is left out of the larger fit, so that the difference, if anything,
    understates what its own labels are worth.
    """
    groups = outcomes.groups if groups is None else groups
    outside = cross_fitted(router, outcomes, pair, groups=groups)
    inside = cross_fitted(router, outcomes, pair, folds, random_state=random_state)
    own = matched_groups(outcomes.prompts.index, groups, outcomes.name)
    rows = []
    for group in sorted(own.unique()):
        places = (own == group).to_numpy() & outcomes.gap(pair).notna().to_numpy()
        row: dict[str, Any] = {"group": group, "prompts": int(places.sum())}
        rows.append(row)
        if row["prompts"] < max(minimum, 1):
            continue
        part = outcomes.select(places)
        out, within = (RoutingCurve.from_win_rates(rates[places], part, pair) for rates in (outside, inside))
        with suppress(DataError):  # the strong model is not better, here or in too many resamples
            row |= {"apgr_out": out.apgr, "apgr_in": within.apgr, "difference": out.apgr - within.apgr}
            row["random_sd"] = out.random_sd
            found = out.compare(within, "apgr", bootstrap)
            row |= {"low": found.low, "high": found.high, "p_value": found.p_value}
    return pd.DataFrame(
        rows,
        columns=["group", "prompts", "apgr_out", "apgr_in", "difference", "low", "high", "p_value", "random_sd"],
    )


def _fitted(router: "Router", outcomes: Outcomes, pair: ModelPair, prompts: np.ndarray) -> "Router":
    """A clone of the router, fitted on the gold labels of some prompts."""
    from sklearn.base import clone

    tiers = Tiers({pair.strong: 0, pair.weak: 1}, source=f"{pair}, as given")
    told = {"pair": pair, "tiers": tiers, "strong_tiers": None, "weak_tiers": None}
    own = clone(router).set_params(**{name: value for name, value in told.items() if name in router.get_params()})
    return own.fit(battles_from_outcomes(outcomes, pair, prompts))


def _random_folds(outcomes: Outcomes, pair: ModelPair, folds: int, random_state: int | None) -> np.ndarray:
    """Number of the fold of each prompt, (n,): copies together, results alike."""
    from sklearn.model_selection import StratifiedGroupKFold

    require_number("folds", folds, 2, whole=True)
    result = np.sign(outcomes.gap(pair)).fillna(2).astype(int)
    if min(outcomes.keys.nunique(), result.value_counts().max()) < folds:
        raise DataError(
            f"outcomes {outcomes.name}: {outcomes.keys.nunique()} distinct prompts are too few for {folds} folds; use "
            "fewer folds or more prompts"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=random_state)
    fold = np.zeros(len(outcomes), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a rare result need not be in every fold
        for number, (_, held_out) in enumerate(splitter.split(result, result, outcomes.keys)):
            fold[held_out] = number
    return fold


def _group_folds(outcomes: Outcomes, groups: pd.Series) -> np.ndarray:
    """Number of the group of each prompt, (n,)."""
    own = matched_groups(outcomes.prompts.index, groups, outcomes.name)
    if own.isna().any():
        raise DataError(
            f"groups: missing for {int(own.isna().sum())} of {len(own)} prompts ({listed(own.index[own.isna()], 5)}); "
            "fill them (groups.fillna('other')), or select the prompts that have one"
        )
    if own.nunique() < 2:
        raise DataError(f"outcomes {outcomes.name}: all prompts are of one group, so none can be left out; use folds")
    return pd.factorize(own)[0]

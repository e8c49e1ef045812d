"""The paper's three tables: fit recipes on each training set, evaluate them, and say which router to take."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks import Outcomes, load_outcomes, score_columns
from routellm_lab.errors import ParameterError
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.paper import comparison_table
from routellm_lab.evaluation.refits import Fits, RefitCurves, evaluate_fits, fit_again
from routellm_lab.preferences import ModelPair
from routellm_lab.resampling import Bootstrap
from routellm_lab.routers.base import Router
from routellm_lab.studies.sentences import joined
from routellm_lab.studies.training_sets import TrainingSets

BENCHMARK_TITLES = {"mmlu": "MMLU", "gsm8k": "GSM8K", "mt_bench": "MT Bench"}
"""What readers call a benchmark."""
ALL_QUESTIONS = "mmlu, all"
"""MMLU with the questions that serve as gold labels elsewhere: for recipes without gold labels."""
NO_TRAINING = "none"
"""The training set of a router that needs no votes."""
_LENGTH = (NO_TRAINING, "prompt_length")

Recipe = tuple[str, str]
"""Training set and router."""


def bounded_intervals(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with both ends of an interval missing where one of them is infinite.

    Fieller's interval is unbounded where there are too few fits, or where the models hardly differ.

    Parameters
    ----------
    frame : DataFrame
        With ``low``, ``high`` and perhaps ``single_low``, ``single_high``, ``protocol_low``, ``protocol_high``.

    Examples
    --------
    >>> import pandas as pd
    >>> bounded_intervals(pd.DataFrame({"low": [0.1, float("-inf")], "high": [0.2, 0.3]}))["high"].tolist()
    [0.2, nan]
    """
    frame = frame.copy()
    for kind in ("", "single_", "protocol_"):
        ends = [f"{kind}low", f"{kind}high"]
        if set(ends) <= set(frame):
            frame.loc[np.isinf(frame[ends]).any(axis=1), ends] = np.nan
    return frame


def side_by_side(
    table: pd.DataFrame, index: Sequence[str], column: str, values: Sequence[str] = ("apgr", "low", "high")
) -> pd.DataFrame:
    """A long table with the values of one column beside each other, such as a benchmark's numbers per router.

    Parameters
    ----------
    table : DataFrame
        One row per ``index`` and ``column``.
    index : sequence of str
        Columns that stay.
    column : str
        Its values become columns.
    values : sequence of str

    Returns
    -------
    DataFrame
        The columns of ``index``, and for each value of ``column`` the columns ``"mmlu apgr"``, ``"mmlu low"``, ...

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("knn", "mmlu", 0.6), ("knn", "gsm8k", 0.7)]
    >>> long = pd.DataFrame(rows, columns=["router", "benchmark", "apgr"])
    >>> list(side_by_side(long, ["router"], "benchmark", ["apgr"]))
    ['router', 'gsm8k apgr', 'mmlu apgr']
    """
    wide = table.pivot(index=list(index), columns=column, values=list(values))
    wide.columns = wide.columns.map(lambda names: f"{names[1]} {names[0]}")
    return wide.reset_index()


def oracle_curves(benchmarks: Mapping[str, Outcomes], pair: ModelPair) -> dict[str, RoutingCurve]:
    """The best ranking of each benchmark: prompts by the score of the strong minus that of the weak model.

    Parameters
    ----------
    benchmarks : dict of str to Outcomes
    pair : ModelPair

    Returns
    -------
    dict of str to RoutingCurve
        ``summary()`` of a curve describes its benchmark.
    """
    ranks = {name: outcomes.gap(pair).rank(pct=True).fillna(0.5) for name, outcomes in benchmarks.items()}
    return {name: RoutingCurve.from_win_rates(ranks[name], outcomes, pair) for name, outcomes in benchmarks.items()}


def training_set_table(sets: TrainingSets) -> pd.DataFrame:
    """The size of each training set.

    Returns
    -------
    DataFrame
        Indexed by ``training``: ``votes``, ``prompts``, ``ties`` (share in [0, 1]), ``dropped`` (votes on prompts that
        are evaluated).
    """
    rows = {
        name: {
            "votes": len(votes),
            "prompts": votes["prompt_key"].nunique(),
            "ties": votes["winner"].eq("tie").mean(),
            "dropped": len(sets.given[name]) - len(votes),
        }
        for name, votes in sets.clean.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("training")


def fit_recipes(
    routers: Iterable[Router], sets: TrainingSets, seeds: Iterable[int] = (0,), baselines: Iterable[Router] = ()
) -> dict[Recipe, Fits]:
    """Fit each router on each training set, on every draw of its gold questions and with every seed.

    Parameters
    ----------
    routers : iterable of Router
        Fitted on each training set.
    sets : TrainingSets
    seeds : iterable of int
        For routers with random training.
    baselines : iterable of Router
        Routers that need no votes; fitted once, under the training set ``none``.

    Returns
    -------
    dict of (training, router) to fits
        See `routellm_lab.evaluation.fit_again`.
    """
    seeds = list(seeds)
    fits: dict[Recipe, Fits] = {
        (NO_TRAINING, router.name): fit_again(router, sets.draws("arena"), seeds) for router in baselines
    }
    routers = list(routers)
    return fits | {
        (name, router.name): fit_again(router, sets.draws(name), seeds) for name in sets.clean for router in routers
    }


def fits_table(fits: Mapping[Recipe, Fits], sets: TrainingSets) -> pd.DataFrame:
    """What each recipe learned from.

    Returns
    -------
    DataFrame
        One row per trained recipe: ``training``, ``router``, ``fits`` (how many), ``pair_used`` (the pair whose votes
        served), ``votes_used`` by the first fit, ``tiers_of`` (the votes that its tiers come from, or None).
    """
    rows = [
        {
            "training": training,
            "router": kind,
            "fits": sum(map(len, rows)),
            "pair_used": str(rows[0][0].pair_used_),
            "votes_used": getattr(rows[0][0], "n_votes_", len(sets.clean[training])),
            "tiers_of": rows[0][0].tiers_.source if hasattr(rows[0][0], "tiers_") else None,
        }
        for (training, kind), rows in fits.items()
        if training != NO_TRAINING
    ]
    return pd.DataFrame(rows)


def evaluate_recipes(fits: Mapping[Recipe, Fits], sets: TrainingSets) -> dict[str, dict[Recipe, RefitCurves]]:
    """Evaluate every fit of every recipe on each benchmark.

    Each draw of the gold questions is scored on the questions that it leaves.

    Returns
    -------
    dict of str to dict of (training, router) to RefitCurves
        By benchmark; the last one, ``mmlu, all``, holds recipes without gold labels on all questions of MMLU.
    """
    curves: dict[str, dict[Recipe, RefitCurves]] = {}
    for name, whole in {**sets.benchmarks, ALL_QUESTIONS: sets.benchmarks["mmlu"]}.items():
        shown = {key: rows for key, rows in fits.items() if name != ALL_QUESTIONS or key[0] != "arena+gold"}
        curves[name] = {
            key: evaluate_fits(rows, whole, sets.left_out(name, key[0], len(rows))) for key, rows in shown.items()
        }
    return curves


def recipe_tables(
    curves: Mapping[str, Mapping[Recipe, RefitCurves]],
    fits: Mapping[Recipe, Fits],
    sets: TrainingSets,
    confidence_level: float = 0.95,
) -> dict[str, pd.DataFrame]:
    """The paper's tables: each recipe on each benchmark (see `routellm_lab.evaluation.comparison_table`).

    Parameters
    ----------
    curves : dict
        Made by `evaluate_recipes`.
    fits : dict
        The same recipes, fitted.
    sets : TrainingSets
        On simulated benchmarks the achieved share of the possible gain is added, on others the paper's figure.
    confidence_level : float

    Returns
    -------
    dict of str to DataFrame
        By benchmark. Unbounded intervals are missing (see `bounded_intervals`).
    """
    tables = {}
    for name, recipes in curves.items():
        outcomes = sets.benchmarks["mmlu" if name == ALL_QUESTIONS else name]
        records = [
            {"training": key[0], "router": key[1], "curve": recipe, "pair_used": fits[key][0][0].pair_used_}
            for key, recipe in recipes.items()
        ]
        table = comparison_table(
            records,
            paper=not outcomes.simulated,
            bootstrap=Bootstrap(confidence_level),
            outcomes=outcomes if outcomes.simulated else None,
        )
        tables[name] = bounded_intervals(table)
    return tables


def table_columns(table: pd.DataFrame) -> dict[str, str | tuple[str, str, str]]:
    """The columns of a recipe table that readers see, for `routellm_lab.workbook.show_table`."""
    columns: dict[str, str | tuple[str, str, str]] = {
        "training": "training",
        "router": "router",
        "fits": "fits",
        "APGR": ("apgr", "low", "high"),
        "calls for half of the gap": "cpt50",
        "p against random (Holm)": "p_holm",
    }
    if "paper_apgr" in table and table["paper_apgr"].notna().any():
        columns |= {"paper's APGR": "paper_apgr", "inside one fit's interval": "paper_inside"}
    if "achieved_share" in table:
        columns["share of the possible gain"] = "achieved_share"
    return columns


def gradings_table(
    curves: Mapping[Recipe, RefitCurves],
    data: str,
    benchmark: str = "gsm8k",
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    """Recipes under each grading of a benchmark: win rates stay, scores change.

    Parameters
    ----------
    curves : dict of (training, router) to RefitCurves
        On this benchmark.
    data : str
        The data root, which may hold several gradings.
    benchmark : str
    confidence_level : float

    Returns
    -------
    DataFrame
        As `recipe_tables` makes it, with ``grading`` as the first column; ``p_holm`` is corrected within a grading.
    """
    graded = {}
    for column in score_columns(benchmark, data):
        outcomes = load_outcomes(benchmark, data=data, score=column)
        recipes = {key: recipe.rescored(outcomes) for key, recipe in curves.items()}
        paper = not outcomes.simulated
        graded[column] = comparison_table(recipes, paper=paper, bootstrap=Bootstrap(confidence_level))
    return bounded_intervals(pd.concat(graded, names=["grading"]).reset_index(level=0).reset_index(drop=True))


def better_by_grading(gradings: pd.DataFrame, confidence_level: float = 0.95) -> dict[str, tuple[int, int]]:
    """How many trained recipes are significantly better than random, by grading.

    Parameters
    ----------
    gradings : DataFrame
        Made by `gradings_table`, or some rows of it.
    confidence_level : float

    Returns
    -------
    dict of str to (int, int)
        By grading, in alphabetical order: how many are significantly better, of how many.
    """
    found = {}
    for grading, rows in gradings.groupby("grading"):
        trained = rows[rows["training"] != NO_TRAINING]
        found[str(grading)] = int(_better(trained, 1 - confidence_level).sum()), len(trained)
    return found


def better_than(comparisons: pd.DataFrame, baseline: Any, alpha: float = 0.05) -> set[Any]:
    """Which recipes are significantly better than one of them, after Holm's correction.

    Parameters
    ----------
    comparisons : DataFrame
        As `routellm_lab.evaluation.compare_recipes` makes it.
    baseline : key of a recipe
    alpha : float

    Returns
    -------
    set of keys

    Raises
    ------
    ParameterError
        When the baseline is in no comparison.
    """
    as_first, as_second = (comparisons[[key == baseline for key in comparisons[side]]] for side in ("first", "second"))
    if as_first.empty and as_second.empty:
        raise ParameterError(f"better_than: no comparison with {baseline!r}")
    behind = as_first[(as_first["difference"] < 0) & (as_first["p_holm"] < alpha)]
    ahead = as_second[(as_second["difference"] > 0) & (as_second["p_holm"] < alpha)]
    return {*behind["second"], *ahead["first"]}


def benchmark_findings(
    tables: Mapping[str, pd.DataFrame],
    comparisons: Mapping[str, pd.DataFrame],
    curves: Mapping[str, Mapping[Recipe, RefitCurves]],
    gradings: pd.DataFrame | None = None,
    confidence_level: float = 0.95,
) -> list[str]:
    """What the paper's tables say, in four or five sentences; the first one says which router to take.

    A router is worth its training where it is significantly better than a random router and than prompt length, after
    Holm's correction over the rows and over the pairs of a benchmark.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Made by `recipe_tables`.
    comparisons : dict of str to DataFrame
        By benchmark, as `routellm_lab.evaluation.compare_recipes` makes them, with prompt length among the recipes.
    curves : dict
        Made by `evaluate_recipes`.
    gradings : DataFrame, optional
        Made by `gradings_table`.
    confidence_level : float

    Returns
    -------
    list of str
        Plain text.
    """
    alpha, names = 1 - confidence_level, [name for name in BENCHMARK_TITLES if name in comparisons]
    trained = {name: _by_recipe(tables[name]) for name in names}
    over_length = {name: better_than(comparisons[name], _LENGTH, alpha) for name in names}
    over_random = {name: set(rows.index[_better(rows, alpha)]) for name, rows in trained.items()}
    useful = {name: over_random[name] & over_length[name] for name in names}
    length = {name: _by_recipe(tables[name], trained=False).loc[[_LENGTH]] for name in names}
    lines = [_decision(length, trained, useful, curves, confidence_level)]
    for name, rows in trained.items():
        worse = int(((rows["p_holm"] < alpha) & (rows["apgr"] < 0.5)).sum())
        pairs, highest = comparisons[name], _highest(rows, rows.index)
        verb = "is" if len(over_random[name]) == 1 else "are"
        lines.append(
            f"{BENCHMARK_TITLES[name]} ({rows['prompts'].iloc[0]:,} questions): "
            f"{len(over_random[name])} of {len(rows)} trained recipes {verb} significantly better than "
            f"random{f', {worse} worse' if worse else ''}, "
            f"{len(over_length[name] & set(rows.index))} better than prompt length (Holm). "
            f"Highest: {_described(rows, highest)}{'' if highest in over_random[name] else ' (not significant)'}; "
            f"{(pairs['p_holm'] < alpha).sum()} of {len(pairs)} pairs of recipes differ."
        )
    return [*lines, *_other_findings(tables, gradings, confidence_level)]


def _by_recipe(table: pd.DataFrame, trained: bool = True) -> pd.DataFrame:
    """The trained recipes of a table, or those without training, indexed by their key."""
    rows = table[(table["training"] != NO_TRAINING) == trained]
    keys = list(rows[["training", "router"]].itertuples(index=False, name=None))
    return rows.set_index(pd.Index(keys, tupleize_cols=False))


def _better(rows: pd.DataFrame, alpha: float) -> pd.Series:
    return (rows["p_holm"] < alpha) & (rows["apgr"] > 0.5)


def _words(key: Recipe) -> str:
    kind = key[1].replace("_", " ")
    return kind if key[0] == NO_TRAINING else f"{kind} on {key[0]}"


def _described(rows: pd.DataFrame, key: Recipe) -> str:
    row = rows.loc[[key]].iloc[0]
    interval = "(interval unbounded)" if np.isnan(row["low"]) else f"[{row['low']:.3f}, {row['high']:.3f}]"
    return f"{_words(key)}, APGR {row['apgr']:.3f} {interval}"


def _decision(
    length: Mapping[str, pd.DataFrame],
    trained: Mapping[str, pd.DataFrame],
    useful: Mapping[str, set[Recipe]],
    curves: Mapping[str, Mapping[Recipe, RefitCurves]],
    confidence_level: float,
) -> str:
    """Which router to take, with what to expect of it."""
    shared = set.intersection(*useful.values())
    if shared:
        means = {key: sum(_apgr(rows, key) for rows in trained.values()) for key in sorted(shared)}
        best = max(means, key=lambda key: means[key])
        name = next(iter(trained))
        return (
            f"Deploy {_words(best)}: highest mean APGR of the {len(shared)} recipes that are significantly better than "
            f"random and than prompt length on all benchmarks (Holm). "
            f"{_expected(name, curves[name][best].first, confidence_level)}"
        )
    chosen = {name: _highest(rows, useful[name]) if useful[name] else None for name, rows in trained.items()}
    wins = [f"{BENCHMARK_TITLES[name]}: {_described(trained[name], key)}" for name, key in chosen.items() if key]
    without = [BENCHMARK_TITLES[name] for name, key in chosen.items() if not key]
    if not wins:
        alone = [
            f"{row['apgr']:.3f} [{row['low']:.3f}, {row['high']:.3f}] on {BENCHMARK_TITLES[name]}"
            for name, rows in length.items()
            for row in rows[_better(rows, 1 - confidence_level)].to_dict("records")
        ]
        rest = f" Prompt length alone is better than random: APGR {joined(alone)}." if alone else ""
        return (
            "Do not deploy any of these trained routers: none is significantly better than a random router and than "
            f"prompt length (Holm) on {joined(without, 'or')}.{rest}"
        )
    return (
        "Do not deploy one trained router for everything: none is significantly better than random and than prompt "
        f"length (Holm) on {joined(without, 'or') if without else 'all benchmarks'}. Where one is, take the highest: "
        f"{'; '.join(wins)}."
    )


def _highest(rows: pd.DataFrame, keys: Iterable[Recipe]) -> Recipe:
    return max(sorted(keys), key=lambda key: _apgr(rows, key))


def _apgr(rows: pd.DataFrame, key: Recipe) -> float:
    return float(rows["apgr"].loc[[key]].iloc[0])


def _expected(name: str, curve: RoutingCurve, confidence_level: float) -> str:
    low, high = curve.interval("cpt50", Bootstrap(confidence_level))
    return (
        f"Expect half of the quality gap on {BENCHMARK_TITLES[name]} with {curve.cpt(0.5):.0%} "
        f"[{low:.0%}, {high:.0%}] of calls to the strong model; a random router needs 50%."
    )


def _other_findings(
    tables: Mapping[str, pd.DataFrame], gradings: pd.DataFrame | None, confidence_level: float
) -> Sequence[str]:
    """One sentence each on the gradings and on the paper's figures, where there are any."""
    sentences = []
    counts = {} if gradings is None else better_by_grading(gradings, confidence_level)
    if len(counts) > 1:
        shown = ", ".join(f"{better} of {number} by {grading}" for grading, (better, number) in counts.items())
        sentences.append(f"GSM8K by its gradings: trained recipes significantly better than random (Holm): {shown}.")
    # recipes without gold labels stand in the table of all questions of MMLU, as in the paper
    kept = [rows if name != "mmlu" else rows[rows["training"] == "arena+gold"] for name, rows in tables.items()]
    table = pd.concat(kept)
    if "paper_inside" in table:
        counted = (table["router"] != "random") & table["protocol_low"].notna()
        printed = table.loc[counted, "paper_inside"].dropna()
        sentences.append(
            f"{int(printed.sum())} of {len(printed)} APGR values of the paper lie in the {confidence_level:.0%} "
            "interval of a single fit."
        )
    return [" ".join(sentences)] if sentences else []

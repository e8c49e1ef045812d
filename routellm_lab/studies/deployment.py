"""Is one router worth deploying? It is compared with random calls, prompt length, simpler and recommended routers."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from routellm_lab.benchmarks import Outcomes
from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.evaluation import Estimate, RefitCurves, apgr_table, evaluate_fits, holm
from routellm_lab.preferences.models import ModelPair
from routellm_lab.resampling import Bootstrap
from routellm_lab.routers import PromptLengthRouter
from routellm_lab.routers.names import router_label
from routellm_lab.routers.recommended import EVALUATED, recommended_router
from routellm_lab.studies.sentences import difference_words, joined

RANDOM = "random"
"""The router that every other one must beat; its expected APGR is 0.5."""

LENGTH, RECOMMENDED = "prompt_length", "recommended"


def rival_curves(outcomes: Outcomes, pair: ModelPair, battles: pd.DataFrame, data: str) -> dict[str, RefitCurves]:
    """What a new router is compared with: prompt length, and the recommended router where it may be evaluated.

    The recommended router is fitted without questions of MMLU, so that all of them can be evaluated. Its other labels
    come from MMLU-Pro. They are cleaned of MMLU, GSM8K and MT Bench only, so that it is left out on other benchmarks.

    Parameters
    ----------
    outcomes : Outcomes
        The benchmark.
    pair : ModelPair
    battles : DataFrame
        Votes; prompt length learns from them what a typical length is.
    data : str
        ``sample``, ``hub`` or a folder; where the recommended router finds its labels.

    Returns
    -------
    dict of RefitCurves
        ``prompt_length`` and, where there are labels for it, ``recommended``: one fit each, for neither is random.
    """
    rivals = {LENGTH: evaluate_fits([[PromptLengthRouter(pair).fit(battles)]], outcomes)}
    if outcomes.name in EVALUATED:
        with suppress(DataError):  # this data root has no labels for it
            rivals[RECOMMENDED] = evaluate_fits([[recommended_router(pair, data, gold_questions=0)]], outcomes)
    return rivals


def surest_prompts(win_rates: pd.Series, outcomes: Outcomes, pair: ModelPair, n: int = 3) -> pd.DataFrame:
    """The prompts on which a router was surest, among those where the scores of the two models differ. Prompts that
    begin alike count once.

    Parameters
    ----------
    win_rates : (n,) array-like
        Win rates, in the order of the benchmark's prompts.
    outcomes : Outcomes
    pair : ModelPair
    n : int
        Prompts of each end: of the highest and of the lowest win rates.

    Returns
    -------
    DataFrame
        At most ``2 * n`` rows, the highest win rate first: ``prompt`` (its first 70 characters), ``win_rate``,
        ``gap`` (score of the strong model minus that of the weak one, never 0) and ``router``: "right" where the strong
        model has the higher score among the highest win rates, or the weak one among the lowest, else "wrong".
    """
    gap = pd.Series(outcomes.gap(pair)).to_numpy(float)
    frame = pd.DataFrame({"prompt": outcomes.prompts.str.slice(0, 70), "win_rate": win_rates, "gap": gap})
    frame = frame[frame["gap"].abs() > 0].drop_duplicates("prompt")
    n = min(n, len(frame) // 2)
    ends = {1: frame.nlargest(n, "win_rate"), -1: frame.nsmallest(n, "win_rate")[::-1]}
    rows = [
        rows.assign(router=(rows["gap"] * sign > 0).map({True: "right", False: "wrong"})) for sign, rows in ends.items()
    ]
    return pd.concat(rows, ignore_index=True)


@dataclass(frozen=True)
class Deployment:
    """Whether to deploy a router. Made by `deployment_decision`.

    Attributes
    ----------
    router : str
    pair : ModelPair
    benchmark : str
    table : DataFrame
        One row per router, the highest APGR first: ``router``, its ``name`` in words, ``fits``, ``apgr``, ``low``,
        ``high`` (over questions and fits), ``calls``, ``calls_low``, ``calls_high`` (share of strong calls for half of
        the gap, first fit).
    gains : DataFrame
        APGR of the router minus that of each other one, paired, and minus the 0.5 of a random router: ``rival``, its
        ``name`` in words, ``difference``, ``low``, ``high``, ``p_value``, ``p_holm`` (corrected over these rows).
    simpler : tuple of str
        Rivals that cost less to make or to run: the router must be significantly better than each.
    confidence_level : float
    """

    router: str
    pair: ModelPair
    benchmark: str
    table: pd.DataFrame = field(repr=False)
    gains: pd.DataFrame = field(repr=False)
    simpler: tuple[str, ...]
    confidence_level: float

    @property
    def reasons(self) -> pd.DataFrame:
        """The rows of ``gains`` that speak against the router, the weightiest first; empty: deploy it."""
        rows, significant = self.gains, self.gains["p_holm"] < self._alpha
        needed = rows["rival"].isin([RANDOM, *self.simpler])
        against = (needed & ~significant) | (significant & (rows["difference"] < 0))
        place = rows["rival"].map({name: place for place, name in enumerate([RANDOM, *self.simpler])})
        order = place.fillna(len(rows)).sort_values(kind="stable").index
        return rows.loc[order[against[order]]]

    @property
    def deploy(self) -> bool:
        """Whether it is significantly better than random and the simpler rivals, and than none significantly worse."""
        return self.reasons.empty

    def findings(self, threshold: float | None = None, *, achieved: float | None = None) -> list[str]:
        """The decision and its reasons in two or three sentences of plain text.

        Parameters
        ----------
        threshold : float, optional
            The win rate from which prompts go to the strong model, for half of the gap.
        achieved : float, optional
            Share of the achievable gain over random, on simulated data (see `achieved_share`).
        """
        lines = [self._decision(threshold), self._comparisons()]
        if achieved is not None:
            which = "first fit, " if self._fits > 1 else ""
            lines.append(
                f"{_capital(_words(self.router))} achieves {achieved:.0%} of the gain over random that is possible on "
                f"this simulated data ({which}without interval)."
            )
        return lines

    def _decision(self, threshold: float | None) -> str:
        name, row = _words(self.router), self._row(self.router)
        apgr = Estimate(row["apgr"], row["low"], row["high"])
        if not self.deploy:
            return (
                f"Do not deploy {name} for {self.pair} on {self.benchmark}: its APGR of {apgr:.3f} is "
                f"{self._claims(self.reasons)}."
            )
        calls = Estimate(row["calls"], row["calls_low"], row["calls_high"])
        rest = self.gains[~self.gains["rival"].isin([RANDOM, *self.simpler])]
        equal = [_words(name) for name in rest.loc[rest["p_holm"] >= self._alpha, "rival"]]
        also = f" or {' or '.join(equal)} (no significant difference)" if equal else ""
        setting = "" if threshold is None else f" (set its threshold to {threshold:.3f})"
        return (
            f"Deploy {name}{setting}{also} for {self.pair} on {self.benchmark}. Expect half of the quality gap with "
            f"{calls:.0%} of calls to the strong model (a random router: 50%); APGR {apgr:.3f}."
        )

    def _claims(self, rows: pd.DataFrame) -> str:
        """The comparisons of some rows in words, those with the same result together."""
        by_result: dict[str, list[str]] = {}
        for row in rows.to_dict("records"):
            numbers = difference_words(Estimate(row["difference"], row["low"], row["high"]), row["p_holm"])
            by_result.setdefault(self._result(row), []).append(f"{_words(row['rival'])} ({numbers})")
        parts = [
            f"{result} {joined(rivals, 'or' if result.startswith('not') else 'and')}"
            for result, rivals in by_result.items()
        ]
        return joined(parts, "but")

    def _result(self, row: Mapping[Any, Any]) -> str:
        if row["p_holm"] < self._alpha:
            return f"significantly {'better' if row['difference'] > 0 else 'worse'} than"
        needed = row["rival"] in (RANDOM, *self.simpler)
        return "not significantly better than" if needed else "not significantly different from"

    def _comparisons(self) -> str:
        """The comparisons that are not a reason against the router, and what the numbers in brackets are."""
        others = self.gains.drop(index=self.reasons.index)
        claims = f"It is {self._claims(others)}. " if len(others) else ""
        over = f"questions and {self._fits} fits" if self._fits > 1 else "questions"
        return (
            f"{claims}In brackets: difference in APGR, its {self.confidence_level:.0%} interval over {over}, p by Holm "
            f"({len(self.gains)} comparisons)."
        )

    @property
    def _fits(self) -> int:
        return int(self._row(self.router)["fits"])

    @property
    def _alpha(self) -> float:
        return 1 - self.confidence_level

    def _row(self, router: str) -> pd.Series:
        return self.table[self.table["router"] == router].iloc[0]


def deployment_decision(
    curves: Mapping[str, RefitCurves],
    router: str,
    simpler: tuple[str, ...] = (LENGTH,),
    bootstrap: Bootstrap = Bootstrap(),
) -> Deployment:
    """Compare one router with others on the same questions, and decide whether to deploy it.

    Parameters
    ----------
    curves : dict of RefitCurves
        By router, the one in question and its rivals (see `rival_curves`).
    router : str
        The one in question.
    simpler : tuple of str
        Rivals that it must be significantly better than; those that are not in ``curves`` are ignored.
    bootstrap : Bootstrap
        Of the calls for half of the gap; its confidence level is that of all intervals and tests.

    Returns
    -------
    Deployment

    Raises
    ------
    ParameterError
        When the router is not among the curves, or has no rival.
    DataError
        When the curves differ in pair, prompts or scores.
    """
    if router not in curves or len(curves) < 2:
        raise ParameterError(f"deployment_decision: needs {router!r} and a rival, got {listed(curves) or 'none'}")
    level, own = bootstrap.confidence_level, curves[router]
    table = apgr_table(curves, confidence_level=level)[["router", "fits", "apgr", "low", "high"]]
    calls = [(recipe.first.cpt(0.5), *recipe.first.interval("cpt50", bootstrap)) for recipe in curves.values()]
    table[["calls", "calls_low", "calls_high"]] = calls
    chance = own.apgr(level)
    rows = [
        {"rival": RANDOM, "difference": chance.value - 0.5, "low": chance.low - 0.5, "high": chance.high - 0.5}
        | {"p_value": chance.p_value}
    ]
    for name, recipe in curves.items():
        if name != router:
            gain = own.compare(recipe, level)
            rows.append(
                {"rival": name, "difference": gain.value, "low": gain.low, "high": gain.high, "p_value": gain.p_value}
            )
    gains = pd.DataFrame(rows)
    gains["p_holm"] = holm(gains["p_value"])
    table["name"], gains["name"] = table["router"].map(router_label), gains["rival"].map(router_label)
    table = table.sort_values("apgr", ascending=False, ignore_index=True)
    kept = tuple(name for name in simpler if name in curves)
    return Deployment(router, own.pair, own.name, table, gains, kept, level)


def _words(name: object) -> str:
    return _NAMES.get(str(name), router_label(name))


_NAMES = {
    RANDOM: "a random router",
    RECOMMENDED: "the recommended router",
    "causal_llm": "the causal LLM",
    "ridge": "ridge regression",
    "similarity_weighted": "the similarity-weighted router",
}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

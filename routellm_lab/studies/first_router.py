"""From a router to a decision, in one page: the questions it may be evaluated on, its rivals, and what to deploy."""

import math
from collections.abc import Mapping

import pandas as pd

from routellm_lab.benchmarks import Outcomes, load_outcomes, outcome_names
from routellm_lab.errors import ParameterError, listed, nearest
from routellm_lab.evaluation import RoutingCurve, best_possible, holm
from routellm_lab.evaluation.expectation import Expectation
from routellm_lab.evaluation.significance import compare_pairs
from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.preferences import ModelPair
from routellm_lab.resampling import Bootstrap
from routellm_lab.routers.kernel import KernelRouter
from routellm_lab.routers.recommended import DIFFICULTY, GOLD, gold_prompt_ids, recommended_router
from routellm_lab.studies.sentences import p_value_words

SIGNIFICANT = 0.05
"""Below this p-value, after Holm's correction, a difference is called significant."""


def recommended_and_questions(
    benchmark: str,
    pair: ModelPair,
    data: str,
    *,
    gold_questions: int = 500,
    encoder: str = "static",
    random_state: int = 0,
) -> tuple[KernelRouter, Outcomes]:
    """The recommended router and the questions of a benchmark that it has not seen.

    Where the data root has answers of many models, which tell how hard a question is, the router learns from these
    alone. Elsewhere it learns from grades of the pair on some questions of MMLU, which are left out here.

    Parameters
    ----------
    benchmark : str
    pair : ModelPair
    data : str
        A data root.
    gold_questions : int
        Of MMLU, where they are needed.
    encoder : str
    random_state : int

    Returns
    -------
    router : KernelRouter
        Fitted.
    questions : Outcomes
    """
    needed = 0 if DIFFICULTY in outcome_names(data) else gold_questions
    router = recommended_router(pair, data, gold_questions=needed, encoder=encoder, random_state=random_state)
    outcomes = load_outcomes(benchmark, data=data)
    if needed and benchmark == GOLD:
        outcomes = outcomes.select(~outcomes.prompts.index.isin(gold_prompt_ids(outcomes, needed, random_state)))
    return router, outcomes


def rivals_table(curves: Mapping[str, RoutingCurve], bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
    """A router and its rivals on the same questions.

    Parameters
    ----------
    curves : dict of RoutingCurve
        The router first, then one rival or more.
    bootstrap : Bootstrap
        Of the questions, the same resamples for all.

    Returns
    -------
    DataFrame
        One row per router, in the order given: ``router``; ``apgr``, ``cpt50`` (share of strong calls for half of the
        gap) and ``difference`` (APGR of the first router minus that of this one; NaN for the first), each with
        ``_low`` and ``_high``; and ``p_holm`` of the paired bootstrap, corrected over the rivals.

    Raises
    ------
    ParameterError
        When there is no rival.
    """
    if len(curves) < 2:
        raise ParameterError(f"rivals_table: needs a router and one rival or more, got {listed(curves) or 'none'}")
    names = list(curves)
    compared = compare_pairs(list(curves.values()), [(0, rival) for rival in range(1, len(names))], "apgr", bootstrap)
    corrected = holm([comparison.p_value for comparison in compared])
    rows = []
    for number, (name, curve) in enumerate(curves.items()):
        row: dict[str, object] = {"router": name}
        for metric, (value, low, high) in curve.intervals(["apgr", "cpt50"], bootstrap).iterrows():
            row |= {str(metric): value, f"{metric}_low": low, f"{metric}_high": high}
        if number:
            difference = compared[number - 1]
            row |= {"difference": difference.difference}
            row |= {"difference_low": difference.low, "difference_high": difference.high}
            row |= {"p_holm": corrected[number - 1]}
        rows.append(row)
    return pd.DataFrame(rows)


def rival_sentence(rivals: pd.DataFrame, name: str) -> str:
    """Whether a rival ranks the questions better than the router does, with both numbers and the test.

    Parameters
    ----------
    rivals : DataFrame
        Made by `rivals_table`.
    name : str
        Of the rival.

    Raises
    ------
    ParameterError
        When there is no such rival.
    """
    names = list(rivals["router"])
    if name not in names[1:]:
        raise ParameterError(f"no rival {name!r}; nearest: {nearest(name, names[1:])}")
    router, rival = rivals.iloc[0], rivals.iloc[names.index(name)]
    p_value = p_value_words(rival["p_holm"])
    if rival["p_holm"] >= SIGNIFICANT:
        verdict = "is not significantly different"
    else:
        side = "better" if rival["difference"] < 0 else "worse"
        verdict = f"is significantly {side}"
    return (
        f"Compared with the {names[0]} router, {name} {verdict}: APGR {_interval(rival, 'apgr')} against "
        f"{_interval(router, 'apgr')} (paired bootstrap, {p_value} after Holm's correction)."
    )


def deployment_sentences(
    threshold: float,
    expected: Expectation,
    curve: RoutingCurve,
    rivals: pd.DataFrame,
    *,
    outcomes: Outcomes | None = None,
    random_state: int = 0,
) -> list[str]:
    """What to do with a router, and why: the decision, the test against random calls, each rival, what is achievable.

    Parameters
    ----------
    threshold : float
        On win rates, chosen on some questions.
    expected : Expectation
        What it gives on others.
    curve : RoutingCurve
        Of the router, on all questions.
    rivals : DataFrame
        Made by `rivals_table`, the router first.
    outcomes : Outcomes, optional
        The questions of the curve; where they are simulated, a sentence says how much of what is achievable is
        achieved.
    random_state : int
        Of the permutation test.

    Returns
    -------
    list of str
        The first is the decision: to deploy unless the router is not significantly better than random calls, or a
        rival is significantly better than the router.
    """
    name, p_value = rivals["router"].iloc[0], curve.p_value_vs_random(random_state=random_state)
    better = rivals[(rivals["difference"] < 0) & (rivals["p_holm"] < SIGNIFICANT)]
    beats_random = p_value < SIGNIFICANT and curve.apgr > 0.5
    spec = ".1%" if expected.score_unit == "share correct" else ".2f"
    strong, weak = (f"{model} alone" for model in (curve.pair.strong, curve.pair.weak))
    part = f"{expected.pgr:.0%} of the gap" if not math.isnan(expected.pgr.value) else "no gap to recover"
    gives = (
        f"{expected.share:.0%} strong calls and {part}, a mean score of {expected.quality:{spec}} ({strong} "
        f"{expected.strong.value:{spec}}, {weak} {expected.weak.value:{spec}})"
    )
    at = "above all win rates" if math.isinf(threshold) else f"{threshold:.3g}"
    if beats_random and better.empty:
        decision = (
            f"Deploy the {name} router for prompts like {curve.name} with a threshold of {at}. Expect {gives}, "
            f"measured on {expected.prompts:,} other questions."
        )
    else:
        reason = "it is not significantly better than calls at random"
        if beats_random:
            reason = f"{listed(better['router'])} is significantly better"
        decision = (
            f"Do not deploy the {name} router for prompts like {curve.name}: {reason}. With a threshold of "
            f"{at} it would give {gives}."
        )
    test = p_value_words(p_value)
    against = "is significantly better than" if beats_random else "is not significantly better than"
    if p_value < SIGNIFICANT and curve.apgr < 0.5:
        against = "is significantly worse than"
    row = rivals.iloc[0]
    half = Estimate(*row[["cpt50", "cpt50_low", "cpt50_high"]])
    sentences = [
        decision,
        f"The {name} router {against} calls at random: APGR {_interval(row, 'apgr')}, where random has 0.5 "
        f"(permutation test, {test}). It needs {half:.0%} strong calls for half of the gap, random calls 50%.",
        *(rival_sentence(rivals, rival) for rival in rivals["router"].iloc[1:]),
    ]
    if outcomes is not None and outcomes.simulated:
        best = best_possible(outcomes, curve.pair).apgr - 0.5
        achieved = Estimate(*((row[column] - 0.5) / best for column in ("apgr", "apgr_low", "apgr_high")))
        sentences.append(
            f"The {name} router achieves {achieved:.0%} of the gain over random calls that is possible on this "
            "simulated data."
        )
    return sentences


def _interval(row: pd.Series, name: str) -> str:
    return f"{Estimate(*row[[name, f'{name}_low', f'{name}_high']]):.3f}"

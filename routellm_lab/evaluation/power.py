"""How many questions a benchmark needs to tell two routers apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, require_number
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.significance import paired_draws
from routellm_lab.resampling import Bootstrap, defined

_STEPS = 40
"""Halvings of the bracket of the signal: to a millionth of a millionth of its width."""
_MOST_STRENGTH = 1e12


@dataclass(frozen=True)
class Power:
    """What a benchmark can tell of two routers, by a paired comparison of their APGR.

    Attributes
    ----------
    name : str
        The benchmark.
    n : int
        Its questions.
    first, second : float
        APGR of the two routers.
    sd_difference : float
        Standard deviation of the difference of their APGR on n questions (paired bootstrap over prompts).
    needed : int
        Questions like these that tell the two apart with the wanted power.
    power_now : float
        Chance that n questions tell them apart, in [0, 1].
    detectable : float
        Smallest difference of APGR that n questions tell apart with the wanted power.
    confidence_level : float
        1 - confidence_level is the chance to tell apart two that are the same.
    power : float
        The wanted chance to tell them apart.
    """

    name: str
    n: int
    first: float
    second: float
    sd_difference: float
    needed: int
    power_now: float
    detectable: float
    confidence_level: float = 0.95
    power: float = 0.8


def required_questions(
    curve: RoutingCurve,
    first: float = 0.75,
    second: float = 0.80,
    confidence_level: float = 0.95,
    power: float = 0.8,
    n_draws: int = 20,
    n_resamples: int = 500,
    random_state: int | None = 0,
) -> Power:
    """Questions like these that tell routers of two given APGR apart.

    Parameters
    ----------
    curve : RoutingCurve
        Of any router: only its benchmark and its pair count.
    first, second : float
        Expected APGR of the two routers, between that of the worst and of the best ranking of these prompts.
    confidence_level, power : float
        Of the two-sided test, in (0, 1).
    n_draws : int
        Pairs of routers that are made.
    n_resamples : int
        Of the bootstrap of each pair.
    random_state : int, optional

    Returns
    -------
    Power

    Raises
    ------
    DataError
        When the strong model is not better, or no ranking of these prompts has such an APGR.
    ParameterError
        When ``first`` and ``second`` are the same, or ``confidence_level`` or ``power`` is not in (0, 1).

    Notes
    -----
    A router is made as the ranking of a z + e: z is the standardised gap between the strong and the weak score, e
    standard normal noise, independent between prompts and between the two routers. The signal a is found by bisection
    such that the mean APGR over the draws is the wanted one. With the standard deviation s of the paired difference,
    required_questions = n ((z_(1 - alpha/2) + z_power) s / (second - first))^2, since s falls with the
    square root of n.

    s is the bootstrap standard deviation over prompts of one given pair of routers, root mean square over the draws.
    The spread between draws is not added: a new prompt comes with new noise, so that the bootstrap, which draws prompts
    together with their noise, holds that spread already.
    The normal approximation holds where many questions are needed. Where a few hundred tell a large difference, s rises
    with the difference (both have the gap between the models below the line), the test finds more than is promised, and
    the number is on the safe side: .9 instead of .8 for .60 against .75 on 312 questions.
    Real routers err on the same prompts. Then their difference varies less, and fewer questions are needed.
    """
    _require_odds(confidence_level, power)
    for name, apgr in (("first", first), ("second", second)):
        require_number(f"required_questions: {name}", apgr)
    if first == second:
        raise ParameterError(f"required_questions: first and second are both {first:g}; nothing to tell apart")
    require_number("n_draws", n_draws, 1, whole=True)
    require_number("n_resamples", n_resamples, 2, whole=True)
    best = curve.oracle().apgr
    for name, target in (("first", first), ("second", second)):
        if not 1 - best < target < best:
            raise DataError(
                f"{curve.name}: no router of APGR {target:g} ({name}): rankings of these {len(curve)} prompts reach "
                f"from {1 - best:.3f} to {best:.3f} (the oracle), both excluded"
            )
    gap = curve.gap
    noise = np.random.default_rng(random_state).standard_normal((2, n_draws, len(curve)))
    if gap.std() <= 1e-12 * np.abs(gap).max():
        raise DataError(f"{curve.name}: all {len(gap)} prompts have the same gap: every ranking has an APGR of .500")
    signal = (gap - gap.mean()) / gap.std()
    made: list[RoutingCurve] = []
    for part, target in zip(noise, (first, second), strict=True):
        strength = _strength(signal, part, gap, target)
        made += [_ranked(curve, strength * signal + row) for row in part]
    draws = defined(paired_draws(made, "apgr", Bootstrap(confidence_level, n_resamples, random_state)), curve.name)
    differences = draws[:, n_draws:] - draws[:, :n_draws]
    sd = float(np.sqrt(differences.var(axis=0, ddof=1).mean()))
    return _power(curve.name, len(curve), first, second, sd, confidence_level, power)


def power_table(
    curves: Mapping[str, RoutingCurve],
    first: float = 0.75,
    second: float = 0.80,
    confidence_level: float = 0.95,
    power: float = 0.8,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """How well several benchmarks tell two routers apart (see `required_questions`).

    Parameters
    ----------
    curves : dict of str to RoutingCurve
        By benchmark; of any router.
    first, second : float
        APGR of the two routers.
    confidence_level, power : float
        Of the two-sided test.
    random_state : int, optional

    Returns
    -------
    DataFrame
        Indexed by ``benchmark``: ``questions`` (how many there are), ``sd_difference``, ``needed``, ``power_now``,
        ``detectable`` as `Power` has them; missing where no ranking of the benchmark has such an APGR.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, curve in curves.items():
        rows[name] = {"questions": len(curve)}
        best = curve.oracle().apgr
        if all(1 - best < target < best for target in (first, second)):
            found = vars(required_questions(curve, first, second, confidence_level, power, random_state=random_state))
            rows[name] |= {key: found[key] for key in ("sd_difference", "needed", "power_now", "detectable")}
    columns = ["questions", "sd_difference", "needed", "power_now", "detectable"]
    table = pd.DataFrame([[row.get(column, math.nan) for column in columns] for row in rows.values()], columns=columns)
    table.index = pd.Index(list(rows), name="benchmark")
    return table.astype({"questions": "int64", "needed": "Int64"})


def power_curve(
    table: pd.DataFrame, difference: float, sizes: Sequence[int], confidence_level: float = 0.95
) -> pd.DataFrame:
    """The chance to find a difference of APGR, by the number of questions.

    Parameters
    ----------
    table : DataFrame
        Made by `power_table`; benchmarks without ``sd_difference`` are left out.
    difference : float
        Of the APGR of two routers.
    sizes : list of int
        Numbers of questions.
    confidence_level : float
        Of the two-sided test.

    Returns
    -------
    DataFrame
        ``benchmark``, ``questions``, ``power`` in [0, 1].

    Notes
    -----
    The standard deviation of the difference falls with the square root of the number of questions.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"questions": [100], "sd_difference": [0.05]}, index=["toy"])
    >>> power_curve(table, 0.1, [25, 100])["power"].round(2).tolist()
    [0.17, 0.52]
    """
    rows = []
    for name, row in table[table["sd_difference"].notna()].iterrows():
        for size in sizes:
            sd = row["sd_difference"] * math.sqrt(row["questions"] / size)
            rows.append((name, size, _chance(abs(difference) / sd, confidence_level)))
    return pd.DataFrame(rows, columns=["benchmark", "questions", "power"])


def detectable_difference(
    low: Any, high: Any, confidence_level: float = 0.95, power: float = 0.8, n_tests: int = 1
) -> Any:
    """Smallest difference that a comparison finds with the wanted power, from the width of its interval.

    Parameters
    ----------
    low, high : float or array-like
        The interval of the measured difference, at ``confidence_level``.
    confidence_level, power : float
        Of the two-sided test.
    n_tests : int
        Tests that are corrected together: each is at 1 - (1 - confidence_level) / n_tests (Bonferroni). Holm's
        correction finds at least as much.

    Returns
    -------
    float or array

    Examples
    --------
    >>> round(detectable_difference(-0.0196, 0.0196), 3)
    0.028
    """
    _require_odds(confidence_level, power)
    require_number("n_tests", n_tests, 1, whole=True)
    normal = NormalDist()
    error = (high - low) / (2 * normal.inv_cdf((1 + confidence_level) / 2))
    return (normal.inv_cdf(1 - (1 - confidence_level) / (2 * n_tests)) + normal.inv_cdf(power)) * error


def _strength(signal: np.ndarray, noise: np.ndarray, gap: np.ndarray, target: float) -> float:
    """The signal with which the mean APGR over the rows of noise is ``target``, by bisection."""
    n = len(gap)
    weight = (n - np.arange(n) - 0.5) / (n * gap.sum())

    def above(strength: float) -> bool:
        # the noise has no ties: APGR is the gaps in ranked order times the mean height of the steps above them
        ranked = gap[np.argsort(-(strength * signal + noise), axis=1)]
        return float((ranked @ weight).mean()) >= target

    high = 1.0
    while not above(high) or above(-high):
        if high > _MOST_STRENGTH:
            raise DataError(f"no ranking of these {n} prompts has an APGR of {target:g} on average")
        high *= 2
    low = -high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return high


def _ranked(curve: RoutingCurve, score: np.ndarray) -> RoutingCurve:
    return replace(curve, win_rate=np.argsort(np.argsort(score)) / max(len(score) - 1, 1))


def _power(name: str, n: int, first: float, second: float, sd: float, level: float, power: float) -> Power:
    if sd == 0:
        raise DataError(f"{name}: the difference does not vary over {n} prompts, which are too few to plan with")
    normal = NormalDist()
    quantile, difference = normal.inv_cdf((1 + level) / 2), abs(first - second)
    reach = (quantile + normal.inv_cdf(power)) * sd
    return Power(
        name=name,
        n=n,
        first=first,
        second=second,
        sd_difference=sd,
        needed=math.ceil(n * (reach / difference) ** 2),
        power_now=_chance(difference / sd, level),
        detectable=reach,
        confidence_level=level,
        power=power,
    )


def _chance(shift: float, level: float) -> float:
    """Power of a two-sided test where the difference is ``shift`` standard errors."""
    normal = NormalDist()
    quantile = normal.inv_cdf((1 + level) / 2)
    return normal.cdf(shift - quantile) + normal.cdf(-shift - quantile)


def _require_odds(confidence_level: Any, power: Any) -> None:
    for name, value in (("confidence_level", confidence_level), ("power", power)):
        require_number(name, value, 0, 1, inside=True)
    if power <= 1 - confidence_level:
        raise ParameterError(f"power must be above 1 - confidence_level = {1 - confidence_level:g}, got {power!r}")

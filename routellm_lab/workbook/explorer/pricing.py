"""Other prices than the listed ones: dollars are linear in prices, and so are the covariances of what they add up.

A page cannot hold a bootstrap. It holds, at each cut-off, the mean tokens that the router pays for, and covariances
over resamples of the questions: of those tokens, of the tokens of both models alone, and of the gap recovered. They
give the standard deviation of dollars and savings at any prices: exactly where they are linear, by the delta method
where they are ratios. The interval at other prices is the listed one, around the new value, with both sides stretched
by the ratio of the two standard deviations. At the listed prices it is the bootstrap's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from routellm_lab.costs.tokens import PER
from routellm_lab.errors import ParameterError
from routellm_lab.evaluation.cost_curve import PairCostCurve
from routellm_lab.resampling import Bootstrap
from routellm_lab.workbook.explorer.points import savings

FIELDS = ("strong model, input", "strong model, output", "weak model, input", "weak model, output")
MOST_PRICE, MOST_TOKENS = 1e6, 1e7
"""That a reader may type: USD per million tokens, and mean tokens per question."""

_PGR = 8
_PARTS = 9  # four kinds of tokens that the router pays for, the same four of a model alone, and the gap recovered
_STRONG, _WEAK = np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])


@dataclass(frozen=True, eq=False)
class TokenMoments:
    """What is needed to see other prices. Kinds of tokens are in the order of `FIELDS`.

    Attributes
    ----------
    prices : (4,) array
        Listed, USD per million tokens.
    tokens : (4,) array
        Means per question of each model alone.
    router : float
        USD per 1,000 questions.
    used : (m, 4) array
        Mean tokens per question at each cut-off.
    covariances : (m, 9, 9) array
        Over the resamples, of ``used``, of ``tokens`` and of the gap recovered.
    """

    prices: np.ndarray
    tokens: np.ndarray
    router: float
    used: np.ndarray = field(repr=False)
    covariances: np.ndarray = field(repr=False)


def token_moments(costs: PairCostCurve, thresholds: np.ndarray, bootstrap: Bootstrap) -> TokenMoments | None:
    """The moments of a curve in dollars at thresholds; None where it does not know its tokens."""
    if costs.use is None:
        return None
    curve, tokens = costs.curve, costs.use.tokens
    called = (curve.win_rate[:, None] >= thresholds).astype(float)
    paid = np.where((_STRONG == 1)[None, None], called[:, :, None], 1 - called[:, :, None]) * tokens[:, None]  # n, m, 4
    gaps = curve.strong_scores - curve.weak_scores
    n, m = called.shape
    drawn = []
    for drawn_prompts in curve.resampled(bootstrap):
        counts = drawn_prompts / drawn_prompts.sum(axis=1, keepdims=True)
        parts = np.empty((len(counts), m, _PARTS))
        parts[:, :, :4] = (counts @ paid.reshape(n, -1)).reshape(-1, m, 4)
        parts[:, :, 4:8] = (counts @ tokens)[:, None]
        gap = (counts @ gaps)[:, None]
        parts[:, :, _PGR] = counts @ (gaps[:, None] * called) / np.where(gap > 0, gap, np.nan)
        drawn.append(parts)
    draws = np.concatenate(drawn)
    undefined = np.isnan(draws).any(axis=(1, 2))
    draws = np.nan_to_num(draws) if undefined.all() else draws[~undefined]
    apart = draws - draws.mean(axis=0)
    covariances = np.einsum("bmi,bmj->mij", apart, apart, optimize=True) / max(len(draws) - 1, 1)
    return TokenMoments(costs.use.prices, tokens.mean(axis=0), PER * costs.router, paid.mean(axis=0), covariances)


def repriced(
    points: pd.DataFrame,
    moments: TokenMoments,
    prices: Sequence[float],
    tokens: Sequence[float],
) -> tuple[pd.DataFrame, float, float]:
    """Points at other prices and mean tokens per question.

    Parameters
    ----------
    points : DataFrame
        At the listed prices.
    moments : TokenMoments
    prices, tokens : four floats
        In the order of `FIELDS`. Tokens of all questions change in proportion to their mean.

    Returns
    -------
    points : DataFrame
    strong_dollars, weak_dollars : float
        Of each model alone, USD per 1,000 questions.

    Raises
    ------
    ParameterError
        When a number is not above 0 or too large, or the strong model would cost no more than the weak one.
    """
    for what, given, most in (("prices", prices, MOST_PRICE), ("tokens", tokens, MOST_TOKENS)):
        if len(given) != len(FIELDS) or not all(0 < value <= most for value in given):
            raise ParameterError(f"{what} must be four numbers above 0, at most {most:,.0f}, got {list(given)}")
    listed, _, _ = _money(points, moments, moments.prices, moments.tokens)
    changed, strong, weak = _money(points, moments, np.array(prices, float), np.array(tokens, float))
    if strong <= weak:
        raise ParameterError("the strong model would cost no more than the weak one: there is nothing to save")
    columns = {}
    for name, (values, sd) in changed.items():
        was, was_sd = listed[name]
        stretch = np.divide(sd, was_sd, out=np.zeros(len(points)), where=was_sd > 0)
        if name == "dollars":
            columns[name] = values
        for end in ("low", "high"):
            columns[f"{name}_{end}"] = values + (points[f"{name}_{end}"] - was) * stretch
    return points.assign(**columns), strong, weak


def _money(
    points: pd.DataFrame, moments: TokenMoments, prices: np.ndarray, tokens: np.ndarray
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], float, float]:
    """Dollars and savings at each cut-off with their standard deviations; dollars of both models alone."""
    rates = prices * (tokens / moments.tokens) * PER / 1e6  # USD per 1,000 questions and mean token
    dollars = moments.used @ rates + moments.router
    strong, weak = (float(moments.tokens @ (rates * which)) for which in (_STRONG, _WEAK))
    pgr = points["pgr"].to_numpy()
    share = np.clip(pgr, 0, 1)[:, None]
    mix = weak + share * (strong - weak)
    nothing = np.zeros(4)
    of_router = np.concatenate([rates, nothing, [0]])
    of_strong = np.concatenate([nothing, rates * _STRONG, [0]])
    of_weak = np.concatenate([nothing, rates * _WEAK, [0]])
    of_mix = (1 - share) * of_weak + share * of_strong
    of_mix[:, _PGR] = strong - weak
    paid = dollars[:, None]
    slopes = {
        "dollars": np.tile(of_router, (len(points), 1)),
        "saved": np.tile(of_strong - of_router, (len(points), 1)),
        "saving": paid / strong**2 * of_strong - of_router / strong,
        "mix_saving": paid / mix**2 * of_mix - of_router / mix,
    }
    values = {"dollars": dollars} | savings(dollars, strong, weak, pgr)
    found = {}
    for name, slope in slopes.items():
        variance = np.einsum("mi,mij,mj->m", slope, moments.covariances, slope)
        found[name] = (values[name], np.sqrt(np.maximum(variance, 0)))
    return found, strong, weak

"""A test by betting that the mean of bounded numbers is above 0: valid however rare and heavy the losses are."""

import hashlib
import math
import re

import numpy as np

from routellm_lab.errors import DataError, ParameterError, require_number
from routellm_lab.evaluation.curve import RoutingCurve

MOST_BET = 0.75
"""Share of the wealth that is bet on a question, at most."""

_RANGE = re.compile(r"(?:^|[\s,(\[])(-?\d+(?:\.\d+)?)\s*(?:-|–|to)\s*(\d+(?:\.\d+)?)[)\]]?$")


def largest_gap(curve: RoutingCurve, bound: float | None) -> float:
    """Largest difference of scores that a question can have: as given, of the range in the unit, or 1 of shares."""
    scores = np.concatenate([curve.strong_scores, curve.weak_scores])
    if bound is None:
        named = _RANGE.search(curve.score_unit)
        if named:
            bound = float(named[2]) - float(named[1])
        elif curve.score_unit.startswith("share") and scores.min() >= 0 and scores.max() <= 1:
            bound = 1.0
        else:
            raise ParameterError(  # no refusal: it would be the same whatever is drawn
                f"{curve.name}: scores from {scores.min():g} to {scores.max():g}, and no range of them is known, so "
                "that a rare question may lose any amount: pass bound=, the largest difference that two scores can "
                "have (9 for scores from 1 to 10)"
            )
    require_number("bound", bound, 0, math.inf, inside=True)
    gaps = np.abs(curve.gap)
    if gaps.max() > bound * (1 + 1e-9):
        raise DataError(
            f"{curve.name}: the scores of prompt {curve.prompt_ids[int(gaps.argmax())]} differ by {gaps.max():g}, more "
            f"than the bound of {bound:g}; pass the largest difference that two scores can have"
        )
    return float(bound)


class Wealth:
    """Tests by betting that gap (called - x) has a mean above 0, for questions in the order of the ranking.

    With z = gap (called - x) / (bound max(x, 1 - x)), which is at least -1, the product of 1 + bet z over the questions
    in random order is the wealth of a gambler who cannot expect to win where the mean is not above 0. It exceeds
    1 / delta at any time with probability delta at most (Ville). A bet depends on the questions before it.

    Questions without a gap neither win nor lose, so that only the others are looked at, each at its place in a random
    order. The bet is sqrt(2 log(1 / delta) / (n v)), at most `MOST_BET`, v the mean square of z on the questions before
    (with one of 1 added).
    """

    def __init__(self, rates: np.ndarray, gaps: np.ndarray, bound: float, delta: float) -> None:
        # another order for other questions: one for all of them would always place the same ranks first
        digest = hashlib.sha256(rates.tobytes() + gaps.tobytes()).digest()
        self.random_state = int.from_bytes(digest[:8], "big")
        place = np.random.default_rng(self.random_state).permutation(len(gaps))
        self.rank = np.flatnonzero(gaps)
        self.rank = self.rank[np.argsort(place[self.rank])]
        self.before = place[self.rank][:, None]
        self.stakes, self.n, self.level = gaps[self.rank] / bound, len(gaps), math.log(1 / delta)

    def passes(self, x: float, calls: np.ndarray) -> np.ndarray:
        """Whether the wealth reaches 1 / delta and the mean of z is not below 0, at numbers of strong calls."""
        z = self.stakes[:, None] * ((self.rank[:, None] < calls) - x) / max(x, 1 - x)
        squares = np.cumsum(z**2, axis=0) - z**2
        bet = np.minimum(np.sqrt(2 * self.level * (self.before + 1) / (self.n * (squares + 1))), MOST_BET)
        most = np.cumsum(np.log1p(bet * z), axis=0).max(axis=0, initial=0.0)
        return np.asarray((most >= self.level) & (z.sum(axis=0) >= 0))

    def lower_limit(self, calls: int, passed: float, most: float) -> float:
        """Largest x up to ``most`` that passes at a number of strong calls, from one that does, by bisection."""
        low, high = passed, most
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if self.passes(middle, np.array([calls]))[0] else (low, middle)
        return low

"""What a threshold on win rates gives on labelled questions: quality, strong calls, costs, with intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from routellm_lab.costs.tokens import PER
from routellm_lab.evaluation.cost_curve import PairCostCurve
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.verdict import UNKNOWN, Estimate, flattened
from routellm_lab.resampling import Bootstrap


@dataclass(frozen=True)
class Expectation:
    """What a threshold gives on labelled questions, each with its bootstrap interval at that threshold.

    Attributes
    ----------
    benchmark : str
    prompts : int
    share : Estimate
        Of strong calls.
    quality, strong, weak : Estimate
        Mean score of the routed model, and of both models alone, in the benchmark's unit.
    pgr : Estimate
        Share of the performance gap recovered; NaN where the strong model is not significantly better.
    dollars, saving : Estimate
        USD per 1,000 questions, the router included, and the share saved against the strong model alone; NaN where no
        costs are known.
    score_unit : str
    confidence_level : float
        Of the intervals.
    saving_over_mix : Estimate
        Share saved against a random mix of both models with the same quality, which needs no router; below 0 where the
        mix is cheaper. NaN where costs or PGR are not known. A mix cannot exceed the strong model: where the routed
        quality does, it is compared with the strong model alone.
    """

    benchmark: str
    prompts: int
    share: Estimate
    quality: Estimate
    strong: Estimate
    weak: Estimate
    pgr: Estimate
    dollars: Estimate = UNKNOWN
    saving: Estimate = UNKNOWN
    score_unit: str = "share correct"
    confidence_level: float = 0.95
    saving_over_mix: Estimate = UNKNOWN

    def row(self) -> dict[str, Any]:
        """The estimates side by side, as ``share``, ``share_low``, ``share_high`` and so on."""
        names = ("benchmark", "prompts", "share", "quality", "pgr", "dollars", "saving", "saving_over_mix")
        return flattened({name: getattr(self, name) for name in names})


def expectation(
    curve: RoutingCurve,
    costs: PairCostCurve | None,
    threshold: float,
    bootstrap: Bootstrap = Bootstrap(),
) -> Expectation:
    """What a threshold gives on a curve's questions: see `ThresholdPolicy.expect`."""
    called = curve.win_rate >= threshold
    columns = [called, np.where(called, curve.strong_scores, curve.weak_scores), curve.strong_scores, curve.weak_scores]
    if costs is not None:
        columns += [np.where(called, costs.strong, costs.weak) + costs.router, costs.strong, costs.weak]
    values = np.stack(columns, axis=1).astype(float)
    draws = bootstrap.means(values, curve.clusters)
    means = values.mean(axis=0)

    def estimate(value: float, drawn: np.ndarray) -> Estimate:
        return Estimate(float(value), *bootstrap.interval(drawn, curve.name).tolist())

    share, quality, strong, weak = (estimate(means[column], draws[:, column]) for column in range(4))
    gap = estimate(means[2] - means[3], draws[:, 2] - draws[:, 3])
    pgr = dollars = saving = saving_over_mix = UNKNOWN
    if gap.low > 0:
        gaps = np.where(draws[:, 2] > draws[:, 3], draws[:, 2] - draws[:, 3], np.nan)
        pgr = estimate((means[1] - means[3]) / gap.value, (draws[:, 1] - draws[:, 3]) / gaps)
    if costs is not None:
        dollars = estimate(PER * means[4], PER * draws[:, 4])
        saving = estimate(1 - means[4] / means[5], 1 - draws[:, 4] / draws[:, 5])
        if gap.low > 0:
            recovered = np.append((draws[:, 1] - draws[:, 3]) / gaps, pgr.value).clip(0, 1)
            spent, always, never = (np.append(draws[:, column], means[column]) for column in (4, 5, 6))
            saved = 1 - spent / (never + recovered * (always - never))
            saving_over_mix = estimate(saved[-1], saved[:-1])
    n, unit, level = len(curve), curve.score_unit, bootstrap.confidence_level
    return Expectation(curve.name, n, share, quality, strong, weak, pgr, dollars, saving, unit, level, saving_over_mix)

"""Sampling noise of one routing curve: intervals of its metrics, and where a random router lies."""

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab import resampling
from routellm_lab.errors import ParameterError, require_number
from routellm_lab.evaluation import influence, significance
from routellm_lab.evaluation.inputs import checked_shares

if TYPE_CHECKING:
    from routellm_lab.evaluation.curve import RoutingCurve


FIELLER_BELOW = 500
"""Questions below which intervals of APGR are Fieller's: there the percentiles of a bootstrap cover too rarely."""


def metric_intervals(curve: "RoutingCurve", names: list[str], bootstrap: resampling.Bootstrap) -> pd.DataFrame:
    """Metrics of a curve with their intervals (see `RoutingCurve.intervals`)."""
    resampling.warn_repeated(curve.clusters, curve.name)
    values = [curve.value(name) for name in names]
    few = curve.independent_prompts < FIELLER_BELOW
    closed = np.array([few and name == "apgr" for name in names])
    ends = np.empty((2, len(names)))
    if not closed.all():
        drawn = [name for name, known in zip(names, closed, strict=True) if not known]
        draws = significance.metric_draws(curve, drawn, bootstrap)
        ends[:, ~closed] = bootstrap.interval(draws, curve.name)
    if closed.any():
        ends[:, closed] = np.array(influence.apgr_interval(curve, bootstrap.confidence_level))[:, None]
    if "apgr" in names:
        influence.warn_few_carriers(curve)
    low, high = ends
    return pd.DataFrame({"value": values, "low": low, "high": high}, index=pd.Index(names, name="metric"))


def random_band(curve: "RoutingCurve", confidence_level: float, shares: Any) -> pd.DataFrame:
    """Where a random router lies, share by share (see `RoutingCurve.random_band`)."""
    require_number("confidence_level", confidence_level, 0, 1, inside=True)
    share = np.linspace(0, 1, 101) if shares is None else np.atleast_1d(checked_shares(shares))
    if share.ndim > 1:
        raise ParameterError(f"random_band: shares must be a flat list, got shape {share.shape}")
    centre = curve.weak_mean + share * curve.gap.mean()
    variance = curve.gap.var(ddof=1) if len(curve) > 1 else 0.0
    half = NormalDist().inv_cdf((1 + confidence_level) / 2) * np.sqrt(variance * share * (1 - share) / len(curve))
    return pd.DataFrame({"share": share, "quality": centre, "low": centre - half, "high": centre + half})

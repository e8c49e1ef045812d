"""Metrics and conclusion of a notebook: what is taken, how it travels in an output, and how it is read back."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

from routellm_lab.errors import ParameterError

METRICS_MIME = "application/vnd.routellm-lab.metrics+json"
CONCLUSION_MIME = "application/vnd.routellm-lab.conclusion+json"
SIGNIFICANT_DIGITS = 6
"""Kept of a float, so that the last bits of a sum do not decide whether two runs agree."""

Scalar = bool | int | float | str | None


def clean_metrics(metrics: Mapping[str, Any]) -> dict[str, Scalar]:
    """Metrics as plain JSON scalars; NumPy scalars are converted, floats keep six significant digits.

    Raises
    ------
    ParameterError
        When a value is not a finite number, text, a truth value or None; names the metric.
    """
    return {name: _clean(name, value) for name, value in metrics.items()}


def _clean(name: str, value: Any) -> Scalar:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if not math.isfinite(number):
            raise ParameterError(f"metric {name!r} is {number}: record a finite number, or None where there is none")
        return float(f"{number:.{SIGNIFICANT_DIGITS}g}") + 0.0  # + 0.0: no minus zero
    raise ParameterError(
        f"metric {name!r} is of type {type(value).__name__}: record numbers, text, truth values or None, one per metric"
    )


def metrics_of(notebook: Mapping[str, Any]) -> dict[str, Scalar]:
    """The metrics recorded in an executed notebook (an nbformat node); the last value of a name counts."""
    found: dict[str, Scalar] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            found |= clean_metrics(output.get("data", {}).get(METRICS_MIME, {}))
    return found


def conclusion_of(notebook: Mapping[str, Any]) -> list[str]:
    """The bullets that an executed notebook (an nbformat node) ends in; none where it has none."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    lists = [output["data"][CONCLUSION_MIME] for output in outputs if CONCLUSION_MIME in output.get("data", {})]
    last = lists[-1] if lists else []
    return [line for line in last if isinstance(line, str)] if isinstance(last, list) else []

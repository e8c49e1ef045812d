"""What a run found, for its report: the conclusions of its notebooks, and their metrics in rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routellm_lab.errors import NotebookError
from routellm_lab.files import require_real
from routellm_lab.workbook.metrics import Scalar, conclusion_of
from routellm_lab.workbook.notebooks import read_content
from routellm_lab.workbook.outputs import pages
from routellm_lab.workbook.run_pages import naming
from routellm_lab.workbook.runs import FINISHED, Run

MAX_HEADLINES = 3
_MAIN = "apgr"
"""The metric that ``low`` and ``high`` belong to where nothing else is said."""
_SEPARATOR = " | "


@dataclass(frozen=True)
class Conclusion:
    """What a notebook ends in.

    Attributes
    ----------
    notebook : str
    bullets : tuple of str
        The first answers the notebook's question; plain text.
    headline : bool
        Whether the notebook declares (metadata ``routellm_lab.headline``) that its answer belongs on the first screen.
    """

    notebook: str
    bullets: tuple[str, ...]
    headline: bool = False


@dataclass(frozen=True)
class MetricRow:
    """A quantity as the report shows it: its value and, where there is one, its interval."""

    name: str
    value: str
    interval: str = ""


def conclusions(run: Run, left_aside: list[str] | None = None) -> dict[str, Conclusion]:
    """Conclusions of the finished notebooks that have one, by notebook, from their executed copies.

    Copies that cannot be read are added to ``left_aside``, in words.
    """
    concluded = {}
    for name, entry in run.entries.items():
        executed = pages(run, name)[0]
        if entry["status"] not in FINISHED or not executed.exists():
            continue
        with naming(left_aside):
            require_real(executed, deep=False)
            content = read_content(executed)
            declared = content["metadata"].get("routellm_lab")
            headline = isinstance(declared, dict) and declared.get("headline") is True
            bullets = _bullets(content, executed)
            if bullets:
                concluded[name] = Conclusion(name, bullets, headline)
    return concluded


def _bullets(content: Mapping[str, Any], executed: Path) -> tuple[str, ...]:
    try:
        return tuple(conclusion_of(content))
    except (AttributeError, KeyError, TypeError) as error:
        raise NotebookError(f"{executed}: its outputs are not those of a notebook") from error


def headlines(concluded: Mapping[str, Conclusion]) -> list[Conclusion]:
    """Those whose first bullet belongs on the first screen, three at most: the declared ones, else the first."""
    declared = [conclusion for conclusion in concluded.values() if conclusion.headline]
    return (declared or list(concluded.values()))[:MAX_HEADLINES]


def metric_rows(metrics: Mapping[str, Scalar]) -> list[MetricRow]:
    """One row per quantity, in the order of the metrics, with its interval where it has one.

    ``x_low`` and ``x_high`` are the interval of ``x``; ``… | low`` and ``… | high`` that of ``… | apgr``.

    Examples
    --------
    >>> metric_rows({"apgr": 0.7, "high": 0.75, "low": 0.65, "votes": 20000})
    [MetricRow(name='apgr', value='0.7', interval='[0.65, 0.75]'), MetricRow(name='votes', value='20,000', interval='')]
    """
    ends: dict[str, dict[str, Scalar]] = {}
    for name, value in metrics.items():
        quantity, end = _quantity(name)
        if end:
            ends.setdefault(quantity, {})[end] = value
    whole = {quantity for quantity, found in ends.items() if len(found) == 2}
    rows: dict[str, MetricRow] = {}
    for name, value in metrics.items():
        quantity, end = _quantity(name)
        if end and quantity in whole:
            if quantity not in metrics and quantity not in rows:
                rows[quantity] = MetricRow(quantity, "–", _interval(ends[quantity]))
        else:
            rows[name] = MetricRow(name, _shown(value), _interval(ends[name]) if name in whole else "")
    return list(rows.values())


def _quantity(name: str) -> tuple[str, str]:
    """The quantity whose interval a metric is an end of, and which end; the metric itself and '' if it is none."""
    prefix, mark, last = name.rpartition(_SEPARATOR)
    for end in ("low", "high"):
        if last == end:
            return f"{prefix}{mark}{_MAIN}", end
        if last.endswith(f"_{end}"):
            return name.removesuffix(f"_{end}"), end
    return name, ""


def _interval(ends: Mapping[str, Scalar]) -> str:
    return f"[{_shown(ends['low'])}, {_shown(ends['high'])}]"


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

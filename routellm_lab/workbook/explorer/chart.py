"""The explorer's chart: quality against dollars as SVG text."""

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from routellm_lab.workbook.explorer.formats import fixed

if TYPE_CHECKING:
    from routellm_lab.workbook.explorer.explorer import Explorer


@dataclass(frozen=True)
class Chart:
    """Quality against dollars as SVG text, in a size of its own: text in an SVG shrinks with it."""

    name: str
    width: int
    height: int
    left: int
    right: int
    top: int = 34
    bottom: int = 50

    def draw(self, explorer: "Explorer", position: int) -> str:
        points = explorer.points
        x, y = self._scales(explorer)
        curve = " ".join(f"{x(d)},{y(q)}" for d, q in zip(points["dollars"], points["quality"], strict=True))
        there = zip(points["dollars"], points["quality_high"], strict=True)
        back = zip(points["dollars"][::-1], points["quality_low"][::-1], strict=True)
        band = " ".join(f"{x(d)},{y(q)}" for d, q in (*there, *back))
        weak, strong = (
            (x(dollars), y(points["quality"].iloc[end]))
            for end, dollars in ((0, explorer.weak_dollars), (-1, explorer.strong_dollars))
        )
        floor = self.height - self.bottom
        grid = [
            f'<line class="grid" x1="{self.left}" x2="{self.width - self.right}" y1="{y(q)}" y2="{y(q)}"/>'
            f'<text x="{self.left - 10}" y="{y(q) + 4.5}" text-anchor="end">{text}</text>'
            for q, text in _ticks(*self._quality_range(points), self.height // 70)
        ]
        ticks = "".join(
            f'<text x="{x(d)}" y="{floor + 22}" text-anchor="middle">${text}</text>'
            for d, text in _ticks(*self._dollar_range(explorer), self.width // 90)
        )
        at_x, at_y, low_x, high_x, low_y, high_y = self.marker(explorer, position)
        unit, end, below = html.escape(explorer.score_unit), self.width - self.right, "US dollars per 1,000 questions"
        return (
            f'<svg class="chart {self.name}" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="Quality '
            f'({unit}) against {below}: the router, its interval and a random mix">{"".join(grid)}'
            f'<g class="dollars">{ticks}</g>'
            f'<line class="axis" x1="{self.left}" x2="{end}" y1="{floor}" y2="{floor}"/>'
            f'<text x="0" y="14">Quality, {unit}</text>'
            f'<text x="{end}" y="{floor + 42}" text-anchor="end">{below}</text>'
            f'<polygon class="band" points="{band}"/>'
            f'<line class="random" x1="{weak[0]}" y1="{weak[1]}" x2="{strong[0]}" y2="{strong[1]}"/>'
            f'<polyline class="curve" points="{curve}"/>'
            f'<g class="weak-end" transform="translate({weak[0]},{weak[1]})"><rect class="weak" x="-6" y="-6" '
            'width="12" height="12"/><text class="end" x="12" y="16">weak</text></g>'
            f'<g class="strong-end" transform="translate({strong[0]},{strong[1]})"><path class="strong" d="M0,-8 l8,14 '
            'h-16 z"/><text class="end" x="13" y="5">strong</text></g>'
            f'<g class="point" transform="translate({at_x},{at_y})"><line class="across" x1="{low_x}" x2="{high_x}"/>'
            f'<line class="up" y1="{low_y}" y2="{high_y}"/><circle r="8"/></g></svg>'
        )

    def marker(self, explorer: "Explorer", position: int) -> list[float]:
        """Where the moving point lies, and the ends of its intervals, left, right, below and above, from there."""
        x, y = self._scales(explorer)
        row = explorer.points.iloc[position]
        at_x, at_y = x(row["dollars"]), y(row["quality"])
        ends = [x(row[name]) - at_x for name in ("dollars_low", "dollars_high")]
        ends += [y(row[name]) - at_y for name in ("quality_low", "quality_high")]
        return [at_x, at_y, *(round(end, 1) for end in ends)]

    def _scales(self, explorer: "Explorer") -> tuple[Any, Any]:
        points = explorer.points
        low_x, high_x = self._dollar_range(explorer)
        low_y, high_y = self._quality_range(points)
        wide, high = self.width - self.left - self.right, self.height - self.top - self.bottom

        def x(dollars: float) -> float:
            inside = (dollars - low_x) / ((high_x - low_x) or 1)
            return round(self.left + wide * min(max(inside, -0.06), 1.06), 1)  # an interval may reach past the curve

        def y(quality: float) -> float:
            return round(self.top + high * (1 - (quality - low_y) / ((high_y - low_y) or 1)), 1)

        return x, y

    @staticmethod
    def _dollar_range(explorer: "Explorer") -> tuple[float, float]:
        shown = [explorer.weak_dollars, explorer.strong_dollars, *explorer.points["dollars"]]
        return min(shown), max(shown)

    @staticmethod
    def _quality_range(points: pd.DataFrame) -> tuple[float, float]:
        shown = points[["quality_low", "quality_high", "random_quality"]]
        low, high = shown.min().min(), shown.max().max()
        return low - 0.04 * (high - low), high + 0.04 * (high - low)


WIDE = Chart("wide", width=760, height=420, left=48, right=62)
NARROW = Chart("narrow", width=350, height=320, left=44, right=54)

CHART_STYLE = """
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { font: 13px system-ui, sans-serif; fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart .end { fill: var(--ink); font-weight: 600; }
.chart .grid { stroke: var(--line); } .chart .axis { stroke: var(--soft); }
.chart .band { fill: var(--accent); opacity: .16; }
.chart .random { fill: none; stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 5; }
.chart .curve { fill: none; stroke: var(--accent); stroke-width: 2.5; stroke-linejoin: round; }
.chart .weak { fill: var(--weak); } .chart .strong { fill: var(--strong); }
.chart .point line { stroke: var(--ink); stroke-width: 1.5; }
.chart .point circle { fill: var(--ink); stroke: var(--card); stroke-width: 2.5; }
"""


def _ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    from matplotlib.ticker import MaxNLocator

    places = [float(tick) for tick in MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)]
    step = places[1] - places[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    margin = 1e-9 * step
    return [(tick, fixed(tick, digits)) for tick in places if low - margin <= tick <= high + margin]

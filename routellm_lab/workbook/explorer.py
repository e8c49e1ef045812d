"""The threshold explorer: move a cut-off, or a budget, and see what quality it buys, at what price, on which questions.

One set of figures (`Explorer.state`) is shown twice: on a page that stands alone, and as widgets in JupyterLab.
"""

import base64
import hashlib
import html
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import MissingExtraError, ParameterError, listed
from routellm_lab.evaluation.cost_curve import CostCurve
from routellm_lab.files import replacing
from routellm_lab.policies.guarantees import require_ranking
from routellm_lab.preferences.models import ModelPair
from routellm_lab.resampling import Bootstrap, percentile_interval
from routellm_lab.workbook.runs import writing

_ESTIMATES = ("share", "quality", "pgr", "dollars", "random_quality")
POINT_COLUMNS = (
    "threshold",
    *(f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")),
    "saving_low",
    "saving_high",
)
QUESTION_COLUMNS = ("prompt", "group", "win_rate", "strong_score", "weak_score")
MOST_TRAFFIC = 10**12
"""Questions a month that the explorer counts to: dollars of more would not fit a number of JavaScript."""
MOST_SHOWN = 20
"""Questions that change sides are shown up to this many; the rest are counted."""

_TEMPLATE = Path(__file__).with_name("explorer.html.j2")
_BUDGETS = 100  # steps of the slider over budgets, few enough for their labels to differ
_PROMPT_LENGTH = 300
_STATIC_ROWS = 10
_NO_PGR = "the strong model is not surely better"
_NO_QUESTIONS = "There are no single questions here, only their means."
_NOT_MOVED = "Move the slider: questions that change sides appear here."


@dataclass(frozen=True, eq=False)
class Explorer:
    """Quality against dollars at every cut-off that a router offers, to be walked through.

    Attributes
    ----------
    points : DataFrame
        One row per cut-off, from the weak model alone to the strong model alone: ``threshold`` (the strong model is
        called where the win rate reaches it; infinity in the first row), ``share`` of strong calls in [0, 1],
        ``quality``, ``pgr`` (NaN in all rows where it is undefined), ``dollars`` (US dollars per 1,000 questions) and
        ``random_quality``, what a random mix reaches for the same dollars, each with its interval as ``share_low``,
        ``share_high`` and so on; and ``saving_low``, ``saving_high``, the interval of the share of
        ``strong_dollars`` that is saved.
    pair : ModelPair
    benchmark : str
    score_unit : str
        What a quality of 1 is.
    simulated : bool
        Whether the outcomes are simulated; then both pages say so.
    note : str
        Where prices and tokens come from, in a sentence.
    questions : DataFrame, optional
        ``prompt``, ``group``, ``win_rate``, ``strong_score``, ``weak_score``: to see which of them change sides. All
        are counted; those without a prompt (None) are not shown.
    n_questions : int, optional
        That the figures are of; by default as many as ``questions``.
    source : str
        Which questions of the benchmark they are, and of what data, in words.
    traffic : int
        Questions a month to begin with.
    level : float
        Of the intervals.
    strong_dollars, weak_dollars : float, optional
        US dollars per 1,000 questions of calling that model always, which needs no router; by default those of the
        last and the first row.

    Raises
    ------
    ParameterError
        When a column is missing, a figure is not finite, the rows are not in that order, or a number is out of range.
    """

    points: pd.DataFrame = field(repr=False)
    pair: ModelPair
    benchmark: str
    score_unit: str
    simulated: bool
    note: str
    questions: pd.DataFrame | None = field(default=None, repr=False)
    n_questions: int | None = None
    source: str = ""
    traffic: int = 1_000_000
    level: float = 0.95
    strong_dollars: float | None = None
    weak_dollars: float | None = None

    def __post_init__(self) -> None:
        points = _numbers(
            self.points, "points", POINT_COLUMNS, infinite=("threshold", 0), undefined=("pgr", "pgr_low", "pgr_high")
        )
        if len(points) < 2:
            raise ParameterError(f"points has {len(points)} row(s); the weak and the strong model alone are two")
        if points["threshold"].iloc[0] != math.inf or (np.diff(points["threshold"]) >= 0).any():
            raise ParameterError("points: threshold must fall from infinity, the weak model alone, in the first row")
        share = points["share"].to_numpy()
        if share[0] != 0 or share[-1] != 1 or (np.diff(share) < 0).any():
            raise ParameterError("points: share must rise from 0, the weak model alone, to 1, the strong model alone")
        if (points["dollars"] < 0).any():
            raise ParameterError("points: dollars must not be negative")
        object.__setattr__(self, "points", points)
        if self.questions is not None:
            numbers = _numbers(
                self.questions, "questions", QUESTION_COLUMNS, text=QUESTION_COLUMNS[:2], undefined=("prompt",)
            )
            object.__setattr__(self, "questions", numbers.sort_values("win_rate", ascending=False, kind="stable"))
            object.__setattr__(self, "n_questions", self.n_questions or len(numbers))
        object.__setattr__(self, "traffic", _whole_traffic(self.traffic))
        if not 0 < self.level < 1:
            raise ParameterError(f"level must lie between 0 and 1, such as 0.95, got {self.level!r}")
        for name, row in (("strong_dollars", -1), ("weak_dollars", 0)):
            given = getattr(self, name)
            always = float(points["dollars"].iloc[row] if given is None else given)
            if not 0 <= always < math.inf:
                raise ParameterError(f"{name} must be US dollars per 1,000 questions, got {given!r}")
            object.__setattr__(self, name, always)

    @classmethod
    def from_costs(
        cls,
        costs: CostCurve,
        outcomes: Outcomes | None = None,
        *,
        traffic: int = 1_000_000,
        level: float = 0.95,
        most_points: int = 201,
        most_texts: int = 1000,
        source: str = "",
        random_state: int | None = 0,
    ) -> "Explorer":
        """The explorer of a curve in dollars.

        Parameters
        ----------
        costs : CostCurve
        outcomes : Outcomes, optional
            With the questions of the curve, to see which of them change sides. Some of their texts go into the page.
        traffic, level, source
            As in the class.
        most_points, most_texts : int
            Cut-offs offered, and texts of questions drawn to be shown, at most; all questions are counted.
        random_state : int, optional
            Of the intervals and of the draw.

        Raises
        ------
        DataError
            When all win rates are the same.
        """
        curve, questions = costs.curve, None
        require_ranking(curve.win_rate)
        if outcomes is not None:
            questions = pd.DataFrame({"prompt": outcomes.prompts, "group": outcomes.groups}).loc[curve.prompt_ids]
            hidden = np.random.default_rng(random_state).permutation(len(questions)) >= most_texts
            questions = questions.assign(
                prompt=questions["prompt"].mask(hidden, None),
                win_rate=curve.win_rate,
                strong_score=curve.strong_scores,
                weak_score=curve.weak_scores,
            )
        points = costs.points(most_points, Bootstrap(level, 1000, random_state))
        return cls(
            points=points.assign(**_intervals(costs, points["threshold"].to_numpy(), level, random_state)),
            pair=curve.pair,
            benchmark=curve.name,
            score_unit=curve.score_unit,
            simulated=curve.simulated,
            note=f"{costs.basis}.",
            questions=questions,
            n_questions=len(curve),
            source=source,
            traffic=traffic,
            level=level,
            strong_dollars=costs.strong_dollars,
            weak_dollars=costs.weak_dollars,
        )

    def __len__(self) -> int:
        """How many cut-offs there are."""
        return len(self.points)

    @property
    def about(self) -> str:
        """What the figures are of: the data, and how many questions."""
        count = f"{self.n_questions:,} questions of " if self.n_questions else ""
        return f"Figures of {count}{', '.join(filter(None, [self.benchmark, self.source]))}."

    @property
    def start(self) -> int:
        """The position to begin at: the one nearest to half of the calls strong."""
        return int((self.points["share"] - 0.5).abs().argmin())

    def state(self, position: int, traffic: int | None = None) -> dict[str, Any]:
        """What is shown at a position.

        Parameters
        ----------
        position : int
            A row of ``points``: 0 is the weak model alone.
        traffic : int, optional
            Questions a month.

        Returns
        -------
        dict
            ``position``, ``traffic``, the columns of ``points``, ``month`` and ``saved`` (US dollars a month, and less
            than with the strong model always), ``saving``; and ``shown``, the strings that readers see.

        Raises
        ------
        ParameterError
            When there is no such position, or the traffic is not a positive whole number.
        """
        row = self._rows[self._checked(position)]
        traffic = self.traffic if traffic is None else _whole_traffic(traffic)
        month = row["dollars"] * traffic / 1000
        saved = self._always * traffic / 1000 - month
        more = "less" if saved > 0 else "more"
        told = f"{_money(abs(saved))} {more} than the strong model always"
        shown = {
            "traffic": _fixed(traffic, 0),
            "month": _money(month),
            "month_interval": " to ".join(_money(row[f"dollars_{end}"] * traffic / 1000) for end in ("low", "high")),
            "saved": told if saved else "as much as the strong model always",
        }
        return row | {
            "traffic": traffic,
            "month": month,
            "saved": saved,
            "shown": row["shown"] | shown,
        }

    def within(self, budget: float) -> int:
        """The position with most strong calls that a budget (US dollars per 1,000 questions) allows.

        Raises
        ------
        ParameterError
            When the budget is below the cheapest cut-off.
        """
        within = np.flatnonzero(self.points["dollars"] <= budget)
        if not len(within):
            cheapest = Decimal(float(self.points["dollars"].min()))
            cheapest = cheapest.quantize(Decimal("0.000001"), ROUND_CEILING).normalize()
            raise ParameterError(
                f"budget must be at least {cheapest:f} US dollars per 1,000 questions, the cheapest here; got {budget}"
            )
        return int(within[-1])

    def changed(self, before: int, position: int) -> pd.DataFrame:
        """The questions that go to the other model at a position than at the one before, the highest win rate first.

        Returns
        -------
        DataFrame
            The rows of ``questions``, and ``to``: ``strong`` or ``weak``.

        Raises
        ------
        ParameterError
            When there is no such position, or the explorer was made without questions.
        """
        before, position = self._checked(before), self._checked(position)
        if self.questions is None:
            raise ParameterError("no questions to change sides: make the Explorer with questions=")
        low, high = sorted((before, position))
        moved = self.questions[(self._turns > low) & (self._turns <= high)]
        return moved.assign(to="strong" if position > before else "weak")

    def changed_in_words(self, before: int, position: int) -> str:
        """How many questions change sides, where they go, and which model scores higher on them."""
        moved = self.changed(before, position)
        if moved.empty:
            return "No question changes sides here."
        n = len(moved)
        goes = "question now goes" if n == 1 else "questions now go"
        strong = int((moved["strong_score"] > moved["weak_score"]).sum())
        weak = int((moved["strong_score"] < moved["weak_score"]).sum())
        name = self.pair.strong if position > before else self.pair.weak
        texts = len(_with_text(moved))
        rest = f" Showing {texts:,} of {n:,} below." * (texts < n)
        return (
            f"{n:,} {goes} to {name}. The strong model scores higher on {strong:,} of {n:,}, the weak model on "
            f"{weak:,}, both the same on {n - strong - weak:,}.{rest}"
        )

    def page(self) -> str:
        """A page that stands alone: it needs no network and no kernel, and shows a table where scripts are off.

        Raises
        ------
        MissingExtraError
            When jinja2 is not installed.
        """
        try:
            from jinja2 import Environment
        except ImportError as error:
            raise MissingExtraError("the explorer's page needs: pip install 'routellm-lab[workbook]'") from error
        environment = Environment(autoescape=True)
        environment.filters["digest"] = _digest
        start = self.state(self.start)
        few = np.unique(np.linspace(0, len(self) - 1, _STATIC_ROWS).round().astype(int))
        return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
            explorer=self,
            shown=start["shown"],
            start=self.start,
            data=_safe_json(self._page_data()),
            wide=_WIDE.draw(self, self.start),
            narrow=_NARROW.draw(self, self.start),
            chart_style=_CHART_STYLE,
            level=self._level,
            figures=self._figures,
            most_traffic=MOST_TRAFFIC,
            first_words=_NO_QUESTIONS if self.questions is None else _NOT_MOVED,
            few=[self.state(int(position))["shown"] for position in few],
        )

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all. Returns its path.

        Raises
        ------
        RoutellmLabError
            When it cannot be written there.
        """
        path, text = Path(path), self.page()
        with writing(path), replacing(path) as aside:
            aside.write_text(text, "utf-8")
        return path

    def widget(self) -> Any:
        """The explorer as widgets: a switch, a slider over positions, one over budgets, the traffic, and the figures.

        Returns
        -------
        ipywidgets.VBox

        Raises
        ------
        MissingExtraError
            When ipywidgets is not installed.
        """
        try:
            import ipywidgets
        except ImportError as error:
            raise MissingExtraError("the explorer's widget needs: pip install 'routellm-lab[workbook]'") from error
        width, style = "min(100%, 46rem)", {"description_width": "12rem"}
        mode = ipywidgets.ToggleButtons(
            options=[("Threshold", "threshold"), ("Budget", "budget")], description="Move along", style=style
        )
        slider = ipywidgets.IntSlider(
            self.start, 0, len(self) - 1, description="Position", layout={"width": width}, style=style
        )
        budget = ipywidgets.SelectionSlider(
            options=[(text, step) for step, (text, _) in enumerate(self._budgets)],
            description="Budget per 1,000 questions",
            layout={"width": width, "display": "none"},
            style=style,
        )
        traffic = ipywidgets.IntText(self.traffic, description="Questions a month", style=style)
        figures = ipywidgets.HTML()
        sides = ipywidgets.HTML(self._sides_as_html(self.start, self.start))

        def draw(_: Any = None) -> None:
            figures.value = self._figures_as_html(slider.value, traffic.value)

        def move(change: Mapping[str, Any]) -> None:
            draw()
            sides.value = self._sides_as_html(change["old"], change["new"])

        def spend(_: Any = None) -> None:
            slider.value = self._budgets[budget.value][1]

        def switch(change: Mapping[str, Any]) -> None:
            by_budget = change["new"] == "budget"
            slider.layout.display, budget.layout.display = ("none", "") if by_budget else ("", "none")
            if by_budget:
                budget.value = self._step_of(slider.value)
                spend()

        draw()
        slider.observe(move, "value")
        budget.observe(spend, "value")
        traffic.observe(draw, "value")
        mode.observe(switch, "value")
        return ipywidgets.VBox([mode, slider, budget, traffic, figures, sides])

    @cached_property
    def _rows(self) -> list[dict[Any, Any]]:
        """State at every position but for what depends on the traffic."""
        points = self.points
        digits = {
            "quality": _digits(points["quality_high"].max() - points["quality_low"].min()),
            "dollars": max(2, _digits(points["dollars_high"].max() - points["dollars_low"].min())),
            # enough for neighbours to differ
            "threshold": next((n for n in range(3, 6) if points["threshold"].iloc[1:].round(n).is_unique), 6),
        }
        rows = []
        for position, row in enumerate(points.to_dict("records")):
            row["saving"] = 1 - row["dollars"] / self._always if self._always else 0.0
            shown = {
                "threshold": "∞" if row["threshold"] == math.inf else _fixed(row["threshold"], digits["threshold"])
            }
            for name, told in (
                ("share", _percent),
                ("quality", partial(_fixed, digits=digits["quality"])),
                ("random_quality", partial(_fixed, digits=digits["quality"])),
                ("pgr", _percent),
                ("dollars", lambda dollars: "$" + _fixed(dollars, digits["dollars"])),
                ("saving", _percent),
            ):
                if math.isnan(row[name]):
                    shown |= {name: "–", f"{name}_interval": _NO_PGR}
                    continue
                low, high = (told(row[f"{name}_{end}"]) for end in ("low", "high"))
                shown |= {name: told(row[name]), f"{name}_interval": f"{low.removesuffix(' %')} to {high}"}
            shown["sentence"] = self._sentence(row["share"], shown)
            rows.append({"position": position, **row, "shown": shown})
        return rows

    @property
    def _figures(self) -> dict[str, str]:
        """What stands in the table of figures, and under which name; all but the first with their intervals."""
        return {
            "threshold": "Threshold",
            "share": "Strong calls",
            "quality": f"Quality, {self.score_unit}",
            "random_quality": "Random mix, same $",
            "pgr": "Gap recovered (PGR)",
            "dollars": "Per 1,000 questions",
            "month": "A month",
            "saving": "Saved",
        }

    def _sentence(self, share: float, shown: Mapping[str, str]) -> str:
        strong, weak = self.pair.strong, self.pair.weak
        if share in (0, 1):
            return f"Every question goes to {strong if share else weak}."
        return (
            f"Questions with a win rate of {shown['threshold']} or more go to {strong}: {shown['share']} of them. "
            f"The others go to {weak}."
        )

    @cached_property
    def _budgets(self) -> list[tuple[str, int]]:
        """Budgets evenly spaced in dollars, as shown, each with the position it allows."""
        dollars = self.points["dollars"]
        span = dollars.max() - dollars.min()
        steps = np.linspace(dollars.min(), dollars.max(), _BUDGETS + 1)
        return [("$" + _fixed(budget, max(2, _digits(span))), self.within(float(budget))) for budget in steps]

    def _step_of(self, position: int) -> int:
        """The smallest step over budgets that pays for a position."""
        return next(step for step, (_, allowed) in enumerate(self._budgets) if allowed >= position)

    @cached_property
    def _turns(self) -> np.ndarray:
        """Of every question the first position at which the strong model is called; past the end: never."""
        assert self.questions is not None
        return np.searchsorted(-self.points["threshold"].to_numpy(), -self.questions["win_rate"].to_numpy())

    @property
    def _always(self) -> float:
        assert self.strong_dollars is not None  # set when made
        return self.strong_dollars

    @property
    def _level(self) -> str:
        return f"{self.level * 100:g} %"

    def _checked(self, position: int) -> int:
        try:
            position = operator.index(position)
        except TypeError:
            raise ParameterError(f"position must be a whole number, got {position!r}") from None
        if not 0 <= position < len(self):
            raise ParameterError(f"position must be one of 0 to {len(self) - 1}, got {position}")
        return position

    def _page_data(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "rows": [
                {
                    "shown": row["shown"],
                    "dollars": [row["dollars"], row["dollars_low"], row["dollars_high"]],
                    "wide": _WIDE.marker(self, position),
                    "narrow": _NARROW.marker(self, position),
                }
                for position, row in enumerate(self._rows)
            ],
            "budgets": self._budgets,
            "always": self._always,
            "start": self.start,
            "names": {"strong": self.pair.strong, "weak": self.pair.weak},
            "most": {"traffic": MOST_TRAFFIC, "shown": MOST_SHOWN},
            "turning": None,
        }
        if self.questions is not None:
            # of those that turn at one position only the first can ever be among the first that are shown
            turning = []
            for position in range(len(self)):
                moved = self.questions[self._turns == position]
                better = moved["strong_score"] - moved["weak_score"]
                shown = [_question(row) for row in _with_text(moved).to_dict("records")]
                turning.append([len(moved), int((better > 0).sum()), int((better < 0).sum()), shown])
            data["turning"] = turning
        return data

    def _figures_as_html(self, position: int, traffic: int) -> str:
        try:
            shown = {key: html.escape(text) for key, text in self.state(position, traffic)["shown"].items()}
        except ParameterError as error:
            return f"<p role='alert'>{html.escape(str(error))}</p>"
        table = "".join(
            f"<tr><th>{html.escape(label)}</th><td><strong>{shown[name]}</strong></td>"
            f"<td>{shown.get(f'{name}_interval', f'{self._level} interval')}</td></tr>"
            for name, label in self._figures.items()
        )
        simulated = "<p><strong>Simulated data.</strong></p>" if self.simulated else ""
        return (
            f"<style>{_WIDGET_STYLE}{_CHART_STYLE}</style><div class='explorer'>{simulated}<p>{shown['sentence']}</p>"
            f"{_WIDE.draw(self, position)}<table>{table}</table>"
            f"<p>Of {shown['traffic']} questions a month: {shown['saved']}.</p>"
            f"<p><small>{html.escape(self.about)} {html.escape(self.note)}</small></p></div>"
        )

    def _sides_as_html(self, before: int, position: int) -> str:
        if self.questions is None:
            return f"<p>{_NO_QUESTIONS}</p>"
        if before == position:
            return f"<p>{_NOT_MOVED}</p>"
        moved = _with_text(self.changed(before, position))
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in _question(row))
            for row in moved.to_dict("records")
        )
        heads = "".join(f"<th>{head}</th>" for head in ("question", "group", "win rate", "strong", "weak"))
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        return f"<div class='explorer'><p>{html.escape(self.changed_in_words(before, position))}</p>{table}</div>"


@dataclass(frozen=True)
class _Chart:
    """Quality against dollars as SVG text, in a size of its own: text in an SVG shrinks with it."""

    name: str
    width: int
    height: int
    left: int
    right: int
    top: int = 34
    bottom: int = 50

    def draw(self, explorer: Explorer, position: int) -> str:
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
        grid += [
            f'<text x="{x(d)}" y="{floor + 22}" text-anchor="middle">${text}</text>'
            for d, text in _ticks(*self._dollar_range(explorer), self.width // 90)
        ]
        at_x, at_y, low_x, high_x, low_y, high_y = self.marker(explorer, position)
        unit, end, below = html.escape(explorer.score_unit), self.width - self.right, "US dollars per 1,000 questions"
        return (
            f'<svg class="chart {self.name}" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="Quality '
            f'({unit}) against {below}: the router, its interval and a random mix">{"".join(grid)}'
            f'<line class="axis" x1="{self.left}" x2="{end}" y1="{floor}" y2="{floor}"/>'
            f'<text x="0" y="14">Quality, {unit}</text>'
            f'<text x="{end}" y="{floor + 42}" text-anchor="end">{below}</text>'
            f'<polygon class="band" points="{band}"/>'
            f'<line class="random" x1="{weak[0]}" y1="{weak[1]}" x2="{strong[0]}" y2="{strong[1]}"/>'
            f'<polyline class="curve" points="{curve}"/>'
            f'<rect class="weak" x="{weak[0] - 6}" y="{weak[1] - 6}" width="12" height="12"/>'
            f'<text class="end" x="{weak[0] + 12}" y="{weak[1] + 16}">weak</text>'
            f'<path class="strong" d="M{strong[0]},{strong[1] - 8} l8,14 h-16 z"/>'
            f'<text class="end" x="{strong[0] + 13}" y="{strong[1] + 5}">strong</text>'
            f'<g class="point" transform="translate({at_x},{at_y})"><line class="across" x1="{low_x}" x2="{high_x}"/>'
            f'<line class="up" y1="{low_y}" y2="{high_y}"/><circle r="8"/></g></svg>'
        )

    def marker(self, explorer: Explorer, position: int) -> list[float]:
        """Where the moving point lies, and the ends of its intervals, left, right, below and above, from there."""
        x, y = self._scales(explorer)
        row = explorer.points.iloc[position]
        at_x, at_y = x(row["dollars"]), y(row["quality"])
        ends = [x(row[name]) - at_x for name in ("dollars_low", "dollars_high")]
        ends += [y(row[name]) - at_y for name in ("quality_low", "quality_high")]
        return [at_x, at_y, *(round(end, 1) for end in ends)]

    def _scales(self, explorer: Explorer) -> tuple[Any, Any]:
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
    def _dollar_range(explorer: Explorer) -> tuple[float, float]:
        shown = [explorer.weak_dollars, explorer.strong_dollars, *explorer.points["dollars"]]
        return min(shown), max(shown)

    @staticmethod
    def _quality_range(points: pd.DataFrame) -> tuple[float, float]:
        shown = points[["quality_low", "quality_high", "random_quality"]]
        low, high = shown.min().min(), shown.max().max()
        return low - 0.04 * (high - low), high + 0.04 * (high - low)


_WIDE = _Chart("wide", width=760, height=420, left=48, right=62)
_NARROW = _Chart("narrow", width=350, height=320, left=44, right=54)

_CHART_STYLE = """
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
_WIDGET_STYLE = """
.explorer { max-width: 46rem; line-height: 1.5; --accent: #2a7fd0; --weak: #c9700a; --strong: #2f8f4e;
  --ink: var(--jp-ui-font-color1, currentColor); --soft: var(--jp-ui-font-color2, currentColor);
  --line: var(--jp-border-color2, #8884); --card: var(--jp-layout-color1, transparent); }
.explorer p { margin: .5rem 0; } .explorer table { font-variant-numeric: tabular-nums; }
.explorer th, .explorer td { padding: .1rem 1.2rem .1rem 0; text-align: left; vertical-align: top; }
"""


def _intervals(costs: CostCurve, thresholds: np.ndarray, level: float, random_state: int | None) -> dict[str, Any]:
    """Bootstrap intervals at fixed thresholds that `CostCurve.points` leaves out, on its resamples, as columns."""
    curve = costs.curve
    called = (curve.win_rate[:, None] >= thresholds).astype(float)
    gaps, extra = curve.strong_scores - curve.weak_scores, costs.strong - costs.weak
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in ("share", "pgr", "random_quality", "saving")}
    for drawn_prompts in curve.resampled(1000, random_state):
        counts = drawn_prompts / drawn_prompts.sum(axis=1, keepdims=True)
        gap, dearer, weak = ((counts @ values)[:, None] for values in (gaps, extra, costs.weak))
        added = counts @ (extra[:, None] * called) + costs.router
        drawn["share"].append(counts @ called)
        drawn["pgr"].append(counts @ (gaps[:, None] * called) / np.where(gap > 0, gap, np.nan))
        drawn["random_quality"].append((counts @ curve.weak_scores)[:, None] + gap * np.clip(added / dearer, 0, 1))
        drawn["saving"].append(1 - (weak + added) / (weak + dearer))
    columns: dict[str, Any] = {}
    for name, parts in drawn.items():
        draws = np.concatenate(parts)
        if name == "pgr" and np.isnan(draws).any(axis=1).mean() > min((1 - level) / 2, 0.05):
            columns |= dict.fromkeys(("pgr", "pgr_low", "pgr_high"), math.nan)
            continue
        columns[f"{name}_low"], columns[f"{name}_high"] = percentile_interval(draws, level, curve.name)
    return columns


def _numbers(
    frame: pd.DataFrame,
    name: str,
    columns: tuple[str, ...],
    text: tuple[str, ...] = (),
    infinite: tuple[str, int] | None = None,
    undefined: tuple[str, ...] = (),
) -> pd.DataFrame:
    """The columns of a frame, numbers as such and checked; one place may be infinite, and some columns unknown."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ParameterError(f"{name} has no column {listed(missing)}; it needs {listed(columns)}")
    checked = frame.loc[:, list(columns)].reset_index(drop=True)
    unknown = checked[[column for column in undefined if column not in text]].isna().to_numpy()
    for column in columns:
        if column in undefined and (column in text or unknown.all()):
            continue
        if column in text:
            wrong = checked[column].isna().to_numpy()
        else:
            try:
                checked[column] = checked[column].astype(float)
            except (TypeError, ValueError) as error:
                raise ParameterError(f"{name}: {column} must be numbers ({error})") from error
            wrong = ~np.isfinite(checked[column].to_numpy())
            if infinite is not None and infinite[0] == column and len(wrong):
                wrong[infinite[1]] = np.isnan(checked[column].iloc[infinite[1]])
        if wrong.any():
            row = int(wrong.argmax())
            raise ParameterError(f"{name}: {column} of row {row} is {checked[column].iloc[row]}; leave that row out")
    return checked


def _whole_traffic(traffic: Any) -> int:
    whole = isinstance(traffic, int | np.integer) and not isinstance(traffic, bool)
    if not whole or not 1 <= traffic <= MOST_TRAFFIC:
        raise ParameterError(f"traffic must be a whole number from 1 to {MOST_TRAFFIC:,}, got {traffic!r}")
    return int(traffic)


def _fixed(value: float, digits: int) -> str:
    """A number with so many digits, halves away from zero, as ``toFixed`` of JavaScript has it."""
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0  # + 0: no minus before a zero
    return f"{rounded:,f}".replace("-", "−")


def _percent(share: float) -> str:
    return _fixed(share * 100, 1) + " %"


def _money(dollars: float) -> str:
    return "$" + _fixed(dollars, 0 if dollars >= 100 else 2)


def _digits(span: float) -> int:
    """Digits after the point that tell a hundredth of a span apart."""
    return min(max(0, 2 - math.floor(math.log10(span))), 9) if span > 0 else 3


def _ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    from matplotlib.ticker import MaxNLocator

    places = [float(tick) for tick in MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)]
    step = places[1] - places[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    margin = 1e-9 * step
    return [(tick, _fixed(tick, digits)) for tick in places if low - margin <= tick <= high + margin]


def _with_text(moved: pd.DataFrame) -> pd.DataFrame:
    """Those of the questions that are shown."""
    return moved[moved["prompt"].notna()].head(MOST_SHOWN)


def _question(row: Mapping[Any, Any]) -> list[str]:
    """A question as shown: the prompt on one line and cut, group, win rate and both scores."""
    prompt = " ".join(str(row["prompt"]).split())
    cut = prompt if len(prompt) <= _PROMPT_LENGTH else prompt[:_PROMPT_LENGTH].rstrip() + "…"
    scores = (f"{row[name]:.4g}" for name in ("strong_score", "weak_score"))
    return [cut, str(row["group"]), _fixed(row["win_rate"], 3), *scores]


def _safe_json(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever the texts in it say."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    """The name under which a page's own script is allowed to run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()

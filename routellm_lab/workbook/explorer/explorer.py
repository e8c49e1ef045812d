"""The threshold explorer: move a cut-off, or a budget, and see what quality it buys, at what price, on which questions.

`Explorer.page` is its only user interface: a page that stands alone, which a notebook shows as its output.
"""

import html
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import ParameterError, require_number
from routellm_lab.evaluation.cost_curve import PairCostCurve
from routellm_lab.files import disk_errors, replacing
from routellm_lab.policies.guarantees import require_ranking
from routellm_lab.preferences.models import ModelPair
from routellm_lab.resampling import Bootstrap
from routellm_lab.workbook.explorer.formats import digits_for, fixed, money, percent
from routellm_lab.workbook.explorer.page import page_of
from routellm_lab.workbook.explorer.points import (
    MAYBE_UNDEFINED,
    POINT_COLUMNS,
    QUESTION_COLUMNS,
    checked_columns,
    checked_traffic,
    intervals,
    savings,
    with_text,
)
from routellm_lab.workbook.explorer.pricing import TokenMoments, repriced, token_moments

_BUDGETS = 100  # steps of the slider over budgets, few enough for their labels to differ
_FRAME = (
    '<iframe srcdoc="{page}" title="Threshold explorer" sandbox="allow-scripts" '
    'style="width: 100%; height: 56rem; border: 0">Open the explorer in JupyterLab, or the page that it was saved to.'
    "</iframe>"
)
_NO_PGR = "the strong model is not significantly better"


@dataclass(frozen=True, eq=False)
class Explorer:
    """Quality against dollars at every cut-off that a router offers, to be walked through.

    Attributes
    ----------
    points : DataFrame
        One row per cut-off, from the weak model alone to the strong model alone: ``threshold`` (the strong model is
        called where the win rate reaches it; infinity in the first row), ``share`` of strong calls in [0, 1],
        ``quality``, ``pgr`` (NaN in all rows where it is undefined) and ``dollars`` (US dollars per 1,000 questions),
        each with its interval as ``share_low``, ``share_high`` and so on; ``random_quality``, what a random mix reaches
        for the same dollars; and the ends of the intervals of what is saved: ``saved`` (US dollars per 1,000
        questions, against the strong model alone), ``saving`` (share of ``strong_dollars``) and ``mix_saving`` (share
        of what a random mix of the same quality costs; NaN where PGR is).
    pair : ModelPair
    benchmark : str
    score_unit : str
        What a quality of 1 is.
    simulated : bool
        Whether the outcomes are simulated; then the page says so.
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
    confidence_level : float
        Of the intervals.
    strong_dollars, weak_dollars : float, optional
        US dollars per 1,000 questions of calling that model always, which needs no router; by default those of the
        last and the first row.
    tokens : TokenMoments, optional
        Tokens and prices behind the dollars; with them a reader can enter other prices.

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
    confidence_level: float = 0.95
    strong_dollars: float | None = None
    weak_dollars: float | None = None
    tokens: TokenMoments | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        points = checked_columns(
            self.points, "points", POINT_COLUMNS, infinite=("threshold", 0), undefined=MAYBE_UNDEFINED
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
            numbers = checked_columns(
                self.questions, "questions", QUESTION_COLUMNS, text=QUESTION_COLUMNS[:2], undefined=("prompt",)
            )
            object.__setattr__(self, "questions", numbers.sort_values("win_rate", ascending=False, kind="stable"))
            object.__setattr__(self, "n_questions", self.n_questions or len(numbers))
        object.__setattr__(self, "traffic", checked_traffic(self.traffic))
        require_number("confidence_level", self.confidence_level, 0, 1, inside=True)
        for name, row in (("strong_dollars", -1), ("weak_dollars", 0)):
            given = getattr(self, name)
            always = float(points["dollars"].iloc[row] if given is None else given)
            if not 0 <= always < math.inf:
                raise ParameterError(f"{name} must be US dollars per 1,000 questions, got {given!r}")
            object.__setattr__(self, name, always)

    @classmethod
    def from_costs(
        cls,
        costs: PairCostCurve,
        outcomes: Outcomes | None = None,
        *,
        traffic: int = 1_000_000,
        bootstrap: Bootstrap = Bootstrap(n_resamples=1000),
        most_points: int = 201,
        most_texts: int = 1000,
        source: str = "",
        random_state: int | None = 0,
    ) -> "Explorer":
        """The explorer of a curve in dollars.

        Parameters
        ----------
        costs : PairCostCurve
        outcomes : Outcomes, optional
            With the questions of the curve, to see which of them change sides. Some of their texts go into the page.
        traffic, source
            As in the class.
        bootstrap : Bootstrap
            Of the intervals.
        most_points, most_texts : int
            Cut-offs offered, and texts of questions drawn to be shown, at most; all questions are counted.
        random_state : int, optional
            Of the texts drawn.

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
        points = costs.points(most_points, bootstrap)
        return cls(
            points=points.assign(**intervals(costs, points, bootstrap)),
            tokens=token_moments(costs, points["threshold"].to_numpy(), bootstrap),
            pair=curve.pair,
            benchmark=curve.name,
            score_unit=curve.score_unit,
            simulated=curve.simulated,
            note=f"{costs.basis}.",
            questions=questions,
            n_questions=len(curve),
            source=source,
            traffic=traffic,
            confidence_level=bootstrap.confidence_level,
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
        return f"Measured on {count}{', '.join(filter(None, [self.benchmark, self.source]))}."

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
            ``position``, ``traffic``, the columns of ``points``, ``saved``, ``saving`` and ``mix_saving``, ``month``
            and ``saved_month`` (US dollars a month, and less than with the strong model always); and ``shown``, the
            strings that readers see.

        Raises
        ------
        ParameterError
            When there is no such position, or the traffic is not a positive whole number.
        """
        row = self.rows[self._checked(position)]
        traffic = self.traffic if traffic is None else checked_traffic(traffic)
        month, saved, low, high = (
            row[name] * traffic / 1000 for name in ("dollars", "saved", "saved_low", "saved_high")
        )
        if saved < 0:
            low, high = -high, -low
        words = f"{money(abs(saved))} ({money(low)} to {money(high)}) {'less' if saved > 0 else 'more'}"
        shown = {
            "traffic": fixed(traffic, 0),
            "month": money(month),
            "month_interval": " to ".join(money(row[f"dollars_{end}"] * traffic / 1000) for end in ("low", "high")),
            "saved": f"{words if saved else 'as much'} {'than' if saved else 'as'} the strong model always",
        }
        return row | {
            "traffic": traffic,
            "month": month,
            "saved_month": saved,
            "shown": row["shown"] | shown,
        }

    def repriced(self, prices: Sequence[float], tokens: Sequence[float]) -> "Explorer":
        """The same explorer at other prices and mean tokens, as its page shows it when a reader enters them.

        Parameters
        ----------
        prices : four floats
            USD per million input and output tokens of the strong model, then of the weak one.
        tokens : four floats
            Mean tokens per question, in the same order; those of all questions change in proportion.

        Returns
        -------
        Explorer
            Without `tokens`: its intervals are approximate (see `pricing`), and no base for others.

        Raises
        ------
        ParameterError
            When the explorer was made without tokens, a number is out of range, or nothing is left to save.
        """
        if self.tokens is None:
            raise ParameterError("no tokens to price: make the Explorer from a PairCostCurve.from_tokens")
        points, strong, weak = repriced(self.points, self.tokens, prices, tokens)
        return replace(self, points=points, strong_dollars=strong, weak_dollars=weak, tokens=None)

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
        moved = self.questions[(self.turns > low) & (self.turns <= high)]
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
        texts = len(with_text(moved))
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
        return page_of(self)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which keeps its scripts and styles apart from the notebook's."""
        return _FRAME.format(page=html.escape(self.page()))

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all. Returns its path.

        Raises
        ------
        RoutellmLabError
            When it cannot be written there.
        """
        path, text = Path(path), self.page()
        with disk_errors(path), replacing(path) as aside:
            aside.write_text(text, "utf-8")
        return path

    @cached_property
    def rows(self) -> list[dict[Any, Any]]:
        """State at every position but for what depends on the traffic."""
        points = self.points
        digits = {
            "quality": digits_for(points["quality_high"].max() - points["quality_low"].min()),
            "dollars": max(2, digits_for(points["dollars_high"].max() - points["dollars_low"].min())),
            # enough for neighbours to differ
            "threshold": next((n for n in range(3, 6) if points["threshold"].iloc[1:].round(n).is_unique), 6),
        }
        rows = []
        saved = savings(points["dollars"].to_numpy(), self.strong_dollars, self.weak_dollars, points["pgr"].to_numpy())
        for position, row in enumerate(points.to_dict("records")):
            row |= {name: float(values[position]) for name, values in saved.items()}
            shown = {"threshold": "∞" if row["threshold"] == math.inf else fixed(row["threshold"], digits["threshold"])}
            for name, told in (
                ("share", percent),
                ("quality", partial(fixed, digits=digits["quality"])),
                ("pgr", percent),
                ("dollars", lambda dollars: "$" + fixed(dollars, digits["dollars"])),
                ("saving", percent),
                ("mix_saving", percent),
            ):
                if math.isnan(row[name]):
                    shown |= {name: "–", f"{name}_interval": _NO_PGR}
                    continue
                low, high = (told(row[f"{name}_{end}"]) for end in ("low", "high"))
                shown |= {name: told(row[name]), f"{name}_interval": f"{low.removesuffix(' %')} to {high}"}
            shown["sentence"] = self._sentence(row["share"], shown)
            rows.append({"position": position, **row, "shown": shown})
        return rows

    def _sentence(self, share: float, shown: Mapping[str, str]) -> str:
        """The position in words."""
        strong, weak, at = self.pair.strong, self.pair.weak, shown["threshold"]
        if share in (0, 1):
            return f"Every question goes to {strong if share else weak}."
        gap = f", which recovers {shown['pgr']} of the gap ({shown['pgr_interval']})" * (shown["pgr"] != "–")
        return f"Threshold {at}: {shown['share']} of the questions go to {strong}{gap}."

    @cached_property
    def budgets(self) -> list[tuple[str, int]]:
        """Budgets evenly spaced in dollars, as shown, each with the position it allows."""
        dollars = self.points["dollars"]
        span = dollars.max() - dollars.min()
        steps = np.linspace(dollars.min(), dollars.max(), _BUDGETS + 1)
        return [("$" + fixed(budget, max(2, digits_for(span))), self.within(float(budget))) for budget in steps]

    @cached_property
    def turns(self) -> np.ndarray:
        """Of every question the first position at which the strong model is called; past the end: never."""
        assert self.questions is not None
        return np.searchsorted(-self.points["threshold"].to_numpy(), -self.questions["win_rate"].to_numpy())

    def _checked(self, position: int) -> int:
        try:
            position = operator.index(position)
        except TypeError:
            raise ParameterError(f"position must be a whole number, got {position!r}") from None
        if not 0 <= position < len(self):
            raise ParameterError(f"position must be one of 0 to {len(self) - 1}, got {position}")
        return position

"""The explorer's page, which needs no network and no kernel."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_lab.errors import MissingExtraError
from routellm_lab.workbook.explorer.chart import CHART_STYLE, NARROW, WIDE
from routellm_lab.workbook.explorer.formats import fixed
from routellm_lab.workbook.explorer.points import MOST_SHOWN, MOST_TRAFFIC, SAVINGS, with_text
from routellm_lab.workbook.explorer.pricing import MOST_PRICE, MOST_TOKENS

if TYPE_CHECKING:
    from routellm_lab.workbook.explorer.explorer import Explorer


_TEMPLATE = Path(__file__).with_name("page.html.j2")
_PROMPT_LENGTH = 300
_STATIC_ROWS = 10
_NO_QUESTIONS = "There are no single questions here, only their means."
_NOT_MOVED = "Move the slider: questions that then go to the other model appear here."


def page_of(explorer: "Explorer") -> str:
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
    start = explorer.state(explorer.start)
    few = np.unique(np.linspace(0, len(explorer) - 1, _STATIC_ROWS).round().astype(int))
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        explorer=explorer,
        shown=start["shown"],
        start=explorer.start,
        data=_safe_json(_data(explorer)),
        wide=WIDE.draw(explorer, explorer.start),
        narrow=NARROW.draw(explorer, explorer.start),
        chart_style=CHART_STYLE,
        level=f"{explorer.confidence_level * 100:g} %",
        labels=_labels(explorer.score_unit),
        most_traffic=MOST_TRAFFIC,
        fields=_fields(explorer),
        first_words=_NO_QUESTIONS if explorer.questions is None else _NOT_MOVED,
        few=[explorer.state(int(position))["shown"] for position in few],
    )


def _data(explorer: "Explorer") -> dict[str, Any]:
    data: dict[str, Any] = {
        "rows": [
            {
                "shown": row["shown"],
                "dollars": [row["dollars"], row["dollars_low"], row["dollars_high"]],
                "saved": [row["saved"], row["saved_low"], row["saved_high"]],
                "wide": WIDE.marker(explorer, position),
                "narrow": NARROW.marker(explorer, position),
            }
            for position, row in enumerate(explorer.rows)
        ],
        "budgets": explorer.budgets,
        "start": explorer.start,
        "names": {"strong": explorer.pair.strong, "weak": explorer.pair.weak},
        "most": {"traffic": MOST_TRAFFIC, "shown": MOST_SHOWN},
        "turning": None,
        "tokens": None,
    }
    if explorer.tokens is not None:
        data["tokens"] = _tokens(explorer)
    if explorer.questions is not None:
        # of the questions that turn at one position, only the first ones can be shown
        turning = []
        for position in range(len(explorer)):
            moved = explorer.questions[explorer.turns == position]
            better = moved["strong_score"] - moved["weak_score"]
            shown = [_question(row) for row in with_text(moved).to_dict("records")]
            turning.append([len(moved), int((better > 0).sum()), int((better < 0).sum()), shown])
        data["turning"] = turning
    return data


def _tokens(explorer: "Explorer") -> dict[str, Any]:
    """What the script needs to see other prices: see `pricing`."""
    moments = explorer.tokens
    assert moments is not None
    triangle = np.tril_indices(moments.covariances.shape[1])

    def three(row: Mapping[Any, Any], name: str) -> list[float] | None:
        values = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
        return None if any(map(math.isnan, values)) else values

    return {
        "prices": moments.prices.tolist(),
        "means": moments.tokens.tolist(),
        "router": moments.router,
        "used": moments.used.tolist(),
        "covariances": [[float(f"{value:.5g}") for value in matrix[triangle]] for matrix in moments.covariances],
        "shares": [
            {"pgr": None if math.isnan(row["pgr"]) else row["pgr"]} | {name: three(row, name) for name in SAVINGS[1:]}
            for row in explorer.rows
        ],
        "most": {"price": MOST_PRICE, "tokens": MOST_TOKENS},
        "charts": {
            chart.name: {"left": chart.left, "wide": chart.width - chart.left - chart.right, "ticks": chart.width // 90}
            | {"floor": chart.height - chart.bottom}
            for chart in (WIDE, NARROW)
        },
    }


def _fields(explorer: "Explorer") -> list[dict[str, Any]]:
    """The fields for own prices and tokens, two models with four each, as they are at first."""
    if explorer.tokens is None:
        return []
    moments, pair = explorer.tokens, explorer.pair
    return [
        {
            "model": name,
            "of": which,
            "fields": [
                {"id": f"price-{kind}", "words": words, "value": f"{moments.prices[kind]:.6g}", "most": MOST_PRICE}
                for kind, words in (
                    (start, "USD per million input tokens"),
                    (start + 1, "USD per million output tokens"),
                )
            ]
            + [
                {"id": f"tokens-{kind}", "words": words, "value": f"{moments.tokens[kind]:.6g}", "most": MOST_TOKENS}
                for kind, words in ((start, "input tokens per question"), (start + 1, "output tokens per question"))
            ],
        }
        for which, name, start in (("strong", pair.strong, 0), ("weak", pair.weak, 2))
    ]


def _question(row: Mapping[Any, Any]) -> list[str]:
    """A question as shown: the prompt on one line and cut, group, win rate and both scores."""
    prompt = " ".join(str(row["prompt"]).split())
    cut = prompt if len(prompt) <= _PROMPT_LENGTH else prompt[:_PROMPT_LENGTH].rstrip() + "…"
    scores = (f"{row[name]:.4g}" for name in ("strong_score", "weak_score"))
    return [cut, str(row["group"]), fixed(row["win_rate"], 3), *scores]


def _labels(score_unit: str) -> dict[str, str]:
    """What stands in the table of figures, and under which name; all but the first with their intervals."""
    return {
        "threshold": "Threshold",
        "share": "Strong calls",
        "quality": f"Quality, {score_unit}",
        "pgr": "Gap recovered (PGR)",
        "dollars": "Per 1,000 questions",
        "month": "A month",
        "saving": "Saved, vs. strong",
        "mix_saving": "Saved, vs. random mix",
    }


def _safe_json(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever the texts in it say."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    """The name under which a page's own script is allowed to run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()

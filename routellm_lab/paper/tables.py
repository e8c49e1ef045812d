"""What the paper printed: its tables, as data."""

from functools import lru_cache
from importlib.resources import files

import numpy as np
import pandas as pd

from routellm_lab.errors import ParameterError
from routellm_lab.preferences.models import PAPER_PAIR, ModelPair

PAPER_SOURCE = "RouteLLM, arXiv 2406.18665 v4"
"""Where the figures of `paper_results` and `paper_other_tables` were printed."""


@lru_cache(maxsize=2)
def _table(name: str) -> pd.DataFrame:
    with files("routellm_lab.paper").joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, na_values={})


def paper_results() -> pd.DataFrame:
    """Tables 1-4 of the paper: every router on every benchmark.

    Returns
    -------
    DataFrame
        ``table``, ``benchmark``, ``strong``, ``weak``, ``training`` (``none``, ``arena``, ``arena+judge``,
        ``arena+gold``), ``router``, ``cpt50``, ``cpt80`` (shares of strong calls in [0, 1]; the paper prints per
        cent), ``apgr`` (11-point protocol), ``confirmed`` (how well the figure is confirmed; ``single source``: printed
        once).
    """
    frame = _table("paper_results.csv").copy()
    pairs = frame.pop("pair").str.split("/", n=1, expand=True)
    frame.insert(2, "strong", pairs[0])
    frame.insert(3, "weak", pairs[1])
    frame[["cpt50", "cpt80"]] = (frame[["cpt50", "cpt80"]] / 100).round(4)
    return frame


def paper_other_tables() -> pd.DataFrame:
    """The paper's figures on similarity, cost, prices and overhead: table, row, column, value, unit."""
    return _table("paper_other_tables.csv").copy()


def paper_value(
    benchmark: str, training: str, router: str, metric: str = "apgr", pair: ModelPair = PAPER_PAIR
) -> float | None:
    """One printed figure.

    Parameters
    ----------
    benchmark : str
        ``mmlu``, ``gsm8k`` or ``mt_bench``.
    training : str
        ``arena``, ``arena+judge`` or ``arena+gold``; blanks do not matter. Not used for the random router.
    router : str
        As in ``paper_results()["router"]``.
    metric : {"apgr", "cpt50", "cpt80"}
    pair : ModelPair

    Returns
    -------
    float or None
        None when the paper prints no such figure.
    """
    if metric not in ("apgr", "cpt50", "cpt80"):
        raise ParameterError(f"the paper prints 'apgr', 'cpt50' and 'cpt80', not {metric!r}")
    training = "none" if router == "random" else training.replace(" ", "")
    wanted = {
        "benchmark": benchmark,
        "strong": pair.strong,
        "weak": pair.weak,
        "training": training,
        "router": router,
    }
    frame = paper_results()
    rows = frame[np.logical_and.reduce([frame[column] == value for column, value in wanted.items()])]
    return float(rows[metric].iloc[0]) if len(rows) else None

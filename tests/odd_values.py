"""Odd values for tests: prompts, numbers, arrays and frames of strangers, and how a call with them must end."""

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab import errors
from routellm_lab.errors import RoutellmLabError

OWN_WARNINGS = {UserWarning, *(kind for kind in vars(errors).values() if isinstance(kind, type))}
TEXTS = [
    "",
    " ",
    "x",
    "\0",
    "\ud800",
    "\udfff\ud800",
    "a\x07\x1b[31m",
    "😀" * 50,
    "مرحبا",
    "\u202e\u2066",
    "ß" * 9,
    "\n\n",
]
TEXTS += ["word " * 12_000, "9" * 5_000, "{prompt} {0} %s", "<b>**x**</b>", "\ufeff", "e\u0301" * 9, "-5 + 2", "x\r\ny"]
CELLS = [None, math.nan, pd.NA, pd.NaT, 0, 7, -1, 1.5, True, b"x", ["x"], [], ("x", 1), {"role": "user"}, {"x"}, 1j]
CELLS += [
    np.str_("numpy"),
    np.array(["x"]),
    np.float32("inf"),
    10**400,
    np.longdouble("1e400"),
    object(),
    pd.Timestamp("2024"),
    lambda: "x",
]
NUMBERS = [0, 1, -1, 2, 0.5, 1e-320, 1e-9, 1 - 1e-16, 1.01, 50, -0.0, 1e308, math.inf, -math.inf, math.nan, None, True]
NUMBERS += ["0.5", "x", b"1", [0.5], np.float64(0.5), np.float32(0.25), np.int64(1), np.array(0.5), 10**400, 1j, pd.NA]
NUMBERS += [np.array([0.2, math.nan]), np.longdouble("1e400"), [], {}, np.bool_(True), object(), [[0.1]], "", 0.3, 0.7]
NAMES = ["", "x", "../x", None, 3, ["a"], "a\0b", "\ud800", "apgr", "cpt50", "cpt0", "pgr-1", "pgr25", "quality100"]
NAMES += ["cpt100", "cpt1e5", "dollars50", "ratio0", "saving80", "aiq", math.nan, b"apgr", "cpt" + "9" * 400]
CONTAINERS = [list, tuple, iter, set, frozenset, np.array, pd.Series, pd.Index, dict.fromkeys, pd.DataFrame]
CONTAINERS += [lambda values: (value for value in values), lambda values: pd.Series(values, dtype=object), str]
CONTAINERS += [lambda values: np.array(values, dtype=object).reshape(-1, 1), lambda values: [values], lambda _: None]
TYPES = ["category", "string", "Int64", "boolean", "float32", "datetime64[ns]", "str", "bool", "object", "Float64"]


def pick(draw: np.random.Generator, values: Any) -> Any:
    """One of the values, as it is (``Generator.choice`` makes arrays of them)."""
    return values[int(draw.integers(len(values)))]


def odd_prompts(draw: np.random.Generator) -> Any:
    """Texts of all kinds, now and then with what is none, in a container of any kind."""
    texts = [pick(draw, TEXTS) for _ in range(draw.integers(6))]
    if draw.random() < 0.4:
        texts.insert(int(draw.integers(len(texts) + 1)), pick(draw, CELLS))
    container = list if draw.random() < 0.5 else pick(draw, CONTAINERS)
    try:
        with warnings.catch_warnings(action="ignore"):
            return container(texts)
    except (TypeError, ValueError):  # a set of lists
        return texts


def odd_numbers(draw: np.random.Generator, values: np.ndarray) -> Any:
    """The numbers with a few exchanged, gone or doubled, all equal, of another type or in another container."""
    changed = np.array(values, float)
    match draw.integers(9):
        case 0:
            changed[draw.integers(len(changed), size=3)] = pick(draw, [math.nan, math.inf, -1e-9, 1 + 1e-9, 1e308, -3])
        case 1:
            changed = changed[: draw.integers(len(changed))]
        case 2:
            changed[:] = pick(draw, [0, 1, 0.5, 1e-300])
        case 3:
            changed = np.repeat(changed, 2)
        case 4:
            changed = np.round(changed, int(draw.integers(3)))
        case 5:
            return [pick(draw, CELLS) if draw.random() < 0.1 else value for value in changed.tolist()]
        case 6:
            return changed.astype(pick(draw, [np.float16, np.float32, object, str, complex, bool]))
        case 7:
            return pick(draw, CONTAINERS)(changed.tolist())
    return changed


def odd_frame(draw: np.random.Generator, frame: pd.DataFrame) -> Any:
    """The frame with a column or rows gone, doubled, of another type or name, or with a few cells of strangers."""
    if frame.empty:
        return frame
    frame = frame.copy()
    column = pick(draw, list(frame.columns))
    match draw.integers(10):
        case 0:
            return frame.drop(columns=column)
        case 1:
            return frame.rename(columns={column: pick(draw, [*frame.columns, 0, None, "new"])})
        case 2:
            return frame.sample(frac=1.5, replace=True, random_state=int(draw.integers(99)))
        case 3:
            return frame.head(draw.integers(3))
        case 4:
            try:
                return frame.assign(**{str(column): frame[column].astype(pick(draw, TYPES))})
            except (ValueError, TypeError):
                return frame
        case 5:
            return frame.assign(**{str(column): pd.Series([pick(draw, CELLS)] * len(frame), frame.index, dtype=object)})
        case 6:
            return frame.set_index(column)
        case 7:
            return pick(draw, [frame.to_numpy(), frame.to_dict("records"), frame[column], None, frame.T])
    values = frame[column].astype(object).tolist()
    for _ in range(draw.integers(1, 4)):
        values[draw.integers(len(values))] = pick(draw, [*CELLS, *NUMBERS, *TEXTS])
    return frame.assign(**{str(column): pd.Series(values, frame.index, dtype=object)})


def given(draw: np.random.Generator, function: Callable, values: Mapping[str, Callable], odd: float = 0.3) -> dict:
    """Arguments of a function: for each of its parameters that ``values`` knows, a value of it or an odd one.

    Parameters
    ----------
    values : dict of str to list
        By parameter: what is legal first (one value), then what is odd.
    odd : float
        Share of the odd ones.
    """
    chosen = {}
    for name in inspect.signature(function).parameters:
        if name in values:
            legal, strange = values[name]
            chosen[name] = pick(draw, strange) if draw.random() < odd else legal
    return chosen


def outcome(use: Callable) -> Any:
    """What a call gives; None where it ends in an error of the package. Any other error or warning is the test's."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            result = use()
        except RoutellmLabError:
            result = None
    strange = [
        f"{warning.category.__name__}: {warning.message}" for warning in told if warning.category not in OWN_WARNINGS
    ]
    assert not strange, strange
    return result


def run_cases(case: Callable[[np.random.Generator], Any], seeds: Iterable[int]) -> None:
    """Run a case once per seed; a failure names its seed."""
    for seed in seeds:
        try:
            case(np.random.default_rng(seed))
        except BaseException as error:
            error.add_note(f"seed {seed} of {case.__name__}")
            raise

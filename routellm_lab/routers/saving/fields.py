"""How fitted attributes are written and read: a class of routers declares them, and `RouterBase` does the rest.

::

    class LinearRouter(Router):
        saved = {"coefficients_": Array("d"), "intercept_": NUMBER, "history_": Table("step", "loss")}

Arrays go to ``weights.safetensors``, everything else to ``config.json``. Shapes, kinds and values are checked when a
router is saved and again when it is read; an attribute of another sort gets a `Field` of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.errors import listed
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers


class Reading:
    """What a router, or a part of it, is read from; each array is taken once.

    Parameters
    ----------
    arrays : dict of str to array
        By full name; shared by all parts.
    folder : Path, optional
        Holds copies of the other files whose checksums are right, and nothing else.
    identity : str
        Of the saved router: the hash of its configuration.
    memory : optional
        Instead of a folder: the same part of a router in memory, which is checked before it is written.
    """

    def __init__(
        self, arrays: dict[str, np.ndarray], folder: Path | None = None, identity: str = "", memory: Any = None
    ) -> None:
        self.arrays, self.folder, self.identity, self.memory = arrays, folder, identity, memory
        self.prefix, self.sizes = "", dict[str, int]()

    def at(self, name: str) -> "Reading":
        """What belongs to one attribute; letters stand for the same sizes as before."""
        part = Reading(self.arrays, self.folder, self.identity, getattr(self.memory, name, None))
        part.prefix, part.sizes = joined(self.prefix, name), self.sizes
        return part

    def apart(self) -> "Reading":
        """The same with letters of its own, for a router within another one."""
        part = Reading(self.arrays, self.folder, self.identity, self.memory)
        part.prefix = self.prefix
        return part

    def take(self, like: "Array", name: str = "") -> np.ndarray:
        """An array, if it is what was declared.

        Raises
        ------
        ValueError
            When it is missing, of another shape or kind, or holds NaN or infinity.
        """
        name = joined(self.prefix, name)
        if name not in self.arrays:
            raise ValueError(f"array {name} is missing")
        array, sizes = self.arrays.pop(name), self.sizes
        shape = tuple(
            sizes.setdefault(one, size) if isinstance(one, str) else one
            for one, size in zip(like.sizes, array.shape, strict=False)
        )
        if array.shape != shape or len(shape) != len(like.sizes) or not array.size:
            raise ValueError(f"{name} has the shape {array.shape}, not {like.sizes} with {sizes}")
        if not (array.dtype.kind in "iu" if like.kind == "int" else array.dtype == like.kind):
            raise ValueError(f"{name} holds {array.dtype}, not {like.kind}")
        return _finite(name, array, like.gaps)

    def take_all(self) -> dict[str, np.ndarray]:
        """All arrays of this part, whatever their shapes, if they hold finite numbers (ValueError)."""
        inside = [name for name in self.arrays if name.startswith(f"{self.prefix}.")]
        return {name[len(self.prefix) + 1 :]: _finite(name, self.arrays.pop(name), False) for name in inside}

    def finish(self) -> None:
        """Refuse arrays that no part has taken (ValueError)."""
        if self.arrays:
            raise ValueError(f"unknown array {listed(sorted(self.arrays))}")


def joined(prefix: str, name: str) -> str:
    """The full name of an array."""
    return f"{prefix}.{name}" if prefix and name else prefix or name


def _finite(name: str, array: np.ndarray, gaps: bool) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {array.dtype}, not numbers")
    if array.dtype.kind == "f" and (np.isinf(array).any() if gaps else not np.isfinite(array).all()):
        raise ValueError(f"{name} holds NaN or infinite values")
    return array


class Field:
    """How one fitted attribute becomes arrays and JSON, and comes back."""

    in_json = True
    """Whether ``config.json`` holds a part of it."""
    in_arrays = True
    """Whether it has arrays, or needs what other attributes say of sizes: then it is read after the others."""

    def write(self, router: Any, value: Any) -> tuple[dict[str, np.ndarray], Any]:
        """Arrays by name ("" for a single one), and what JSON holds."""
        raise NotImplementedError

    def read(self, router: Any, written: Any, reading: Reading) -> Any:
        """The attribute from what `write` gave, of which nothing is trusted (ValueError)."""
        raise NotImplementedError

    def write_files(self, router: Any, value: Any, folder: Path) -> None:
        """What is kept in files of its own."""


@dataclass(frozen=True, init=False)
class Array(Field):
    """An array, and what it must look like.

    Parameters
    ----------
    *sizes : str or int
        Of its axes: a number, or a letter that stands for the same number in all arrays of the router. Of the letters,
        d is the width of the encoder, f one more, and m the number of models, where the router has them.
    kind : {"float64", "float32", "int"}
    gaps : bool
        Whether values may be missing (NaN).
    """

    sizes: tuple[str | int, ...]
    kind: str
    gaps: bool
    in_json = False

    def __init__(self, *sizes: str | int, kind: str = "float64", gaps: bool = False) -> None:
        for name, value in (("sizes", sizes), ("kind", kind), ("gaps", gaps)):
            object.__setattr__(self, name, value)

    def write(self, router: Any, value: Any) -> tuple[dict[str, np.ndarray], Any]:
        return {"": value}, None

    def read(self, router: Any, written: Any, reading: Reading) -> np.ndarray:
        return reading.take(self)


@dataclass(frozen=True)
class Json(Field):
    """Something that JSON holds (see `to_json`); ``check`` returns it, or raises ValueError."""

    check: Callable[[Any], Any]
    in_arrays = False

    def write(self, router: Any, value: Any) -> tuple[dict[str, np.ndarray], Any]:
        return {}, value

    def read(self, router: Any, written: Any, reading: Reading) -> Any:
        return self.check(written)


class Table(Field):
    """A DataFrame of numbers, some missing, with these columns."""

    in_arrays = False

    def __init__(self, *columns: str) -> None:
        self.columns = columns

    def write(self, router: Any, value: pd.DataFrame) -> tuple[dict[str, np.ndarray], Any]:
        return {}, value.astype(object).where(value.notna(), None).to_dict("records")

    def read(self, router: Any, written: Any, reading: Reading) -> pd.DataFrame:
        rows = isinstance(written, list) and written and all(isinstance(row, dict) for row in written)
        if not rows or not all(row.keys() == set(self.columns) for row in written):
            raise ValueError(f"a table must have the columns {listed(self.columns)}, got {short(written)}")
        for row in written:
            for number in row.values():
                if number is not None:
                    saved_number(number)
        return pd.DataFrame(written, columns=list(self.columns))


@dataclass(frozen=True)
class ArrayByName(Field):
    """A mapping of names to arrays; the size n is each name's own."""

    like: Array

    def write(self, router: Any, value: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Any]:
        return {str(number): array for number, array in enumerate(value.values())}, list(value)

    def read(self, router: Any, written: Any, reading: Reading) -> dict[str, np.ndarray]:
        arrays = {}
        for number, name in enumerate(saved_names(written)):
            sizes = (f"n of {name}" if size == "n" else size for size in self.like.sizes)
            arrays[name] = reading.take(Array(*sizes, kind=self.like.kind, gaps=self.like.gaps), str(number))
        return arrays


@dataclass(frozen=True)
class Nested(Field):
    """A fitted router within a router.

    Parameters
    ----------
    unfitted : str
        The method of the outer one that makes the inner one again, with its parameters, from its pair of models.
    """

    unfitted: str

    def write(self, router: Any, value: Any) -> tuple[dict[str, np.ndarray], Any]:
        arrays, state = value._state()
        return arrays, {"pair": value.pair, "state": state}

    def read(self, router: Any, written: Any, reading: Reading) -> Any:
        inner = getattr(router, self.unfitted)(saved_pair(written["pair"]))
        inner.check_parameters()
        inner._restore(written["state"], reading.apart())
        return inner

    def write_files(self, router: Any, value: Any, folder: Path) -> None:
        value._write_files(folder)


def saved_number(value: Any, whole: bool = False) -> Any:
    """A number from a file, if it is one.

    Raises
    ------
    ValueError
    """
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not number or not np.isfinite(value):
        raise ValueError(f"{value!r} is no {'whole ' if whole else ''}number")
    return int(value) if whole else float(value)


def saved_numbers(value: Any, whole: bool = False) -> dict[str, Any]:
    """Numbers by name from a file, if they are (ValueError)."""
    if not isinstance(value, dict):
        raise ValueError(f"{short(value)} are no numbers by name")
    return {name: saved_number(number, whole) for name, number in value.items()}


def saved_pair(value: Any) -> ModelPair:
    """A pair from a file, if it is one (ValueError)."""
    if not isinstance(value, ModelPair):
        raise ValueError(f"{short(value)} is no pair of models")
    return value


def saved_tiers(value: Any) -> Tiers:
    """Tiers from a file, if they are tiers (ValueError)."""
    if not isinstance(value, Tiers):
        raise ValueError(f"{short(value)} are no tiers")
    return value


def saved_names(value: Any) -> list[str]:
    """A list of different names from a file, if it is one.

    Raises
    ------
    ValueError
    """
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value) or len(set(value)) < len(value):
        raise ValueError(f"{short(value)} is no list of different names")
    return value


def short(error: Any) -> str:
    text = repr(error)
    return text if len(text) <= 300 else f"{text[:300]} ..."


NUMBER, WHOLE, NUMBERS = Json(saved_number), Json(partial(saved_number, whole=True)), Json(saved_numbers)
WHOLE_NUMBERS = Json(partial(saved_numbers, whole=True))
NAMES, PAIR, TIERS = Json(saved_names), Json(saved_pair), Json(saved_tiers)
"""The plain attributes: a number, numbers by name, different names, a pair of models, tiers."""

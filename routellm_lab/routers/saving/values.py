"""Parameters and fitted values as JSON, and back: only what the program itself would write is taken."""

import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from routellm_lab.encoders import Encoder, make_encoder
from routellm_lab.errors import ParameterError, listed
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.saving.fields import saved_names, saved_number, short
from routellm_lab.routers.transformers.training import Training

REGISTRY: dict[str, Any] = {}
"""Every class of routers by its name."""


def checked_arguments(taking: Any, values: Any, known: Iterable[str]) -> dict[str, Any]:
    """Values by name, if a function or class takes all of them, and such values, by its annotations."""
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"unknown parameter {listed(unknown)}")
    try:
        annotations = typing.get_type_hints(taking)
    except (NameError, TypeError):  # names that only a type checker knows
        annotations = {}
    for name, value in values.items():
        if not _fits(value, annotations.get(name, Any)):
            raise ValueError(f"parameter {name} cannot be {short(value)}")
    return values


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the kind that an annotation names; any number, or none, for a number."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or isinstance(kind, typing.TypeVar):
        return True
    if origin in (typing.Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if kind in (bool, int, float):
        return value is None or isinstance(value, (Real, np.bool_))
    kind = origin or kind
    if kind is Sequence:
        if isinstance(value, (list, tuple)):
            return not inner or all(_fits(item, inner[0]) for item in value)
        return isinstance(value, (range, np.ndarray))
    return not isinstance(kind, type) or isinstance(value, kind)


def to_json(value: Any) -> Any:
    """A parameter or fitted value as what JSON knows; `from_json` makes an equal one of it.

    Raises
    ------
    ParameterError
        For an encoder or anything else that cannot be written.
    """
    match value:
        case None | bool() | str():
            return value
        case np.generic():
            return to_json(value.item())
        case Integral():
            return int(value)
        case Real():
            number = float(value)
            return number if np.isfinite(number) else {"__number__": str(number)}
        case ModelPair():
            return {"__pair__": [value.strong, value.weak]}
        case Tiers():
            return {"__tiers__": {model: int(tier) for model, tier in value.tier.items()}, "source": value.source}
        case Encoder():
            if type(make_encoder(value.spec)) is not type(value):
                raise ParameterError(f"{value!r} cannot be saved: give the router an encoder by name")
            return value.spec
        case Training():
            return {"__training__": {name: to_json(other) for name, other in asdict(value).items()}}
        case BaseEstimator() if type(value).__name__ in REGISTRY:
            parameters = {name: to_json(other) for name, other in value.get_params(deep=False).items()}
            return {"__router__": type(value).__name__, "parameters": parameters}
        case Path():
            return {"__path__": str(value)}
        case range():
            return {"__range__": [value.start, value.stop, value.step]}
        case np.ndarray() if value.dtype.kind in "biufUO":
            return {"__array__": to_json(value.tolist()), "dtype": value.dtype.str}
        case Mapping():
            if any(not isinstance(name, str) or name in _DECODED for name in value):
                return {"__items__": [[to_json(name), to_json(other)] for name, other in value.items()]}
            return {str(name): to_json(other) for name, other in value.items()}
        case tuple() | list():
            return [to_json(item) for item in value]
    raise ParameterError(f"{short(value)} cannot be saved; give numbers, text, or lists or mappings of them")


def from_json(value: Any) -> Any:
    """What `to_json` wrote."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if decoded := _DECODED.keys() & value.keys():
        return _DECODED[decoded.pop()](value)
    return {name: from_json(item) for name, item in value.items()}


def _router_from_json(value: dict[str, Any]) -> BaseEstimator:
    kind = REGISTRY[value["__router__"]]
    return kind(**checked_arguments(kind.__init__, from_json(value["parameters"]), kind._get_param_names()))


def _array_from_json(value: dict[str, Any]) -> np.ndarray:
    if not re.fullmatch(r"[<>|=]?([biuf][1-8]|f16|O|U\d{1,4})", value["dtype"]):
        raise ValueError(f"an array of {value['dtype']!r}")
    return np.array(from_json(value["__array__"]), value["dtype"])


_DECODED: Mapping[str, Any] = {
    "__pair__": lambda value: ModelPair(*saved_names(value["__pair__"])),
    "__tiers__": lambda value: Tiers.from_json(value["__tiers__"], value["source"]),
    "__training__": lambda value: Training(
        **checked_arguments(Training, from_json(value["__training__"]), Training.__dataclass_fields__)
    ),
    "__router__": _router_from_json,
    "__items__": lambda value: {from_json(name): from_json(other) for name, other in value["__items__"]},
    "__path__": lambda value: Path(value["__path__"]),
    "__range__": lambda value: range(*(saved_number(number, whole=True) for number in value["__range__"])),
    "__array__": _array_from_json,
    "__number__": lambda value: {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}[value["__number__"]],
}

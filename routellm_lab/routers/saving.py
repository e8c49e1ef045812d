"""How every router is saved to a folder and read from it again, without running any code.

A folder holds ``config.json`` (parameters and the smaller part of what was learned), ``weights.safetensors`` (arrays)
and, for language models, a tokenizer. The configuration holds checksums of all files and of itself. Nothing that it
says is trusted: files, classes, parameters and shapes must be what the program itself would write.
"""

import hashlib
import json
import re
import shutil
import tempfile
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from routellm_lab import __version__
from routellm_lab.encoders import Encoder, HashingEncoder, make_encoder, refuse_foreign_folder, why_another
from routellm_lab.errors import DataError, MissingExtraError, ParameterError, listed
from routellm_lab.files import disk_errors, open_plain, read_json, replacing_folder, standing_folder
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.transformers.training import Training

_REGISTRY: dict[str, type["RouterBase"]] = {}

_WEIGHTS, _CONFIG = "weights.safetensors", "config.json"
_READINGS = 20
"""Times that a folder is read again because another process replaced it meanwhile."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")


@dataclass(frozen=True, init=False)
class Saved:
    """What an array of a saved router must look like.

    Parameters
    ----------
    *sizes : str or int
        Of its axes: a number, or a letter that stands for the same number in all arrays of the router.
    kind : {"float64", "float32", "int"}
    gaps : bool
        Whether values may be missing (NaN).
    """

    sizes: tuple[str | int, ...]
    kind: str
    gaps: bool

    def __init__(self, *sizes: str | int, kind: str = "float64", gaps: bool = False) -> None:
        for name, value in (("sizes", sizes), ("kind", kind), ("gaps", gaps)):
            object.__setattr__(self, name, value)

    def within(self, prefix: str) -> "Saved":
        """The same with letters of its own, for the arrays of a router within another one."""
        sizes = (f"{prefix}{size}" if isinstance(size, str) else size for size in self.sizes)
        return Saved(*sizes, kind=self.kind, gaps=self.gaps)


class RouterBase(BaseEstimator):
    """What routers of a pair and utility routers share: a folder that they are saved to and loaded from.

    A new kind of router says in `_state` what `fit` learned and takes it back in `_restore`; `save` refuses one that
    would come back without a fitted attribute.
    """

    _in_config: ClassVar[tuple[str, ...]]
    """Fitted attributes that ``config.json`` holds by their name; the others are told by `_state`."""

    _arrays: ClassVar[Mapping[str, Saved] | None] = None
    """The arrays that `_state` gives; None: any, as long as their values are finite."""

    _left_out: ClassVar[tuple[str, ...]] = ()
    """Fitted attributes that a loaded router does without."""

    _file_endings: ClassVar[tuple[str, ...]] = ()
    """How the names of the files end that `_write_files` writes."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _REGISTRY[cls.__name__] = cls

    def save(self, folder: str | Path) -> Path:
        """Write the fitted router: ``weights.safetensors``, ``config.json`` and what else it needs, nothing executable.

        An earlier router in the same folder is replaced in one step: a process that is killed at any moment leaves the
        earlier router or this one. Any other folder that is not empty is refused.

        Raises
        ------
        ParameterError
            When a parameter cannot be written, the router would not come back as it is, or the folder holds something
            else. Nothing is written.
        RoutellmLabError
            When the disk is full or may not be written to. An earlier router stays.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        check_is_fitted(self, self._in_config)
        folder = _expanded(folder)
        config, arrays = self._written()
        with disk_errors(folder):
            if folder.exists() and not folder.is_dir():
                raise ParameterError(f"{folder} is a file; a router is saved to a folder")
            if folder.is_dir() and any(folder.iterdir()) and not (folder / _CONFIG).is_file():
                raise ParameterError(f"{folder} is not empty and holds no router; choose another folder")
            with replacing_folder(folder) as aside:
                try:
                    save_file(arrays, aside / _WEIGHTS)
                except SafetensorError as error:  # which is how a full disk looks from there
                    raise OSError(str(error)) from error
                self._write_files(aside)
                files = sorted(aside.iterdir())
                for file in files:
                    if not self._writes(file.name):
                        raise ParameterError(f"{type(self).__name__} cannot be saved: it wrote {file.name!r}")
                config["sha256"] = {file.name: hash_file(file) for file in files}
                config["checksum"] = _checksum(config)
                (aside / _CONFIG).write_bytes(_dumped(config))
        return folder

    @classmethod
    def load(cls, folder: str | Path, encoder: "str | Encoder | None" = None) -> Self:
        """Read a router saved by `save`; no code from the folder is run.

        Parameters
        ----------
        folder : path
        encoder : str or Encoder, optional
            Takes the place of the encoder (the base model, of a router with adapters) that the configuration names. It
            must be the same by content. A router whose encoder is a folder is loaded only with it: no folder of a model
            is loaded because a file says so.

        Raises
        ------
        ParameterError
            When the encoder is a folder that the caller does not name.
        DataError
            When a file is missing, truncated or was changed, is a link, or does not fit the others; or the encoder here
            is not the one it was fitted with.
        """
        folder = _expanded(folder)
        for _ in range(_READINGS):
            before = _mark(folder)
            try:
                router = cls._load_once(folder, encoder)
            except DataError:
                if _mark(folder) == before:
                    raise
                continue
            if _mark(folder) == before:
                return router
        raise DataError(f"{folder}: it is saved again and again while it is read; load it later")

    @classmethod
    def _load_once(cls, given: Path, encoder: "str | Encoder | None") -> Self:
        folder = given
        try:
            folder = standing_folder(given)
            config = _config_of(folder, given)
            kind = _known_class(config["router"], cls, folder)
            _check_files(folder, kind, config["sha256"])
            router = kind._made_from(config)
            fitted_on, state = config["encoder"], from_json(config["state"])
        except (DataError, MissingExtraError):
            raise
        except Exception as error:  # whatever a changed configuration leads to
            raise DataError(f"{given}: not a saved router, or a damaged one: {_short(error)}") from error
        named = router._encoder_parameter()
        if named is not None and encoder is not None:
            router.set_params(**{named: encoder})
        elif named is not None:
            refuse_foreign_folder(router.get_params()[named], given)
        _check_encoder(router, fitted_on, given)
        try:
            arrays = _read_arrays(folder / _WEIGHTS)
            sizes = _check_arrays(router._declared(state), arrays)
            with tempfile.TemporaryDirectory() as copies:  # a library may look for files that nothing vouches for
                for name in config["sha256"].keys() - {_WEIGHTS}:
                    shutil.copyfile(folder / name, Path(copies) / name)
                router._read_files(Path(copies), hash_file(folder / _CONFIG))
            router._restore(arrays, state)
            _check_sizes(router._sizes(), sizes)
        except MissingExtraError:
            raise
        except Exception as error:  # whatever changed weights lead to
            raise DataError(f"{given}: weights and config.json do not belong together: {_short(error)}") from error
        if config.keys() & {"format", "checksum"} and config.get("checksum") != _checksum(config):
            raise DataError(f"{given / _CONFIG}: changed since it was saved; save the router again")
        return router  # type: ignore[return-value]

    # --- how a router becomes a configuration and arrays, and the way back -----------------------------------------

    def _written(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The configuration but for checksums, and the arrays, of which the router comes back as it is."""
        kind = type(self).__name__
        arrays, state = self._state()
        arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        config: dict[str, Any] = {
            "router": kind,
            "version": __version__,
            "format": 2,
            "parameters": _named_json(self, self.get_params(deep=False), "parameter "),
            **_named_json(self, {name.rstrip("_"): getattr(self, name) for name in self._in_config}, "fitted "),
            "encoder": self._encoder_identity(),
            "state": _named_json(self, state, "fitted "),
        }
        read = json.loads(_dumped(config))
        try:
            again, read_state = self._made_from(read), from_json(read["state"])
            sizes = _check_arrays(again._declared(read_state), arrays)
            again._take_files(self)
            again._restore(arrays, read_state)
            _check_sizes(again._sizes(), sizes)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ParameterError(f"{kind} cannot be saved: it would not come back: {error}") from error
        lost = [name for name, value in vars(self).items() if self._is_learned(name) and not _same(again, name, value)]
        if lost:
            raise ParameterError(
                f"{kind} cannot be saved: it would come back without its {listed(lost)}. Return it in _state and set "
                "it in _restore, or name it in _left_out, when a loaded router does without it"
            )
        return config, arrays

    def _is_learned(self, name: str) -> bool:
        """By its name, as in scikit-learn."""
        return name.endswith("_") and name not in (*self._get_param_names(), *self._left_out)

    @classmethod
    def _made_from(cls, config: Mapping[str, Any]) -> "RouterBase":
        """An unfitted router with the parameters of a configuration and what stands beside them."""
        attributes = {name.rstrip("_"): name for name in cls._in_config}
        needed = {"router", "version", "parameters", "encoder", "state", *attributes}
        if unknown := sorted(config.keys() - needed - {"format", "sha256", "checksum"}):
            raise ValueError(f"unknown entry {listed(unknown)}")
        if missing := sorted(needed - config.keys()):
            raise KeyError(listed(missing))
        if not all(isinstance(config[name], kind) for name, kind in (("version", str), ("encoder", str | None))):
            raise ValueError("version and encoder must be text")
        router = cls(**_checked(cls.__init__, from_json(config["parameters"]), cls._get_param_names()))
        for name, attribute in attributes.items():
            setattr(router, attribute, from_json(config[name]))
        router._check()
        router._check_config()
        return router

    def _check(self) -> None:
        """Refuse parameters that cannot be used (ParameterError)."""

    def _check_config(self) -> None:
        """Refuse what `_in_config` names where it cannot be (ValueError)."""

    def _usable(self, values: Any, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
        """What the router says of prompts, (n,) or (n, models), if all of it is finite and in range.

        Raises
        ------
        DataError
            Names the router and the prompts: a comparison with NaN is false, so that NaN would call the weak model.
        """
        values = np.asarray(values, float)
        good = np.isfinite(values) & (values >= low - 1e-6) & (values <= high + 1e-6)
        if not good.all():
            rows = np.flatnonzero(~good.reshape(len(values), -1).all(axis=1))
            where = f"numbers from {low:g} to {high:g}" if np.isfinite(high) else "finite numbers"
            raise DataError(
                f"{type(self).__name__}: what it says of {len(rows)} of {len(values)} prompts are no {where}: prompt "
                f"{listed(rows + 1, 5)} (from 1), the first of them {values[rows[0]]}. What it learned is damaged: fit "
                "it again"
            )
        return values.clip(low, high)

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What `fit` learned, as arrays and JSON."""
        return {}, {}

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """The inverse of `_state`."""

    def _declared(self, state: Mapping[str, Any]) -> Mapping[str, Saved] | None:
        """The arrays that a state comes with (see `_arrays`)."""
        return self._arrays

    def _sizes(self) -> Mapping[str, int]:
        """What the letters of `_declared` must stand for, as far as a restored router knows."""
        return {}

    def _write_files(self, folder: Path) -> None:
        """Files of a saved router beside its weights and configuration."""

    def _read_files(self, folder: Path, identity: str) -> None:
        """The inverse of `_write_files`; comes before `_restore`.

        Parameters
        ----------
        folder : Path
            Holds copies of the files whose checksums are right, and nothing else.
        identity : str
            Of the saved router: the hash of its configuration.
        """

    def _take_files(self, other: Any) -> None:
        """What `_read_files` gives, from a router in memory."""

    @classmethod
    def _writes(cls, name: str) -> bool:
        """Whether a saved router of this kind may have a file of this name beside its configuration."""
        ending = Path(name).suffix in cls._file_endings
        return name == _WEIGHTS or bool(ending and name != _CONFIG and _PLAIN_NAME.fullmatch(name))

    def _encoder_parameter(self) -> str | None:
        """The parameter that names the encoder or base model which a loaded router needs."""
        return next((name for name in ("encoder", "router__encoder") if name in self.get_params()), None)

    def _encoder_identity(self) -> str | None:
        return make_encoder(self.get_params()["encoder"]).fingerprint if "encoder" in self.get_params() else None

    def _encode(self, prompts: Iterable[str]) -> np.ndarray:
        return make_encoder(self.get_params()["encoder"]).transform(prompts)

    def _width(self) -> Mapping[str, int]:
        """The letter d as the encoder's dimensions, where they are known without loading a model."""
        encoder = make_encoder(self.get_params()["encoder"])
        return {"d": encoder.dimensions} if isinstance(encoder, HashingEncoder) else {}


def load_router(folder: str | Path, encoder: "str | Encoder | None" = None) -> Any:
    """Read any saved router, of a pair or of utilities (see `Router.load`)."""
    return RouterBase.load(folder, encoder)


# --- checks of what is read ----------------------------------------------------------------------------------------


def _config_of(folder: Path, given: Path) -> Any:
    try:
        return read_json(folder / _CONFIG)
    except DataError as error:
        raise DataError(f"{given}: not a saved router, or a damaged one: {error}") from error


def _known_class(name: Any, wanted: type, folder: Path) -> type[RouterBase]:
    kind = _REGISTRY.get(name) if isinstance(name, str) else None
    if kind is None or not issubclass(kind, wanted):
        raise DataError(f"{folder}: a saved {name!r} is not a {wanted.__name__}")
    return kind


def _check_files(folder: Path, kind: type[RouterBase], hashes: Any) -> None:
    """Every file that is read is one that this kind of router has, a plain one, and unchanged."""
    for name, sha256 in {_WEIGHTS: "", **hashes}.items():
        if not kind._writes(name):
            raise DataError(f"{folder}: its config.json names the file {_short(name)}, which no {kind.__name__} has")
        if hash_file(folder / name) != sha256:
            raise DataError(f"{folder / name}: changed or truncated since it was saved; save the router again")


def _check_encoder(router: RouterBase, encoder: Any, folder: Path) -> None:
    """The encoder, or base model, that the parameters name is here, and the one that the router was fitted with."""
    try:
        identity = router._encoder_identity()
    except ParameterError as error:
        raise DataError(f"{folder}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: its encoder cannot be made: {_short(error)}") from error
    if identity != encoder:
        named = router._encoder_parameter()
        here = None if named is None else router.get_params()[named]
        raise DataError(
            f"{folder}: fitted on encoder {encoder}, but {here!r} is {identity} here; fit again, or install the "
            f"same encoder{why_another(encoder, identity)}"
        )


def _checked(taking: Any, values: Any, known: Iterable[str]) -> dict[str, Any]:
    """Values by name, if a function or class takes all of them, and such values, by its annotations."""
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"unknown parameter {listed(unknown)}")
    try:
        annotations = typing.get_type_hints(taking)
    except (NameError, TypeError):  # names that only a type checker knows
        annotations = {}
    for name, value in values.items():
        if not _fits(value, annotations.get(name, Any)):
            raise ValueError(f"parameter {name} cannot be {_short(value)}")
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


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(file)


def _check_arrays(declared: Mapping[str, Saved] | None, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Sizes by the letters of the declaration.

    Raises
    ------
    ValueError
        When an array is missing, not declared, of another shape or kind, or holds NaN or infinity.
    """
    sizes: dict[str, int] = {}
    if declared is not None and (missing := sorted(declared.keys() - arrays.keys())):
        raise ValueError(f"array {listed(missing)} is missing")
    if declared is not None and (unknown := sorted(arrays.keys() - declared.keys())):
        raise ValueError(f"unknown array {listed(unknown)} (not in _arrays)")
    for name, array in arrays.items():
        spec = None if declared is None else declared[name]
        if spec is not None:
            shape = tuple(
                sizes.setdefault(one, size) if isinstance(one, str) else one
                for one, size in zip(spec.sizes, array.shape, strict=False)
            )
            if array.shape != shape or len(shape) != len(spec.sizes) or not array.size:
                raise ValueError(f"{name} has the shape {array.shape}, not {spec.sizes} with {sizes}")
            if not (array.dtype.kind in "iu" if spec.kind == "int" else array.dtype == spec.kind):
                raise ValueError(f"{name} holds {array.dtype}, not {spec.kind}")
        elif array.dtype.kind not in "fiub":
            raise ValueError(f"{name} holds {array.dtype}, not numbers")
        if array.dtype.kind == "f" and not _all_finite(array, spec is not None and spec.gaps):
            raise ValueError(f"{name} holds NaN or infinite values")
    return sizes


def _all_finite(array: np.ndarray, gaps: bool) -> bool:
    return not np.isinf(array).any() if gaps else bool(np.isfinite(array).all())


def _check_sizes(known: Mapping[str, int], found: Mapping[str, int]) -> None:
    for letter, size in known.items():
        if found.get(letter, size) != size:
            raise ValueError(f"arrays for {letter} = {found[letter]}, but {size} are known")


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


def saved_tiers(value: Any) -> Tiers:
    """Tiers from a file, if they are tiers (ValueError)."""
    if not isinstance(value, Tiers):
        raise ValueError(f"{_short(value)} are no tiers")
    return value


def saved_history(value: Any, columns: Sequence[str]) -> Any:
    """A table of numbers, some missing, from a file, if it is one (ValueError)."""
    import pandas as pd

    rows = isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    if not rows or not all(row.keys() == set(columns) for row in value):
        raise ValueError(f"a history must have the columns {listed(columns)}, got {_short(value)}")
    for row in value:
        for number in row.values():
            if number is not None:
                saved_number(number)
    return pd.DataFrame(value, columns=list(columns))


def saved_names(value: Any) -> list[str]:
    """A list of different names from a file, if it is one.

    Raises
    ------
    ValueError
    """
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value) or len(set(value)) < len(value):
        raise ValueError(f"{_short(value)} is no list of different names")
    return value


def _same(router: Any, name: str, value: Any) -> bool:
    """Whether a router that was made again has a fitted attribute, and, of numbers and text, the same."""
    if not hasattr(router, name):
        return False
    other = getattr(router, name)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return np.array_equal(value, other, equal_nan=value.dtype.kind == "f")
    if isinstance(value, (Real, str)):
        return bool(value == other or (value != value and other != other))  # noqa: PLR0124
    return True


def _mark(folder: Path) -> Any:
    """Another one after another process has replaced the folder."""
    try:
        about = standing_folder(folder).stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_mtime_ns


def _expanded(folder: str | Path) -> Path:
    try:
        return Path(folder).expanduser()
    except (RuntimeError, TypeError) as error:
        raise ParameterError(f"{folder!r} is no folder for a router: {error}") from error


def _short(error: Any) -> str:
    text = repr(error)
    return text if len(text) <= 300 else f"{text[:300]} ..."


# --- JSON ----------------------------------------------------------------------------------------------------------


def _dumped(config: Any) -> bytes:
    try:
        return json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(config, indent=1, allow_nan=False).encode("ascii")


def _checksum(config: Mapping[str, Any]) -> str:
    """Of a configuration, however it is laid out."""
    content = {name: value for name, value in config.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def _named_json(router: RouterBase, values: Mapping[str, Any], what: str) -> dict[str, Any]:
    written = {}
    for name, value in values.items():
        try:
            written[name] = to_json(value)
        except (ParameterError, RecursionError) as error:
            raise ParameterError(f"{type(router).__name__} cannot be saved: {what}{name}: {error}") from error
    return written


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
        case RouterBase():
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
    raise ParameterError(f"{_short(value)} cannot be saved; give numbers, text, or lists or mappings of them")


def from_json(value: Any) -> Any:
    """What `to_json` wrote."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if decoded := _DECODED.keys() & value.keys():
        return _DECODED[decoded.pop()](value)
    return {name: from_json(item) for name, item in value.items()}


def _router_from_json(value: dict[str, Any]) -> RouterBase:
    kind = _REGISTRY[value["__router__"]]
    return kind(**_checked(kind.__init__, from_json(value["parameters"]), kind._get_param_names()))


def _array_from_json(value: dict[str, Any]) -> np.ndarray:
    if not re.fullmatch(r"[<>|=]?([biuf][1-8]|f16|O|U\d{1,4})", value["dtype"]):
        raise ValueError(f"an array of {value['dtype']!r}")
    return np.array(from_json(value["__array__"]), value["dtype"])


_DECODED: Mapping[str, Any] = {
    "__pair__": lambda value: ModelPair(*saved_names(value["__pair__"])),
    "__tiers__": lambda value: Tiers.from_json(value["__tiers__"], value["source"]),
    "__training__": lambda value: Training(
        **_checked(Training, from_json(value["__training__"]), Training.__dataclass_fields__)
    ),
    "__router__": _router_from_json,
    "__items__": lambda value: {from_json(name): from_json(other) for name, other in value["__items__"]},
    "__path__": lambda value: Path(value["__path__"]),
    "__range__": lambda value: range(*(saved_number(number, whole=True) for number in value["__range__"])),
    "__array__": _array_from_json,
    "__number__": lambda value: {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}[value["__number__"]],
}


def hash_file(file: Path) -> str:
    """The sha256 of a plain file, which alone is opened (DataError otherwise)."""
    with open_plain(file) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

"""The base of all routers: how one becomes a folder, and a folder a router."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from routellm_lab import __version__
from routellm_lab.encoders import Encoder, HashingEncoder, make_encoder, refuse_foreign_folder, why_another
from routellm_lab.errors import DataError, MissingExtraError, ParameterError, listed
from routellm_lab.files import disk_errors, replacing_folder, standing_folder
from routellm_lab.routers.saving.fields import Field, Reading, joined, short
from routellm_lab.routers.saving.folder import (
    CONFIG,
    PLAIN_NAME,
    WEIGHTS,
    checksum,
    config_of,
    dumped,
    expanded,
    hash_file,
    mark,
    read_arrays,
)
from routellm_lab.routers.saving.values import REGISTRY, checked_arguments, from_json, to_json

FORMAT = 3
"""Of what is written; routers of another one are refused."""

_READINGS = 20
"""Times that a folder is read again because another process replaced it meanwhile."""


class RouterBase(BaseEstimator):
    """What all routers share: a folder that they are saved to and loaded from.

    A class of routers declares in `saved` what `fit` learned; `save` refuses a router that would come back without a
    fitted attribute.
    """

    saved: ClassVar[Mapping[str, Field]] = {}
    """How the fitted attributes of this class are written, by name; those of its bases come first."""

    unsaved: ClassVar[tuple[str, ...]] = ()
    """Fitted attributes that a loaded router does without."""

    _file_endings: ClassVar[tuple[str, ...]] = ()
    """How the names of further files end."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        REGISTRY[cls.__name__] = cls

    @classmethod
    def _fields(cls) -> dict[str, Field]:
        """What `saved` declares here and in all bases."""
        declared: dict[str, Field] = {}
        for base in reversed(cls.__mro__):
            declared |= vars(base).get("saved", {})
        return declared

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

        check_is_fitted(self, list(self._fields()))
        folder = expanded(folder)
        config, arrays = self._written()
        with disk_errors(folder):
            if folder.exists() and not folder.is_dir():
                raise ParameterError(f"{folder} is a file; a router is saved to a folder")
            if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
                raise ParameterError(f"{folder} is not empty and holds no router; choose another folder")
            with replacing_folder(folder) as aside:
                try:
                    save_file(arrays, aside / WEIGHTS)
                except SafetensorError as error:  # which is how a full disk looks from there
                    raise OSError(str(error)) from error
                self._write_files(aside)
                files = sorted(aside.iterdir())
                for file in files:
                    if not self._writes(file.name):
                        raise ParameterError(f"{type(self).__name__} cannot be saved: it wrote {file.name!r}")
                config["sha256"] = {file.name: hash_file(file) for file in files}
                config["checksum"] = checksum(config)
                (aside / CONFIG).write_bytes(dumped(config))
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
        folder = expanded(folder)
        for _ in range(_READINGS):
            before = mark(folder)
            try:
                router = cls._load_once(folder, encoder)
            except DataError:
                if mark(folder) == before:
                    raise
                continue
            if mark(folder) == before:
                return router
        raise DataError(f"{folder}: it is saved again and again while it is read; load it later")

    @classmethod
    def _load_once(cls, given: Path, encoder: "str | Encoder | None") -> Self:
        folder = given
        try:
            folder = standing_folder(given)
            config = config_of(folder, given)
            _check_format(config["router"], config.get("format"), given)
            kind = _known_class(config["router"], cls, folder)
            _check_files(folder, kind, config["sha256"])
            router = kind._made_from(config)
            fitted_on, state = config["encoder"], from_json(config["state"])
        except (DataError, MissingExtraError):
            raise
        except Exception as error:  # whatever a changed configuration leads to
            raise DataError(f"{given}: not a saved router, or a damaged one: {short(error)}") from error
        named = router._encoder_parameter()
        if named is not None and encoder is not None:
            router.set_params(**{named: encoder})
        elif named is not None:
            refuse_foreign_folder(router.get_params()[named], given)
        _check_encoder(router, fitted_on, given)
        try:
            arrays = read_arrays(folder / WEIGHTS)
            with tempfile.TemporaryDirectory() as copies:  # a library may look for files that nothing vouches for
                for name in config["sha256"].keys() - {WEIGHTS}:
                    shutil.copyfile(folder / name, Path(copies) / name)
                reading = Reading(arrays, Path(copies), hash_file(folder / CONFIG))
                router._restore(state, reading)
                reading.finish()
        except MissingExtraError:
            raise
        except Exception as error:  # whatever changed weights lead to
            raise DataError(f"{given}: weights and config.json do not belong together: {short(error)}") from error
        if config["checksum"] != checksum(config):
            raise DataError(f"{given / CONFIG}: changed since it was saved; save the router again")
        return router  # type: ignore[return-value]

    def _written(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The configuration but for checksums, and the arrays, of which the router comes back as it is."""
        kind = type(self).__name__
        arrays, state = self._state()
        arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        config: dict[str, Any] = {
            "router": kind,
            "version": __version__,
            "format": FORMAT,
            "parameters": self._named_json(self.get_params(deep=False), "parameter "),
            "encoder": self._encoder_identity(),
            "state": self._named_json(state, "fitted "),
            "sha256": {},
            "checksum": "",
        }
        read = json.loads(dumped(config))
        try:
            again, reading = self._made_from(read), Reading(dict(arrays), memory=self)
            again._restore(from_json(read["state"]), reading)
            reading.finish()
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ParameterError(f"{kind} cannot be saved: it would not come back: {error}") from error
        lost = [name for name, value in vars(self).items() if self._is_learned(name) and not _same(again, name, value)]
        if lost:
            raise ParameterError(
                f"{kind} cannot be saved: it would come back without its {listed(lost)}. Declare it in saved, or "
                "name it in unsaved, when a loaded router does without it"
            )
        return config, arrays

    def _is_learned(self, name: str) -> bool:
        """By its name, as in scikit-learn."""
        return name.endswith("_") and name not in (*self._get_param_names(), *self.unsaved)

    def _named_json(self, values: Mapping[str, Any], what: str) -> dict[str, Any]:
        written = {}
        for name, value in values.items():
            try:
                written[name] = to_json(value)
            except (ParameterError, RecursionError) as error:
                raise ParameterError(f"{type(self).__name__} cannot be saved: {what}{name}: {error}") from error
        return written

    @classmethod
    def _made_from(cls, config: Mapping[str, Any]) -> "RouterBase":
        """An unfitted router with the parameters of a configuration."""
        needed = {"router", "version", "format", "parameters", "encoder", "state", "sha256", "checksum"}
        _check_names("entry", config, needed)
        if not all(isinstance(config[name], kind) for name, kind in (("version", str), ("encoder", str | None))):
            raise ValueError("version and encoder must be text")
        router = cls(**checked_arguments(cls.__init__, from_json(config["parameters"]), cls._get_param_names()))
        router.check_parameters()
        return router

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What `fit` learned, as arrays and JSON."""
        arrays: dict[str, np.ndarray] = {}
        state: dict[str, Any] = {}
        for name, field in self._fields().items():
            own, written = field.write(self, getattr(self, name))
            arrays |= {joined(name, part): array for part, array in own.items()}
            state |= {name: written} if field.in_json else {}
        return arrays, state

    def _restore(self, state: Any, reading: Reading) -> None:
        """Take back what `_state` gave (ValueError for what no router of this class has)."""
        fields = self._fields()
        _check_names("fitted", state, {name for name, field in fields.items() if field.in_json})
        for with_arrays in (False, True):
            if with_arrays:
                reading.sizes.update(self._sizes())
            for name, field in fields.items():
                if field.in_arrays == with_arrays:
                    setattr(self, name, field.read(self, state.get(name), reading.at(name)))
        self.check_learned()

    def _sizes(self) -> dict[str, int]:
        """What letters of arrays must stand for, as far as that is known without loading a model (see `Array`)."""
        sizes = {"m": len(self.models_)} if hasattr(self, "models_") else {}
        encoder = make_encoder(self.get_params()["encoder"]) if "encoder" in self._get_param_names() else None
        width = encoder.dimensions if isinstance(encoder, HashingEncoder) else 0
        return sizes | ({"d": width, "f": width + 1} if width else {})

    def check_parameters(self) -> None:
        """Refuse parameters that cannot be used (ParameterError)."""

    def check_learned(self) -> None:
        """Refuse what a file says, each attribute fit for itself, where it cannot be (ValueError), and derive from it
        what is not kept."""

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

    def _write_files(self, folder: Path) -> None:
        """Files of a saved router beside its weights and configuration."""
        for name, field in self._fields().items():
            field.write_files(self, getattr(self, name), folder)

    @classmethod
    def _writes(cls, name: str) -> bool:
        """Whether a saved router of this kind may have a file of this name beside its configuration."""
        ending = Path(name).suffix in cls._file_endings
        return name == WEIGHTS or bool(ending and name != CONFIG and PLAIN_NAME.fullmatch(name))

    def _encoder_parameter(self) -> str | None:
        """The parameter that names the encoder or base model which a loaded router needs."""
        return next((name for name in ("encoder", "router__encoder") if name in self.get_params()), None)

    def _encoder_identity(self) -> str | None:
        return make_encoder(self.get_params()["encoder"]).fingerprint if "encoder" in self.get_params() else None

    def _encode(self, prompts: Iterable[str]) -> np.ndarray:
        return make_encoder(self.get_params()["encoder"]).transform(prompts)


def load_router(folder: str | Path, encoder: "str | Encoder | None" = None) -> Any:
    """Read any saved router, of win rates or of scores (see `RouterBase.load`)."""
    return RouterBase.load(folder, encoder)


def _check_format(name: Any, written: Any, folder: Path) -> None:
    """Refuse a router of an earlier version."""
    if isinstance(name, str) and written != FORMAT:
        raise DataError(
            f"{folder}: saved by another version of this package (in format {short(written)}, this one reads {FORMAT}):"
            " fit the router again and save it"
        )


def _check_names(what: str, given: Mapping[str, Any], needed: set[str]) -> None:
    if unknown := sorted(given.keys() - needed):
        raise ValueError(f"unknown {what} {listed(unknown)}")
    if missing := sorted(needed - given.keys()):
        raise ValueError(f"no {what} {listed(missing)}")


def _known_class(name: Any, wanted: type, folder: Path) -> type[RouterBase]:
    kind: type[RouterBase] | None = REGISTRY.get(name) if isinstance(name, str) else None
    if kind is None or not issubclass(kind, wanted):
        other = "" if kind is None else f", but it is a {kind.__name__}"
        way = "" if kind else ". If it is a router of your own, import the module that defines it before you load it"
        raise DataError(f"{folder}: a saved {short(name)} is no {wanted.__name__} that is known here{other}{way}")
    return kind


def _check_files(folder: Path, kind: type[RouterBase], hashes: Any) -> None:
    """Every file that is read is one that this kind of router has, a plain one, and unchanged."""
    for name, sha256 in {WEIGHTS: "", **hashes}.items():
        if not kind._writes(name):
            raise DataError(f"{folder}: its config.json names the file {short(name)}, which no {kind.__name__} has")
        if hash_file(folder / name) != sha256:
            raise DataError(f"{folder / name}: changed or truncated since it was saved; save the router again")


def _check_encoder(router: RouterBase, encoder: Any, folder: Path) -> None:
    """The encoder, or base model, that the parameters name is here, and the one that the router was fitted with."""
    try:
        identity = router._encoder_identity()
    except ParameterError as error:
        raise DataError(f"{folder}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: its encoder cannot be made: {short(error)}") from error
    if identity != encoder:
        named = router._encoder_parameter()
        here = None if named is None else router.get_params()[named]
        raise DataError(
            f"{folder}: fitted on encoder {encoder}, but {here!r} is {identity} here; fit again, or install the "
            f"same encoder{why_another(encoder, identity)}"
        )


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

"""How every router is saved to a folder and read from it again, without running any code."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from routellm_lab import __version__
from routellm_lab.encoders import Encoder, make_encoder
from routellm_lab.errors import DataError, ParameterError, RoutellmLabError
from routellm_lab.files import replacing_folder
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.training import Training

_REGISTRY: dict[str, type["RouterBase"]] = {}


class RouterBase(BaseEstimator):
    """What routers of a pair and utility routers share: a folder that they are saved to and loaded from."""

    _in_config: ClassVar[tuple[str, ...]]
    """Fitted attributes that ``config.json`` holds by their name; the others are told by `_state`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _REGISTRY[cls.__name__] = cls

    def save(self, folder: str | Path) -> Path:
        """Write the fitted router: ``weights.safetensors``, ``config.json`` and what else it needs, nothing executable.

        An earlier router in the same folder is replaced; any other folder that is not empty is refused.
        """
        from safetensors.numpy import save_file

        check_is_fitted(self, self._in_config)
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ParameterError(f"{folder} is a file; a router is saved to a folder")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
            raise ParameterError(f"{folder} is not empty and holds no router; choose another folder")
        arrays, state = self._state()
        with replacing_folder(folder) as aside:
            save_file(
                {name: np.ascontiguousarray(value) for name, value in arrays.items()}, aside / "weights.safetensors"
            )
            self._write_files(aside)
            config = {
                "router": type(self).__name__,
                "version": __version__,
                "parameters": {name: to_json(value) for name, value in self.get_params(deep=False).items()},
                **{name.rstrip("_"): to_json(getattr(self, name)) for name in self._in_config},
                "encoder": self._encoder_identity(),
                "state": state,
                "sha256": {file.name: hash_file(file) for file in sorted(aside.iterdir())},
            }
            (aside / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a router saved by `save`; no code from the folder is run.

        Raises
        ------
        DataError
            When a file is missing, truncated or was changed, or the encoder here is not the one it was fitted with.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            kind, weights = config["router"], folder / "weights.safetensors"
            if kind not in _REGISTRY or not issubclass(_REGISTRY[kind], cls):
                raise DataError(f"{folder}: a saved {kind!r} is not a {cls.__name__}")
            for file, sha256 in {weights.name: "", **config["sha256"]}.items():
                if hash_file(folder / Path(file).name) != sha256:
                    raise DataError(f"{folder / file}: changed or truncated since it was saved; save the router again")
            arrays = load_file(weights)
            router = _REGISTRY[kind](**{name: from_json(value) for name, value in config["parameters"].items()})
            for name in router._in_config:
                setattr(router, name, from_json(config[name.rstrip("_")]))
            encoder, state = config["encoder"], config["state"]
        except (OSError, AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{folder}: not a saved router, or a damaged one: {error!r}") from error
        identity = router._encoder_identity()
        if identity != encoder:
            told = router.get_params()
            here = next((told[name] for name in ("encoder", "model", "router__encoder") if name in told), None)
            raise DataError(
                f"{folder}: fitted on encoder {encoder}, but {here!r} is {identity} here; fit again, or install the "
                "same encoder"
            )
        try:
            router._read_files(folder)
            router._restore(arrays, state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, RoutellmLabError):
                raise
            raise DataError(f"{folder}: weights and config.json do not belong together: {error!r}") from error
        return router  # type: ignore[return-value]

    def _encoder_identity(self) -> str | None:
        return make_encoder(self.get_params()["encoder"]).fingerprint if "encoder" in self.get_params() else None

    def _encode(self, prompts: Iterable[str]) -> np.ndarray:
        return make_encoder(self.get_params()["encoder"]).transform(prompts)

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What `fit` learned, as arrays and JSON."""
        return {}, {}

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """The inverse of `_state`."""

    def _write_files(self, folder: Path) -> None:
        """Files of a saved router beside its weights and configuration."""

    def _read_files(self, folder: Path) -> None:
        """The inverse of `_write_files`; comes before `_restore`."""


def load_router(folder: str | Path) -> Any:
    """Read any saved router, of a pair or of utilities (see `Router.load`)."""
    return RouterBase.load(folder)


def to_json(value: Any) -> Any:
    match value:
        case ModelPair():
            return {"__pair__": [value.strong, value.weak]}
        case Tiers():
            return {"__tiers__": dict(value.tier), "source": value.source}
        case Encoder():
            if type(make_encoder(value.spec)) is not type(value):
                raise ParameterError(f"{value!r} cannot be saved: give the router an encoder by name")
            return value.spec
        case Mapping():
            return {
                str(name): float(other) if isinstance(other, (int, float, np.number)) else list(other)
                for name, other in value.items()
            }
        case Training():
            return {"__training__": asdict(value)}
        case RouterBase():
            parameters = {name: to_json(other) for name, other in value.get_params(deep=False).items()}
            return {"__router__": type(value).__name__, "parameters": parameters}
        case np.generic():
            return value.item()
        case tuple() | list():
            return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:
    if isinstance(value, dict) and "__pair__" in value:
        return ModelPair(*value["__pair__"])
    if isinstance(value, dict) and "__tiers__" in value:
        return Tiers({model: int(tier) for model, tier in value["__tiers__"].items()}, value["source"])
    if isinstance(value, dict) and "__training__" in value:
        return Training(**value["__training__"])
    if isinstance(value, dict) and "__router__" in value:
        parameters = {name: from_json(other) for name, other in value["parameters"].items()}
        return _REGISTRY[value["__router__"]](**parameters)
    return value


def hash_file(file: Path) -> str:
    import hashlib

    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

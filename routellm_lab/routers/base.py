"""What every router is: a scikit-learn estimator that turns prompts into win rates."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from routellm_lab import __version__
from routellm_lab.encoders import Encoder, as_texts, make_encoder, refuse_foreign_folder, why_another
from routellm_lab.errors import DataError, ParameterError, RoutellmLabError, listed
from routellm_lab.files import replacing_folder
from routellm_lab.preferences.battles import models_of, results_between, validate_battles, vote_weights, with_prompts
from routellm_lab.preferences.models import ModelPair, find_model, resolve_pair
from routellm_lab.preferences.ratings import Tiers, fit_tiers
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
            fitted_on, state = config["encoder"], config["state"]
        except (OSError, AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{folder}: not a saved router, or a damaged one: {error!r}") from error
        named = router._encoder_parameter()
        if named is not None and encoder is not None:
            router.set_params(**{named: encoder})
        elif named is not None:
            refuse_foreign_folder(router.get_params()[named], folder)
        identity = router._encoder_identity()
        if identity != fitted_on:
            here = None if named is None else router.get_params()[named]
            raise DataError(
                f"{folder}: fitted on encoder {fitted_on}, but {here!r} is {identity} here; fit again, or install the "
                f"same encoder{why_another(fitted_on, identity)}"
            )
        try:
            router._read_files(folder)
            router._restore(arrays, state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, RoutellmLabError):
                raise
            raise DataError(f"{folder}: weights and config.json do not belong together: {error!r}") from error
        return router  # type: ignore[return-value]

    def _encoder_parameter(self) -> str | None:
        """The parameter that names the encoder or base model which a loaded router needs."""
        return next((name for name in ("encoder", "router__encoder") if name in self.get_params()), None)

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


class Router(RouterBase):
    """Base of all routers. The constructor only stores; `fit` learns from battles; `win_rate` answers.

    Parameters
    ----------
    pair : ModelPair
        The models to choose between.

    Attributes
    ----------
    pair_used_ : ModelPair
        The pair as the votes know it (stand-ins resolved). Name it beside every result.
    """

    name: ClassVar[str] = "router"
    """What tables and plots call it; the paper's name where it has one."""

    _in_config = ("pair_used_",)
    _needs_votes: ClassVar[bool] = True

    pair: ModelPair
    pair_used_: ModelPair

    def fit(self, battles: pd.DataFrame, y: Any = None) -> Self:
        """Learn from votes.

        Parameters
        ----------
        battles : DataFrame
            See `routellm_lab.preferences.battles`; a ``weight`` column is honoured.

        Raises
        ------
        DataError
            When the votes break their contract or have no prompts.
        ParameterError
            When a model of the pair has neither votes nor a stand-in with votes.
        """
        if not isinstance(self.pair, ModelPair):
            raise ParameterError(f"pair must be a ModelPair, got {self.pair!r}")
        battles = with_prompts(validate_battles(battles))
        if self._needs_votes:
            self.pair_used_ = resolve_pair(self.pair, models_of(battles), getattr(self, "stand_ins", None))
        else:
            self.pair_used_ = self.pair
        self._fit(battles)
        return self

    def win_rate(self, prompts: Iterable[str]) -> np.ndarray:
        """P(strong wins) + P(tie) / 2 for each prompt.

        Parameters
        ----------
        prompts : iterable of str, (n,)

        Returns
        -------
        (n,) float64 array in [0, 1]
        """
        check_is_fitted(self, "pair_used_")
        texts = as_texts(prompts)
        if not texts:
            return np.zeros(0)
        return np.asarray(self._win_rate(texts), float)

    def route(self, prompts: Iterable[str], threshold: float = 0.5) -> np.ndarray:
        """The model to call for each prompt: the strong one when its win rate is at least ``threshold``.

        Returns
        -------
        (n,) array of str
        """
        if not isinstance(threshold, (int, float, np.number)) or np.isnan(threshold):
            raise ParameterError(f"threshold must be a number, got {threshold!r}")
        return np.where(self.win_rate(prompts) >= threshold, self.pair.strong, self.pair.weak)

    def _fit(self, battles: pd.DataFrame) -> None:
        raise NotImplementedError

    def _win_rate(self, texts: list[str]) -> np.ndarray:
        raise NotImplementedError


class ManyModelRouter(Router):
    """A router that knows many models: serves any pair of them without refitting."""

    models_: list[str]

    def utilities(self, prompts: Iterable[str]) -> pd.DataFrame:
        """How good each known model is for each prompt.

        Returns
        -------
        (n, models) DataFrame
            Log-strengths: sigmoid of a difference is the win rate of one model over the other.
        """
        check_is_fitted(self, "pair_used_")
        texts = as_texts(prompts)
        values = self._utilities(texts, self.models_) if texts else np.zeros((0, len(self.models_)))
        return pd.DataFrame(values, columns=self.models_)

    def win_rate(self, prompts: Iterable[str], pair: ModelPair | None = None) -> np.ndarray:
        """P(strong wins) + P(tie) / 2 for each prompt, for the router's own or any other pair of known models.

        Parameters
        ----------
        prompts : iterable of str, (n,)
        pair : ModelPair, optional

        Returns
        -------
        (n,) float64 array in [0, 1]
        """
        check_is_fitted(self, "pair_used_")
        texts = as_texts(prompts)
        if not texts:
            return np.zeros(0)
        used = self.pair_used_
        if pair is not None and pair != self.pair:
            used = resolve_pair(pair, self.models_, getattr(self, "stand_ins", None))
        both = self._utilities(texts, [used.strong, used.weak])
        return sigmoid(both[:, 0] - both[:, 1])

    def _utilities(self, texts: list[str], models: list[str]) -> np.ndarray:
        raise NotImplementedError


class TieredRouter(Router):
    """A router that groups models into tiers (section 4.2 of the paper)."""

    tiers: Tiers | None
    n_tiers: int
    tiers_: Tiers

    def _resolve_tiers(self, battles: pd.DataFrame) -> Tiers:
        stand_ins = getattr(self, "stand_ins", None)
        tiers = self.tiers
        if tiers is None:
            source, votes = tier_votes(battles, self.pair, stand_ins)
            tiers = fit_tiers(votes, self.n_tiers, source=source)
        tiers = tiers.including(models_of(battles), stand_ins)
        if any(name not in tiers.tier for name in (self.pair_used_.strong, self.pair_used_.weak)):
            self.pair_used_ = resolve_pair(self.pair, tiers.tier, stand_ins)
        return tiers


class PairOnlyRouter(TieredRouter):
    """A router that learns one pair, from the votes between the models at or above the strong one's tier and those in
    the weak one's tier (section 4.1 of the paper)."""

    strong_tiers: Sequence[int] | None
    weak_tiers: Sequence[int] | str | None
    strong_models_: list[str]
    weak_models_: list[str]
    n_votes_: int
    vote_sources_: list[str]

    def _fit(self, battles: pd.DataFrame) -> None:
        self._fit_votes(self._prompt_votes(battles, []))

    def _prompt_votes(self, battles: pd.DataFrame, within: list[str]) -> pd.DataFrame:
        """The votes between the two sides as one row per distinct prompt (see `_fit_votes`) of each value of the
        columns ``within``."""
        self.tiers_ = self._resolve_tiers(battles)
        self._name_sides()
        won = results_between(battles, self.strong_models_, self.weak_models_)
        self.n_votes_, rows = len(won), won.index
        if won.empty:
            raise DataError(
                f"no vote between the strong tiers ({listed(self.strong_models_)}) and the weak tiers "
                f"({listed(self.weak_models_)}) of {self.tiers_.source!r}; use other votes or tiers"
            )
        self.vote_sources_ = sorted(battles.loc[rows, "source"].dropna().unique()) if "source" in battles else []
        weight = vote_weights(battles.loc[rows])
        votes = battles.loc[rows, [*within, "prompt_key", "prompt"]].assign(
            strong=weight * (won == 1), tie=weight * (won == 0.5), weak=weight * (won == 0), weight=weight
        )
        per_prompt = votes.groupby([*within, "prompt_key"], sort=False).agg(
            {"prompt": "first", "strong": "sum", "tie": "sum", "weak": "sum", "weight": "sum"}
        )
        results = ["strong", "tie", "weak"]
        per_prompt[results] = per_prompt[results].div(per_prompt["weight"], axis=0)
        return per_prompt.reset_index()

    def _name_sides(self) -> None:
        """The models of either side: those at or above the strong tier and those in the weak one, or as told."""
        strong, weak = self.tiers_.pair(self.pair_used_)
        known = set(self.tiers_.tier.values())
        strong_tiers = range(strong + 1) if self.strong_tiers is None else tuple(self.strong_tiers)
        weak_tiers: Sequence[Any] = (weak,) if self.weak_tiers is None else tuple(self.weak_tiers)
        if isinstance(self.weak_tiers, str):
            if self.weak_tiers != "below":
                raise ParameterError(f"weak_tiers must be 'below', numbers of tiers or None, got {self.weak_tiers!r}")
            weak_tiers = tuple(tier for tier in known if tier >= weak)
        for name, tiers in (("strong_tiers", strong_tiers), ("weak_tiers", weak_tiers)):
            if not tiers or not set(tiers) <= known:
                raise ParameterError(f"{name}: the tiers of {self.tiers_.source!r} are {sorted(known)}, got {tiers!r}")
        if max(strong_tiers) >= min(weak_tiers):
            raise ParameterError(
                f"strong_tiers {listed(strong_tiers)} must all be above (have lower numbers than) weak_tiers "
                f"{listed(weak_tiers)}"
            )
        self.strong_models_ = [model for model, tier in self.tiers_.tier.items() if tier in strong_tiers]
        self.weak_models_ = [model for model, tier in self.tiers_.tier.items() if tier in weak_tiers]

    def _fit_votes(self, votes: pd.DataFrame) -> None:
        """Learn from one row per distinct prompt: ``prompt_key``, ``prompt``, shares of the votes on it that are
        ``strong`` wins, ``tie`` and ``weak`` wins, and their total ``weight``."""
        self._fit_prompts(
            votes["prompt"].tolist(), (votes["strong"] + votes["tie"] / 2).to_numpy(), votes["weight"].to_numpy()
        )

    def _fit_prompts(self, prompts: list[str], label: np.ndarray, weight: np.ndarray) -> None:
        """Learn from distinct prompts: mean result of the strong side in [0, 1], and the weight of the votes on it."""
        raise NotImplementedError

    def _tier_state(self) -> dict[str, Any]:
        return {"tiers": to_json(self.tiers_), "n_votes": self.n_votes_, "vote_sources": self.vote_sources_}

    def _restore_tiers(self, state: dict[str, Any]) -> None:
        self.tiers_, self.n_votes_ = from_json(state["tiers"]), int(state["n_votes"])
        self.vote_sources_ = list(state["vote_sources"])
        self._name_sides()


def tier_votes(
    battles: pd.DataFrame, pair: ModelPair, stand_ins: Mapping[str, Iterable[str]] | None = None
) -> tuple[str, pd.DataFrame]:
    """The votes of the one judge that tiers are read from when none are named: judges are never pooled.

    Of the judges who saw both models of the pair (or stand-ins), the one with more of the pair's own names, then with
    more models; a judge of only two models (gold labels) comes last.

    Returns
    -------
    name : str
        The judge and its sources.
    votes : DataFrame
    """
    if "judge" not in battles:
        return battles.attrs.get("name", "the votes given"), battles
    candidates = []
    for judge, votes in battles.groupby("judge", sort=True):
        models = models_of(votes)
        try:
            used = {find_model(name, models, stand_ins) for name in (pair.strong, pair.weak)}
        except ParameterError:
            continue
        if len(used) == 2:
            own = len({pair.strong, pair.weak} & set(models))
            candidates.append(((len(models) > 2, own, len(models), len(votes)), str(judge), votes))
    if not candidates:
        raise DataError(
            f"no single judge saw both {pair.strong!r} and {pair.weak!r} (or stand-ins); pass tiers=fit_tiers(...) of "
            f"a set that did. Judges: {listed(sorted(battles['judge'].dropna().unique()))}"
        )
    _, judge, votes = max(candidates, key=lambda candidate: candidate[:2])
    sources = listed(sorted(votes["source"].dropna().unique()), 3) if "source" in votes else "all votes"
    return f"{judge} on {sources}", votes


def load_router(folder: str | Path, encoder: "str | Encoder | None" = None) -> Any:
    """Read any saved router, of a pair or of utilities (see `Router.load`)."""
    return RouterBase.load(folder, encoder)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow."""
    from scipy.special import expit

    return expit(x)


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

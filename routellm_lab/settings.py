"""Paths, data root and device: the only reader of the environment. (Others write to it, for libraries and processes.)

Every field can be set by an environment variable ``ROUTELLM_LAB_<FIELD>`` (``ROUTELLM_LAB_DATA=../shared/data``).

A relative path of a data folder or the cache starts at the workbook's root when the working directory lies in the
workbook, else at the working directory. So ``../shared/data`` is the same folder on the command line and in JupyterLab,
where the working directory is ``notebooks/``.
"""

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from routellm_lab.errors import ParameterError

_CHECKOUT = Path(__file__).resolve().parent.parent


def _default_root() -> Path:
    return _CHECKOUT if (_CHECKOUT / "notebooks").is_dir() else Path.cwd()


class Settings(BaseSettings):
    """What the environment may change.

    Attributes
    ----------
    data : str
        ``sample`` (simulated, ships with the package), ``hub`` (public sources) or a folder.
    root : Path
        The workbook: the folder that holds ``notebooks/``, ``data/`` and ``figures/``.
    cache : Path or None
        Where encodings and the static encoder are kept; ``<root>/data/cache`` unless set.
    cache_limit_gb : float
        Gigabytes of encodings that are kept; 0 keeps none. A new prompt takes about 1.5 kilobytes.
    run_dir : Path or None
        The run that a notebook belongs to; set by the runner.
    notebook : str or None
        The notebook of that run which this kernel executes; set by the runner.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    engine : str
        ``local``, ``ray`` or ``ray://HOST:PORT``: where the runner starts notebooks, each on one host, and where
        `routellm_lab.engine.engine` runs what is inside of it.
    progress : bool
        Whether progress bars are drawn; the runner turns them off in notebooks.
    """

    model_config = SettingsConfigDict(env_prefix="ROUTELLM_LAB_")

    data: str = "sample"
    root: Path = Field(default_factory=_default_root)
    cache: Path | None = None
    cache_limit_gb: float = Field(default=4.0, ge=0)
    run_dir: Path | None = None
    notebook: str | None = None
    device: str = "auto"
    engine: str = "local"
    progress: bool = True

    @model_validator(mode="after")
    def _make_absolute(self) -> "Settings":
        self.root = Path(os.path.abspath(_expanded(self.root)))
        self.cache = self.cache and self.locate(self.cache)
        return self

    def locate(self, path: str | Path) -> Path:
        """The absolute path that a path of a data folder stands for, by the rule above.

        Raises
        ------
        ParameterError
            When it begins with the home folder of a user that does not exist.
        """
        here, root = Path.cwd(), self.root.resolve()
        return (root if here.is_relative_to(root) else here) / _expanded(path)

    @property
    def notebooks_dir(self) -> Path:
        return self.root / "notebooks"

    @property
    def runs_dir(self) -> Path:
        return self.root / "data" / "runs"

    @property
    def cache_dir(self) -> Path:
        return self.cache or self.root / "data" / "cache"


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ParameterError(f"path {str(path)!r}: {error}") from error


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once (``settings.cache_clear()`` reads them again).

    Raises
    ------
    ParameterError
        When an environment variable has a value that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # of the two that are paths, whose message names the path
            raise ParameterError(
                f"environment variable ROUTELLM_LAB_ROOT or ROUTELLM_LAB_CACHE: {first['msg']}"
            ) from error
        name = f"ROUTELLM_LAB_{'_'.join(map(str, first['loc']))}".upper()
        raise ParameterError(f"environment variable {name}={first['input']!r}: {first['msg']}") from error


def secret(name: str) -> str:
    """The key held by an environment variable; whoever asks for it never shows, writes or logs it.

    Raises
    ------
    ParameterError
        Names the variable, never its value, when it is unset, empty or holds what a header cannot carry.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        raise ParameterError(f"environment variable {name} is not set: it holds the key (export {name}=...)")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ParameterError(f"environment variable {name} holds no key: there is white space or no ASCII in it")
    return value


def thread_limit() -> int | None:
    """``OMP_NUM_THREADS``, the share of a process beside others; None where it says nothing."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return int(limit) if limit.isdigit() and int(limit) else None


def with_path_first(name: str, path: Path) -> str:
    """The value of an environment variable that lists folders, with one more in front of them."""
    return os.pathsep.join([str(path), *filter(None, [os.environ.get(name)])])

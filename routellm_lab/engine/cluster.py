"""The Ray cluster: its address, the connection to it, and what its failures become."""

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from routellm_lab import errors
from routellm_lab.errors import MissingExtraError, ParameterError, RoutellmLabError

RETRIES = 3
"""How often work is started again whose worker died."""
_CONNECT_SECONDS = 5


def check_engine(name: str) -> str:
    """The name of an engine, if it is one (ParameterError if not); nothing is started."""
    host, port = _address(name)
    known = name in ("local", "ray") or (name.startswith("ray://") and host and port.isdigit())
    if not known:
        raise ParameterError(f"engine {name!r}: use local, ray (a Ray cluster here) or ray://HOST:PORT (one elsewhere)")
    return name


def _address(name: str) -> tuple[str, str]:
    host, colon, port = name.removeprefix("ray://").rpartition(":")
    return (host, port) if colon else (port, "10001")


@contextlib.contextmanager
def connected(name: str) -> Iterator[Any]:
    """Ray, joined or started here; let go of afterwards unless the process was connected before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import joblib  # noqa: F401
        import ray
    except ImportError as error:
        raise MissingExtraError(f"engine {name!r} needs: pip install 'routellm-lab[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if name == "ray":
        options["include_dashboard"] = False
    else:
        host, port = _address(name)
        try:  # Ray itself tries for minutes
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise ParameterError(
                f"engine {name!r}: nobody answers at {host}:{port} ({error}). Name a cluster's client server; "
                "`ray start --head --ray-client-server-port 10001` starts one."
            ) from error
        options["address"] = f"ray://{host}:{port}"
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises what it likes
        raise RoutellmLabError(f"engine {name!r}: Ray cannot be used: {str(error).strip() or type(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def own_errors(all_from_ray: bool = False) -> Iterator[None]:
    """Turn what Ray makes of an error of this package in one of its workers back into that error, and what it says of
    work that it gave up, or a connection that breaks, into a RoutellmLabError. Anybody else's error stays what it is.
    """
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except Exception as error:
        if not (all_from_ray or isinstance(error, RayError)):
            raise
        # Ray keeps the worker's traceback as text, and loses the exception itself where it wraps it twice
        told = re.findall(rf"^{re.escape(errors.__name__)}\.(\w+): (.*)$", str(error), re.MULTILINE)
        kind = getattr(errors, told[-1][0], None) if told else None
        if kind is not None:
            raise kind(told[-1][1]) from error
        if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
            raise
        said = str(getattr(error, "cause", error)).strip().split("\n")[0] or type(error).__name__
        raise RoutellmLabError(
            f"Ray gave up ({said}): hosts that went down or ran out of memory are the usual cause. Start them again, "
            "with fewer cores (`ray start --num-cpus`) where memory is short, and repeat the call."
        ) from error


def clear(folder: Path, keep: Sequence[str]) -> None:
    """Remove from a folder what an attempt left whose worker died."""
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def require_shared(path: Path) -> None:
    """Refuse a host that does not see a path (RoutellmLabError)."""
    if not path.exists():
        raise RoutellmLabError(
            f"host {socket.gethostname()} of the Ray cluster does not see {path}: every host needs the same files "
            "under the same path (a file system that all of them mount)"
        )

"""Where work runs: on this machine, or on Ray where one machine is not enough. Nothing is scheduled by this package.

================  ===================================================================================
local             this machine (the default)
ray               the Ray cluster that this machine is part of; where there is none, one on this machine
ray://HOST:PORT   a Ray cluster elsewhere, through its client server (port 10001 unless told otherwise)
================  ===================================================================================

Inside of ``with engine("ray")`` every ``joblib.Parallel`` of the process runs on the cluster: that of `parallel`, which
ablations, learning curves, adaptation and validation use, and anybody's own. What runs notebooks sends them there
whole: a notebook is one process on one host, and what it computes stays in it. Each host has the same Python
environment, and sees whatever files are named under the same path.
"""

import contextlib
import copy
import os
import re
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routellm_lab import errors
from routellm_lab.encoders import Encoder, SentenceEncoder, as_texts, available_cores, make_encoder
from routellm_lab.errors import MissingExtraError, ParameterError, RoutellmLabError, listed
from routellm_lab.files import replacing_folder
from routellm_lab.settings import settings
from routellm_lab.tables import data_files, parquet_columns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

VECTOR = "vector"
"""The column of the encodings."""

_ROWS = 4096
"""Prompts encoded at once: a few megabytes of vectors, thousands of times what handing them over costs."""

_RETRIES = 3
_CONNECT_SECONDS = 5
_POLL_SECONDS = 0.2

STOP_SECONDS = 10
"""What a process that is asked to end is given for it."""


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
def engine(name: str | None = None) -> "Iterator[Engine]":
    """Let what is inside run on an engine, and let go of it afterwards.

    Parameters
    ----------
    name : str, optional
        ``local``, ``ray`` or ``ray://HOST:PORT``; the setting ``engine`` by default. A process that is connected to Ray
        already stays so.

    Yields
    ------
    Engine

    Raises
    ------
    ParameterError
        For another name, or an address where nobody listens.
    MissingExtraError
        Without Ray.
    RoutellmLabError
        When Ray cannot be started or joined.
    """
    name = check_engine(settings().engine if name is None else name)
    if name == "local":
        yield Engine(name, hosts=1, cores=available_cores(), cores_per_host=available_cores())
        return
    with _connected(name) as ray:
        from joblib import parallel_config
        from ray.util.joblib import register_ray

        hosts = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        hosts = [cores for cores in hosts if cores]
        if not hosts:
            raise RoutellmLabError(f"engine {name!r}: the cluster has no cores; start workers with `ray start`")
        register_ray()
        again = {"max_restarts": _RETRIES, "max_task_retries": _RETRIES}
        with parallel_config(backend="ray", n_jobs=sum(hosts), ray_remote_args=again), _own_errors():
            yield Engine(name, len(hosts), sum(hosts), min(hosts))


@contextlib.contextmanager
def _connected(name: str) -> Iterator[Any]:
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
def _own_errors(all_from_ray: bool = False) -> Iterator[None]:
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


def parallel(function: Callable[..., Any], tasks: Iterable[Sequence[Any]], desc: str, total: int) -> list[Any]:
    """Call a function with the arguments of each task, by ``joblib.Parallel``, and give its results in order.

    In this process, one after the other, unless an `engine` or ``joblib.parallel_config`` says otherwise. What a task
    draws must come from a seed among its arguments: then the results do not depend on where it runs.

    Parameters
    ----------
    function : callable
    tasks : iterable of tuple
        Arguments; made when they are needed.
    desc : str
        Of the progress bar.
    total : int
        How many tasks there are.
    """
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    shown = tqdm(tasks, desc=desc, total=total, disable=not settings().progress, leave=False)
    return list(Parallel()(delayed(function)(*task) for task in shown))


@dataclass(frozen=True)
class Engine:
    """Where work runs.

    Attributes
    ----------
    name : str
    hosts : int
        With a core to work on.
    cores : int
        Of all hosts.
    cores_per_host : int
        Of the smallest of them.
    """

    name: str
    hosts: int
    cores: int
    cores_per_host: int

    @property
    def is_local(self) -> bool:
        return self.name == "local"

    def share(self, jobs: int) -> int:
        """Cores for each of so many jobs at once; a job stays on one host."""
        return max(1, min(self.cores // jobs, self.cores_per_host))

    def encode(
        self,
        prompts: "Iterable[str] | Path | Sequence[Path]",
        encoder: str | Encoder = "static",
        output: str | Path | None = None,
        column: str = "prompt",
    ) -> "np.ndarray | Path":
        """Encode a large set of prompts, a batch at a time; on Ray by Ray Data, one encoder loaded per worker.

        The disk cache of encodings is neither read nor written.

        Parameters
        ----------
        prompts : iterable of str, or Path, or list of Path
            Texts; or a parquet file, a folder of them or a list of files, read as a stream.
        encoder : str or Encoder
            See `make_encoder`.
        output : path, optional
            A new folder for parquet files with the same rows in the same order, and all columns beside ``vector``; it
            appears when all is encoded. Without it the vectors, (n, d), are gathered in memory.
        column : str
            Of the prompts, in parquet files.

        Returns
        -------
        (n, d) float32 array, as `Encoder.transform` gives it, or the folder

        Raises
        ------
        ParameterError
            When ``output`` is there already, there is no file, or one lacks the column of prompts, has a column
            ``vector`` already or other columns than the first.
        DataError
            When a file is unreadable, or a prompt missing or no text.
        RoutellmLabError
            When the Ray cluster is lost, or its workers die time and again.
        """
        source = _source(prompts, column)
        coder = _Vectors(make_encoder(encoder), column)
        if output is None:
            return _stacked(_encode_here(source, coder) if self.is_local else self._there(source, coder, None))
        folder = Path(output).absolute()
        if folder.exists():
            raise ParameterError(f"output {str(folder)!r} is there already: name a new folder, or remove it")
        with replacing_folder(folder) as aside:
            if self.is_local:
                _write(_encode_here(source, coder), aside / "part-000000.parquet")
            else:
                self._there(source, coder, aside)
        return folder

    def _there(self, source: "pa.Table | list[str]", coder: "_Vectors", folder: Path | None) -> "Iterator[pa.Table]":
        import ray

        if isinstance(coder.encoder, SentenceEncoder):
            coder.encoder._model = None  # large, and each worker loads its own for its own device
        # Ray Data does not run through Ray's client: it is driven by a task on the cluster
        task = ray.remote(_encode_on_ray).options(num_cpus=0, max_retries=_RETRIES)
        with _own_errors(all_from_ray=True):
            return iter(ray.get(task.remote(source, coder, folder, self.cores)))

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path, cores: int
    ) -> "subprocess.Popen | RayProcess":
        """Start Python in a process whose standard input and output this process holds.

        Parameters
        ----------
        arguments : list of str
            Of the interpreter.
        environment : mapping
            Variables beside those that are there.
        cwd : Path
        log : Path
            Takes standard error. On Ray the log's folder is cleared, but for what is in it now, when the process is
            started again after its worker died.
        cores : int
            Set aside for it on Ray.

        Raises
        ------
        RoutellmLabError
            When the Ray cluster is lost.
        """
        if not self.is_local:
            return RayProcess(arguments, environment, cwd, log, cores)
        with open(log, "wb") as told:
            return _popen(arguments, environment, cwd, subprocess.PIPE, told)


# --- encoding -------------------------------------------------------------------------------------------------------


def _source(prompts: Any, column: str) -> "pa.Table | list[str]":
    """A table of the given texts, or the names of the given files, which are fit to be encoded into one table."""
    import pyarrow as pa
    import pyarrow.parquet

    given: Any = [prompts] if isinstance(prompts, Path) else prompts if isinstance(prompts, str) else list(prompts)
    if not given or not all(isinstance(path, Path) for path in given):
        return pa.table({column: pa.array(as_texts(given), pa.large_string())})
    found = [list(data_files(path, ".parquet").values()) if path.is_dir() else [path] for path in given]
    files = [path.absolute() for paths in found for path in paths]
    if not files:
        raise ParameterError(f"prompts: no *.parquet in {given[0]}")
    first: set[tuple[str, str]] = set()
    for file in files:
        names = parquet_columns(file)
        if column not in names:
            raise ParameterError(f"{file}: has no column {column!r}; name that of the prompts with column=")
        if VECTOR in names:
            raise ParameterError(f"{file}: has a column {VECTOR!r} already, that of the encodings; drop or rename it")
        columns = {(field.name, str(field.type)) for field in pyarrow.parquet.read_schema(file)}
        first = first or columns
        if columns != first:
            other = sorted({name for name, _ in columns ^ first})
            raise ParameterError(
                f"{file}: differs from {files[0]} in {listed(other)}; give all files the same columns of the same "
                "types, or encode them apart"
            )
    return [str(file) for file in files]


class _Vectors:
    """Adds the column of vectors to a table."""

    def __init__(self, encoder: Encoder, column: str) -> None:
        if not isinstance(encoder, SentenceEncoder):
            _ = encoder.dimensions  # loads the model, which then travels: workers need not distil their own
        self.encoder = copy.copy(encoder)
        self.encoder.cached = False  # a file that all workers write to would be slower than encoding again
        self.column = column

    def __call__(self, table: "pa.Table") -> "pa.Table":
        import pyarrow as pa

        vectors = self.encoder.transform(table.column(self.column).to_pylist())
        flat = pa.array(vectors.ravel(), pa.float32())
        return table.append_column(VECTOR, pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))


def _encode_here(source: "pa.Table | list[str]", coder: _Vectors) -> "Iterator[pa.Table]":
    import pyarrow as pa

    return map(coder, _parts(source) if isinstance(source, pa.Table) else _rows(source))


def _parts(table: "pa.Table") -> "list[pa.Table]":
    """A table in parts, one at least."""
    return [table.slice(start, _ROWS) for start in range(0, max(len(table), 1), _ROWS)]


def _rows(files: list[str]) -> "Iterator[pa.Table]":
    """The rows of parquet files, a part at a time."""
    import pyarrow as pa
    import pyarrow.dataset

    for batch in pyarrow.dataset.dataset(files, format="parquet").to_batches(batch_size=_ROWS):
        yield pa.Table.from_batches([batch])


def _write(tables: "Iterator[pa.Table]", path: Path) -> None:
    import pyarrow.parquet

    writer = None
    with contextlib.ExitStack() as stack:
        for table in tables:
            writer = writer or stack.enter_context(pyarrow.parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)


def _stacked(tables: "Iterator[pa.Table]") -> "np.ndarray":
    """The vectors of tables, (n, d)."""
    import numpy as np

    parts = []
    for table in tables:
        vectors = table.column(VECTOR).combine_chunks()
        parts.append(vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, vectors.type.list_size))
    return np.concatenate(parts)


def _encode_on_ray(
    source: "pa.Table | list[str]", coder: _Vectors, folder: Path | None, cores: int
) -> "list[pa.Table]":
    """Runs in a task of the cluster: a streaming pipeline of Ray Data."""
    import pyarrow as pa
    import ray.data

    for path in [*([] if isinstance(source, pa.Table) else source), *([] if folder is None else [folder])]:
        _require_shared(Path(path))
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    if isinstance(source, pa.Table):
        dataset = ray.data.from_arrow(_parts(source))
    else:  # Ray's own reader needs a client for HTTP
        files = ray.data.from_items([{"file": file} for file in source], override_num_blocks=len(source))
        dataset = files.map_batches(_read, batch_format="pyarrow", batch_size=1)
    gpus = ray.cluster_resources().get("GPU", 0) if isinstance(coder.encoder, SentenceEncoder) else 0
    encoded = dataset.map_batches(
        _Vectors,  # made once per worker
        fn_constructor_args=[coder.encoder, coder.column],
        batch_format="pyarrow",
        batch_size=_ROWS,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=int(gpus) or cores),
        num_gpus=1 if gpus else None,
    )
    if folder is None:
        return list(encoded.iter_batches(batch_size=None, batch_format="pyarrow"))
    own = folder / uuid.uuid4().hex  # whatever is still being written for an attempt that died stays out of it
    own.mkdir()
    encoded.write_parquet(str(own), try_create_dir=False)
    _clear(folder, [own.name])
    for number, part in enumerate(sorted(own.iterdir())):  # Ray's names are in the order of the rows
        part.rename(folder / f"part-{number:06d}.parquet")
    own.rmdir()
    return []


def _read(named: "pa.Table") -> "Iterator[pa.Table]":
    return _rows(named.column("file").to_pylist())


def _clear(folder: Path, keep: Sequence[str]) -> None:
    """Remove from a folder what an attempt left whose worker died."""
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _require_shared(path: Path) -> None:
    if not path.exists():
        raise RoutellmLabError(
            f"host {socket.gethostname()} of the Ray cluster does not see {path}: every host needs the same files "
            "under the same path (a file system that all of them mount)"
        )


# --- processes ------------------------------------------------------------------------------------------------------


def _popen(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, stdout: Any, stderr: Any
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=os.environ | environment,
        cwd=cwd,
        start_new_session=True,
    )


def end(process: "subprocess.Popen | RayProcess") -> None:
    """Close a process's standard input, its sign to end, and wait for the end."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class RayProcess:
    """A process started by a Ray task, with what is needed here of `subprocess.Popen`.

    Its output goes through a file beside the log. Closing its standard input, as its starter does or as happens when
    the Ray worker that holds it dies, is its sign to end. Ray starts it again when the worker died, on a clean folder.
    A process of a cluster that is lost has ended.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path, cores: int
    ) -> None:
        import ray

        self.returncode = 1  # until it is known
        self._events = log.with_name("events.jsonl")
        keep = [path.name for path in log.parent.iterdir()]
        with _own_errors(all_from_ray=True):
            task = ray.remote(_run_process).options(num_cpus=cores, max_retries=_RETRIES)
            self._task = task.remote(list(arguments), dict(environment), cwd, log, self._events, keep)
        self.stdin = self
        self.stdout = contextlib.closing(self._lines())

    def close(self, force: bool = False) -> None:
        """Ask it to end, or make it."""
        import ray

        if not self._ended(0):
            ray.cancel(self._task, force=force)

    def kill(self) -> None:
        self.close(force=True)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended (`subprocess.TimeoutExpired` when it has not)."""
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired("a process on Ray", timeout or 0)
        return self.returncode

    def _ended(self, timeout: float | None) -> bool:
        import ray

        try:
            return bool(ray.wait([self._task], timeout=timeout)[0])
        except Exception:  # whatever a connection raises that is no more
            return True

    def _lines(self) -> Generator[bytes]:
        """Lines as they are written. A process that is started again writes the same ones: they are given once.

        Raises
        ------
        RoutellmLabError
            When the connection breaks, or Ray gives the process up.
        """
        import ray

        seen = 0
        with _own_errors(all_from_ray=True):
            while not ray.wait([self._task], timeout=_POLL_SECONDS)[0]:
                lines = self._written()
                yield from lines[seen:]
                seen = max(seen, len(lines))
            self.returncode, lines = ray.get(self._task)
        yield from lines[min(seen, max(len(lines) - 1, 0)) :]

    def _written(self) -> list[bytes]:
        try:
            return [line for line in self._events.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        except OSError:
            return []


def _run_process(
    arguments: list[str], environment: dict[str, str], cwd: Path, log: Path, events: Path, keep: list[str]
) -> tuple[int, list[bytes]]:
    """Runs in a task of the cluster: return code and lines of a process."""
    _require_shared(log.parent)
    _clear(log.parent, keep)
    with open(log, "wb") as told, open(events, "wb") as out:
        process = _popen(arguments, environment, cwd, out, told)
        try:
            process.wait()
        finally:
            end(process)
    return process.returncode, events.read_bytes().splitlines(keepends=True)

"""The engine that a name stands for, and what runs on it."""

import contextlib
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routellm_lab.encoders import Encoder, available_cores, make_encoder
from routellm_lab.engine.cluster import RETRIES, check_engine, connected, own_errors
from routellm_lab.engine.encoding import Vectors, encode_here, encode_on_cluster, source_of, stacked, write_tables
from routellm_lab.engine.processes import RayProcess, popen
from routellm_lab.errors import ParameterError, RoutellmLabError
from routellm_lab.files import replacing_folder
from routellm_lab.settings import settings

if TYPE_CHECKING:
    import numpy as np


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
    with connected(name) as ray:
        from joblib import parallel_config
        from ray.util.joblib import register_ray

        hosts = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        hosts = [cores for cores in hosts if cores]
        if not hosts:
            raise RoutellmLabError(f"engine {name!r}: the cluster has no cores; start workers with `ray start`")
        register_ray()
        again = {"max_restarts": RETRIES, "max_task_retries": RETRIES}
        with parallel_config(backend="ray", n_jobs=sum(hosts), ray_remote_args=again), own_errors():
            yield Engine(name, len(hosts), sum(hosts), min(hosts))


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
        """Cores for each of a number of jobs at once; a job stays on one host."""
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
        source = source_of(prompts, column)
        vectors = Vectors(make_encoder(encoder), column)
        if output is None and self.is_local:
            return stacked(encode_here(source, vectors))
        if output is None:
            return stacked(encode_on_cluster(source, vectors, None, self.cores))
        folder = Path(output).absolute()
        if folder.exists():
            raise ParameterError(f"output {str(folder)!r} is there already: name a new folder, or remove it")
        with replacing_folder(folder) as aside:
            if self.is_local:
                write_tables(encode_here(source, vectors), aside / "part-000000.parquet")
            else:
                encode_on_cluster(source, vectors, aside, self.cores)
        return folder

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
            return popen(arguments, environment, cwd, subprocess.PIPE, told)

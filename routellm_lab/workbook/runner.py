"""Run the workbook without anybody watching: plan, execute in processes, skip what is unchanged, resume."""

import contextlib
import json
import os
import queue
import shutil
import signal
import site
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import routellm_lab
from routellm_lab import engine as engines
from routellm_lab.encoders import threads_for
from routellm_lab.engine import Engine, RayProcess
from routellm_lab.errors import NotebookError, ParameterError, RoutellmLabError, listed
from routellm_lab.files import disk_errors
from routellm_lab.settings import settings, with_path_first
from routellm_lab.workbook import outputs, runs
from routellm_lab.workbook.execute import SOURCE, SPEC
from routellm_lab.workbook.hashing import (
    code_hash,
    data_identity,
    describe_data,
    hash_json,
    input_hashes,
)
from routellm_lab.workbook.notebooks import Notebook, assign, discover, needs, require_standard_parameters, select
from routellm_lab.workbook.progress import Progress as _Progress
from routellm_lab.workbook.resume import choose_folder, now, open_run
from routellm_lab.workbook.run_pages import pages_to_come, refresh_pages
from routellm_lab.workbook.runs import FINISHED, Run
from routellm_lab.workbook.session import check_run_options, stage_of

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes
    ----------
    run : Run
        The run on disk.
    status : dict
        Per notebook: done, reused, failed or blocked.
    errors : dict
        What the failed notebooks said.
    """

    run: Run
    status: dict[str, str]
    errors: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether every notebook is finished."""
        return all(status in FINISHED for status in self.status.values())

    @property
    def run_id(self) -> str:
        return self.run.id

    @property
    def folder(self) -> Path:
        return self.run.folder

    @property
    def report(self) -> Path:
        return self.run.report

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        return self.run.metrics


def run_workbook(
    notebooks: Sequence[str] | None = None,
    data: str | Path = "sample",
    profile: str = "quick",
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    fresh: bool = False,
    run_id: str | None = None,
    jobs: int = 1,
    root: Path | None = None,
    engine: str | None = None,
) -> RunResult:
    """Execute notebooks, with those they depend on, into ``data/runs/<id>``.

    Parameters
    ----------
    notebooks : sequence of str, optional
        Names or numbers; by default all.
    data : str or Path
        ``sample``, ``hub`` or a folder.
    profile : str
        ``quick`` or ``full``.
    seed : int
    parameters : mapping, optional
        Further parameters; each goes to the notebooks that know it.
    fresh : bool
        Begin a new run and execute everything, whatever earlier runs hold. When such a run is interrupted, the same
        call without ``fresh`` resumes it (and still executes everything that is left); with ``fresh`` begins again.
    run_id : str, optional
        The new run's name, or the run to go on with.
    jobs : int
        Notebooks executed at once; they share the cores.
    root : Path, optional
        The workbook: the folder that holds ``notebooks/`` and ``data/``.
    engine : str, optional
        Where notebooks are executed: ``local``, ``ray`` or ``ray://HOST:PORT``; the setting ``engine`` by default. All
        hosts of a Ray cluster need the workbook under the same path. Results do not depend on it.

    Returns
    -------
    RunResult

    Raises
    ------
    ParameterError
        For an unknown notebook, parameter, profile, data root or engine, before anything starts.
    RoutellmLabError
        When the run cannot be written, or another process is making it.

    Notes
    -----
    An unfinished run with the same data, profile, seed, parameters, notebooks and code is resumed. Otherwise a new run
    begins, and takes over notebooks of complete runs whose source, parameters, data, code and inputs are the same.
    """
    root = (settings().root if root is None else Path(root)).resolve()
    check_run_options(profile, seed)
    engines.check_engine(settings().engine if engine is None else engine)
    if jobs < 1:
        raise ParameterError(f"jobs must be at least 1, got {jobs}")
    if run_id is not None:
        runs.check_run_id(run_id)
    wanted, added = select(notebooks, discover(root))
    require_standard_parameters(wanted)
    given = assign(parameters or {}, wanted)
    data = str(data)
    identity = data_identity(data, root)
    kernel_data = data if identity["kind"] != "folder" else str(settings().locate(data).resolve())
    runs_dir = root / "data" / "runs"
    runs.check_output(runs_dir)
    asked = {
        "data": identity,
        "profile": profile,
        "seed": seed,
        "parameters": {name: value for values in given.values() for name, value in values.items()},
        "notebooks_asked": sorted(set(wanted) - set(added)),
        "code": code_hash(),
    }
    for notebook in wanted.values():
        given[notebook.name] |= {"data": kernel_data, "profile": profile, "seed": seed}
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(engines.engine(engine))
        left_aside: list[str] = []
        folder, resumed = choose_folder(runs_dir, asked, fresh, run_id, left_aside)
        there_before = folder.exists()
        stack.enter_context(runs.locked(folder))
        try:
            run = open_run(folder, asked, wanted, fresh)
        except RoutellmLabError:
            if not there_before and not (folder / runs.MANIFEST).is_file():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        print(f"Run {run.id}: {describe_data(data)}, profile {profile}, seed {seed}", flush=True)
        for words in left_aside:
            print(f"Left aside: {words}", flush=True)
        if not there.is_local:
            print(f"Engine: {there.name}, {there.cores} cores on {there.hosts} hosts", flush=True)
        if resumed:
            left = [name for name, entry in run.entries.items() if entry["status"] not in FINISHED]
            print(f"Resuming: {len(run.entries) - len(left)} of {len(run.entries)} notebooks are finished", flush=True)
        if added:
            print(f"Also: {listed(added)} (needed by what was asked)", flush=True)
        runs.point_latest(folder)
        work = _Work(run, wanted, given, identity, kernel_data, jobs, root, there)
        with _signals():
            work.do()
        return _finish(run, work.errors)


def _finish(run: Run, errors: dict[str, str]) -> RunResult:
    from routellm_lab.workbook.report import build_report

    left_aside: list[str] = []
    with disk_errors(run.report):
        refresh_pages(run, left_aside)
        build_report(run, left_aside)
    run.manifest["finished"] = now()
    run.save()
    figures = len(list(run.figures.glob("*.png"))) if run.figures.is_dir() else 0
    print(f"Report:  {_shown(run.report)}\nFigures: {_shown(run.figures)} ({figures})", flush=True)
    return RunResult(run, {name: entry["status"] for name, entry in run.entries.items()}, errors)


def _shown(path: Path) -> str:
    """A path as short as it can be typed."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def _signals() -> Iterator[None]:
    """Let a request to end (SIGTERM, a closed terminal) end the run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Worker:
    name: str
    process: subprocess.Popen | RayProcess
    listener: threading.Thread
    stage: Path
    hashes: dict[str, Any]
    result: dict[str, Any] | None = None

    def let_go(self) -> None:
        engines.end(self.process)
        self.listener.join(engines.STOP_SECONDS)


@dataclass
class _Work:
    """The notebooks of one run on their way from pending to finished."""

    run: Run
    notebooks: Mapping[str, Notebook]
    given: Mapping[str, Mapping[str, Any]]
    identity: Mapping[str, str]
    kernel_data: str
    jobs: int
    root: Path
    engine: Engine
    errors: dict[str, str] = field(default_factory=dict)
    workers: dict[str, _Worker] = field(default_factory=dict)
    events: "queue.Queue[tuple[str, dict[str, Any] | None]]" = field(default_factory=queue.Queue)

    def do(self) -> None:
        """Work until everything is finished, failed or blocked."""
        order = TopologicalSorter(needs(self.notebooks))
        order.prepare()
        ready: list[str] = []
        self.progress = _Progress(len(self.notebooks))
        try:
            while order.is_active():
                ready = sorted([*ready, *order.get_ready()], key=self._rank)
                while ready and len(self.workers) < self.jobs:
                    name = ready.pop(0)
                    if self._begin(name):
                        order.done(name)
                        break
                else:
                    if not self.workers:
                        break
                    finished = self._wait()
                    if finished and self.run.entries[finished]["status"] in FINISHED:
                        order.done(finished)
            self._block()
        except KeyboardInterrupt:
            self._put_back()
            self.progress.say("Interrupted. Finished notebooks are kept; the same command (without --fresh) goes on.")
            raise
        except RoutellmLabError:
            self._put_back()
            raise
        finally:
            self._stop()
            self.progress.close()
            shutil.rmtree(self.run.folder / ".work", ignore_errors=True)

    def _rank(self, name: str) -> tuple[float, str]:
        """By number; of several at once the longest first, so that none is left alone at the end."""
        return (-self.notebooks[name].minutes if self.jobs > 1 else 0.0, name)

    def _begin(self, name: str) -> bool:
        """Start a notebook, or find it finished already."""
        entry, hashes = self.run.entries[name], self._hashes(name)
        if entry["status"] in FINISHED and entry["hash"] == hashes["hash"] and outputs.intact(self.run, name):
            self.progress.finished(name, "unchanged")
            return True
        outputs.forget(self.run, name)
        if not self.run.manifest["fresh"] and self._reuse(name, hashes):
            return True
        stage = stage_of(self.run.folder, name)
        with disk_errors(stage):
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir(parents=True)
            (stage / SOURCE).write_text(json.dumps(self.notebooks[name].content), "utf-8")
            asked = {key: self.run.manifest[key] for key in ("profile", "seed")} | {"data": self.kernel_data}
            spec = {"name": name, "stage": str(stage), "parameters": self.given[name], "run": asked}
            spec |= {"pages": asdict(pages_to_come(self.run))}
            (stage / SPEC).write_text(json.dumps(spec), "utf-8")
            process = self.engine.start(
                ["-m", "routellm_lab.workbook.execute", str(stage / SPEC)],
                self._environment(name),
                cwd=self.root / "notebooks",
                log=stage / "log.txt",
                cores=self.engine.share(self.jobs),
            )
        listener = threading.Thread(target=self._listen, args=(name, process), daemon=True)
        self.workers[name] = _Worker(name, process, listener, stage, hashes)
        listener.start()
        self.run.entries[name]["status"] = "running"
        self.run.save()
        self.progress.started(name)
        return False

    def _listen(self, name: str, process: subprocess.Popen | RayProcess) -> None:
        """Pass on what a worker says, and in any case that it says no more."""
        assert process.stdout is not None
        try:
            with process.stdout as events:
                for line in events:
                    self.events.put((name, json.loads(line)))
        except Exception as error:  # it ends the notebook, not the run
            said = str(error).strip().split("\n")[-1] or type(error).__name__
            lost = f"its process was lost: {said}"
            self.events.put((name, {"event": "lost", "error": lost, "cell": None, "metrics": {}}))
        finally:
            self.events.put((name, None))

    def _wait(self) -> str | None:
        """Take one event; the name of the notebook that it ends."""
        name, event = self.events.get()
        worker = self.workers[name]
        if event is None:
            worker.let_go()
            del self.workers[name]
            self._end(worker)
            return name
        if event["event"] == "cells":
            self.progress.cells(name, event["done"], event["cells"])
        else:
            worker.result = event
        return None

    def _end(self, worker: _Worker) -> None:
        """Take over what a worker made, or say why it failed."""
        name, result = worker.name, worker.result
        if result is None:
            result = {"error": _death(worker), "cell": None, "metrics": {}}
        cost = {key: result.get(key) for key in ("seconds", "peak_mib")}
        entry = self.run.entries[name] | worker.hashes | cost
        entry["parameters"] = {key: value for key, value in self.given[name].items() if key != "data"}
        try:
            if result["error"] is None:
                made = outputs.made(self.run, self.notebooks[name], worker.stage)
                entry |= made | {"metrics": result["metrics"], "status": "done"}
        except NotebookError as error:
            result["error"] = str(error)
        with disk_errors(self.run.folder):
            outputs.take(self.run, name, worker.stage, entry)
            if result["error"] is not None:
                where = f"cell {result['cell']}" if result["cell"] else "after its cells"
                line = f" at `{result['line']}`" if result.get("line") else ""
                self.errors[name] = f"{where}{line}: {result['error']}"
                entry |= {"status": "failed", "error": self.errors[name]}
            shutil.rmtree(worker.stage, ignore_errors=True)
        self.run.entries[name] = entry
        self.run.save()
        if entry["status"] == "done":
            self.progress.finished(name, f"done in {entry['seconds']:.0f} s")
        else:
            copy = _shown(self.run.folder / "notebooks" / f"{name}.ipynb")
            self.progress.finished(name, f"FAILED, {self.errors[name]}\n  executed copy: {copy}")

    def _reuse(self, name: str, hashes: Mapping[str, Any]) -> bool:
        """Take over a notebook's results from an earlier complete run with the same hash."""
        for other in runs.all_runs(self.run.folder.parent):
            found = other.entries.get(name, {})
            if other.id == self.run.id or not other.complete or found.get("hash") != hashes["hash"]:
                continue
            if not outputs.intact(other, name):
                continue
            entry = found | {"status": "reused", "reused_from": found.get("reused_from") or other.id}
            outputs.copy(other, self.run, name, entry)
            self.run.entries[name] = entry
            self.run.save()
            self.progress.finished(name, f"unchanged since run {entry['reused_from']}")
            return True
        return False

    def _hashes(self, name: str) -> dict[str, Any]:
        """Of everything that the notebook is made of and reads; it is run again when one of them changes."""
        notebook, given = self.notebooks[name], self.given[name]
        made: dict[str, str] = {}
        for entry in self.run.entries.values():
            made |= entry.get("artifacts", {})
        inputs = input_hashes(notebook, given, made, self.root, self.kernel_data)
        parameters = dict(given) | {"data": self.identity["kind"]}
        whole = [notebook.source_hash, parameters, self.identity["hash"], self.run.manifest["code"], inputs]
        return {"hash": hash_json(whole), "source": notebook.source_hash, "inputs": inputs}

    def _environment(self, name: str) -> dict[str, str]:
        environment = dict.fromkeys(_THREADS, str(threads_for(self.engine.share(self.jobs)))) | {
            "PYTHONHASHSEED": "0",
            "TOKENIZERS_PARALLELISM": "false",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "ROUTELLM_LAB_ROOT": str(self.root),
            "ROUTELLM_LAB_RUN_DIR": str(self.run.folder),
            "ROUTELLM_LAB_NOTEBOOK": name,
            "ROUTELLM_LAB_DATA": self.kernel_data,
            "ROUTELLM_LAB_CACHE": str(settings().cache_dir if settings().cache else self.root / "data" / "cache"),
            "ROUTELLM_LAB_PROGRESS": "false",
        }
        if self.identity["kind"] != "hub":
            environment["HF_HUB_OFFLINE"] = "1"
        home = Path(routellm_lab.__file__).resolve().parent.parent
        if str(home) not in site.getsitepackages():  # a checkout that need not be installed
            environment["PYTHONPATH"] = with_path_first("PYTHONPATH", home)
        return environment

    def _block(self) -> None:
        """Mark what waits in vain for a failed notebook."""
        graph = needs(self.notebooks)
        for name, entry in self.run.entries.items():
            if entry["status"] != "pending":
                continue
            entry["status"] = "blocked"
            outputs.forget_pages(self.run, name)
            stuck = sorted(need for need in graph[name] if self.run.entries[need]["status"] not in FINISHED)
            self.progress.finished(name, f"blocked: it reads what {listed(stuck)} did not write")
        self.run.save()

    def _put_back(self) -> None:
        for entry in self.run.entries.values():
            if entry["status"] == "running":
                entry["status"] = "pending"
        try:
            self.run.save()
        except RoutellmLabError:  # the disk may be what failed; the manifest that is there stays whole
            return

    def _stop(self) -> None:
        """End the workers that are left, and their kernels with them."""
        for worker in self.workers.values():
            worker.let_go()
        self.workers.clear()


def _death(worker: _Worker) -> str:
    """What is known about a worker that ended without a result."""
    try:
        log = (worker.stage / "log.txt").read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        log = []
    code = worker.process.returncode
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its process ended with {cause}" + (f" ({log[-1]})" if log else "")

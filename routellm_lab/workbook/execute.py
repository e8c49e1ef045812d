"""The process that executes one notebook: ``python -m routellm_lab.workbook.execute SPEC``.

The runner holds the other end of this process's standard input. When that closes, because the runner asks or because it
was killed, the kernel and everything it started are killed too. Events go to standard output, one JSON object a line.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from routellm_lab.errors import RoutellmLabError
from routellm_lab.settings import with_path_first
from routellm_lab.workbook.metrics import metrics_of

SOURCE = "source.ipynb"
"""The notebook as it was when the run began."""

SPEC = "spec.json"
"""What a worker is asked for: ``name``, ``stage``, ``parameters``, ``pages`` (those of the run: `pages.Around`), and
``run``: data, profile and seed of the run."""

EXECUTED = "executed.ipynb"
PAGE = "executed.html"
KERNEL_START_SECONDS = 180


def main(spec_path: str) -> None:
    """Execute the notebook that a spec names, and say how it went."""
    # the kernel inherits standard output: events go through a copy of it that the kernel does not get
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # 2 s to import; jsonschema can do without
    with os.fdopen(os.dup(1), "w", buffering=1) as events:
        os.dup2(2, 1)
        threading.Thread(target=_die_with_runner, daemon=True).start()
        spec = json.loads(Path(spec_path).read_text("utf-8"))
        _say(events, "result", **execute(spec, events))


def execute(spec: dict[str, Any], events: TextIO) -> dict[str, Any]:
    """Execute a notebook in its stage and make its page.

    Parameters
    ----------
    spec : dict
        ``name``, ``stage`` (a folder with the source in it), ``parameters`` and ``pages``.
    events : file
        Where progress is told.

    Returns
    -------
    dict
        seconds, peak_mib, metrics, and where it failed: error, cell (its number from 1; None when no cell is to blame).
    """
    began = time.monotonic()
    stage = Path(spec["stage"])
    result: dict[str, Any] = {"metrics": {}, "error": None, "cell": None}
    try:
        _use_this_interpreter(stage)
        result |= _run_papermill(spec, stage, events)
        if result["error"] is None:
            import nbformat

            result["metrics"] = metrics_of(nbformat.read(stage / EXECUTED, as_version=4))
        if (stage / EXECUTED).is_file():
            from routellm_lab.workbook.pages import Around, notebook_page

            name, around = spec["name"], Around(**spec["pages"])
            (stage / PAGE).write_text(notebook_page(stage / EXECUTED, around.titles[name], around, name), "utf-8")
    except Exception as error:  # whatever it is, the runner says it and goes on with the other notebooks
        result["error"] = result["error"] or f"{type(error).__name__}: {_first_line(str(error))}"
        result["cell"] = result["cell"] or _failed_cell(stage)
    return result | {"seconds": round(time.monotonic() - began, 1), "peak_mib": _peak_mib()}


def numbered_cells(executed: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The cells of an executed notebook with their numbers from 1; papermill's own have none of their own.

    Raises
    ------
    DataError, NotebookError
        When it is there but is a link, a special file or not a notebook.
    """
    from routellm_lab.files import require_real
    from routellm_lab.workbook.notebooks import read_content

    require_real(executed, deep=False)
    number = 0
    for cell in read_content(executed)["cells"] if executed.exists() else ():
        number += not is_added(cell)
        yield number, cell


def is_added(cell: dict[str, Any]) -> bool:
    """Whether papermill put a cell there."""
    return not {"injected-parameters", "papermill-error-cell-tag"}.isdisjoint(cell["metadata"].get("tags", ()))


def _peak_mib() -> int:
    """Peak memory of the kernel, or of a process that it started and waited for, if that took more; it has ended."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))  # bytes there, KiB elsewhere


def _run_papermill(spec: dict[str, Any], stage: Path, events: TextIO) -> dict[str, Any]:
    from papermill import PapermillExecutionError, execute_notebook
    from papermill.engines import NBClientEngine, papermill_engines
    from traitlets.config import Config

    connection = Config()
    connection.KernelManager.connection_file = str((stage / "jupyter" / "runtime" / "kernel.json").resolve())

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            cells = len(nb_man.nb.cells)
            complete = nb_man.cell_complete
            _say(events, "cells", done=0, cells=cells)

            def tell(cell: Any, cell_index: int | None = None, **more: Any) -> None:
                if sys.exc_info()[0] is not None:  # papermill marks cells that raise, not those in which a kernel dies
                    nb_man.cell_exception(cell, cell_index=cell_index)
                complete(cell, cell_index=cell_index, **more)
                _say(events, "cells", done=(cell_index or 0) + 1, cells=cells)

            nb_man.cell_complete = tell
            return super().execute_managed_notebook(nb_man, kernel_name, config=connection, **options)

    papermill_engines.register("routellm_lab", Engine)
    try:
        execute_notebook(
            str(stage / SOURCE),
            str(stage / EXECUTED),
            parameters=spec["parameters"],
            engine_name="routellm_lab",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            start_timeout=KERNEL_START_SECONDS,
        )
    except PapermillExecutionError as error:
        return {
            "error": f"{error.ename}: {_first_line(error.evalue)}",
            "cell": _failed_cell(stage),
            "line": _raising_line(error.traceback, error.source),
        }
    return {}


def _failed_cell(stage: Path) -> int | None:
    """Number, from 1, of the cell that raised or in which the kernel died."""
    try:
        for number, cell in numbered_cells(stage / EXECUTED):
            if cell["metadata"].get("papermill", {}).get("exception") is True:
                return number
    except RoutellmLabError:  # the notebook's own code spoiled the file: then no cell can be named
        return None
    return None


def _raising_line(traceback: list[str], source: str) -> str:
    """The line of the cell that raised, from IPython's traceback (marked ``---->``)."""
    import re

    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback))
    arrows = re.findall(r"^-+> *\d+ (.*)$", plain, flags=re.MULTILINE)
    written = {line.strip() for line in source.splitlines()}
    return next((line.strip() for line in arrows if line.strip() in written), "")


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if lines else ""


def _use_this_interpreter(stage: Path) -> None:
    """Let the kernel ``python3`` be this interpreter, whatever kernels the user has installed under that name.

    ``JUPYTER_PATH`` is searched before the user's, the environment's and the system's kernels. Connection files and
    IPython's history stay in the stage as well, so that nothing is left elsewhere.
    """
    from ipykernel.kernelspec import write_kernel_spec

    private = (stage / "jupyter").resolve()
    (private / "runtime").mkdir(parents=True, exist_ok=True)
    (private / "ipython").mkdir(exist_ok=True)
    write_kernel_spec(str(private / "kernels" / "python3"))
    os.environ["JUPYTER_PATH"] = with_path_first("JUPYTER_PATH", private)
    os.environ["JUPYTER_RUNTIME_DIR"] = str(private / "runtime")
    os.environ["IPYTHONDIR"] = str(private / "ipython")


def _die_with_runner() -> None:
    import psutil

    while os.read(0, 1):
        pass
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(1)


def _say(events: TextIO, event: str, **values: Any) -> None:
    events.write(json.dumps({"event": event, **values}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

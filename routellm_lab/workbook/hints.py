"""What to run first, said below the error of a cell that needs a name of an earlier cell. An IPython extension.

`make lab` loads it into every kernel, and `routellm_lab.workbook.start` into the one that it runs in. In a run of the
runner it says nothing.
"""

import ast
import sys
from collections.abc import Iterable
from typing import Any

from routellm_lab.errors import RoutellmLabError
from routellm_lab.settings import settings
from routellm_lab.workbook.notebooks import Notebook, read_notebook


def load_ipython_extension(shell: Any) -> None:
    """Register the hint with an IPython shell; again does nothing."""
    shell.events.register("post_run_cell", _after_a_cell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the hint out again."""
    if _after_a_cell in shell.events.callbacks["post_run_cell"]:
        shell.events.unregister("post_run_cell", _after_a_cell)


def install() -> None:
    """Register the hint with the IPython shell of this process, where there is one."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive else None
    if shell is not None:
        load_ipython_extension(shell)


def names_made(notebook: Notebook) -> set[str]:
    """The names that the code cells of a notebook assign, import or define, at whatever depth.

    A cell that is not Python (such as one with a magic command) makes none.
    """
    made: set[str] = set()
    for cell in notebook.content["cells"]:
        if cell["cell_type"] != "code":
            continue
        try:
            nodes = list(ast.walk(ast.parse(cell["source"])))
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                made.add(node.id)
            elif isinstance(node, ast.alias):
                made.add(node.asname or node.name.split(".")[0])
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                made.add(node.name)
    return made


def hint(name: str, notebooks: Iterable[Notebook]) -> str:
    """What to do about a name that does not exist: empty where no cell of the notebooks makes it.

    Parameters
    ----------
    name : str
    notebooks : iterable of Notebook
        Those that the cell may belong to: a kernel does not know which one it serves.
    """
    if not any(name in names_made(notebook) for notebook in notebooks):
        return ""
    return (
        f"An earlier cell makes {name!r}, and it has not run in this kernel. Choose Run > Run All Above Selected Cell, "
        "then run this cell again."
    )


def _after_a_cell(result: Any) -> None:
    error = result.error_in_exec
    if not isinstance(error, NameError) or not error.name or settings().notebook is not None:
        return
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None or frame.tb_frame.f_globals.get("__name__") != "__main__":  # not in the cell, but in a library
        return
    said = hint(error.name, _notebooks())
    if said:
        print(said, file=sys.stderr)


def _notebooks() -> Iterable[Notebook]:
    for path in sorted(settings().notebooks_dir.glob("*.ipynb")):
        try:
            yield read_notebook(path)
        except RoutellmLabError:  # half saved, or no notebook: the error of the cell is what matters
            continue

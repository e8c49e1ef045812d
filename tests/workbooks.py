"""Small workbooks for tests of the runner."""

from collections.abc import Sequence
from pathlib import Path

import nbformat

PARAMETERS = "data: str = 'sample'\nprofile: str = 'quick'\nseed: int = 0"
START = "from routellm_lab.workbook import start\nrun = start('{name}', data=data, profile=profile, seed=seed)"


def write_notebook(
    root: Path,
    name: str,
    *cells: str,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
    parameters: str = PARAMETERS,
    text: str = "",
    session: bool = True,
    uses_trained: bool = False,
    minutes: float = 0,
) -> Path:
    """Write a notebook: a title, a parameters cell, `start` unless there is no `session`, and the given code cells."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "routellm_lab": {
            "reads": list(reads),
            "writes": list(writes),
            "question": f"What does {name} do?",
            "minutes": minutes,
        },
    }
    if uses_trained:
        notebook.metadata["routellm_lab"]["uses_trained"] = True
    notebook.cells = [
        nbformat.v4.new_markdown_cell(f"# Title of {name}\n\n{text}"),
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *(nbformat.v4.new_code_cell(source) for source in (*[START.format(name=name)][:session], *cells)),
    ]
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def executions(root: Path, name: str) -> int:
    """How often the cell `COUNT` of a notebook was executed."""
    counter = root / f"{name}.count"
    return len(counter.read_text()) if counter.is_file() else 0


def count(root: Path, name: str) -> str:
    """A cell that leaves a mark outside of the run each time it is executed."""
    return f"with open({str(root / (name + '.count'))!r}, 'a') as marks:\n    marks.write('x')"

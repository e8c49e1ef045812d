"""The hint below a NameError: said to a person who runs a cell out of order, and to no one else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from workbooks import write_notebook

import routellm_lab
from routellm_lab.errors import ParameterError
from routellm_lab.settings import settings
from routellm_lab.workbook import start
from routellm_lab.workbook.hints import hint, load_ipython_extension, names_made, unload_ipython_extension
from routellm_lab.workbook.notebooks import read_notebook

RUN_FIRST = "Run > Run All Above Selected Cell"


@pytest.fixture
def workbook(tmp_path, monkeypatch):
    """A workbook with one notebook, used by a person."""
    write_notebook(
        tmp_path, "01_a", "import numpy as np\nfor row in np.ones(3):\n    total: float = row", "%matplotlib"
    )
    monkeypatch.setenv("ROUTELLM_LAB_ROOT", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def shell():
    """An IPython shell with the extension loaded."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.user_module.__dict__["__name__"] = "__main__"
    load_ipython_extension(shell)
    load_ipython_extension(shell)
    yield shell
    unload_ipython_extension(shell)
    unload_ipython_extension(shell)
    InteractiveShell.clear_instance()


def test_names_of_a_notebook_are_those_that_its_cells_make(workbook):
    notebook = read_notebook(workbook / "notebooks" / "01_a.ipynb")
    assert names_made(notebook) == {"data", "profile", "seed", "start", "run", "np", "row", "total"}
    assert RUN_FIRST in hint("run", [notebook])
    assert hint("rum", [notebook]) == hint("print", [notebook]) == ""


def test_a_cell_run_out_of_order_says_once_what_to_run_first(workbook, shell, capsys):
    shell.run_cell("run.show(figure)")
    shown = capsys.readouterr()
    assert "NameError" in shown.out + shown.err
    assert shown.err.count(RUN_FIRST) == 1
    assert "'run'" in shown.err


@pytest.mark.parametrize(
    "cell",
    ["x = 1", "1 / 0", "misspelt", "import json\njson.loads.__globals__['np']", "exec('run', {'__name__': 'lib'})"],
)
def test_other_cells_say_nothing(workbook, shell, capsys, cell):
    shell.run_cell(cell)
    assert RUN_FIRST not in capsys.readouterr().err


def test_the_runner_says_nothing(workbook, shell, capsys, monkeypatch):
    monkeypatch.setenv("ROUTELLM_LAB_NOTEBOOK", "01_a")
    settings.cache_clear()
    shell.run_cell("run.show(figure)")
    assert RUN_FIRST not in capsys.readouterr().err


def test_notebooks_that_cannot_be_read_do_not_hide_the_error(workbook, shell, capsys):
    (workbook / "notebooks" / "00_broken.ipynb").write_text("{")
    shell.run_cell("print(run)")
    assert RUN_FIRST in capsys.readouterr().err


def test_a_kernel_with_the_settings_of_make_lab_gives_the_hint_before_start(workbook):
    code = (
        "from IPython.terminal.ipapp import TerminalIPythonApp as App\n"
        f"app = App.instance(); app.initialize({['--ext', 'routellm_lab.workbook.hints', '--no-banner']!r})\n"
        "app.shell.run_cell('run.show(figure)')"
    )
    checkout = str(Path(routellm_lab.__file__).parent.parent)
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={
            "PYTHONPATH": checkout,
            "ROUTELLM_LAB_ROOT": str(workbook),
            "HOME": str(workbook),
            "PATH": "/usr/bin:/bin",
        },
    )
    assert RUN_FIRST in ran.stderr


def test_make_lab_opens_the_root_and_loads_the_hint():
    root = Path(routellm_lab.__file__).parent.parent
    if not (root / "Makefile").is_file():
        pytest.skip("no checkout")
    recipe = (root / "Makefile").read_text().split("\nlab:")[1].split("\n\n")[0]
    assert "--ServerApp.root_dir=." in recipe
    assert "/lab/tree/notebooks/00_start_here.ipynb" in recipe
    written = next(line for line in recipe.splitlines() if "InteractiveShellApp" in line)
    kernel = json.loads(written.split("'")[1])
    assert kernel["InteractiveShellApp"]["extensions"] == ["routellm_lab.workbook.hints"]


def test_start_says_where_it_looked_for_a_notebook_and_what_to_do(workbook):
    with pytest.raises(ParameterError, match=r"nearest: .*01_a.*looked for my_experiment\.ipynb in .*notebooks: save"):
        start("my_experiment")
    with pytest.raises(ParameterError, match="whole name, got '01'; did you mean 01_a"):
        start("01")
    with pytest.raises(ParameterError, match=r"whole name, got .01_a\.ipynb.; did you mean 01_a"):
        start("01_a.ipynb")

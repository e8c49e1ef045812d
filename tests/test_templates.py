"""New notebooks and routers from templates."""

import subprocess
import sys

import pytest
from workbooks import write_notebook

from routellm_lab.errors import ParameterError
from routellm_lab.workbook import run_workbook
from routellm_lab.workbook.notebooks import discover
from routellm_lab.workbook.templates import new_notebook, new_router


def test_a_new_notebook_runs_at_once_and_keeps_the_rules(tmp_path, static_encoder):
    import test_notebooks as rules

    write_notebook(tmp_path, "01_a")
    path = new_notebook("22_my_question", tmp_path)
    notebook = discover(tmp_path)["22_my_question"]
    assert notebook.title == "My question"
    for rule in (
        rules.test_title_cell_asks_the_question_and_tells_goal_reads_writes_and_time,
        rules.test_one_parameters_cell_of_annotated_literals,
        rules.test_cells_are_short_and_so_is_the_notebook,
        rules.test_a_name_is_imported_where_it_is_first_used,
        rules.test_one_figure_per_cell,
        rules.test_code_that_only_formats_text_is_folded_and_left_out_of_pages,
        rules.test_plain_words,
        rules.test_closes_with_metrics_lessons_limits_and_things_to_try,
        rules.test_stripped,
    ):
        rule(notebook)
    assert path.read_text("utf-8").count("01_a.ipynb") == 1
    result = run_workbook(["22"], root=tmp_path)
    assert result.errors == {}
    assert result.metrics["22_my_question"]["apgr"] > 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_question", "two digits, an underscore and a name"),
        ("22_my/question", "two digits"),
        ("../22_a", "two digits"),
        ("01_b", "number 01 is taken by 01_a"),
    ],
)
def test_names_that_cannot_be_used_are_refused(tmp_path, name, message):
    write_notebook(tmp_path, "01_a")
    with pytest.raises(ParameterError, match=message):
        new_notebook(name, tmp_path)
    assert [path.stem for path in (tmp_path / "notebooks").iterdir()] == ["01_a"]


def test_the_router_template_runs_and_nothing_is_overwritten(tmp_path, static_encoder):
    path = new_router(tmp_path / "my_router.py")
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "against prompt length" in done.stdout
    with pytest.raises(ParameterError, match="exists: choose another name"):
        new_router(path)
    with pytest.raises(ParameterError, match="a name that can be imported"):
        new_router(tmp_path / "my-router.py")

"""The notebooks: stripped, of one anatomy, and whole when run."""

import ast
import json
import os
import re
from pathlib import Path

import pytest

import routellm_lab
from routellm_lab.workbook import run_workbook
from routellm_lab.workbook.notebooks import STANDARD_PARAMETERS, Notebook, needs, read_notebook

ROOT = Path(routellm_lab.__file__).parent.parent
NOTEBOOKS = {path.stem: read_notebook(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
ARTIFACTS = {artifact for notebook in NOTEBOOKS.values() for artifact in notebook.writes}
CLOSING_CELLS = 10
MAX_CELL_LINES = 15
MAX_CODE_LINES = 180
ODD_WORDS = (
    r"\b(told|surely|so many|foretells?|that which|luck of|lucky|one's own|of those that|dear(er|est)?|thrice|endless|"
    r"aloud|whence|hardly ever|as it is, )\b"
)
HEADINGS = ("What we learned", "Limits", "Things to try")
each = pytest.mark.parametrize("notebook", NOTEBOOKS.values(), ids=NOTEBOOKS)


def cells(notebook: Notebook, kind: str, *, tag: str | None = None) -> list[dict]:
    found = [cell for cell in notebook.content["cells"] if cell["cell_type"] == kind]
    return [cell for cell in found if tag is None or tag in cell["metadata"].get("tags", ())]


def title_table(notebook: Notebook) -> dict[str, str]:
    """The table in the first cell, by its words goal, reads, writes and time, in rows or in columns."""
    lines = [line for line in notebook.content["cells"][0]["source"].splitlines() if line.startswith("|")]
    rows = [[part.strip() for part in re.split(r"(?<!\\)\|", line.strip("| "))] for line in lines]
    rows = [row for row in rows if not all(re.fullmatch(r":?-+:?", part) for part in row if part)]
    plain = [[part.strip("*").lower() for part in row] for row in rows]
    if plain and {"goal", "time"} <= set(plain[0]):
        return dict(zip(plain[0], rows[1], strict=True))
    return {words[0]: row[1] for words, row in zip(plain, rows, strict=True) if len(row) > 1}


def test_the_first_eight_notebooks_are_there_and_depend_on_each_other_soundly():
    assert [name[:2] for name in NOTEBOOKS][:8] == [f"{number:02}" for number in range(8)]
    assert set(needs(NOTEBOOKS)) == set(NOTEBOOKS)


@each
def test_stripped(notebook):
    for number, cell in enumerate(cells(notebook, "code"), start=1):
        assert cell["outputs"] == [], f"code cell {number} has outputs"
        assert cell["execution_count"] is None, f"code cell {number} has an execution count"


@each
def test_runs_on_any_machine(notebook):
    kernel = notebook.content["metadata"]["kernelspec"]
    assert (kernel["name"], kernel["language"]) == ("python3", "python")
    assert notebook.content["nbformat_minor"] >= 5
    text = json.dumps(notebook.content)
    assert not re.search(r"/(work|home|Users|root|tmp)/", text)


@each
def test_title_cell_asks_the_question_and_tells_goal_reads_writes_and_time(notebook):
    first = notebook.content["cells"][0]
    assert first["cell_type"] == "markdown"
    assert first["source"].startswith("# ")
    assert notebook.question.endswith("?")
    assert notebook.question in first["source"].replace("\n", " ")
    table = title_table(notebook)
    assert {"goal", "reads", "writes", "time"} <= set(table)
    for word, declared in (("reads", notebook.reads), ("writes", notebook.writes)):
        named = set(re.findall(r"`([^`]+)`", table[word])) & ARTIFACTS
        assert named == set(declared), word
    assert notebook.minutes > 0


@each
def test_one_parameters_cell_of_annotated_literals(notebook):
    (cell,) = cells(notebook, "code", tag="parameters")
    for line in ast.parse(cell["source"]).body:
        assert isinstance(line, ast.AnnAssign), ast.unparse(line)
        ast.literal_eval(line.value)
    assert set(STANDARD_PARAMETERS) <= set(notebook.parameters)
    assert (notebook.parameters["strong"].default, notebook.parameters["weak"].default) == ("", "")
    assert notebook.parameters["data"].default == "sample"
    for parameter in notebook.parameters.values():
        parameter.check(parameter.default, notebook.name)


@each
def test_cells_are_short_and_so_is_the_notebook(notebook):
    code = cells(notebook, "code")
    lines = [cell["source"].splitlines() for cell in code]
    assert ["\n".join(cell) for cell in lines if len(cell) > MAX_CELL_LINES] == []
    assert sum(bool(line.strip()) for cell in lines for line in cell) <= MAX_CODE_LINES


@each
def test_a_name_is_imported_where_it_is_first_used(notebook):
    for cell in cells(notebook, "code"):
        tree = ast.parse(cell["source"])
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        imported = {alias.asname or alias.name.split(".")[0] for node in imports for alias in node.names}
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert imported <= used, f"{sorted(imported - used)} in {cell['source']}"


@each
def test_one_figure_per_cell(notebook):
    for cell in cells(notebook, "code"):
        assert cell["source"].count("run.show(") <= 1, cell["source"]
        loops = [node for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, ast.For | ast.While)]
        assert not any("run.show(" in ast.unparse(loop) for loop in loops), cell["source"]


@each
def test_code_that_only_formats_text_is_folded_and_left_out_of_pages(notebook):
    for cell in cells(notebook, "code"):
        hidden = "remove-input" in cell["metadata"].get("tags", ())
        assert cell["metadata"].get("jupyter", {}).get("source_hidden", False) == hidden
        assert hidden or "run.conclude(" not in cell["source"]
        assert "hide-input" not in cell["metadata"].get("tags", ())


@each
def test_ends_in_a_decision_and_leads_on(notebook):
    assert sum(cell["source"].count("run.conclude(") for cell in cells(notebook, "code")) == 1
    assert notebook.content["cells"][-1]["source"].splitlines()[-1] == navigation(notebook)


def navigation(notebook: Notebook) -> str:
    """The last line of a notebook: its neighbours, the report and the glossary."""
    names = list(NOTEBOOKS)
    at = names.index(notebook.name)
    before, after = names[at - 1 : at] if at else [], names[at + 1 : at + 2]
    links = [f"[← {name.replace('_', ' ')}]({name}.ipynb)" for name in before]
    links += [f"[{name.replace('_', ' ')} →]({name}.ipynb)" for name in after]
    return " · ".join([*links, "[report](../data/runs/latest/report.html)", "[glossary](glossary.md)"])


@each
def test_plain_words(notebook):
    for cell in notebook.content["cells"]:
        text = cell["source"]
        if cell["cell_type"] == "code":
            strings = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
            text = "\n".join(value for value in strings if isinstance(value, str))
        assert not re.search(ODD_WORDS, text, flags=re.IGNORECASE), text


@each
def test_functions_and_classes_only_where_they_are_the_lesson(notebook):
    lesson = {cell["source"] for cell in cells(notebook, "code", tag="lesson")}
    for cell in cells(notebook, "code"):
        if cell["source"] in lesson:
            continue
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert not [node.name for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, defined)]


@each
def test_closes_with_metrics_lessons_limits_and_things_to_try(notebook):
    assert any(
        "run.record(" in cell["source"]
        for cell in notebook.content["cells"][-CLOSING_CELLS:]
        if cell["cell_type"] == "code"
    )
    closing = "\n".join(cell["source"] for cell in notebook.content["cells"][-CLOSING_CELLS:])
    for heading in HEADINGS:
        assert re.search(rf"^#+ {heading}", closing, flags=re.MULTILINE), heading


@each
def test_names_from_data_are_shown_as_they_are_where_a_notebook_writes_markdown(notebook):
    names = r"\{(pair|used|top|bottom|winner|leader|best|\w+\.pair_used_|pair\.(strong|weak)|row\['benchmark'\])\}"
    for cell in cells(notebook, "code"):
        if "Markdown(" in cell["source"]:
            assert not re.search(names, cell["source"]), cell["source"]


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    """The whole workbook, quick, on the sample; encoders come from the checkout's cache."""
    root = tmp_path_factory.mktemp("workbook")
    (root / "notebooks").symlink_to(ROOT / "notebooks")
    (root / "data").mkdir()
    cache = Path(os.environ.get("ROUTELLM_LAB_CACHE", ROOT / "data" / "cache"))
    cache.mkdir(parents=True, exist_ok=True)
    (root / "data" / "cache").symlink_to(cache)
    return run_workbook(root=root, jobs=2)


def test_the_whole_workbook_runs_quick_on_the_sample(quick_run):
    assert quick_run.errors == {}
    assert quick_run.status == dict.fromkeys(NOTEBOOKS, "done")
    for name in NOTEBOOKS:
        assert quick_run.metrics[name], f"{name} recorded no metrics"
        assert (quick_run.folder / "html" / f"{name}.html").stat().st_size > 0
        assert (quick_run.folder / "notebooks" / f"{name}.ipynb").is_file()
    assert quick_run.report.is_file()


def test_every_figure_of_the_run_says_that_it_is_simulated(quick_run):
    figures = sorted(quick_run.run.figures.glob("*.png"))
    assert figures
    for figure in figures:
        sidecar = json.loads(figure.with_suffix(".json").read_text())
        assert sidecar["simulated"] is True
        assert sidecar["title"]

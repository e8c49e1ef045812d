"""Files that anybody may have written (manifests, indexes, notebooks, sidecars) never lead out of the workbook."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from workbooks import write_notebook

from routellm_lab.cli import app
from routellm_lab.errors import DataError, NotebookError, ParameterError, RoutellmLabError
from routellm_lab.files import inside, read_json, require_real
from routellm_lab.settings import settings
from routellm_lab.workbook import run_workbook, runs, start, trained_routers
from routellm_lab.workbook.hashing import trained_index
from routellm_lab.workbook.notebooks import discover
from routellm_lab.workbook.report import build_report, copy_gallery, slowest_cells
from routellm_lab.workbook.trained import _read_index

FIGURE = "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\nrun.show(figure, 'empty')"
DEEP = "[" * 200_000
NAMES = ["../../../../precious", "/precious", "..", ".", "", "a/b", "a\x00b", "a" * 5_000, ".hidden", "ä" * 199, "a\nb"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workbook with one complete run."""
    root = tmp_path_factory.mktemp("made")
    write_notebook(root, "01_a", "run.path('a.json').write_text('1')", FIGURE, "run.record(one=1)", writes=["a.json"])
    write_notebook(root, "02_b", "run.record(two=run.read('a.json').read_text())", reads=["a.json"])
    assert run_workbook(root=root, run_id="mine").ok
    return root


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A copy of that workbook, with something precious beside it."""
    root = tmp_path / "workbook"
    shutil.copytree(made, root, symlinks=True)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a.json").write_text("keep me")
    monkeypatch.setenv("ROUTELLM_LAB_ROOT", str(root))
    settings.cache_clear()
    yield root
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture(autouse=True)
def precious_stays(request):
    """Whatever a test does, what lies outside of the workbook is still there."""
    if "root" not in request.fixturenames:
        yield
        return
    root = request.getfixturevalue("root")
    yield
    assert (root.parent / "precious" / "a.json").read_text() == "keep me"
    assert sorted(path.name for path in root.parent.iterdir()) == ["precious", "workbook"]


def edit(root: Path, *keys: object, value: object) -> Path:
    """Set one value of the run's manifest; the manifest's path."""
    path = root / "data" / "runs" / "mine" / "manifest.json"
    manifest = json.loads(path.read_text())
    place = manifest
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(manifest))
    return path


def call(*arguments: str):
    """Call the command line; anything but the package's own errors is raised."""
    try:
        return CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    except RoutellmLabError as error:
        return error


# ---------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", [*NAMES, None, 3, ["a"]])
def test_a_name_from_a_file_makes_a_path_in_its_folder_or_is_refused(tmp_path, name):
    with pytest.raises(DataError):
        inside(tmp_path, name)
    assert inside(tmp_path, "arena+gold") == tmp_path / "arena+gold"


@given(st.text())
def test_no_text_leads_out_of_a_folder(name):
    folder = Path("/nowhere/at-all")
    with contextlib.suppress(DataError):
        assert inside(folder, name).parent == folder


def test_links_and_special_files_are_refused_at_any_depth(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    require_real(tmp_path / "real")
    require_real(tmp_path / "nothing")
    (tmp_path / "real" / "deep" / "link").symlink_to("/etc")
    with pytest.raises(DataError, match=r"deep/link: is a link, which is never followed"):
        require_real(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: is a special file"):
        read_json(tmp_path / "pipe")


@pytest.mark.parametrize("text", ["", "{", DEEP, '{"a": 1e999}x', "\xff"])
def test_what_is_no_json_is_named(tmp_path, text):
    (tmp_path / "odd.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"odd\.json: not JSON"):
        read_json(tmp_path / "odd.json")


# ------------------------------------------------------------------------------------------------------ manifests

ENTRY = ("notebooks", "01_a")
ODD = {
    "no object": ((), []),
    "a notebook without a name": (("notebooks", "../../x"), {"status": "pending", "title": "", "question": ""}),
    "a notebook that is no object": (ENTRY, 3),
    "an unknown status": ((*ENTRY, "status"), "won"),
    "metrics that are no numbers": ((*ENTRY, "metrics"), {"one": {"two": 3}}),
    "seconds that are no number": ((*ENTRY, "seconds"), "soon"),
    "memory that is no number": ((*ENTRY, "peak_mib"), 1.5),
    "a title that is no text": ((*ENTRY, "title"), None),
    "a source that is no run": ((*ENTRY, "reused_from"), "../mine"),
    "data without a name": (("data",), {"kind": "sample", "hash": "sample"}),
    "a seed that is no number": (("seed",), "0"),
    "versions that are no object": (("versions",), ["3.11"]),
    "no time": (("started",), 3),
    **{f"an artifact called {name[:30]!r}": ((*ENTRY, "artifacts"), {name: "x"}) for name in NAMES},
    **{f"a figure called {name[:30]!r}": ((*ENTRY, "figures"), {name: "x"}) for name in NAMES},
}


@pytest.mark.parametrize(("keys", "value"), ODD.values(), ids=ODD)
def test_an_odd_manifest_is_named_and_its_run_left_aside(root, keys, value):
    path = edit(root, *keys, value=value) if keys else root / "data" / "runs" / "mine" / "manifest.json"
    if not keys:
        path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"mine/manifest\.json: not what this program writes"):
        runs.load_run(path.parent)
    left_aside: list[str] = []
    assert runs.all_runs(path.parent.parent, left_aside) == []
    assert len(left_aside) == 1
    for command in (["status"], ["report"], ["status", "mine"], ["run", "--run-id", "mine"]):
        assert "manifest.json" in str(call(*command))


def test_a_run_beside_an_odd_one_is_made_and_removes_nothing(root, capsys):
    edit(root, *ENTRY, "artifacts", value={"../../../../../precious": "x", "a.json": "x"})
    edit(root, *ENTRY, "status", value="pending")
    result = run_workbook(root=root)
    assert result.status == {"01_a": "done", "02_b": "done"}
    assert result.run_id != "mine"
    assert "Left aside: " in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", DEEP, "[" * 50 + "]" * 50, "nul"])
def test_a_manifest_that_is_no_json_is_left_aside(root, text):
    (root / "data" / "runs" / "mine" / "manifest.json").write_text(text)
    assert isinstance(call("status"), DataError)
    left_aside: list[str] = []
    assert runs.all_runs(root / "data" / "runs", left_aside) == []
    assert "mine/manifest.json" in left_aside[0]


def test_a_notebook_that_the_workbook_does_not_have_is_reported_and_not_run(root):
    other = {"status": "pending", "title": "Of another workbook", "question": ""}
    edit(root, "notebooks", "77_other", value=other)
    assert "77_other" in call("status").output
    result = run_workbook(root=root, run_id="mine")
    assert set(result.status) == {"01_a", "02_b"}


@pytest.mark.parametrize("part", ["artifacts", "figures", "html", "notebooks", "manifest.json", "report.html", ".lock"])
def test_a_part_of_a_run_that_is_a_link_is_not_followed(root, part):
    path = root / "data" / "runs" / "mine" / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(root.parent / "precious")
    for command in (["status"], ["report"], ["run", "--run-id", "mine"]):
        assert f"{part}: is a link" in str(call(*command))


def test_a_linked_artifact_is_not_taken_over_nor_written_through(root):
    artifact = root / "data" / "runs" / "mine" / "artifacts" / "a.json"
    artifact.unlink()
    artifact.symlink_to(root.parent / "precious" / "a.json")
    assert run_workbook(["01"], root=root).status == {"01_a": "done"}
    with pytest.raises(DataError, match=r"a\.json: is a link"):
        run_workbook(root=root, run_id="mine")


def test_a_router_behind_a_link_is_not_loaded(root):
    artifacts = root / "data" / "runs" / "mine" / "artifacts"
    (artifacts / "matrix_factorization").symlink_to(root.parent / "precious")
    assert "matrix_factorization: is a link" in str(call("route", "Hello"))
    shutil.rmtree(artifacts)
    artifacts.symlink_to(root.parent / "precious")
    assert "artifacts: is a link" in str(call("route", "Hello"))


def test_a_linked_folder_of_work_and_a_pipe_in_a_run_are_refused(root):
    folder = root / "data" / "runs" / "mine"
    (folder / ".work").symlink_to(root.parent / "precious")
    with pytest.raises(DataError, match=r"\.work: is a link"):
        run_workbook(root=root, run_id="mine")
    (folder / ".work").unlink()
    os.mkfifo(folder / "artifacts" / "pipe.html")
    with pytest.raises(DataError, match=r"pipe\.html: is a special file"):
        run_workbook(root=root, run_id="mine")
    done = call("report", "mine")
    assert "pipe.html" in done.stderr
    assert "pipe.html: is a special file" in (folder / "report.html").read_text()
    assert str(root) not in (folder / "report.html").read_text()


@pytest.mark.parametrize("target", ["../../../precious", "/etc", "..", ".", "mine/artifacts", "nothing"])
def test_latest_leads_to_a_run_or_nowhere(root, target):
    latest = root / "data" / "runs" / "latest"
    latest.unlink()
    latest.symlink_to(target)
    for command in (["status"], ["report"], ["route", "Hello"]):
        assert isinstance(call(*command), RoutellmLabError)
    with pytest.raises(RoutellmLabError, match="is not there: run 01_a first"):
        start("02_b").read("a.json")
    runs.point_latest(root / "data" / "runs" / "mine")
    assert runs.get_run().id == "mine"


@pytest.mark.parametrize("run_id", ["../../../precious", "/etc", "..", "a/b", ".work"])
def test_a_run_that_a_user_names_is_one_of_the_workbook(root, run_id):
    for command in ("status", "report"):
        assert isinstance(call(command, run_id), ParameterError)


# ------------------------------------------------------------------------------- notebooks, sidecars, trained.json


@pytest.mark.parametrize("key", ["reads", "writes"])
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_declares_plain_names(tmp_path, key, name):
    write_notebook(tmp_path, "01_a", **{key: [name]})
    with pytest.raises(NotebookError, match=rf"01_a\.ipynb: metadata routellm_lab\.{key}: artifact name"):
        discover(tmp_path)


NOTEBOOK = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
CELL = {"cell_type": "code", "source": "1", "metadata": {}, "outputs": []}
ODD_NOTEBOOKS = {
    "nothing": "",
    "nested too deeply": DEEP,
    "no cells": json.dumps(NOTEBOOK),
    "cells that are no list": json.dumps(NOTEBOOK | {"cells": {}}),
    "a cell that is a number": json.dumps(NOTEBOOK | {"cells": [3]}),
    "a cell without a source": json.dumps(NOTEBOOK | {"cells": [{"cell_type": "code", "metadata": {}}]}),
    "a source that is a number": json.dumps(NOTEBOOK | {"cells": [CELL | {"source": 3}]}),
    "tags that are no list": json.dumps(NOTEBOOK | {"cells": [CELL | {"metadata": {"tags": "parameters"}}]}),
    "a duration that is no object": json.dumps(NOTEBOOK | {"cells": [CELL | {"metadata": {"papermill": 3}}]}),
    "metadata that is no object": json.dumps(NOTEBOOK | {"cells": [], "metadata": 3}),
}


@pytest.mark.parametrize("text", ODD_NOTEBOOKS.values(), ids=ODD_NOTEBOOKS)
def test_an_odd_notebook_is_named_and_an_odd_executed_copy_left_aside(root, text):
    executed = root / "data" / "runs" / "mine" / "notebooks" / "01_a.ipynb"
    executed.write_text(text)
    for command in ("status", "report"):
        done = call(command)
        assert done.exit_code == 0
        assert "Left aside: " in done.stderr
        assert "01_a.ipynb" in done.stderr
    (root / "notebooks" / "01_a.ipynb").write_text(text)
    with pytest.raises(NotebookError, match=r"01_a\.ipynb: "):
        run_workbook(root=root)


def test_odd_durations_in_an_executed_copy_are_not_counted(root):
    executed = root / "data" / "runs" / "mine" / "notebooks" / "01_a.ipynb"
    for duration in ('"long"', "NaN", "-1", "1e999", "[]"):
        cell = CELL | {"metadata": {"papermill": {"duration": "?"}}}
        executed.write_text(json.dumps(NOTEBOOK | {"cells": [cell]}).replace('"?"', duration))
        assert not [cell for cell in slowest_cells(runs.get_run("mine")) if cell["notebook"] == "01_a"]


def test_a_pipe_among_the_notebooks_is_named(tmp_path):
    (tmp_path / "notebooks").mkdir()
    os.mkfifo(tmp_path / "notebooks" / "01_a.ipynb")
    with pytest.raises(NotebookError, match=r"01_a\.ipynb: cannot be read: there is no regular file"):
        discover(tmp_path)


SIDECAR = {"notebook": "01_a", "run": "mine", "data": "sample", "simulated": True, "profile": "quick", "seed": 0}
ODD_SIDECARS = ["", DEEP, "3", "{}", json.dumps(SIDECAR | {"name": "../x", "title": "t"}), json.dumps({"notebook": []})]


@pytest.mark.parametrize("text", ODD_SIDECARS)
def test_an_odd_sidecar_is_left_aside_in_the_report_and_refused_in_a_gallery(root, tmp_path, text):
    folder = root / "data" / "runs" / "mine"
    (folder / "figures" / "empty.json").write_text(text)
    done = call("report")
    assert done.exit_code == 0
    assert "empty.json" in done.stderr
    assert "figures/empty.png" not in (folder / "report.html").read_text()
    with pytest.raises(ParameterError, match="has no figures"):
        copy_gallery(runs.get_run("mine"), root / "gallery")


def test_a_gallery_with_an_odd_sidecar_is_refused_before_anything_is_removed(root):
    gallery = root / "gallery"
    copy_gallery(runs.get_run("mine"), gallery)
    (gallery / "zebra.png").write_bytes(b"mine")
    (gallery / "zebra.json").write_text(DEEP)
    before = sorted(gallery.iterdir())
    with pytest.raises(DataError, match=r"zebra\.json: not JSON"):
        copy_gallery(runs.get_run("mine"), gallery)
    assert sorted(gallery.iterdir()) == before


@pytest.mark.parametrize("text", ["", DEEP, "3", "[]", '{"arena/bert": 3}', '{"arena/bert": {"hash": 1}}'])
def test_an_odd_index_of_trained_routers_is_named(root, text):
    index = trained_index(root, "sample")
    index.parent.mkdir(parents=True)
    index.write_text(text)
    with pytest.raises(RoutellmLabError, match=r"trained\.json: damaged; remove it to train anew"):
        trained_routers("sample", {})
    index.unlink()
    index.symlink_to(root.parent / "precious" / "a.json")
    with pytest.raises(RoutellmLabError, match=r"trained\.json: damaged.*is a link"):
        trained_routers("sample", {})


# -------------------------------------------------------------------------------------------------------- fuzzing


def places(value: object, at: tuple = ()) -> list[tuple]:
    """The keys that lead to each value inside of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, inner in items for place in places(inner, (*at, key)))]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text() | st.sampled_from(NAMES), inner, max_size=2),
    max_leaves=4,
)
FEW = hypothesis_settings(max_examples=300)
MANY = hypothesis_settings(max_examples=2_000)
SLOW = hypothesis_settings(max_examples=150)  # a report is built each time


def fuzzed(made, folders):
    """A copy of the run that is written to again and again."""
    folder = folders.getbasetemp() / "fuzzed" / "mine"
    if not folder.exists():
        shutil.copytree(made / "data" / "runs" / "mine", folder)
    return folder


def mutated(text, data):
    """A JSON text with any value at any place."""
    value = json.loads(text)
    *keys, last = data.draw(st.sampled_from(places(value)[1:]))
    place = value
    for key in keys:
        place = place[key]
    place[last] = data.draw(ANYTHING)
    return json.dumps(value)


def used_or_named(made, folders, data):
    folder = fuzzed(made, folders)
    (folder / "manifest.json").write_text(mutated((made / "data/runs/mine/manifest.json").read_text(), data))
    left_aside: list[str] = []
    for run in runs.all_runs(folder.parent, left_aside):
        build_report(run)
        assert run.same_settings(run.manifest)
        for entry in run.entries.values():
            for kind in ("artifacts", "figures"):
                for file in entry.get(kind, ()):
                    assert inside(folder / kind, file).parent == folder / kind
    assert all("manifest.json" in words for words in left_aside)


@FEW
@given(st.data())
def test_a_manifest_with_any_value_anywhere_is_used_or_named(made, tmp_path_factory, data):
    used_or_named(made, tmp_path_factory, data)


@pytest.mark.slow
@MANY
@given(st.data())
def test_thousands_of_manifests(made, tmp_path_factory, data):
    used_or_named(made, tmp_path_factory, data)


@pytest.mark.slow
@SLOW
@given(st.data())
@pytest.mark.parametrize("file", ["notebooks/01_a.ipynb", "figures/empty.json"])
def test_odd_values_anywhere_in_executed_notebooks_and_sidecars(made, tmp_path_factory, file, data):
    folder, whole = fuzzed(made, tmp_path_factory), made / "data" / "runs" / "mine"
    shutil.copy(whole / "manifest.json", folder)
    (folder / file).write_text(mutated((whole / file).read_text(), data))
    try:
        run = runs.all_runs(folder.parent, [])[0]
        build_report(run)
        slowest_cells(run)
        assert "<script>alert" not in (folder / "report.html").read_text()
    finally:
        shutil.copy(whole / file, folder / file)


@pytest.mark.slow
@MANY
@given(st.data())
def test_thousands_of_indexes_of_trained_routers(made, tmp_path_factory, data):
    root = tmp_path_factory.getbasetemp() / "index"
    index = trained_index(root, "sample")
    index.parent.mkdir(parents=True, exist_ok=True)
    entry = {"hash": "0", "votes_hash": "0", "seconds": 1.5, "prompts": 3, "votes": 4, "held_out_loss": 0.5}
    index.write_text(mutated(json.dumps({"decoder": entry, "arena/bert/0": entry}), data))
    with contextlib.suppress(RoutellmLabError):
        assert all(isinstance(entry["hash"], str) for entry in _read_index(index).values())

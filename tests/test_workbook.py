"""The workbook: plan, run, skip, resume, fail and report, on small notebooks."""

import copy
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbooks import PARAMETERS, count, executions, write_notebook

from routellm_lab import files, load_battles
from routellm_lab.errors import NotebookError, ParameterError, RoutellmLabError
from routellm_lab.settings import settings
from routellm_lab.workbook import run_workbook, runner, runs, start
from routellm_lab.workbook.hashing import data_identity, input_hashes, same_data, trained_index
from routellm_lab.workbook.metrics import METRICS_MIME, clean_metrics
from routellm_lab.workbook.notebooks import assign, discover, find, needs, plain, select
from routellm_lab.workbook.pages import mathml
from routellm_lab.workbook.report import build_report, copy_gallery, slowest_cells

FIGURE = (
    "import matplotlib.pyplot as plt\n"
    "figure, axes = plt.subplots()\naxes.plot([1, 2])\naxes.set_title('It grows')\nrun.show(figure, 'growth')"
)
EQUATION = r"Inline $x^2$ and block $$\sum_i \frac{1}{2}$$ and a [neighbour](02_first.ipynb)."
HOARD_MIB = 300
HOARD = f"hoard = b'x' * ({HOARD_MIB} << 20)\ndel hoard"
DEADLINE = 60


def until(true, seconds: float = DEADLINE) -> bool:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    for name in ("DATA", "ROOT", "RUN_DIR", "CACHE"):
        monkeypatch.delenv(f"ROUTELLM_LAB_{name}", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


# ------------------------------------------------------------------------------------------------------ a whole run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Root and result of a run whose first notebook by number reads what its second writes."""
    root = tmp_path_factory.mktemp("whole")
    reads_it = ("import os, sys", "value = int(run.read('seeds.json').read_text())")
    metrics = "run.record(value=value, draw=run.rng.random(), where=os.getcwd() == str(run.notebook.path), none=None)"
    told = (
        "from ipykernel import get_connection_file\n"
        "run.record(interpreter=sys.executable, offline=os.environ.get('HF_HUB_OFFLINE'))\n"
        "run.record(connection_in_stage=str(run.stage) in get_connection_file())"
    )
    write_notebook(
        root, "01_last", *reads_it, metrics, told, count(root, "01_last"), reads=["seeds.json"], text=EQUATION
    )
    write_notebook(
        root,
        "02_first",
        "run.path('seeds.json').write_text(str(seed + size))",
        FIGURE,
        HOARD,
        count(root, "02_first"),
        writes=["seeds.json"],
        parameters=PARAMETERS + "\nsize: int = 3",
    )
    # a kernel of the user's own under the name that notebooks ask for
    foreign = root / "user" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "not ours", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(root / "user"))
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
        result = run_workbook(root=root, parameters={"size": 4}, seed=7, run_id="whole")
    return root, result


def test_notebooks_run_in_the_order_of_what_they_read(whole):
    _, result = whole
    assert result.ok
    assert result.status == {"01_last": "done", "02_first": "done"}
    assert result.metrics["01_last"]["value"] == 11  # seed + size, written by 02_first


def test_the_kernel_is_this_interpreter_whatever_the_user_installed(whole):
    assert whole[1].metrics["01_last"]["interpreter"] == sys.executable


def test_the_file_that_says_how_to_reach_the_kernel_lies_in_its_stage(whole):
    assert whole[1].metrics["01_last"]["connection_in_stage"] is True


def test_notebooks_are_offline_unless_the_data_is_the_hub(whole):
    assert whole[1].metrics["01_last"]["offline"] == "1"


def test_a_run_leaves_exactly_what_it_promises(whole):
    root, result = whole
    found = sorted(str(path.relative_to(result.folder)) for path in result.folder.rglob("*") if path.is_file())
    assert found == [
        ".lock",
        "artifacts/seeds.json",
        "figures/growth.json",
        "figures/growth.png",
        "html/01_last.html",
        "html/02_first.html",
        "manifest.json",
        "metrics.json",
        "notebooks/01_last.ipynb",
        "notebooks/02_first.ipynb",
        "report.html",
    ]
    assert (root / "data" / "runs" / "latest").resolve() == result.folder


def test_manifest_says_what_was_run(whole):
    root, result = whole
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["data"] == {"name": "sample", "kind": "sample", "hash": "sample"}
    assert (manifest["profile"], manifest["seed"], manifest["parameters"]) == ("quick", 7, {"size": 4})
    assert manifest["versions"]["python"].startswith("3.")
    first, last = manifest["notebooks"]["02_first"], manifest["notebooks"]["01_last"]
    assert first["parameters"] == {"size": 4, "seed": 7, "profile": "quick"}
    assert last["inputs"] == first["artifacts"]
    assert first["seconds"] > 0
    assert str(root) not in json.dumps(manifest)


def test_manifest_and_report_say_what_a_notebook_cost(whole):
    entries, page = whole[1].run.entries, whole[1].report.read_text()
    assert entries["02_first"]["peak_mib"] > HOARD_MIB + entries["01_last"]["peak_mib"] / 2
    assert f"{entries['02_first']['peak_mib']:,}</td>" in page
    slowest = slowest_cells(whole[1].run, most=100)
    assert [cell["seconds"] for cell in slowest] == sorted((cell["seconds"] for cell in slowest), reverse=True)
    starts = next(cell for cell in slowest if cell["notebook"] == "01_last" and cell["cell"] == 3)
    assert (starts["heading"], starts["code"]) == ("Title of 01_last", "from routellm_lab.workbook import start")
    assert "Slowest cells" in page
    assert '<a href="html/01_last.html">01_last</a></td>\n<td>3</td>' in page


def test_what_a_run_cost_is_no_metric(whole):
    text = (whole[1].folder / "metrics.json").read_text()
    assert "seconds" not in text
    assert "peak_mib" not in text


def test_cells_are_numbered_as_in_the_source_and_sorted_by_their_seconds(tmp_path):
    def code(source, seconds, *tags):
        return nbformat.v4.new_code_cell(source, metadata={"papermill": {"duration": seconds}, "tags": list(tags)})

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# Title\n\nWords.\n\n## Set-up"),
        code("a: int = 1", 0.04, "parameters"),
        code("a = 2", 9.0, "injected-parameters"),
        code("import this\nthis", 1.26),
        nbformat.v4.new_markdown_cell("No heading."),
        code("never_run", None),
        nbformat.v4.new_markdown_cell("## Work"),
        code("\nwork()", 3.0),
    ]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "01_done.ipynb")
    run = runs.Run(tmp_path, {"notebooks": {"01_done": {}, "02_pending": {}}})
    assert [tuple(cell.values()) for cell in slowest_cells(run)] == [
        ("01_done", 7, "Work", "work()", 3.0),
        ("01_done", 3, "Set-up", "import this", 1.3),
        ("01_done", 2, "Set-up", "a: int = 1", 0.0),
    ]
    assert len(slowest_cells(run, most=1)) == 1


def test_metrics_file_holds_metrics_only(whole):
    root, result = whole
    text = (result.folder / "metrics.json").read_text()
    assert json.loads(text) == result.metrics
    assert list(json.loads(text)["01_last"]) == sorted(result.metrics["01_last"])
    assert str(root) not in text
    assert "whole" not in text


def test_executed_copy_holds_the_metrics_in_an_output(whole):
    notebook = nbformat.read(whole[1].folder / "notebooks" / "01_last.ipynb", as_version=4)
    outputs = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert any(METRICS_MIME in data and "text/html" in data for data in outputs)


def test_sidecar_says_where_a_figure_comes_from(whole):
    _, result = whole
    sidecar = json.loads((result.folder / "figures" / "growth.json").read_text())
    assert sidecar == {
        "name": "growth",
        "title": "It grows",
        "notebook": "02_first",
        "run": "whole",
        "data": "sample",
        "simulated": True,
        "profile": "quick",
        "seed": 7,
    }


def test_pages_load_nothing_from_the_network(whole):
    pages = [*(whole[1].folder / "html").glob("*.html"), whole[1].report]
    assert len(pages) == 3
    for page in pages:
        text = page.read_text()
        assert 'src="http' not in text
        assert "import(" not in text
        assert "cdnjs" not in text


def test_equations_and_links_to_neighbours_work_in_pages(whole):
    text = (whole[1].folder / "html" / "01_last.html").read_text()
    assert text.count("<math") == 2
    assert 'href="02_first.html"' in text


def test_report_shows_notebooks_metrics_and_figures_and_says_simulated(whole):
    text = whole[1].report.read_text()
    for expected in ("Title of 01_last", "What does 02_first do?", "figures/growth.png", "It grows", "draw"):
        assert expected in text
    assert "Simulated data." in text
    assert "prefers-color-scheme: dark" in text


def test_an_unchanged_run_is_taken_over_and_a_fresh_one_gives_the_same_bytes(whole):
    root, result = whole
    before = executions(root, "01_last")
    again = run_workbook(root=root, parameters={"size": 4}, seed=7)
    assert again.status == {"01_last": "reused", "02_first": "reused"}
    assert again.run.entries["01_last"]["reused_from"] == "whole"
    assert executions(root, "01_last") == before
    assert (again.folder / "artifacts" / "seeds.json").read_text() == "11"
    fresh = run_workbook(root=root, parameters={"size": 4}, seed=7, fresh=True, jobs=2)
    assert fresh.status == {"01_last": "done", "02_first": "done"}
    for other in (again, fresh):
        assert (other.folder / "metrics.json").read_bytes() == (result.folder / "metrics.json").read_bytes()
        assert other.folder != result.folder


def test_of_several_at_once_the_longest_begins_first_and_one_by_one_they_go_by_number(tmp_path, monkeypatch):
    began = []
    monkeypatch.setattr(runner._Progress, "started", lambda self, name: began.append(name))
    for name, minutes in {"01_short": 1, "02_longest": 9, "03_long": 5}.items():
        write_notebook(tmp_path, name, session=False, minutes=minutes)
    run_workbook(root=tmp_path, jobs=2)
    run_workbook(root=tmp_path, fresh=True)
    assert began == ["02_longest", "03_long", "01_short", "01_short", "02_longest", "03_long"]


@pytest.mark.parametrize("minutes", [-1, True, "long"])
def test_minutes_that_are_no_number_are_refused(tmp_path, minutes):
    write_notebook(tmp_path, "01_a", minutes=minutes)
    with pytest.raises(NotebookError, match=r"01_a\.ipynb: .*minutes must be a number of 0 or more, got"):
        discover(tmp_path)


def test_an_edited_notebook_is_run_again_and_only_what_reads_a_changed_artifact(whole):
    root, _ = whole
    path = root / "notebooks" / "01_last.ipynb"
    path.write_text(path.read_text().replace("Title of", "New title of"))
    result = run_workbook(root=root, parameters={"size": 4}, seed=7)
    assert result.status == {"01_last": "done", "02_first": "reused"}


def test_a_notebook_that_shows_trained_routers_is_run_again_when_they_change(tmp_path):
    write_notebook(tmp_path, "01_shows", "run.record(one=1)", uses_trained=True)
    write_notebook(tmp_path, "02_does_not", "run.record(one=1)")
    run_workbook(root=tmp_path)
    assert run_workbook(root=tmp_path).status == {"01_shows": "reused", "02_does_not": "reused"}
    index = trained_index(tmp_path, "sample")
    index.parent.mkdir(parents=True)
    index.write_text("{}")
    assert run_workbook(root=tmp_path).status == {"01_shows": "done", "02_does_not": "reused"}


def test_weights_of_trained_routers_count_as_their_index_does(tmp_path):
    write_notebook(tmp_path, "01_shows", uses_trained=True)
    notebook = discover(tmp_path)["01_shows"]
    index = trained_index(tmp_path, "sample")
    index.parent.mkdir(parents=True)
    index.write_text("{}")
    first = input_hashes(notebook, {}, {}, tmp_path, "sample")
    (index.parent / ".lock").write_text("123")
    assert input_hashes(notebook, {}, {}, tmp_path, "sample") == first
    (index.parent / "weights.safetensors").write_bytes(b"other")
    assert input_hashes(notebook, {}, {}, tmp_path, "sample") != first


def test_a_notebook_is_run_again_when_any_file_of_its_data_has_changed(tmp_path):
    data = tmp_path / "votes"
    for part in ("battles", "responses"):
        (data / part).mkdir(parents=True)
    (data / "responses" / "words.txt").write_text("few")
    reads = "import pathlib\nrun.record(words=(pathlib.Path(data) / 'responses' / 'words.txt').read_text())"
    write_notebook(tmp_path, "01_reads", reads)
    assert run_workbook(root=tmp_path, data=data).metrics == {"01_reads": {"words": "few"}}
    (data / "responses" / "words.txt").write_text("many")
    again = run_workbook(root=tmp_path, data=data)
    assert (again.status, again.metrics) == ({"01_reads": "done"}, {"01_reads": {"words": "many"}})


def test_what_a_notebook_reads_beside_the_data_decides_on_its_reuse(tmp_path):
    write_notebook(
        tmp_path, "01_a", parameters=PARAMETERS + "\nencoder: str = 'static:../model'\nfiles: list = ['x.csv']"
    )
    notebook = discover(tmp_path)["01_a"]

    def now(**given):
        return input_hashes(notebook, given, {}, tmp_path, "sample")

    assert now() == {}
    seen = [now()]
    (tmp_path / "model").mkdir()
    for name, text in {"model/pooling.json": "1", "model/weights.bin": "1", "notebooks/x.csv": "1"}.items():
        (tmp_path / name).write_text(text)
        seen.append(now())
        (tmp_path / name).write_text("2")
        seen.append(now())
    (tmp_path / "notebooks" / "helper.py").write_text("1")
    seen.append(now())
    (tmp_path / "other").write_text("1")
    seen += [now(encoder="../other"), now(encoder=f"{tmp_path / 'other'}:bfloat16", files=[])]
    assert len({json.dumps(one) for one in seen}) == len(seen)
    assert str(tmp_path) not in json.dumps(seen)
    for odd in ("", "/", "..", "a\0b", "x" * 5_000, "~nobody/x", "static"):
        assert set(now(encoder=odd)) == {"files: x.csv", "notebooks/helper.py"}


def test_a_damaged_artifact_is_not_taken_over(whole):
    root, _ = whole
    for artifact in (root / "data" / "runs").glob("*/artifacts/seeds.json"):
        artifact.write_text("999")
    result = run_workbook(["02"], root=root, parameters={"size": 4}, seed=7)
    assert result.status == {"02_first": "done"}
    assert (result.folder / "artifacts" / "seeds.json").read_text() == "11"


def test_gallery_is_a_copy_with_an_index(whole, tmp_path):
    run = whole[1].run
    copied = copy_gallery(run, tmp_path / "figures")
    assert [path.name for path in copied] == ["growth.png"]
    assert copied[0].read_bytes() == (run.figures / "growth.png").read_bytes()
    assert json.loads(copied[0].with_suffix(".json").read_text())["run"] == "whole"
    page = (tmp_path / "figures" / "README.md").read_text()
    assert "![It grows](growth.png)" in page
    assert "simulated" in page
    growth = json.loads(copied[0].with_suffix(".json").read_text())
    others = {
        "stale": growth | {"name": "stale", "run": "an earlier one"},
        "foreign": growth | {"name": "foreign", "notebook": "77_other", "run": "another one", "title": "It stays"},
        "bench": {"source": "make bench"},
    }
    for name, told in others.items():
        (tmp_path / "figures" / f"{name}.png").write_bytes(b"old")
        (tmp_path / "figures" / f"{name}.json").write_text(json.dumps(told))
    copy_gallery(run, tmp_path / "figures")
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == {"growth", "foreign", "bench"}
    page = (tmp_path / "figures" / "README.md").read_text()
    assert "![It stays](foreign.png)" in page
    assert "run `another one`" in page
    cut = copy.deepcopy(run)
    cut.entries[growth["notebook"]]["status"] = "failed"
    (tmp_path / "figures" / "stale.png").write_bytes(b"old")
    (tmp_path / "figures" / "stale.json").write_text(json.dumps(others["stale"]))
    copy_gallery(cut, tmp_path / "figures")
    assert (tmp_path / "figures" / "stale.png").exists()  # the notebook was not finished: what it made before stays


def test_gallery_leaves_other_pictures_alone(whole, tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"mine")
    with pytest.raises(ParameterError, match=r"holiday\.png without a sidecar"):
        copy_gallery(whole[1].run, tmp_path)
    assert (tmp_path / "holiday.png").read_bytes() == b"mine"


def test_a_run_can_be_reported_again(whole):
    run = runs.get_run("whole", whole[0] / "data" / "runs")
    run.report.unlink()
    assert build_report(run).is_file()


def test_a_run_id_is_not_taken_twice(whole):
    root, result = whole
    before = result.folder.joinpath("manifest.json").read_bytes()
    with pytest.raises(ParameterError, match="'whole' exists with other data"):
        run_workbook(root=root, run_id="whole", seed=8)
    with pytest.raises(ParameterError, match="fresh run"):
        run_workbook(root=root, run_id="whole", seed=7, parameters={"size": 4}, fresh=True)
    assert result.folder.joinpath("manifest.json").read_bytes() == before


@pytest.mark.parametrize("run_id", ["latest", "../up", "", ".hidden", "a/b"])
def test_unusable_run_ids_are_refused(whole, run_id):
    with pytest.raises(ParameterError, match="run id"):
        run_workbook(root=whole[0], run_id=run_id)


def test_two_runners_cannot_make_one_run(whole):
    root, result = whole
    with runs.locked(result.folder), pytest.raises(RoutellmLabError, match=f"another process .pid {os.getpid()}"):
        run_workbook(root=root, run_id="whole", seed=7, parameters={"size": 4})


def test_a_run_that_was_killed_before_its_report_gets_its_report(tmp_path, monkeypatch):
    write_notebook(tmp_path, "01_a", count(tmp_path, "01_a"))

    def killed(run, left_aside):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("routellm_lab.workbook.report.build_report", killed)
        with pytest.raises(SystemExit):
            run_workbook(root=tmp_path)
    first = runs.all_runs(tmp_path / "data" / "runs")[0]
    assert first.complete
    resumed = run_workbook(root=tmp_path)
    assert resumed.folder == first.folder
    assert resumed.report.is_file()
    assert executions(tmp_path, "01_a") == 1
    assert runs.get_run("latest", tmp_path / "data" / "runs").manifest["finished"] is not None


# ------------------------------------------------------------------------------------------------------- failures


def test_a_notebook_that_is_not_what_its_run_says_fails(tmp_path):
    data = tmp_path / "votes"
    (data / "battles").mkdir(parents=True)
    starts = "from routellm_lab.workbook import start\n"
    for name, cell in {
        "01_data": "start('01_data', profile=profile, seed=seed)",
        "02_profile": "start('02_profile', data=data, profile='full', seed=seed)",
        "03_seed": "start('03_seed', data=data, profile=profile, seed=1)",
        "04_name": "start('01_data', data=data, profile=profile, seed=seed)",
        "05_right": "start('05_right', data='votes', profile=profile, seed=seed)",
    }.items():
        write_notebook(tmp_path, name, starts + cell, session=False)
    link = "run.path('a.json').symlink_to('/etc/hostname')"
    write_notebook(tmp_path, "06_link", link, writes=["a.json"])
    figure = "folder = run.stage / 'figures'\nfolder.mkdir()\n(folder / 'of mine.png').write_bytes(b'1')"
    write_notebook(tmp_path, "07_figure", figure)
    result = run_workbook(root=tmp_path, data=data, jobs=2)
    assert {name for name, status in result.status.items() if status == "done"} == {"05_right"}
    for name, message in {
        "01_data": r"given data sample \(.*\), but the run's is folder votes: pass the parameters on",
        "02_profile": "given profile 'full', but the run's is 'quick'",
        "03_seed": "given seed 1, but the run's is 0",
        "04_name": r"start\('01_data'\) in 04_name: give this notebook's own name",
        "06_link": r"cells: artifacts/a\.json: is a link",
        "07_figure": r"a figure 'of mine\.png', which show\(\) did not write",
    }.items():
        assert re.search(message, result.errors[name]), result.errors[name]


def test_a_failing_notebook_is_named_the_rest_is_kept_and_mending_it_goes_on(tmp_path):
    raises = ("x = 1", "y = 2\nraise ValueError('no such luck')")
    write_notebook(tmp_path, "01_raises", *raises, writes=["a.json"])
    write_notebook(tmp_path, "02_needs_it", "needed = True", reads=["a.json"], session=False)
    write_notebook(tmp_path, "03_fine", "run.record(fine=True)", count(tmp_path, "03_fine"))
    write_notebook(tmp_path, "04_dies", "import os\nos._exit(9)", session=False)
    write_notebook(tmp_path, "05_forgets", "forgotten = True", writes=["b.json"], session=False)
    write_notebook(tmp_path, "06_draws", FIGURE, "run.path('c.json').write_text('1')", writes=["c.json"])
    write_notebook(tmp_path, "07_draws_too", FIGURE, reads=["c.json"])  # so that 06 is first to claim the figure
    result = run_workbook(root=tmp_path, jobs=2)
    assert not result.ok
    assert result.status == {
        "01_raises": "failed",
        "02_needs_it": "blocked",
        "03_fine": "done",
        "04_dies": "failed",
        "05_forgets": "failed",
        "06_draws": "done",
        "07_draws_too": "failed",
    }
    cell = 5  # after the title, the parameters, start() and x = 1
    line = "raise ValueError('no such luck')"
    assert result.errors["01_raises"] == f"cell {cell} at `{line}`: ValueError: no such luck"
    assert result.errors["04_dies"] == "cell 3: DeadKernelError: Kernel died"
    assert "b.json" in result.errors["05_forgets"]
    assert "its figure growth.json is one of 06_draws already" in result.errors["07_draws_too"]
    assert json.loads((result.folder / "figures" / "growth.json").read_text())["notebook"] == "06_draws"
    assert result.metrics == {"03_fine": {"fine": True}, "06_draws": {}}
    executed = (result.folder / "notebooks" / "01_raises.ipynb").read_text()
    assert "no such luck" in executed
    assert "no such luck" in (result.folder / "html" / "01_raises.html").read_text()
    assert "no such luck" in result.report.read_text()
    assert not (result.folder / ".work").exists()

    write_notebook(tmp_path, "01_raises", "run.path('a.json').write_text('1')", writes=["a.json"])
    write_notebook(tmp_path, "04_dies", "alive = True", session=False)
    write_notebook(tmp_path, "05_forgets", "run.path('b.json').write_text('1')", writes=["b.json"])
    write_notebook(tmp_path, "07_draws_too", "draws = False", session=False)
    mended = run_workbook(root=tmp_path, jobs=2)
    assert mended.ok
    assert mended.folder == result.folder
    assert executions(tmp_path, "03_fine") == 1
    assert "error" not in mended.run.entries["01_raises"]


# ---------------------------------------------------------------------------------------------- killed and resumed

WAIT = "import pathlib, time\nwhile not pathlib.Path({go!r}).exists():\n    time.sleep(0.05)"


def slow_workbook(root: Path) -> None:
    write_notebook(root, "01_quick", "run.path('a.json').write_text('5')", count(root, "01_quick"), writes=["a.json"])
    pids = f"import os\nopen({str(root / 'pids')!r}, 'a').write(f'{{os.getpid()}} {{os.getppid()}} ')"
    child = "import subprocess\nsubprocess.Popen(['sleep', '600'])"
    wait = WAIT.format(go=str(root / "go"))
    record = "run.record(a=int(run.read('a.json').read_text()), draw=run.rng.random())"
    write_notebook(root, "02_slow", pids, child, count(root, "02_slow"), wait, record, reads=["a.json"])


# a job in the background of a script inherits SIGINT as ignored: Ctrl-C would say nothing to it
AS_IN_A_TERMINAL = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('routellm_lab', run_name='__main__')"
)


def start_runner(root: Path, *more: str) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """A runner in a process of its own that waits in 02_slow, and the processes under it."""
    environment = os.environ | {"ROUTELLM_LAB_ROOT": str(root)}
    command = [sys.executable, "-c", AS_IN_A_TERMINAL, "run", *more]
    runner = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    marks = executions(root, "02_slow")
    assert until(lambda: executions(root, "02_slow") > marks or runner.poll() is not None)
    assert runner.poll() is None, runner.communicate()
    under = psutil.Process(runner.pid).children(recursive=True)
    assert len(under) >= 3  # worker, kernel, and what the notebook started
    return runner, under


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_a_killed_run_leaves_no_process_resumes_and_ends_the_same(tmp_path):
    slow_workbook(tmp_path)
    runner, under = start_runner(tmp_path, "--fresh")
    runner.kill()
    runner.communicate()
    assert until(lambda: gone(under), seconds=10)
    runs_dir = tmp_path / "data" / "runs"
    killed = runs.all_runs(runs_dir)[0]
    assert {name: entry["status"] for name, entry in killed.entries.items()} == {
        "01_quick": "done",
        "02_slow": "running",
    }

    (tmp_path / "go").touch()
    resumed = run_workbook(root=tmp_path)
    assert resumed.ok
    assert resumed.folder == killed.folder
    assert (executions(tmp_path, "01_quick"), executions(tmp_path, "02_slow")) == (1, 2)
    assert not (resumed.folder / ".work").exists()
    undisturbed = run_workbook(root=tmp_path, fresh=True)
    assert undisturbed.folder != resumed.folder
    assert undisturbed.metrics["02_slow"]["a"] == 5
    assert (undisturbed.folder / "metrics.json").read_bytes() == (resumed.folder / "metrics.json").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_says_how_to_go_on_and_leaves_no_process(tmp_path, number):
    slow_workbook(tmp_path)
    runner, under = start_runner(tmp_path)
    runner.send_signal(number)
    out, err = runner.communicate(timeout=DEADLINE)
    assert runner.returncode == 130
    assert "the same command (without --fresh) goes on" in out
    assert "Traceback" not in err
    assert until(lambda: gone(under), seconds=10)
    run = runs.all_runs(tmp_path / "data" / "runs")[0]
    assert {name: entry["status"] for name, entry in run.entries.items()} == {"01_quick": "done", "02_slow": "pending"}
    assert not (run.folder / ".work").exists()


# ------------------------------------------------------------------------------------- output that cannot be written


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_file_in_the_way_of_the_output_is_named(tmp_path):
    write_notebook(tmp_path, "01_a")
    (tmp_path / "data").write_text("in the way")
    before = tree(tmp_path)
    with pytest.raises(RoutellmLabError, match=r"data.*: cannot be written: .*ROUTELLM_LAB_ROOT"):
        run_workbook(root=tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_leaves_nothing(tmp_path, monkeypatch, code):
    write_notebook(tmp_path, "01_a")

    def refuse(source, target):
        raise OSError(code, os.strerror(code), str(target))

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(RoutellmLabError, match=f"cannot be written: {os.strerror(code)}; free some space"):
        run_workbook(root=tmp_path)
    assert tree(tmp_path / "data" / "runs") == []


def test_a_disk_that_fills_up_during_a_run_leaves_a_run_that_goes_on(tmp_path, monkeypatch):
    write_notebook(tmp_path, "01_a", "run.path('a.json').write_text('1')", count(tmp_path, "01_a"), writes=["a.json"])
    write_notebook(tmp_path, "02_b", "run.record(read=run.read('a.json').read_text())", reads=["a.json"])
    whole = os.replace

    def full(source, target):
        if Path(target).name == "02_b.html":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return whole(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RoutellmLabError, match=r"02_b\.html: cannot be written: No space left"):
        run_workbook(root=tmp_path)
    run = runs.all_runs(tmp_path / "data" / "runs")[0]
    assert {name: entry["status"] for name, entry in run.entries.items()} == {"01_a": "done", "02_b": "pending"}
    assert not [path for path in tree(run.folder) if ".part" in path or ".work" in path]
    monkeypatch.undo()
    settings.cache_clear()
    result = run_workbook(root=tmp_path)
    assert result.ok
    assert result.folder == run.folder
    assert executions(tmp_path, "01_a") == 1


def test_a_nearly_full_disk_is_refused_at_once(tmp_path, monkeypatch):
    write_notebook(tmp_path, "01_a")
    usage = runs.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(runs.shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    with pytest.raises(RoutellmLabError, match="only 1 MiB are free"):
        run_workbook(root=tmp_path)
    assert tree(tmp_path / "data" / "runs") == []


# ------------------------------------------------------------------------------------------- refused before anything


@pytest.fixture
def planned(tmp_path):
    """A workbook that is never run."""
    more = "\nsize: int = 3\nshare: float = 0.5\nlabel: str = 'a'\nsizes: list[int] = [1, 2]\nlimit: int | None = None"
    write_notebook(tmp_path, "01_a", writes=["a.json"], parameters=PARAMETERS + more)
    write_notebook(tmp_path, "02_b", reads=["a.json"], writes=["b.json"])
    write_notebook(tmp_path, "03_c", reads=["a.json", "b.json"])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameters": {"sise": 3}}, "'sise' is not in any of|'sise' is not in 01_a.*nearest: size"),
        ({"parameters": {"size": "3"}}, "'size' of 01_a must be int, got '3'"),
        ({"parameters": {"size": True}}, "'size' of 01_a must be int, got True"),
        ({"parameters": {"size": 1.5}}, "must be int"),
        ({"parameters": {"sizes": [1, "x"]}}, r"must be list\[int\]"),
        ({"parameters": {"label": 12}}, "must be str, got 12; for text write"),
        ({"parameters": {"share": float("nan")}}, "'share' is nan"),
        ({"parameters": {"share": object()}}, "'share' is <object"),
        ({"parameters": {"seed": 3}}, "option of its own: --seed"),
        ({"notebooks": ["02"], "parameters": {"other": 3}}, "'other' is not in 01_a, 02_b"),
        ({"notebooks": ["99"]}, "no notebook '99'"),
        ({"notebooks": ["02_bb"]}, "no notebook '02_bb'; nearest: 02_b"),
        ({"profile": "fast"}, "no profile 'fast'; there are: quick, full"),
        ({"seed": -1}, "seed must be"),
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"data": "nowhere"}, "data folder 'nowhere' does not exist"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(planned, arguments, message):
    with pytest.raises(ParameterError, match=message):
        run_workbook(root=planned, **arguments)
    assert not (planned / "data").exists()


def test_a_notebook_that_cannot_be_given_the_runs_data_is_refused_before_anything_is_written(planned):
    write_notebook(planned, "04_d", parameters="data: str = 'sample'\nprofile: str = 'quick'")
    with pytest.raises(
        NotebookError, match="04_d has no parameter seed: it would not use the seed that the run records"
    ):
        run_workbook(root=planned, data="sample")
    path = write_notebook(planned, "04_d")
    text = path.read_text()
    path.write_text(text.replace('"parameters"', '"other"'))
    with pytest.raises(NotebookError, match="04_d has no parameter data, profile, seed"):
        run_workbook(["04"], root=planned)
    content = json.loads(text)
    content["cells"].insert(2, content["cells"][1] | {"id": "twice"})
    path.write_text(json.dumps(content))
    with pytest.raises(NotebookError, match="04_d: 2 cells are tagged parameters"):
        run_workbook(root=planned)
    for cell in content["cells"][1:3]:
        cell["cell_type"] = "markdown"
    path.write_text(json.dumps(content))
    with pytest.raises(NotebookError, match="04_d has no parameter data, profile, seed"):
        run_workbook(root=planned)
    assert not (planned / "data").exists()


def test_a_parameter_goes_to_the_notebooks_that_know_it(planned):
    given = assign({"size": np.int64(4), "sizes": (1, 2), "share": 1, "limit": None}, discover(planned))
    assert given == {"01_a": {"size": 4, "sizes": [1, 2], "share": 1, "limit": None}, "02_b": {}, "03_c": {}}


def test_asking_for_a_notebook_brings_what_it_needs(planned):
    chosen, added = select(["03"], discover(planned))
    assert list(chosen) == ["01_a", "02_b", "03_c"]
    assert added == ["01_a", "02_b"]


@pytest.mark.parametrize("name", ["02", "2", "02_b", "02_b.ipynb", "notebooks/02_b.ipynb"])
def test_a_notebook_can_be_named_in_several_ways(planned, name):
    assert find(name, discover(planned)).name == "02_b"


def test_a_number_with_two_notebooks_is_refused(planned):
    write_notebook(planned, "02_bis")
    with pytest.raises(ParameterError, match="could be 02_b, 02_bis"):
        find("02", discover(planned))


def test_order_follows_reads_and_writes(planned):
    assert needs(discover(planned)) == {"01_a": set(), "02_b": {"01_a"}, "03_c": {"01_a", "02_b"}}


@pytest.mark.parametrize(
    ("notebooks", "message"),
    [
        ({"01_a": ([], ["x"]), "02_b": ([], ["x"])}, "x is written by both 01_a and 02_b"),
        ({"01_a": (["y"], ["x"])}, "01_a reads y, which no notebook writes; written are: x"),
        ({"01_a": (["y"], ["x"]), "02_b": (["x"], ["y"])}, "wait for each other: "),
        ({"01_a": (["x"], ["x"])}, "wait for each other: 01_a <- 01_a"),
    ],
)
def test_broken_plans_are_refused(tmp_path, notebooks, message):
    for name, (reads, writes) in notebooks.items():
        write_notebook(tmp_path, name, reads=reads, writes=writes)
    with pytest.raises(NotebookError, match=message):
        needs(discover(tmp_path))


def test_a_folder_without_notebooks_and_a_broken_one_are_refused(tmp_path):
    with pytest.raises(NotebookError, match="no notebooks"):
        discover(tmp_path)
    write_notebook(tmp_path, "01_a").write_text("{")
    with pytest.raises(NotebookError, match=r"01_a\.ipynb: not a notebook"):
        discover(tmp_path)


def test_parameters_must_be_literals(tmp_path):
    write_notebook(tmp_path, "01_a", parameters="size: int = 2 * 3")
    with pytest.raises(NotebookError, match=r"'size' is 2 \* 3; parameters must be literals"):
        assign({}, discover(tmp_path)) or discover(tmp_path)["01_a"].parameters


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.tuples(inner)
    )
)
def test_plain_values_pass_through_json_unchanged(value):
    converted = plain("value", value)
    assert json.loads(json.dumps(converted)) == converted


def test_a_data_folder_is_known_by_its_content_and_base_name(tmp_path):
    folder = tmp_path / "votes"
    (folder / "battles").mkdir(parents=True)
    (folder / "battles" / "mine.parquet").write_bytes(b"one")
    first = data_identity(str(folder))
    assert first["name"] == "votes"
    assert first["kind"] == "folder"
    assert data_identity(str(folder)) == first
    (folder / "battles" / "mine.parquet").write_bytes(b"two")
    assert data_identity(str(folder))["hash"] != first["hash"]
    (folder / "battles" / "mine.parquet").rename(folder / "battles" / "yours.parquet")
    (folder / "battles" / "yours.parquet").write_bytes(b"one")
    assert data_identity(str(folder))["hash"] != first["hash"]


def test_every_file_of_a_data_folder_counts_but_hidden_ones_and_the_workbooks_own(tmp_path):
    folder = tmp_path / "data"
    (folder / "battles" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / "outcomes").symlink_to(tmp_path / "elsewhere")
    seen = [data_identity(str(folder), tmp_path)["hash"]]
    for name in ("models.csv", "responses.txt", "battles/deep/x.gz", "outcomes/exam.scores.jsonl"):
        (folder / name).write_text(name)
        seen.append(data_identity(str(folder), tmp_path)["hash"])
    assert len(set(seen)) == len(seen)
    (folder / "battles" / "back").symlink_to(folder)
    for name in (".hidden", "runs/mine/manifest.json", "cache/x", "routers/sample/trained.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    os.mkfifo(folder / "pipe")
    assert data_identity(str(folder), tmp_path)["hash"] == seen[-1]


@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_a_relative_data_path_is_one_folder_on_the_command_line_and_in_jupyterlab(tmp_path, monkeypatch, named_by):
    root, data = tmp_path / "workbook", tmp_path / "shared" / "data"
    votes = pd.DataFrame({"prompt": ["a"], "model_a": ["x"], "model_b": ["y"], "winner": ["tie"]})
    for folder in (data, root / "shared" / "data"):  # the second is where a path would lead that starts at notebooks/
        (folder / "battles").mkdir(parents=True)
    votes.to_parquet(data / "battles" / "mine.parquet")
    write_notebook(root, "01_a")
    monkeypatch.setenv("ROUTELLM_LAB_ROOT", str(root))
    argument = "../shared/data" if named_by == "argument" else None
    if named_by == "environment":
        monkeypatch.setenv("ROUTELLM_LAB_DATA", "../shared/data")
    for working in (root, root / "notebooks"):
        monkeypatch.chdir(working)
        settings.cache_clear()
        assert len(load_battles("mine", data=argument)) == 1
        assert same_data(argument or settings().data, str(data))
        assert start("01_a", data=argument or settings().data).data == "../shared/data"
        assert data_identity("../shared/data") == data_identity(str(data))
    elsewhere = tmp_path / "a" / "b"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ParameterError, match=r"'\.\./shared/data' does not exist \(.*/a/b/\.\./shared/data\)"):
        load_battles("mine", data="../shared/data")
    assert len(load_battles("mine", data="../../shared/data")) == 1


@pytest.mark.parametrize("name", ["ROUTELLM_LAB_ROOT", "ROUTELLM_LAB_CACHE"])
def test_the_home_of_an_unknown_user_is_an_error_that_names_the_variables_and_the_path(monkeypatch, name):
    monkeypatch.setenv(name, "~nobody_has_this_name/lab")
    settings.cache_clear()
    try:
        with pytest.raises(
            ParameterError, match=r"ROUTELLM_LAB_ROOT or ROUTELLM_LAB_CACHE: .*'~nobody_has_this_name/lab'"
        ):
            settings()
    finally:
        settings.cache_clear()


def test_a_run_gives_its_notebooks_the_folder_that_a_relative_path_means(tmp_path, monkeypatch):
    (tmp_path / "shared" / "data" / "battles").mkdir(parents=True)
    root = tmp_path / "workbook"
    write_notebook(root, "01_a", "import os\nrun.record(whole=os.path.isabs(data), name=os.path.basename(data))")
    monkeypatch.setenv("ROUTELLM_LAB_ROOT", str(root))
    monkeypatch.chdir(root / "notebooks")
    settings.cache_clear()
    result = run_workbook(root=root, data="../shared/data")
    assert result.metrics == {"01_a": {"whole": True, "name": "data"}}


def test_an_unknown_home_is_refused(planned):
    with pytest.raises(ParameterError, match="'~nobody-at-all/data': "):
        run_workbook(root=planned, data="~nobody-at-all/data")


def test_an_empty_folder_is_no_data(tmp_path):
    write_notebook(tmp_path, "01_a")
    with pytest.raises(ParameterError, match="neither battles/ nor outcomes/"):
        run_workbook(root=tmp_path, data=str(tmp_path))


# ------------------------------------------------------------------------------------------------------- metrics


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounded_metrics_stay_as_they_are_and_keep_six_digits(value):
    once = clean_metrics({"m": value})
    assert clean_metrics(once) == once
    assert once["m"] == pytest.approx(value, rel=5.1e-6)
    assert str(once["m"]) != "-0.0"


def test_numpy_scalars_become_plain_ones():
    cleaned = clean_metrics(
        {"a": np.float32(0.5), "b": np.int64(2), "c": np.bool_(True), "d": np.array(3.0), "e": None}
    )
    assert cleaned == {"a": 0.5, "b": 2, "c": True, "d": 3.0, "e": None}
    assert [type(value) for value in cleaned.values()] == [float, int, bool, float, type(None)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf, np.float32("nan")])
def test_metrics_that_are_not_finite_are_refused_by_name(value):
    with pytest.raises(ParameterError, match="metric 'apgr' is"):
        clean_metrics({"fine": 1.0, "apgr": value})


@pytest.mark.parametrize("value", [[1], {"a": 1}, np.array([1.0, 2.0]), object()])
def test_metrics_that_are_not_scalars_are_refused_by_name(value):
    with pytest.raises(ParameterError, match="metric 'apgr' is of type"):
        clean_metrics({"apgr": value})


# ------------------------------------------------------------------------------------------- a notebook and a person


@pytest.fixture
def interactive(planned, monkeypatch):
    """The workbook of `planned`, used by a person."""
    monkeypatch.setenv("ROUTELLM_LAB_ROOT", str(planned))
    settings.cache_clear()
    return planned


def test_start_says_in_its_first_line_what_it_uses(interactive, capsys):
    session = start("01_a", seed=3)
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "Data: sample (simulated votes with planted truth) | profile: quick | seed: 3 | run: interactive"
    assert session.choose(quick=1, full=2) == 1
    assert start("01_a", profile="full").choose(quick=1, full=2) == 2


def test_start_never_prints_where_a_folder_lies(interactive, capsys):
    folder = interactive / "somewhere" / "votes"
    (folder / "battles").mkdir(parents=True)
    start("01_a", data=str(folder))
    out = capsys.readouterr().out
    assert "folder votes" in out
    assert str(interactive) not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "01_b"}, "no notebook '01_b'; nearest: "),
        ({"name": "01_a", "profile": "medium"}, "no profile 'medium'"),
        ({"name": "01_a", "seed": -1}, "seed must be"),
        ({"name": "01_a", "seed": 1.0}, "seed must be"),
        ({"name": "01_a", "data": "nowhere"}, "does not exist"),
    ],
)
def test_start_refuses_what_does_not_exist(interactive, arguments, message):
    with pytest.raises(ParameterError, match=message):
        start(**arguments)


def test_artifacts_are_declared_and_found(interactive):
    writer, reader = start("01_a"), start("02_b")
    with pytest.raises(RoutellmLabError, match=r"artifact a\.json of data 'sample' is not there: run 01_a first"):
        reader.read("a.json")
    writer.path("a.json").write_text("1")
    assert reader.read("a.json").read_text() == "1"
    with pytest.raises(ParameterError, match=r"02_b does not declare 'a\.json' under 'writes'.*declared are: b\.json"):
        reader.path("a.json")
    with pytest.raises(ParameterError, match=r"01_a does not declare 'b\.json' under 'reads'"):
        writer.read("b.json")


def test_a_person_reads_what_the_latest_run_wrote(interactive):
    made = interactive / "data" / "runs" / "some-run" / "artifacts"
    made.mkdir(parents=True)
    (made / "a.json").write_text("from the run")
    (made.parent / "manifest.json").write_text('{"data": {"name": "sample"}}')
    runs.point_latest(made.parent)
    assert start("02_b").read("a.json").read_text() == "from the run"
    start("01_a").path("a.json").write_text("my own")
    assert start("02_b").read("a.json").read_text() == "my own"


def test_a_person_never_reads_what_was_made_from_other_data(interactive):
    folder = interactive / "votes"
    (folder / "battles").mkdir(parents=True)
    made = interactive / "data" / "runs" / "some-run" / "artifacts"
    made.mkdir(parents=True)
    (made / "a.json").write_text("from the sample")
    (made.parent / "manifest.json").write_text('{"data": {"name": "sample"}}')
    runs.point_latest(made.parent)
    start("01_a").path("a.json").write_text("from the sample as well")
    with pytest.raises(RoutellmLabError, match=r"of data 'votes' is not there"):
        start("02_b", data=str(folder)).read("a.json")


def test_recorded_metrics_are_shown_and_kept(interactive, capsys):
    session = start("01_a")
    session.record(apgr=np.float64(0.123456789), votes=3)
    session.record(votes=4)
    assert session.metrics == {"apgr": 0.123457, "votes": 4}
    with pytest.raises(ParameterError, match="'share' is nan"):
        session.record(share=np.nan)


def test_figures_are_the_same_bytes_each_time(interactive, monkeypatch):
    import matplotlib.pyplot as plt

    session, drawn = start("01_a"), []
    for _ in range(2):
        figure, axes = plt.subplots()
        axes.plot([1, 2])
        session.show(figure, "line", title="A line")
        session.show(figure, "other", simulated=False)
        assert not json.loads((session.stage / "figures" / "other.json").read_text())["simulated"]
        drawn.append((session.folder / "figures" / "line.png").read_bytes())
    assert drawn[0] == drawn[1]
    assert plt.get_fignums() == []
    assert json.loads((session.folder / "figures" / "line.json").read_text())["title"] == "A line"
    with pytest.raises(ParameterError, match="figure name"):
        session.show(figure, "../line")


def test_two_notebooks_with_one_seed_draw_different_numbers(interactive):
    assert start("01_a").rng.random() == start("01_a").rng.random()
    assert start("01_a").rng.random() != start("02_b").rng.random()


def test_equations_that_cannot_be_converted_stay_readable():
    assert mathml("x^2", "inline").startswith("<math")
    assert "&lt;" not in mathml(r"\alpha", "block")


def test_latest_is_replaced_without_a_gap(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        runs.point_latest(tmp_path / name)
        assert (tmp_path / "latest").resolve() == tmp_path / name
    assert tree(tmp_path) == ["latest", "one", "two"]


def test_widgets_become_words_on_a_page_without_a_kernel(tmp_path):
    import nbformat

    from routellm_lab.workbook.pages import notebook_page

    notebook = nbformat.v4.new_notebook()
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "VBox(children=())"}
    notebook.cells = [nbformat.v4.new_code_cell("show", outputs=[nbformat.v4.new_output("display_data", view)])]
    notebook.cells[0]["id"] = "one"
    nbformat.write(notebook, tmp_path / "executed.ipynb")
    page = notebook_page(tmp_path / "executed.ipynb", "Title")
    assert "Widgets need a kernel" in page
    assert "VBox(" not in page

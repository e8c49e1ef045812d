"""What readers see of a run: a page that shows all of it, and a gallery of its figures."""

import html
import math
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from routellm_lab.errors import NotebookError, ParameterError, escape_markdown
from routellm_lab.files import disk_errors, read_json, replacing, require_real
from routellm_lab.workbook.execute import is_added, numbered_cells
from routellm_lab.workbook.findings import conclusions, headlines, metric_rows
from routellm_lab.workbook.hashing import describe_data
from routellm_lab.workbook.notebooks import discover
from routellm_lab.workbook.outputs import pages
from routellm_lab.workbook.pages import CONTENT_POLICY, GLOSSARY, STYLE
from routellm_lab.workbook.run_pages import naming
from routellm_lab.workbook.runs import FINISHED, Run, Sidecar, checked

_TEMPLATE = Path(__file__).with_name("report.html.j2")


def build_report(run: Run, left_aside: list[str] | None = None) -> Path:
    """Write ``report.html``: what was run on what, what came of it, and every figure. Returns its path.

    Files of the run that cannot be used are named in the page and added to ``left_aside``, in words.
    """
    from jinja2 import Environment

    data = run.manifest["data"]
    odd = [] if left_aside is None else left_aside
    concluded = conclusions(run, odd)
    environment = Environment(autoescape=True)
    environment.filters["unbroken"] = unbroken
    page = environment.from_string(_TEMPLATE.read_text("utf-8"))
    text = page.render(
        title=report_title(run),
        id=run.id,
        manifest=run.manifest,
        data=_data_in_words(data),
        data_hash=data["hash"],
        simulated=data["kind"] == "sample",
        entries={name: entry | {"page": _is_page(pages(run, name)[1])} for name, entry in run.entries.items()},
        conclusions=concluded,
        headlines=headlines(concluded),
        unfinished=[name for name, entry in run.entries.items() if entry["status"] not in FINISHED],
        metrics={name: metric_rows(metrics) for name, metrics in run.metrics.items()},
        figures=_figures(run, odd),
        pages=_pages(run, odd),
        glossary=_is_page(run.folder / "html" / f"{GLOSSARY}.html"),
        slowest=slowest_cells(run, left_aside=odd),
        policy=CONTENT_POLICY.format(images="'self' file:"),
        style=STYLE.read_text("utf-8"),
        left_aside=[_inside_run(run, words) for words in dict.fromkeys(odd)],
    )
    with disk_errors(run.report), replacing(run.report) as aside:
        aside.write_text(text, "utf-8")
    return run.report


def report_title(run: Run) -> str:
    """What the report is about, in words."""
    data = run.manifest["data"]
    source = {"sample": "simulated data", "hub": "public data"}.get(data["kind"], f"the data folder {data['name']}")
    return f"RouteLLM lab: results on {source}, {run.manifest['profile']} profile"


def unbroken(text: str) -> str:
    """A sentence whose intervals stay on one line, with the number before them.

    Examples
    --------
    >>> unbroken("APGR 0.70 [0.65, 0.75] on mmlu").split(" ")
    ['APGR', '0.70\\xa0[0.65,\\xa00.75]', 'on', 'mmlu']
    """
    return re.sub(r" ?\[[^\[\]]{1,30}\]", lambda interval: interval[0].replace(" ", "\xa0"), text)


def slowest_cells(run: Run, most: int = 10, left_aside: list[str] | None = None) -> list[dict[str, Any]]:
    """The cells that took longest, of all notebooks that were executed.

    Executed notebooks that cannot be read are added to ``left_aside``, in words.

    Returns
    -------
    list of dict
        ``notebook``, ``cell`` (its number), ``heading`` above it, ``code`` (its first line), ``seconds``; the slowest
        first.
    """
    found: list[dict[str, Any]] = []
    for name in run.entries:
        heading = ""
        with naming(left_aside):
            for number, cell in numbered_cells(run.folder / "notebooks" / f"{name}.ipynb"):
                lines = "".join(cell["source"]).strip().splitlines()
                if cell["cell_type"] == "markdown":
                    heading = next((line.lstrip("# ") for line in reversed(lines) if line.startswith("#")), heading)
                seconds = cell["metadata"].get("papermill", {}).get("duration")
                timed = isinstance(seconds, int | float) and 0 < seconds < math.inf
                if cell["cell_type"] == "code" and timed and not is_added(cell):
                    told = {"notebook": name, "cell": number, "heading": heading, "code": lines[0] if lines else ""}
                    found.append(told | {"seconds": round(seconds, 1)})
    return sorted(found, key=lambda cell: -cell["seconds"])[:most]


def copy_gallery(run: Run, folder: Path) -> list[Path]:
    """Copy a run's figures and their sidecars into a folder, with a README that shows them; returns the figures.

    Notebooks that the run finished replace their own figures; those of others stay, as do those that no run made.

    Raises
    ------
    ParameterError
        When the run has no figures, or the folder holds a picture without a sidecar (then it is no gallery).
    DataError
        When a sidecar in the folder is none that this program writes.
    """
    figures = _figures(run)
    if not figures:
        raise ParameterError(f"run {run.id} has no figures")
    strangers = [file.name for file in folder.glob("*.png") if not file.with_suffix(".json").is_file()]
    if strangers:
        raise ParameterError(f"{folder} holds {strangers[0]} without a sidecar: name another folder for the gallery")
    copied = []
    with disk_errors(folder):
        for old in folder.glob("*.png"):
            notebook = _gallery_sidecar(old).get("notebook", "")
            finished = run.entries.get(notebook, {}).get("status") in FINISHED
            if finished and old.name not in {figure["file"] for figure in figures}:
                old.unlink()
                old.with_suffix(".json").unlink()
        for figure in figures:
            for file in (figure["file"], Path(figure["file"]).with_suffix(".json").name):
                with replacing(folder / file) as aside:
                    shutil.copyfile(run.figures / file, aside)
            copied.append(folder / figure["file"])
        with replacing(folder / "README.md") as aside:
            aside.write_text(_gallery_page(run, folder), "utf-8")
    return copied


def _gallery_page(run: Run, folder: Path) -> str:
    lines = [
        "# Figures",
        "",
        "Written by `routellm-lab report --gallery`, notebook by notebook, each from the run that is named with it. "
        "Each picture has a JSON sidecar that says where it comes from.",
    ]
    sidecars = [_gallery_sidecar(path) | {"file": path.name} for path in sorted(folder.glob("*.png"))]
    titles: dict[str, str] = {}
    with suppress(NotebookError):  # no checkout: then only the run knows titles
        titles = {name: notebook.title for name, notebook in discover().items()}
    titles |= {name: entry["title"] for name, entry in run.entries.items()}
    notebook = ""
    for told in sorted((told for told in sidecars if "notebook" in told), key=lambda told: told["notebook"]):
        if told["notebook"] != notebook:
            notebook = told["notebook"]
            data = "simulated data" if told["simulated"] else f"data {escape_markdown(told['data'])}"
            origin = f"{data}, profile {told['profile']}, seed {told['seed']}, run `{told['run']}`"
            lines += [
                "",
                f"## {escape_markdown(titles.get(notebook, notebook))}",
                "",
                f"`notebooks/{notebook}.ipynb`: {origin}",
            ]
        title = escape_markdown(told["title"])
        lines += ["", f"**{title}**", "", f"![{title}]({told['file']})"]
    return "\n".join(lines) + "\n"


def _data_in_words(identity: Mapping[str, str]) -> str:
    return f"folder {identity['name']}" if identity["kind"] == "folder" else describe_data(identity["kind"])


def _is_page(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _pages(run: Run, left_aside: list[str]) -> list[dict[str, str]]:
    """Pages that notebooks wrote to be explored, by file and title."""
    found = []
    for path in sorted((run.folder / "artifacts").glob("*.html")):
        with naming(left_aside):
            require_real(path, deep=False)
            text = path.read_text("utf-8", "replace") if path.is_file() else ""
            title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
            found.append({"file": path.name, "title": html.unescape(title[1]).strip() if title else path.stem})
    return found


def _figures(run: Run, left_aside: list[str] | None = None) -> list[dict[str, Any]]:
    """Sidecars of a run's figures in the order of the notebooks, each with its file and origin in words."""
    order = list(run.entries)
    found = []
    for path in sorted(run.figures.glob("*.png")):
        with naming(left_aside):
            require_real(path, deep=False)
            beside = path.with_suffix(".json")
            sidecar = checked(read_json(beside), Sidecar, beside)
            data = "simulated data" if sidecar["simulated"] else f"data {sidecar['data']}"
            origin = (data, f"{sidecar['profile']} profile", f"seed {sidecar['seed']}", f"run {sidecar['run']}")
            found.append(sidecar | {"file": path.name, "origin": " · ".join(origin)})
    rank = {name: number for number, name in enumerate(order)}
    for figure in found:
        figure["rank"] = (rank.get(figure["notebook"], len(order)), figure["notebook"])
    return sorted(found, key=lambda figure: (figure["rank"], figure["file"]))


def _gallery_sidecar(picture: Path) -> dict[str, Any]:
    """What stands beside a picture of a gallery; those that no run made name no notebook."""
    path = picture.with_suffix(".json")
    sidecar = checked(read_json(path), dict[str, Any], path)
    return checked(sidecar, Sidecar, path) if "notebook" in sidecar else sidecar


def _inside_run(run: Run, words: str) -> str:
    """A message about a file of the run without the path of the run, which pages never show."""
    return words.replace(f"{run.folder}{os.sep}", "")

"""The pages of a run lead to each other: made again where the run's list of pages or their layout has changed.

A notebook's page is written when it ends, with links to all notebooks of its run. One that was taken over from another
run, or stands beside a notebook that has no page, gets its links when the report is built.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from routellm_lab.errors import NotebookError, RoutellmLabError
from routellm_lab.files import disk_errors, replacing, require_real
from routellm_lab.workbook.hashing import hash_json
from routellm_lab.workbook.notebooks import read_content
from routellm_lab.workbook.outputs import pages
from routellm_lab.workbook.pages import GLOSSARY, Around, notebook_page, text_page
from routellm_lab.workbook.runs import Run

_STAMP = re.compile(r'<meta (?:content="(\w*)" name="routellm-lab"|name="routellm-lab" content="(\w*)")')
_HEAD = 2_000  # characters, in which the stamp stands


def pages_to_come(run: Run) -> Around:
    """The pages that a run will have when all goes well."""
    return Around({name: entry["title"] for name, entry in run.entries.items()}, _glossary(run).is_file())


def refresh_pages(run: Run, left_aside: list[str] | None = None) -> None:
    """Make the pages of a run anew that are out of date, and the glossary's.

    Files of the run that cannot be used are added to ``left_aside``, in words.
    """
    planned = pages_to_come(run)
    there = {name: title for name, title in planned.titles.items() if pages(run, name)[0].is_file()}
    around = Around(there, planned.glossary)
    for name, title in there.items():
        executed, page = pages(run, name)
        with naming(left_aside):
            require_real(executed, deep=False)
            require_real(page, deep=False)
            if _stamp(page) != around.stamp:
                read_content(executed)
                _write(page, _made(executed, title, around, name))
    if around.glossary:
        with naming(left_aside):
            text = _glossary(run).read_text("utf-8")
            page = run.folder / "html" / f"{GLOSSARY}.html"
            require_real(page, deep=False)
            of_text = Around(there | {GLOSSARY: hash_json(text)}, True)
            if _stamp(page) != of_text.stamp:
                made = text_page(text, "Glossary", around, GLOSSARY)
                _write(page, made.replace(around.stamp, of_text.stamp, 1))


@contextmanager
def naming(left_aside: list[str] | None) -> Iterator[None]:
    """Leave aside a file that cannot be used, and name it."""
    try:
        yield
    except (RoutellmLabError, OSError) as error:
        if left_aside is not None:
            left_aside.append(str(error))


def _made(executed: Path, title: str, around: Around, name: str) -> str:
    try:
        return notebook_page(executed, title, around, name)
    except Exception as error:  # the file is no notebook as nbformat and nbconvert know it: they raise many kinds
        raise NotebookError(f"{executed}: no page can be made of it ({type(error).__name__})") from error


def _glossary(run: Run) -> Path:
    return run.folder.parents[2] / "notebooks" / f"{GLOSSARY}.md"  # runs lie in data/runs of their workbook


def _stamp(page: Path) -> str:
    if not page.is_file():
        return ""
    with open(page, encoding="utf-8", errors="replace") as text:
        found = _STAMP.search(text.read(_HEAD))
    return (found[1] or found[2] or "") if found else ""


def _write(page: Path, text: str) -> None:
    with disk_errors(page), replacing(page) as aside:
        aside.write_text(text, "utf-8")

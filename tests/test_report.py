"""The report of a run: it begins with the finding; its pages lead to each other; both read well at every width."""

import re
from itertools import pairwise

import nbformat
import pytest
from test_explorer import CONTRASTS
from workbooks import write_notebook

from routellm_lab.workbook import run_workbook, runs
from routellm_lab.workbook.findings import Conclusion, MetricRow, conclusions, headlines, metric_rows
from routellm_lab.workbook.report import build_report, report_title
from routellm_lab.workbook.run_pages import refresh_pages

GLOSSARY = "# Glossary\n\n## APGR\n\nSee [start](00_start.ipynb) and [more](07_more.ipynb).\n\n## CPT\n\n## PGR\n"
WIDE = "print('a long line ' * 30)\nimport pandas as pd\npd.DataFrame([range(60)])"
FIGURE = (
    "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\naxes.set_title('It grows')\nrun.show(figure, '{}')"
)
LINKS = (
    "Next: [other](03_other.ipynb), [gone](05_gone.ipynb), [words](glossary.md), $x^2$\n\n## One\n\n## Two\n\n## Three"
)


def conclude(*bullets):
    return f"run.conclude({', '.join(map(repr, bullets))})"


def write_workbook(root):
    bullets = ("Deploy it: 37% [34%, 40%] of the calls.", "Of <b>data</b>.", "Third of start.")
    metrics = "run.record(apgr=0.7123456, low=0.65, high=0.75, votes=20000, kappa=0.2, kappa_low=0.1, kappa_high=0.3)"
    write_notebook(root, "00_start", FIGURE.format("one"), WIDE, metrics, conclude(*bullets), text=LINKS)
    write_notebook(root, "03_other", conclude("Do not use the other.", "b", "c"), text="[start](00_start.ipynb)")
    page = "run.path('explorer.html').write_text('<title>Threshold explorer</title>')"
    write_notebook(root, "12_costs", page, conclude("Set 0.42.", "b", "c"), writes=["explorer.html"])
    for name in ("00_start", "12_costs"):
        path = root / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata["routellm_lab"]["headline"] = True
        notebook.cells[-1]["metadata"] |= {"tags": ["remove-input"], "jupyter": {"source_hidden": True}}
        nbformat.write(notebook, path)
    (root / "notebooks" / "glossary.md").write_text(GLOSSARY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A workbook, one of its notebooks run alone, and a run of all that takes it over."""
    root = tmp_path_factory.mktemp("reported")
    write_workbook(root)
    first = run_workbook(["00"], root=root, run_id="alone")
    result = run_workbook(root=root, run_id="whole")
    assert first.ok
    assert result.status == {"00_start": "reused", "03_other": "done", "12_costs": "done"}
    return result


def page(result, name):
    return (result.folder / "html" / f"{name}.html").read_text("utf-8")


def test_metrics_with_an_interval_are_one_row():
    rows = metric_rows(
        {
            "gsm8k | knn | apgr": 0.611893,
            "gsm8k | knn | high": 0.65,
            "gsm8k | knn | low": 0.57,
            "gsm8k | knn | single_high": 0.64,
            "gsm8k | knn | single_low": 0.58,
            "kappa": 0.25,
            "kappa_high": 0.28,
            "kappa_low": 0.22,
            "only | low": 3,
            "models": 17902,
            "sure": True,
            "best": "sim-everest",
            "none": None,
        }
    )
    assert rows == [
        MetricRow("gsm8k | knn | apgr", "0.6119", "[0.57, 0.65]"),
        MetricRow("gsm8k | knn | single", "–", "[0.58, 0.64]"),
        MetricRow("kappa", "0.25", "[0.22, 0.28]"),
        MetricRow("only | low", "3"),
        MetricRow("models", "17,902"),
        MetricRow("sure", "yes"),
        MetricRow("best", "sim-everest"),
        MetricRow("none", "–"),
    ]
    assert metric_rows({}) == []


def test_the_first_screen_shows_what_is_declared_else_the_first():
    concluded = {name: Conclusion(name, (f"Of {name}.",), name in ("b", "d")) for name in "abcde"}
    assert [conclusion.notebook for conclusion in headlines(concluded)] == ["b", "d"]
    none = {name: Conclusion(name, ("x",)) for name in "abcde"}
    assert [conclusion.notebook for conclusion in headlines(none)] == ["a", "b", "c"]
    assert headlines({}) == []


def test_conclusions_are_those_of_the_executed_copies(whole):
    found = conclusions(whole.run)
    assert list(found) == ["00_start", "03_other", "12_costs"]
    assert found["00_start"].bullets == (
        "Deploy it: 37% [34%, 40%] of the calls.",
        "Of <b>data</b>.",
        "Third of start.",
    )
    assert [conclusion.headline for conclusion in found.values()] == [True, False, True]


def test_a_report_begins_with_the_finding_and_ends_with_the_run(whole):
    text = whole.report.read_text("utf-8")
    assert report_title(whole.run) == "RouteLLM lab: results on simulated data, quick profile"
    assert f"<title>{report_title(whole.run)}</title>" in text
    order = ["The finding", "Deploy it: 37%", "Set 0.42.", "Threshold explorer →", "What each notebook found"]
    order += ["What does 00_start do?", "Of &lt;b&gt;data&lt;/b&gt;.", "Do not use the other.", ">Figures<", "It grows"]
    order += [">Metrics<", "[0.65, 0.75]", "[0.1, 0.3]", "This run", "whole", "Slowest cells"]
    places = [text.index(order[0])]
    for words in order[1:]:
        places.append(text.index(words, places[-1]))
    assert "0.7123<" in text
    assert "<td>kappa</td>" in text
    assert "<td>kappa_low</td>" not in text


def test_pages_that_were_taken_over_lead_to_those_of_their_new_run(whole):
    assert whole.run.entries["00_start"]["reused_from"] == "alone"
    start, other = page(whole, "00_start"), page(whole, "03_other")
    assert 'href="03_other.html">Title of 03_other →</a>' in start
    assert '<a href="03_other.html">other</a>' in start
    assert ", gone, " in start
    assert '<a href="glossary.html">words</a>' in start
    assert "run.conclude" not in start
    assert 'href="00_start.html">← Title of 00_start</a>' in other
    assert 'href="12_costs.html">Title of 12_costs →</a>' in other
    assert "<title>Title of 03_other</title>" in other
    alone = whole.folder.parent / "alone" / "html" / "00_start.html"
    assert "Next: other, gone," in alone.read_text("utf-8")
    glossary = page(whole, "glossary")
    assert '<a href="00_start.html">start</a> and more.' in glossary
    assert 'href="../report.html"' in glossary


def test_only_pages_that_are_out_of_date_are_made_again(whole, tmp_path):
    html, glossary = whole.folder / "html", whole.folder.parents[2] / "notebooks" / "glossary.md"

    def changed(*names):
        before = {path.name: path.stat().st_mtime_ns for path in html.iterdir()}
        left_aside = []
        refresh_pages(whole.run, left_aside)
        assert left_aside == []
        return {path.name for path in html.iterdir() if before.get(path.name) != path.stat().st_mtime_ns}

    assert changed() == set()
    (html / "03_other.html").write_text("<p>old")
    assert changed() == {"03_other.html"}
    try:
        glossary.write_text(GLOSSARY + "\nMore words.\n")
        assert changed() == {"glossary.html"}
    finally:
        glossary.write_text(GLOSSARY)
    assert changed() == {"glossary.html"}


def test_an_executed_copy_of_which_no_page_can_be_made_is_named(whole, tmp_path):
    folder = tmp_path / "data" / "runs" / "mine"
    for part in ("notebooks", "html"):
        (folder / part).mkdir(parents=True)
    odd = (
        '{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code", "source": "", "metadata": {}, "outputs": 3}]}'
    )
    (folder / "notebooks" / "00_start.ipynb").write_text(odd)
    left_aside: list[str] = []
    refresh_pages(runs.Run(folder, whole.run.manifest), left_aside)
    assert len(left_aside) == 1
    assert "00_start.ipynb: no page can be made of it" in left_aside[0]
    assert list((folder / "html").iterdir()) == []
    build_report(runs.Run(folder, whole.run.manifest), left_aside := [])
    assert [words.rpartition("/")[2] for words in left_aside] == [
        "00_start.ipynb: its outputs are not those of a notebook"
    ]


def test_a_notebook_that_failed_is_named_on_the_first_screen(tmp_path):
    write_notebook(tmp_path, "01_good", conclude("Works.", "b", "c"), text="[bad](02_bad.ipynb)")
    write_notebook(tmp_path, "02_bad", "raise RuntimeError('no such luck')")
    result = run_workbook(root=tmp_path)
    text = result.report.read_text("utf-8")
    assert "1 of 2 notebooks did not finish" in text
    assert text.index("did not finish") < text.index("What each notebook found") < text.index("no such luck")
    assert not (result.folder / "html" / "glossary.html").exists()


def look(browser, path, width, scheme):
    """Open a page at a width and in a colour scheme."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(path.as_uri())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1000, 1900])
@pytest.mark.parametrize("name", ["report", "html/00_start", "html/glossary"])
def test_pages_read_well(browser, whole, name, width, scheme):
    look(browser, whole.folder / f"{name}.html", width, scheme)
    beside = "return document.querySelector('.contents li').checkVisibility({ contentVisibilityAuto: true })"
    assert browser.execute_script(beside) == (width == 1900)  # a wide window shows the contents beside the text
    browser.execute_script("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert [(text, ratio) for text, ratio in browser.execute_script(CONTRASTS) if ratio < 4.5] == []
    levels = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4')].map(at => +at.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    missing = "return [...document.querySelectorAll('a[href^=\"#\"]')].filter(link => !document.getElementById("
    assert browser.execute_script(missing + "decodeURIComponent(link.hash.slice(1)))).map(link => link.hash)") == []
    if name == "report" and width == 1000:
        bottom = "return document.querySelector('.explore').getBoundingClientRect().bottom"
        assert browser.execute_script(bottom) <= 800  # the finding and the explorer without scrolling


def test_a_script_or_form_in_the_glossary_is_left_out(tmp_path):
    write_notebook(tmp_path, "01_a", conclude("a", "b", "c"))
    (tmp_path / "notebooks" / "glossary.md").write_text("# Words\n\n<script>alert(1)</script><form>kept</form>")
    text = page(run_workbook(root=tmp_path), "glossary")
    assert "<script" not in text
    assert "<form" not in text
    assert "kept" in text


def test_a_wide_table_scrolls_inside_its_box(browser, whole):
    look(browser, whole.folder / "html" / "00_start.html", 400, "light")
    inside = browser.execute_script(
        "const table = document.querySelector('table.dataframe'); const box = table.closest('.jp-OutputArea-output');"
        "box.scrollLeft = 200; return [table.scrollWidth, box.clientWidth, box.scrollLeft]"
    )
    assert inside[0] > inside[1]
    assert inside[1] <= 400
    assert inside[2] == 200


@pytest.mark.parametrize(("name", "place"), [("report", "finding"), ("html/00_start", "text")])
def test_the_first_tab_skips_to_the_text_and_is_seen(browser, whole, name, place):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    look(browser, whole.folder / f"{name}.html", 1000, "light")
    ActionChains(browser).send_keys(Keys.TAB).perform()
    focus = "const at = document.activeElement; return [at.hash, at.getBoundingClientRect().left, "
    found = browser.execute_script(focus + "getComputedStyle(at).outlineWidth]")
    assert found[0] == f"#{place}"
    assert found[1] >= 0
    assert found[2] == "3px"
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert browser.execute_script("return document.activeElement.id") == place


def test_tab_reaches_the_contents_beside_the_text(browser, whole):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    look(browser, whole.folder / "html" / "glossary.html", 1900, "light")
    reached = []
    for _ in range(5):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(browser.execute_script("return document.activeElement.getAttribute('href')"))
    assert reached == ["#text", "../report.html", None, "#APGR", "#CPT"]


def test_links_of_a_run_lead_to_files_that_are_there(whole):
    for path in [whole.report, *(whole.folder / "html").iterdir()]:
        for link in re.findall(r'href="([^"#:]+)', path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{link} in {path.name}"


def test_a_report_of_a_run_without_conclusions_says_so(whole, tmp_path):
    folder = tmp_path / "data" / "runs" / "mine"
    folder.mkdir(parents=True)
    entries = {"01_a": {"status": "pending", "title": "A title", "question": "Why?"}}
    text = build_report(runs.Run(folder, whole.run.manifest | {"notebooks": entries})).read_text("utf-8")
    assert "No finished notebook of this run states a conclusion." in text
    assert "A title" in text

"""Executed notebooks as pages: names and prompts from data are shown as they are, and no script ever runs."""

import base64
import html
import re

import nbformat
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_lab.errors import escape_markdown
from routellm_lab.workbook import runs
from routellm_lab.workbook.pages import clean_html, notebook_page
from routellm_lab.workbook.report import build_report, copy_gallery

NAMES = (
    "<img src=x onerror=document.title='hacked'>",
    "<script>document.title='hacked'</script>",
    "[x](javascript:document.title='hacked')",
    "<svg onload=\"document.title='hacked'\">",
    "a*b*c_d_e `f` $x$ | ~~g~~ # &lt; ![h](i.png)",
)
ACTS = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\"><p>words</p>"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def page_of(tmp_path, *cells):
    """The page of a notebook that holds these cells."""
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    nbformat.write(notebook, tmp_path / "executed.ipynb")
    path = tmp_path / "page.html"
    path.write_text(notebook_page(tmp_path / "executed.ipynb", f"Title {NAMES[0]}"), "utf-8")
    return path


def shown(**data):
    """A code cell with one output."""
    return nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", data)])


def visit(browser, path):
    """Open a page and click on every link in it; its title and its text."""
    browser.get(path.as_uri())
    for link in browser.find_elements("css selector", "a[href^='javascript' i]"):
        link.click()
    return browser.title, browser.find_element("tag name", "body").text


def hostile_cells():
    names = "\n\n".join(escape_markdown(name) for name in NAMES)
    image = nbformat.v4.new_output("display_data", {"image/png": PNG})
    image["metadata"] = {"image/png": {"width": "1 onload=document.title='hacked'", "height": 20}}
    return [
        nbformat.v4.new_markdown_cell(f"# Names\n\n{names}"),
        nbformat.v4.new_markdown_cell("\n\n".join(NAMES)),
        nbformat.v4.new_markdown_cell(r"Inline $x^2$, **bold**, [a page](https://example.com), [next](02_b.ipynb)"),
        shown(**{"text/markdown": "\n\n".join(f"- {name}" for name in NAMES)}),
        shown(**{"text/html": pd.DataFrame({"model": NAMES}).to_html()}),
        shown(**{"text/html": ACTS + "<style>p { color: red }</style>"}),
        shown(**{"application/javascript": "document.title='hacked'", "text/plain": "a script"}),
        shown(**{"text/vnd.mermaid": ACTS, "text/plain": "a diagram"}),
        shown(**{"image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg'>{NAMES[1]}</svg>"}),
        nbformat.v4.new_code_cell("1", outputs=[image]),
        nbformat.v4.new_code_cell(ACTS, outputs=[nbformat.v4.new_output("stream", name="stdout", text=ACTS)]),
    ]


def test_nothing_from_data_runs_in_a_page_and_names_are_shown_as_they_are(browser, tmp_path):
    title, text = visit(browser, page_of(tmp_path, *hostile_cells()))
    assert title == f"Title {NAMES[0]}"
    for name in NAMES:
        assert name in text
    assert "words" in text
    assert "color: red" not in text
    assert browser.find_elements("css selector", "[onerror], [onload], script, [href^='javascript' i]") == []
    assert browser.find_element("css selector", "table.dataframe").text.count("hacked") == 4
    assert browser.find_element("css selector", "math").is_displayed()
    pictures = browser.find_elements("css selector", "img[src^='data:']")
    assert len(pictures) == 2


def test_should_a_script_get_into_a_page_its_policy_stops_it(browser, tmp_path):
    path = page_of(tmp_path, *hostile_cells())
    text, acts = path.read_text("utf-8"), f"{ACTS}<a id=go href='{NAMES[2][4:-1]}'>go</a>"
    spoiled = re.sub("<main[^>]*>", lambda begin: begin[0] + acts, text)
    assert spoiled != text
    path.write_text(spoiled)
    browser.get(path.as_uri())
    browser.find_element("id", "go").click()
    assert browser.title == f"Title {NAMES[0]}"


def test_a_page_keeps_tables_equations_highlighting_and_links(tmp_path):
    text = page_of(tmp_path, *hostile_cells()).read_text("utf-8")
    assert "<th>model</th>" in text
    assert 'href="02_b.html"' in text
    assert 'href="https://example.com"' in text
    assert "<strong>bold</strong>" in text
    assert '<span class="mi">1</span>' in text  # a number in highlighted code
    assert "<msup><mi>x</mi><mn>2</mn></msup></mrow></math>" in text


@given(st.text())
def test_escaped_text_is_one_line_and_reads_as_it_was(text):
    escaped = escape_markdown(text)
    assert not set(escaped.replace("&#", "")) & set("\\`*_[]<>|~$!&\n")
    assert html.unescape(escaped).split() == html.unescape(html.escape(" ".join(text.split()))).split()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<a href='javascript:x()'>a</a>", "<a>a</a>"),
        ("<a href=' JaVa&#10;Script:x()'>a</a>", "<a>a</a>"),
        ("<a href='data:text/html,x'>a</a>", "<a>a</a>"),
        ("<img src='https://example.com/x.png' alt='a'>", '<img alt="a">'),
        (f"<img src='data:image/png;base64,{PNG}'>", f'<img src="data:image/png;base64,{PNG}">'),
        ("<p style='text-align: left; background: url(x)'>a</p>", '<p style="text-align: left;">a</p>'),
        ("<iframe src='x'></iframe><form><input></form><object></object>b", "\nb"),
        ("<meta http-equiv='refresh' content='0'><base href='x'><link href='x'>b", "b"),
        ("a < b & c", "a &lt; b &amp; c"),
    ],
)
def test_html_is_cleaned(text, left):
    assert clean_html(text) == left


@pytest.fixture
def hostile_run(tmp_path):
    """A run whose texts are all hostile, as far as a manifest and a sidecar may hold them."""
    words = " ".join(NAMES)
    entry = {
        "status": "done",
        "title": words,
        "question": words,
        "seconds": 1.0,
        "peak_mib": 1,
        "metrics": {words: words, "one": 1},
        "artifacts": {"page.html": "x"},
        "figures": {"dot.png": "x", "dot.json": "x"},
        "hash": "x",
        "error": words,
    }
    manifest = {
        "data": {"name": words, "kind": "folder", "hash": words},
        "profile": words,
        "seed": 0,
        "parameters": {words: words},
        "code": words,
        "versions": {"routellm-lab": words},
        "notebooks": {"01_a": entry},
    }
    folder = tmp_path / "runs" / "mine"
    for part in ("figures", "artifacts", "notebooks"):
        (folder / part).mkdir(parents=True)
    (folder / "figures" / "dot.png").write_bytes(base64.b64decode(PNG))
    sidecar = runs.Sidecar(
        name="dot", title=words, notebook="01_a", run="mine", data=words, simulated=False, profile="quick", seed=0
    )
    (folder / "figures" / "dot.json").write_text(sidecar.model_dump_json())
    (folder / "artifacts" / "page.html").write_text(f"<title>{html.escape(words)}</title>")
    cell = nbformat.v4.new_code_cell(words, metadata={"papermill": {"duration": 3.0}})
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {words}"), cell]),
        folder / "notebooks" / "01_a.ipynb",
    )
    return runs.Run(folder, manifest)


def test_nothing_from_data_runs_in_a_report_and_its_figures_are_shown(browser, hostile_run):
    title, text = visit(browser, build_report(hostile_run))
    assert title == "Run mine"
    for name in NAMES:
        assert text.count(name) >= 5
    (picture,) = browser.find_elements("css selector", "figure img")
    browser.execute_script("arguments[0].scrollIntoView()", picture)
    assert browser.execute_async_script(
        "const [picture, done] = arguments; picture.decode().then(() => done(picture.naturalWidth))", picture
    )
    assert browser.find_elements("css selector", "[onerror], [onload], script, [href^='javascript' i]") == []


def test_a_gallery_shows_titles_from_data_as_they_are(hostile_run, tmp_path):
    copy_gallery(hostile_run, tmp_path / "gallery")
    page = (tmp_path / "gallery" / "README.md").read_text()
    assert "<img" not in page
    assert "](javascript" not in page
    assert f"![{escape_markdown(' '.join(NAMES))}](dot.png)" in page

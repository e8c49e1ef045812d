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
from routellm_lab.workbook.metrics import CONCLUSION_MIME
from routellm_lab.workbook.pages import Around, clean_html, notebook_page, text_page
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


AROUND = Around({"01_a": "First", "02_b": f"Second {NAMES[1]}", "03_c": "Third"}, glossary=True)


def links_of(text):
    return re.findall(r'<a href="([^"]*)"[^>]*>(.*?)</a>', text)


def test_a_page_leads_back_to_its_neighbours_and_to_the_glossary():
    text = text_page("# Title", "Title", AROUND, "02_b")
    assert links_of(text)[:4] == [
        ("../report.html", "↑ Report"),
        ("01_a.html", "← First"),
        ("03_c.html", "Third →"),
        ("glossary.html", "Glossary"),
    ]
    first = text_page("", "Title", AROUND, "01_a")
    assert f"{AROUND.titles['02_b']} →" in html.unescape(first)
    assert "<script" not in first
    assert "←" not in text_page("", "Title", AROUND, "01_a")
    assert "→" not in text_page("", "Title", AROUND, "03_c")
    assert 'class="beside"' not in text_page("# Title", "Title")


@pytest.mark.parametrize(
    ("link", "left"),
    [
        ("[next](02_b.ipynb)", '<a href="02_b.html">next</a>'),
        ("[part](02_b.ipynb#Limits)", '<a href="02_b.html#Limits">part</a>'),
        ("[gone](04_d.ipynb)", "<p>gone</p>"),
        ("[report](../data/runs/latest/report.html)", '<a href="../report.html">report</a>'),
        ("[words](glossary.md#APGR)", '<a href="glossary.html#APGR">words</a>'),
        ("[elsewhere](https://example.com/02_b.ipynb)", '<a href="https://example.com/02_b.ipynb">elsewhere</a>'),
        ("[here](#Limits)", '<a href="#Limits">here</a>'),
    ],
)
def test_links_of_a_notebook_lead_to_pages_that_are_there(link, left):
    assert left in text_page(link, "Title", AROUND, "01_a")


def test_without_a_glossary_its_links_are_text():
    assert "<p>words</p>" in text_page("[words](glossary.md)", "Title", Around({"01_a": "First"}), "01_a")


def test_contents_are_the_headings_of_the_text_and_each_has_its_own_place(tmp_path):
    text = nbformat.v4.new_markdown_cell("# Title\n## One `x` & <b>two</b>\n### Deeper\n## Limits\n## Limits")
    page = page_of(tmp_path, text, shown(**{"text/markdown": "## Of an output"})).read_text("utf-8")
    contents = re.search(r'(?s)<details class="contents">.*?</details>', page)[0]
    assert [html.unescape(words) for _, words in links_of(contents)] == ["One x & two", "Deeper", "Limits", "Limits"]
    places = [place.removeprefix("#") for place, _ in links_of(contents)]
    assert len(set(places)) == 4
    for place in places:
        assert page.count(f'id="{place}"') == 1
    assert "Of an output" in page


def test_code_that_a_notebook_hides_is_not_on_its_page(tmp_path):
    def cell(source, **metadata):
        output = nbformat.v4.new_output("stream", name="stdout", text=f"output of {source}")
        return nbformat.v4.new_code_cell(source, outputs=[output], metadata=metadata)

    hidden = [cell("folded", jupyter={"source_hidden": True}), cell("tagged", tags=["remove-input"])]
    text = page_of(tmp_path, cell("seen"), *hidden).read_text("utf-8")
    assert re.findall(r'<span class="n">(\w+)</span>', text) == ["seen"]
    for source in ("seen", "folded", "tagged"):
        assert f"output of {source}" in text


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
    cell["outputs"] = [nbformat.v4.new_output("display_data", {CONCLUSION_MIME: [words, words, words]})]
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {words}"), cell]),
        folder / "notebooks" / "01_a.ipynb",
    )
    return runs.Run(folder, manifest)


def test_nothing_from_data_runs_in_a_report_and_its_figures_are_shown(browser, hostile_run):
    title, _ = visit(browser, build_report(hostile_run))
    assert title.startswith("RouteLLM lab: results on the data folder <img")
    browser.execute_script("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    text = browser.find_element("tag name", "body").text
    for name in NAMES:
        assert text.count(name) >= 12
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

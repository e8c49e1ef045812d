"""Executed notebooks as HTML pages that need nothing from the network: equations become MathML, pictures are inside.

What notebooks show comes from data: names and prompts may hold HTML. So a page is sanitized, which leaves no script in
it. Should one get past that, the page's content policy lets no script run and nothing be loaded.
"""

import html
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from routellm_lab.workbook.hashing import hash_json

CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src {images}; font-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""Of a page without scripts; pictures inside of it are ``data:``."""
STYLE = Path(__file__).with_name("style.css")
"""What the report and the pages of notebooks have in common."""
REPORT = "report.html"
GLOSSARY = "glossary"

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_SHOWN = ("text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/jpeg", "image/svg+xml")
_TAGS = frozenset(
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 "
    "hr i img kbd li mark ol p pre s samp small span strong sub summary sup table tbody td tfoot th thead tr u ul var "
    "math semantics mrow mi mn mo ms mtext mspace msub msup msubsup mfrac msqrt mroot munder mover munderover mtable "
    "mtr mtd mstyle mpadded mphantom menclose mfenced mmultiscripts mprescripts none".split()
)
_GLOBAL = ("class", "id", "title", "colspan", "rowspan", "scope", "start", "style")
_STYLES = ("text-align", "vertical-align", "color", "background-color", "font-weight", "font-style", "white-space")
_MATH = (
    "stretchy fence form separator symmetric largeop movablelimits minsize maxsize lspace rspace width height depth "
    "linebreak linethickness columnalign rowspacing columnspacing columnlines rowlines displaystyle scriptlevel accent "
    "accentunder mathvariant notation xmlns open close separators".split()
)
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*")
_WIDGET = "application/vnd.jupyter.widget-view+json"
_CONTENTS_FROM = 3  # headings


@dataclass(frozen=True)
class Around:
    """The pages of a run, to lead from one to the others.

    Attributes
    ----------
    titles : dict
        Of the notebooks that have a page, by name, in the run's order.
    glossary : bool
        Whether the run has a page of the glossary.
    """

    titles: dict[str, str]
    glossary: bool = False

    @property
    def stamp(self) -> str:
        """Names these pages and how they are laid out: a page with another stamp is out of date."""
        layout = [path.read_text("utf-8") for path in (_TEMPLATE, STYLE)]
        return hash_json([list(self.titles.items()), self.glossary, layout])

    def beside(self, name: str) -> str:
        """Links from a page back to the report, to its neighbours and to the glossary."""
        names = list(self.titles)
        links = [(f"../{REPORT}", "↑ Report")]
        if name in names:
            at = names.index(name)
            links += [(f"{other}.html", f"← {self.titles[other]}") for other in names[max(at - 1, 0) : at]]
            links += [(f"{other}.html", f"{self.titles[other]} →") for other in names[at + 1 : at + 2]]
        if self.glossary and name != GLOSSARY:
            links.append((f"{GLOSSARY}.html", "Glossary"))
        return " ".join(f'<a href="{html.escape(url)}">{html.escape(words)}</a>' for url, words in links)

    def has(self, name: str) -> bool:
        return self.glossary if name == GLOSSARY else name in self.titles


def notebook_page(executed: Path, title: str, around: Around | None = None, name: str = "") -> str:
    """An executed notebook as one HTML page that loads nothing from elsewhere.

    Parameters
    ----------
    executed : Path
    title : str
    around : Around, optional
        The other pages of its run: links to notebooks that have no page there become plain text.
    name : str
        The notebook's own name among them.
    """
    import nbformat

    notebook = nbformat.read(executed, as_version=4)
    for cell in notebook.cells:
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden") is True
        if hidden or "remove-input" in cell.metadata.get("tags", ()):
            cell.metadata["transient"] = {"remove_source": True}  # what nbconvert asks for
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "data" not in output:
            continue
        if _WIDGET in output["data"]:
            output["data"] = {"text/html": "<p><em>Widgets need a kernel: open the notebook in JupyterLab.</em></p>"}
        output["data"] = {kind: shown for kind, shown in output["data"].items() if kind in _SHOWN}
        about = output.get("metadata", {})
        output["metadata"] = {kind: _sizes(values) for kind, values in about.items() if kind in _SHOWN}
    return _rendered(notebook, title, around, name)


def text_page(source: str, title: str, around: Around | None = None, name: str = "") -> str:
    """A Markdown text as a page like those of notebooks."""
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)])
    return _rendered(notebook, title, around, name)


def _rendered(notebook: Any, title: str, around: Around | None, name: str) -> str:
    notebook.metadata["title"] = title
    notebook.metadata.pop("widgets", None)  # their scripts would be fetched from the network
    headings: list[tuple[int, str, str]] = []
    contents = f"<!-- {secrets.token_hex(16)} -->"  # known only when the text is rendered
    resources = {
        "policy": CONTENT_POLICY.format(images="data:"),
        "style": STYLE.read_text("utf-8"),
        "stamp": around.stamp if around else "",
        "beside": around.beside(name) if around else "",
        "contents": contents,
    }
    body, _ = _exporter(around, headings).from_notebook_node(notebook, resources)
    return body.strip().replace(contents, _contents(headings)) + "\n"


def _contents(headings: list[tuple[int, str, str]]) -> str:
    listed = [heading for heading in headings if heading[0] in (2, 3)]
    if len(listed) < _CONTENTS_FROM:
        return ""
    items = (
        f'<li{" class=deeper" if level == 3 else ""}><a href="#{html.escape(anchor)}">{html.escape(words)}</a></li>'
        for level, words, anchor in listed
    )
    summary = "<summary>On this page</summary>"
    links = f'<nav aria-label="On this page"><ul>{"".join(items)}</ul></nav>'
    return f'<details class="contents">{summary}{links}</details>'


def _exporter(around: Around | None, headings: list[tuple[int, str, str]]) -> Any:
    """An exporter of one page, which collects the headings of the notebook's text, not those of its outputs."""
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    taken: set[str] = set()

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return mathml(body, "block")

        def inline_math(self, body: str) -> str:
            return mathml(body, "inline")

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

        def link(self, text: str, url: str, title: str | None = None) -> str:
            page = _page_of_link(url, around)
            return text if page is None else super().link(text, page, title)

    class Prose(Renderer):
        def heading(self, text: str, level: int, **attributes: Any) -> str:
            words = html.unescape(re.sub(r"<[^<>]*>", "", text)).strip()
            anchor = _anchor(words, taken)
            headings.append((level, words, anchor))
            place = html.escape(anchor)
            link = f'<a class="anchor-link" href="#{place}" title="Link to this place">¶</a>' if level > 1 else ""
            return f'<h{level} id="{place}">{text}{link}</h{level}>\n'

    class Exporter(HTMLExporter):
        def default_filters(self) -> Iterator[tuple[str, Any]]:
            yield from super().default_filters()
            outputs, prose = (
                MarkdownWithMath(renderer(escape=False, exclude_anchor_links=True)) for renderer in (Renderer, Prose)
            )
            yield "markdown2html", outputs.render
            yield "prose", lambda source: clean_html(prose.render(source))
            yield "clean_html", clean_html
            yield "picture", _picture

    return Exporter(
        raw_template=_TEMPLATE.read_text("utf-8"),
        embed_images=True,
        sanitize_html=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )


def _page_of_link(url: str, around: Around | None) -> str | None:
    """Where a link of a notebook leads to in a run: a neighbour's page lies beside it; None where there is none."""
    file, mark, place = url.partition("#")
    if file.endswith(f"/{REPORT}"):
        return f"../{REPORT}{mark}{place}"
    name = file.removesuffix(".ipynb") if file.endswith(".ipynb") else GLOSSARY if file == f"{GLOSSARY}.md" else ""
    if not name or "/" in file:
        return url
    return f"{name}.html{mark}{place}" if around is None or around.has(name) else None


def _anchor(words: str, taken: set[str]) -> str:
    """The name of a heading in its page, as GitHub and JupyterLab make it; a second of that name gets a number."""
    base = re.sub(r"[^\w-]", "", words.replace(" ", "-")) or "part"
    anchor = next(name for name in (base, *(f"{base}-{n}" for n in range(1, len(taken) + 2))) if name not in taken)
    taken.add(anchor)
    return anchor


def _picture(output: Any, kind: str) -> str:
    sizes = output.get("metadata", {}).get(kind, {})
    words = html.escape(sizes.get("alt") or "a picture without a description")
    size = "".join(f' {name}="{sizes[name]}"' for name in ("width", "height") if name in sizes)
    source = html.escape(re.sub(r"\s", "", str(output["data"][kind])))
    image = f'<img src="data:{kind};base64,{source}" alt="{words}"{size}>'
    return f'<div class="jp-RenderedImage jp-OutputArea-output">{image}</div>'


def clean_html(text: str | bytes) -> str:
    """HTML without what could act, such as scripts, forms and frames; text, tables, pictures and equations stay."""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    # their text is no text to be read; what they could do is prevented by the cleaner
    text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>", "", text)
    return _cleaner().clean(text)


@lru_cache(maxsize=1)
def _cleaner() -> Any:
    from bleach.css_sanitizer import CSSSanitizer
    from bleach.sanitizer import Cleaner

    def allowed(tag: str, name: str, value: str) -> bool:
        if tag == "img":
            return name in ("alt", "width", "height") or (name == "src" and _PICTURE.fullmatch(value) is not None)
        if name == "href" and tag == "a":
            return not value.strip().lower().startswith("data:")
        return name in _GLOBAL or (tag == "math" and name == "display") or (tag.startswith("m") and name in _MATH)

    style = CSSSanitizer(allowed_css_properties=_STYLES)
    links = {"http", "https", "mailto", "data"}
    return Cleaner(tags=_TAGS, attributes=allowed, protocols=links, css_sanitizer=style, strip=True)


def _sizes(values: Any) -> dict[str, Any]:
    """Width, height and words of a picture, of all that an output says about it."""
    known = values if isinstance(values, dict) else {}
    sizes = {name: known[name] for name in ("width", "height") if type(known.get(name)) is int}
    return sizes | ({"alt": known["alt"]} if isinstance(known.get("alt"), str) else {})


def mathml(latex: str, display: str) -> str:
    """An equation as MathML, which browsers show without a script; as code where it cannot be converted."""
    from latex2mathml.converter import convert

    try:
        return convert(latex.strip(), display=display)
    except Exception:  # its parser raises many kinds; a reader can still read the source
        return f"<code>{html.escape(latex)}</code>"

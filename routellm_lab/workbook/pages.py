"""Executed notebooks as HTML pages that need nothing from the network: equations become MathML, pictures are inside.

What notebooks show comes from data: names and prompts may hold HTML. So a page is sanitized, which leaves no script in
it. Should one get past that, the page's content policy lets no script run and nothing be loaded.
"""

import html
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src {images}; font-src data:; base-uri 'none'; "
    "form-action 'none'"
)
"""Of a page without scripts; pictures inside of it are ``data:``."""

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
_NO_NETWORK = "".join(
    f"{{% block html_head_js_{part} %}}{{% endblock %}}" for part in ("requirejs", "mathjax", "mermaidjs")
)


def notebook_page(executed: Path, title: str) -> str:
    """An executed notebook as one HTML page that loads nothing from elsewhere."""
    import nbformat

    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata["title"] = title
    notebook.metadata.pop("widgets", None)  # their scripts would be fetched from the network
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "data" not in output:
            continue
        if _WIDGET in output["data"]:
            output["data"] = {"text/html": "<p><em>Widgets need a kernel: open the notebook in JupyterLab.</em></p>"}
        output["data"] = {kind: shown for kind, shown in output["data"].items() if kind in _SHOWN}
        about = output.get("metadata", {})
        output["metadata"] = {kind: _sizes(values) for kind, values in about.items() if kind in _SHOWN}
    body, _ = _exporter().from_notebook_node(notebook)
    return body


@lru_cache(maxsize=1)
def _exporter() -> Any:
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return mathml(body, "block")

        def inline_math(self, body: str) -> str:
            return mathml(body, "inline")

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

        def link(self, text: str, url: str, title: str | None = None) -> str:
            here = "/" not in url and url.endswith(".ipynb")  # a neighbour: its page lies beside this one
            return super().link(text, url.removesuffix(".ipynb") + ".html" if here else url, title)

    class Exporter(HTMLExporter):
        def default_filters(self) -> Iterator[tuple[str, Any]]:
            yield from super().default_filters()
            yield "markdown2html", lambda source: MarkdownWithMath(Renderer(escape=False)).render(source)
            yield "clean_html", clean_html

    policy = f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY.format(images="data:")}">'
    template = "{% extends 'lab/index.html.j2' %}{% block html_head %}" + policy + "{{ super() }}{% endblock %}"
    return Exporter(raw_template=template + _NO_NETWORK, embed_images=True, sanitize_html=True)


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


def _sizes(values: Any) -> dict[str, int]:
    """Width and height of a picture, of all that an output says about it."""
    known = values if isinstance(values, dict) else {}
    return {name: known[name] for name in ("width", "height") if type(known.get(name)) is int}


def mathml(latex: str, display: str) -> str:
    """An equation as MathML, which browsers show without a script; as code where it cannot be converted."""
    from latex2mathml.converter import convert

    try:
        return convert(latex.strip(), display=display)
    except Exception:  # its parser raises many kinds; a reader can still read the source
        return f"<code>{html.escape(latex)}</code>"

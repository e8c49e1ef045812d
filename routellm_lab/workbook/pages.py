"""Executed notebooks as HTML pages that need nothing from the network: equations become MathML, pictures are inside."""

import html
from functools import lru_cache
from pathlib import Path
from typing import Any

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
        if _WIDGET in output.get("data", {}):
            output["data"] = {"text/html": "<p><em>Widgets need a kernel: open the notebook in JupyterLab.</em></p>"}
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
        def default_filters(self):
            yield from super().default_filters()
            yield "markdown2html", lambda source: MarkdownWithMath(Renderer(escape=False)).render(source)

    return Exporter(raw_template="{% extends 'lab/index.html.j2' %}" + _NO_NETWORK, embed_images=True)


def mathml(latex: str, display: str) -> str:
    """An equation as MathML, which browsers show without a script; as code where it cannot be converted."""
    from latex2mathml.converter import convert

    try:
        return convert(latex.strip(), display=display)
    except Exception:  # its parser raises many kinds; a reader can still read the source
        return f"<code>{html.escape(latex)}</code>"

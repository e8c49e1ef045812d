"""The documentation site (`make docs`). It needs no network.

The pages of the API are made from the public names (``__all__``) of each room; the gallery holds the notebooks of the
latest run on simulated data, if there is one.
"""

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode

import routellm_lab
from routellm_lab.settings import settings
from routellm_lab.workbook.pages import mathml

HERE = Path(__file__).parent
ROOMS = (
    "preferences benchmarks encoders routers evaluation policies costs judging studies systems paper plots workbook"
).split()

project = "routellm_lab"
copyright = "the authors of routellm_lab (Apache-2.0)"
version = release = routellm_lab.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = "routellm_lab"
html_static_path = ["_static"]
html_theme_options = {"show_prev_next": True, "navbar_align": "left", "footer_start": ["copyright"], "footer_end": []}
html_sidebars = {"*": []}
html_show_sourcelink = False
html_copy_source = False

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", -1)]
html_math_renderer = "mathml"

autosummary_generate = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"
_OF_SCIKIT_LEARN = (
    "get_metadata_routing, get_params, set_params, set_fit_request, "
    "set_predict_proba_request, set_predict_request, set_score_request, set_transform_request"
)
autodoc_default_options = {"exclude-members": _OF_SCIKIT_LEARN}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
suppress_warnings = ["mystnb.unknown_mime_type", "myst.xref_missing"]


def write_api() -> None:
    """One page per room, and their index."""
    folder = HERE / "api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    index = ["# API reference", "", "```{toctree}", ":maxdepth: 1", ""]
    for room in ROOMS:
        module = import_module(f"routellm_lab.{room}")
        purpose = (module.__doc__ or "").strip().splitlines()[0]
        names = [name for name in module.__all__ if callable(getattr(module, name))]
        page = [
            f"# routellm_lab.{room}",
            "",
            purpose,
            "",
            "```{eval-rst}",
            f".. currentmodule:: routellm_lab.{room}",
            "",
        ]
        page += [".. autosummary::", "   :toctree: generated", "", *(f"   {name}" for name in sorted(names)), "```", ""]
        (folder / f"{room}.md").write_text("\n".join(page), "utf-8")
        index.append(room)
    (folder / "index.md").write_text("\n".join([*index, "```", ""]), "utf-8")


def write_gallery() -> None:
    """The executed notebooks of the latest run on simulated data: those of real data quote licensed prompts."""
    folder = HERE / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    lines = ["# Gallery", "", "The notebooks, executed on **simulated** data in the quick profile.", ""]
    manifests = sorted(settings().runs_dir.glob("*/manifest.json"), reverse=True)
    sample = [path.parent for path in manifests if json.loads(path.read_text())["data"]["kind"] == "sample"]
    names: list[str] = []
    for path in sorted((sample[0] / "notebooks").glob("*.ipynb")) if sample else []:
        shutil.copyfile(path, folder / path.name)
        names.append(path.stem)
    if not names:
        lines.append("There is no run on simulated data yet: `make run`, then `make docs`.")
    lines += ["```{toctree}", ":maxdepth: 1", "", *(f"notebooks/{name}" for name in names), "```", ""]
    (HERE / "gallery.md").write_text("\n".join(lines), "utf-8")


write_api()
write_gallery()


def setup(app: Any) -> None:
    """Equations as MathML: browsers show it without a script from elsewhere."""

    def equation(kind: str) -> Any:
        def visit(translator: Any, node: Any) -> None:
            text = mathml(node.astext(), kind)
            translator.body.append(text if kind == "inline" else f'<div style="overflow-x: auto">{text}</div>')
            raise SkipNode

        return visit, None

    app.add_html_math_renderer("mathml", equation("inline"), equation("block"))

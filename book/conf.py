"""Sphinx's settings for the book. `book.py` gathers the pages and starts Sphinx; `make book` starts that."""

import os
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

import labkit

RIGHT_TO_LEFT = {"ar"}
FOREIGN = {"Tensor"}  # torch's
# Imported only where they are needed, and heavy or rare: with stand-ins, the reference is the same on every machine.
VENDORS = [
    "agentlightning",
    "foundry_local_sdk",
    "mlx",
    "mlx_lm",
    "onnxruntime_genai",
    "ray",
    "torch",
    "transformers",
]

project = "labkit"
author = "labkit contributors"
copyright = author  # noqa: A001 - Sphinx's name
version = release = labkit.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
nb_execution_mode = "off"  # `book.py run` did it
nb_code_prompt_show = "Show an answer"
nb_code_prompt_hide = "Hide the answer"
nb_ipywidgets_js: dict[str, Any] = {}  # would come from a CDN
myst_heading_anchors = 3
myst_links_external_new_tab = False
autodoc_mock_imports = VENDORS
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
html_theme = "sphinx_book_theme"
html_title = "labkit"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_sourcelink_suffix = ""
html_last_updated_fmt = None
REPOSITORY = os.environ.get("BOOK_REPOSITORY", "")
html_theme_options: dict[str, Any] = {
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "path_to_docs": "",
    "navbar_persistent": [],  # the sidebar has the search already
    "repository_branch": os.environ.get("BOOK_BRANCH", "main"),
}
if REPOSITORY:
    html_theme_options |= {
        "repository_url": REPOSITORY,
        "use_repository_button": True,
        "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
    }


def _restructured(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn a docstring, which is plain text with Markdown's `code`, into reStructuredText."""
    blocks = "\n".join(lines).strip("\n").split("\n\n")
    lines[:] = "\n\n".join(f"::\n\n{b}" if b.startswith(" ") else _paragraph(b) for b in blocks).splitlines()


def _paragraph(text: str) -> str:
    code_and_prose = re.split(r"`([^`]+)`", text)
    for place, part in enumerate(code_and_prose):
        is_code = place % 2
        code_and_prose[place] = (
            f"\\ ``{' '.join(part.split())}``\\ " if is_code else re.sub(r"([\\*_|])", r"\\\1", part)
        )
    return "".join(code_and_prose).removeprefix("\\ ")


def _foreign(app: Sphinx, doctree: nodes.document) -> None:
    """Leave another library's types unlinked: stand-ins do not say whose they are, and some of ours have the name."""
    for node in list(doctree.findall(pending_xref)):
        if node.get("reftarget") in FOREIGN:
            node.replace_self(nodes.Text(node["reftarget"]))


def _direction(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document
) -> None:
    """Mark what is written from right to left; code in it stays as it is (book.css)."""
    language = page.split("/")[1] if page.count("/") == 2 else ""
    if language and doctree is not None:
        side = "rtl" if language in RIGHT_TO_LEFT else "ltr"
        context["body"] = f'<div lang="{language}" dir="{side}">{context["body"]}</div>'


def setup(app: Sphinx) -> None:
    """Connect the three."""
    app.connect("autodoc-process-docstring", _restructured)
    app.connect("doctree-read", _foreign)
    app.connect("html-page-context", _direction)

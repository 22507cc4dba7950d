"""How sphinx builds this documentation: ``make docs``.  Nothing is fetched, neither at the build nor by a reader."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "src")]

from sigmascope import __version__  # noqa: E402

project = "sigmascope"
author = "The sigmascope authors"
copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "commands",
    "docstrings",
    "mathml",
    "public_names",
]
exclude_patterns = ["figures", "_ext"]
root_doc = "index"
language = "en"
smartquotes = False  # options begin with two hyphens

myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 3

autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
suppress_warnings = ["ref.python"]  # a word within a type can be the name of several fields; it is then not linked

html_theme = "furo"
html_title = f"sigmascope {release}"
html_copy_source = False
html_math_renderer = "mathml"

# Sphinx reads this when `make docs` builds the pages. They are Markdown (MyST); nothing is fetched from elsewhere,
# neither at build nor in the reader's browser.
from importlib.metadata import version as installed_version
from itertools import groupby
from pathlib import Path

import daskimg

project = "daskimg"
author = "daskimg developers"
copyright = "daskimg developers"
release = version = installed_version("daskimg")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_typehints = "none"  # the docstrings say it in words
myst_enable_extensions = ["colon_fence", "deflist"]
default_role = "code"
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"daskimg {release}"
html_copy_source = False
html_show_sourcelink = False


def write_operations_page(app):
    """Write the page of all operations from the registry, so that a new one is on it."""
    known = sorted(daskimg.list_operations().values(), key=lambda one: (one.topic, one.name))
    lines = ["# Operations", "", "Each takes a NumPy array, a dask array or a labelled array as its first argument;"]
    lines += ["called without one it is a step of a pipeline. `daskimg ops NAME` prints what is said here.", ""]
    for topic, members in groupby(known, key=lambda one: one.topic):
        lines += [f"## {topic.capitalize()}", "", "```{eval-rst}"]
        lines += [f".. autofunction:: daskimg.{one.name}" for one in members]
        lines += ["```", ""]
    Path(app.srcdir, "operations.md").write_text("\n".join(lines), encoding="utf-8")


def setup(app):
    """Be a Sphinx extension."""
    app.connect("builder-inited", write_operations_page)

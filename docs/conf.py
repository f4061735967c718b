"""How Sphinx builds the site; its source is the whole repository, so that links work on a code host as well."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

project, author = "pythermo", "The pythermo authors"
copyright = author
version = release = metadata.version("pythermo")
root_doc = "docs/index"
include_patterns = ["docs/**", "bench/results/*.md", "tests/gpu/README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = ["docs/examples/**", "docs/gallery/*.py", "docs/gallery/*.ipynb", "docs/gallery/*.zip"]
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
default_role = "py:obj"  # as single backticks of docstrings mean it
autosummary_generate = True
autodoc_typehints = "none"  # docstrings say them
numpydoc_show_class_members = False
html_theme = "furo"
html_title = f"pythermo {release}"
html_show_sourcelink = False
sphinx_gallery_conf = {
    "examples_dirs": ["docs/examples"],
    "gallery_dirs": ["docs/gallery"],
    "filename_pattern": "plot_",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
}


def write_command_line(app: Sphinx) -> None:
    """Write the page of all commands from what they say of themselves."""
    page = Path(app.srcdir) / "docs" / "reference" / "commands.md"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "typer",
            "pythermo.cli",
            "utils",
            "docs",
            "--name",
            "pythermo",
            "--title",
            "Commands",
            "--output",
            page,
        ],
        check=True,
        capture_output=True,
    )


def let_bars_be(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let |G| of a docstring be a norm and no substitution, but in literals and examples."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``)", line)
            parts[::2] = [text.replace("|", r"\|") for text in parts[::2]]
            lines[number] = "".join(parts)


def point_to_the_first_page(app: Sphinx, exception: Exception | None) -> None:
    """Let the folder of the site open at its first page, which lies deeper."""
    if exception is None:
        page = '<meta http-equiv="refresh" content="0; url=docs/index.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Let Sphinx make what is generated before it reads its source."""
    app.connect("builder-inited", write_command_line)
    app.connect("build-finished", point_to_the_first_page)
    app.connect("autodoc-process-docstring", let_bars_be, priority=900)  # after numpydoc

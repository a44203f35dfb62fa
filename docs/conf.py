"""
Configuration of the site, which ``make docs`` builds from the whole repository.

The source folder is the root of the repository, so that links from one page to another, to results
and to examples are the same on the site, on the disk and on the repository's host.
"""

from pathlib import Path
from typing import Any

from dqn_plugins import __version__

PAGES = Path(__file__).parent
project = "dqn_plugins"
copyright = "the authors of dqn_plugins"
version = release = __version__
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "benchmarks/search/README.md",
    "CHANGELOG.md",
]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]

myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 3
# The cell of a table, the ticks of a chart: code that no lexer knows stays as it is.
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
html_theme = "furo"
html_title = f"dqn_plugins {version}"
html_extra_path = ["_extra"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False


def name_the_other_pages(app: Any, docname: str, source: list[str]) -> None:
    """Replace patterns in the contents by the pages they mean that are not named one by one."""
    if docname != root_doc:
        return
    lines = source[0].splitlines()
    listed = {line.strip() for line in lines} | {"index"}
    named = []
    for line in lines:
        if not line.endswith("*"):
            named.append(line)
            continue
        folder = line.rpartition("/")[0]
        found = sorted(str(Path(folder, path.stem)) for path in PAGES.glob(f"{line}.md"))
        others = [page for page in found if page not in listed]
        listed.update(others)
        named += others
    source[0] = "\n".join(named) + "\n"


def setup(app: Any) -> None:
    """Tell Sphinx of it."""
    app.connect("source-read", name_the_other_pages)

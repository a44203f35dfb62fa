"""
Execute ``examples/seed_notebook.ipynb`` and write it with what it printed and drew to ``seed.md``.

Pictures go to ``images/seed_*.png``; videos stay in the notebook, where they play. What follows the
notebook on the page stands in ``seed_ladder.txt``. ``make seed-page``.
"""

import base64
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PAGES = Path(__file__).parent
NOTEBOOK = PAGES.parent / "examples" / "seed_notebook.ipynb"
# What the test of the page does less of
MARKERS = {"budget": "<!-- in the test: VIDEOS = 5 -> VIDEOS = 1 -->"}


SYMBOLS = {
    r"\text{target}": "target", r"\bigl": "", r"\bigr": "", "_{a'}": "", r"\gamma": "γ",
    r"\alpha": "α", r"\max": "max", r"\approx": "≈", "^{100}": "¹⁰⁰", r" \,": " ·", "'": "′",
}  # fmt: skip


def without_latex(text: str) -> str:
    """Write formulas in plain characters: the site shows them without a script from elsewhere."""

    def plain(found: re.Match[str]) -> str:
        formula = found[1]
        for latex, symbol in SYMBOLS.items():
            formula = formula.replace(latex, symbol)
        return f"*{formula.strip()}*" if len(formula) < 4 else formula.strip()

    text = re.sub(r"\$\$(.+?)\$\$", lambda found: f"    {plain(found)}", text, flags=re.S)
    return re.sub(r"\$(.+?)\$", plain, text)


def as_text(notebook: nbformat.NotebookNode) -> str:
    """Write an executed notebook as Markdown."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(without_latex(cell.source))
            continue
        code = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        marker = MARKERS.get(cell.id)
        parts.append(f"{marker}\n```python\n{code}\n```" if marker else f"```python\n{code}\n```")
        printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                picture = PAGES / "images" / f"seed_{cell.id}.png"
                picture.write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![What the cell above draws](images/{picture.name})")
            elif "<video" in data.get("text/html", ""):
                parts.append(
                    "*The videos play in the notebook, not on this page: run it to watch them.*"
                )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Execute and write."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=3_600, resources=resources).execute()
    note = (
        "*The notebook [`seed_notebook.ipynb`](../examples/seed_notebook.ipynb) as it ran: "
        "`make seed-page` runs it again, in a minute or two. The same from the command line is "
        "[`seed_notebook.py`](../examples/seed_notebook.py).*"
    )
    title, rest = as_text(notebook).split("\n", 1)
    ladder = (PAGES / "seed_ladder.txt").read_text(encoding="utf-8")
    (PAGES / "seed.md").write_text(f"{title}\n\n{note}\n{rest}\n{ladder}", encoding="utf-8")


if __name__ == "__main__":
    main()

"""
Writes into README and the pages what the benchmarks measured: ``make numbers``.

``numbers.yaml`` says which cells of which results are meant, and which sentences and rows of tables
they stand in. ``tests/test_docs.py`` asks whether all of them are up to date.
"""

import csv
import re
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
NUMBER = r"[−-]?[\d.,]*\d"
PLACE = rf"({NUMBER}(?: (?:to|of) {NUMBER})?)"
"""What stands on a page where numbers are to be."""


class Cell:
    """
    A cell of a result: as it is written there, or with a format the first number in it.

    :param text: What is written.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.numbers = re.findall(NUMBER, text)

    def __getitem__(self, index: int) -> "Cell":
        """One of its numbers."""
        return Cell(self.numbers[index])

    def __format__(self, spec: str) -> str:
        if not spec:
            return self.text
        number = float(self.numbers[0].replace("−", "-").replace(",", ""))
        if spec == "hundreds":
            number, spec = round(number, -2), ",.0f"
        return format(number, spec).replace("-", "−")


def rows_of(path: Path) -> list[dict[str, str]]:
    """
    Read the rows of all tables of a result.

    :param path: A page or a CSV file.
    :return: The rows, by the names of their columns.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        return list(csv.DictReader(text.splitlines()))
    rows: list[dict[str, str]] = []
    names: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if not line.startswith("|"):
            names = []
        elif not names:
            names = cells
        elif not set(line) <= set("|-: "):
            rows.append(dict(zip(names, cells, strict=False)))
    return rows


class Row:
    """
    A row of a result: one that has all the given cells and all the columns.

    :param file: The result's file, from the root of the repository.
    :param columns: Short names of columns, and the columns.
    :param cells: What stands in the row.
    """

    def __init__(self, file: str, columns: dict[str, str], cells: list[Any]) -> None:
        wanted = {str(cell) for cell in cells}
        found = [
            row
            for row in rows_of(ROOT / file)
            if {*columns.values()} <= row.keys() and wanted <= {*row.values()}
        ]
        if len(found) != 1:
            raise ValueError(f"numbers.yaml: {len(found)} rows of {file} have {cells}")
        vars(self).update({short: Cell(found[0][column]) for short, column in columns.items()})


def written(page: str, places: list[str], rows: dict[str, Row], name: str = "") -> str:
    """
    Put the numbers into a page.

    :param page: Its text.
    :param places: Sentences or rows of tables with ``{row.column:format}`` for the numbers.
    :param rows: The results' rows by their names.
    :param name: The page's name, for messages.
    :return: The text with today's numbers.
    :raises ValueError: If one of the places is not there, or not the only one.
    """
    for place in places:
        pattern, numbers = "", []
        for literal, field, spec, _ in Formatter().parse(place):
            pattern += re.sub(r"(\\? )+", r"\\s+", re.escape(literal))
            if field is not None:
                pattern += PLACE
                numbers.append(f"{{{field}:{spec}}}".format(**rows))
        found = list(re.finditer(pattern, page))
        if len(found) != 1:
            raise ValueError(f"numbers.yaml: {len(found)} places in {name} are like {place!r}")
        for index, number in reversed(list(enumerate(numbers, 1))):
            start, end = found[0].span(index)
            page = page[:start] + number + page[end:]
    return page


def pages() -> dict[Path, str]:
    """
    Every page that has numbers, with today's.

    :return: The pages' paths, and what should stand in them.
    """
    plan = yaml.safe_load((ROOT / "docs" / "numbers.yaml").read_text(encoding="utf-8"))
    rows = {
        name: Row(**plan["results"][result], cells=cells)
        for result, named in plan["rows"].items()
        for name, cells in named.items()
    }
    return {
        ROOT / name: written((ROOT / name).read_text(encoding="utf-8"), places, rows, name)
        for name, places in plan["places"].items()
    }


if __name__ == "__main__":
    for page_path, text in pages().items():
        if page_path.read_text(encoding="utf-8") != text:
            page_path.write_text(text, encoding="utf-8")
            print(f"numbers: {page_path.relative_to(ROOT)} has new ones")

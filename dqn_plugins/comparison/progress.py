"""How far a study is, shown while it runs: one bar for all of it and one per cell at work."""

from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dqn_plugins.comparison.cell import PROGRESS, CellJob
from dqn_plugins.files import read_json

__all__ = ["LiveProgress"]


class LiveProgress:
    """
    Shows progress while it is entered, and a line for each cell that is over.

    It reads what the cells write into their folders, which works wherever they run.

    :param cells: The cells that are to be done.
    :param console: Where to show it. If it is not a terminal, there are only the lines.
    """

    def __init__(self, cells: list[CellJob], console: Console) -> None:
        self.waiting = list(cells)
        self.n_cells = len(cells)
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.all_bar = self.bars.add_task("all", total=len(cells), note="")
        self.cell_bars: dict[Path, TaskID] = {}

    def __enter__(self) -> "LiveProgress":
        self.bars.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def look(self) -> None:
        """Bring everything up to date with what the cells have written."""
        under_way = 0.0
        for cell in self.waiting:
            state = read_json(cell.working_folder / PROGRESS)
            if state:
                under_way += state["progress"]
                self._show(cell, state)
        over = self.n_cells - len(self.waiting)
        note = f"{over} of {self.n_cells} cells"
        self.bars.update(self.all_bar, completed=over + under_way, note=note)

    def _show(self, cell: CellJob, state: dict[str, Any]) -> None:
        if cell.folder not in self.cell_bars:
            self.cell_bars[cell.folder] = self.bars.add_task(escape(cell.name), total=1, note="")
        note = f"{state['steps']:,} steps"
        if state["last_return"] is not None:
            note += f", greedy return {state['last_return']:.1f}"
        self.bars.update(self.cell_bars[cell.folder], completed=state["progress"], note=note)

    def report(self, cell: CellJob, problem: str | None) -> None:
        """
        Write the line of a cell that is over.

        :param cell: The cell.
        :param problem: Why it failed; None if it is finished.
        """
        self.waiting.remove(cell)
        if cell.folder in self.cell_bars:
            self.bars.remove_task(self.cell_bars.pop(cell.folder))
        if problem is None:
            timings = read_json(cell.folder / "timings.json")
            steps, seconds = timings["training_steps"], timings["training_cpu_seconds"]
            line = f"{cell.name}: {steps:,} steps in {seconds:.1f} CPU seconds"
        else:
            line = f"{cell.name}: failed: {problem}"
        style = "red" if problem else None
        self.console.print(line, markup=False, style=style, soft_wrap=True)

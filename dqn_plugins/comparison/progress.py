"""How far a study is, shown while it runs: one bar for all of it and one per cell at work."""

from pathlib import Path

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


class LiveProgress(Progress):
    """
    Shows progress while it is entered, as cells write it into their folders, wherever they run. On
    a console that is not a terminal, there is a line per cell only.
    """

    def __init__(self, cells: list[CellJob], console: Console) -> None:
        super().__init__(
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
        self.waiting = list(cells)
        self.all_bar = self.add_task("all", total=len(cells), note="")
        self.bars: dict[Path, TaskID] = {}

    def look(self) -> None:
        """Bring everything up to date with what the cells have written."""
        n_cells = self.tasks[0].total or 0
        done = over = n_cells - len(self.waiting)
        for cell in self.waiting:
            state = read_json(cell.working_folder / PROGRESS)
            if not state:
                continue
            done += state["progress"]
            if cell.folder not in self.bars:
                self.bars[cell.folder] = self.add_task(escape(cell.name), total=1, note="")
            note = f"{state['steps']:,} steps"
            if state["is_compiling"]:
                note = "compiling, once on this machine"
            if state["last_return"] is not None:
                note += f", greedy return {state['last_return']:.1f}"
            self.update(self.bars[cell.folder], completed=state["progress"], note=note)
        self.update(self.all_bar, completed=done, note=f"{over:.0f} of {n_cells:.0f} cells")

    def report(self, cell: CellJob, problem: str | None) -> None:
        """Write the line of a cell that is over; ``problem`` says why it failed, None if not."""
        self.waiting.remove(cell)
        if cell.folder in self.bars:
            self.remove_task(self.bars.pop(cell.folder))
        line, style = f"{cell.name}: failed: {problem}", "red"
        if problem is None:
            timings = read_json(cell.folder / "timings.json")
            steps, seconds = timings["training_steps"], timings["training_cpu_seconds"]
            line, style = f"{cell.name}: {steps:,} steps in {seconds:.1f} CPU seconds", ""
        self.console.print(line, markup=False, style=style, soft_wrap=True)

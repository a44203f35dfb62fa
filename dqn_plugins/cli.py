"""The command ``dqn-plugins``: its subcommands are dataclasses of settings."""

import io
import shlex
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro
from gymnasium.error import DependencyNotInstalled
from rich.console import Console
from tyro.conf import Positional, Suppress, UseAppendAction

from dqn_plugins import __version__
from dqn_plugins.comparison.settings import ComparisonSettings, read_settings
from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.algorithms import ALGORITHMS
from dqn_plugins.experiments.record import ExportSettings, RecordSettings, export, record
from dqn_plugins.experiments.settings import RunSettings
from dqn_plugins.experiments.train import TrainSettings, train
from dqn_plugins.experiments.watch import WatchSettings, watch
from dqn_plugins.files import output_folder

__all__ = ["main"]

GO_ON = {
    "compare": " The same command does what is missing.",
    "train": (
        " The same command with --resume goes on from the last checkpoint, or begins anew if there "
        "is none: --checkpoint-every writes them."
    ),
}
"""What to do after Ctrl-C."""

ALGO = tyro.conf.arg(
    help=f"Algorithm, or a variant of --config, by name. Algorithms: {', '.join(ALGORITHMS)}."
)


@dataclass(frozen=True, kw_only=True)
class _Repeatable(RunSettings):
    """Flags that may be there several times, and one that tyro wants to have a default."""

    hp: UseAppendAction[tuple[str, ...]] = ()
    zoo: UseAppendAction[tuple[Path, ...]] = ()
    env_kwargs: UseAppendAction[tuple[str, ...]] = ()
    wrapper: UseAppendAction[tuple[str, ...]] = ()
    normalize: bool = False


@dataclass(frozen=True)
class Compare(_Repeatable, ComparisonSettings):
    """
    Compare algorithms: train each with several seeds, evaluate, and report.

    :param config: YAML file with variants and settings of a study; see docs/comparison.md. Flags
        that are passed as well take precedence.
    :param export: Folder for the results in the formats of other tools: a tidy CSV, rliable's
        scores, tables in Markdown and LaTeX, a line to cite.
    """

    env: UseAppendAction[tuple[str, ...]] = ()
    algo: Annotated[UseAppendAction[tuple[str, ...]], ALGO] = ()
    jobs: Annotated[int, tyro.conf.arg(aliases=["-j"])] = -1
    variants: Suppress[Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    config: Path | None = None
    export: Path | None = None


@dataclass(frozen=True)
class Train(_Repeatable, TrainSettings):
    """Train one model."""

    algo: Annotated[str, ALGO]


@dataclass(frozen=True)
class Record(RecordSettings):
    """Record greedy episodes of saved models."""

    model: Positional[tuple[Path, ...]]


@dataclass(frozen=True)
class Export(ExportSettings):
    """Export the greedy policy of a saved model to ONNX."""

    model: Positional[Path]


@dataclass(frozen=True)
class Watch(WatchSettings):
    """Watch algorithms learn side by side, or a saved model play, in the browser."""

    model: Positional[Path | None] = None
    algo: Annotated[UseAppendAction[tuple[str, ...]], ALGO] = ()


@dataclass(frozen=True)
class Report:
    """
    Report on a study, or on several together: a table, summary.csv, curves and report.html.

    :param studies: Folders of the studies.
    :param videos: Whether the recordings of the best seeds are put side by side.
    :param reference: Algorithm that the others are compared with; by default that of the study.
    :param out: Where the report goes: by default into the study's folder, of several studies to
        runs/report.
    :param export: Folder for the results in the formats of other tools: a tidy CSV, rliable's
        scores, tables in Markdown and LaTeX, a line to cite.
    """

    studies: Positional[tuple[Path, ...]]
    videos: bool = True
    reference: str | None = None
    out: Path | None = None
    export: Path | None = None


WHOLE_NUMBERS = {
    each.name
    for command in (Compare, Train, Record, Watch)
    for each in fields(command)
    if int in (each.type, *get_args(each.type))
}


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command line.

    :param arguments: What follows the command's name; by default what the shell passed.
    :raises SystemExit: With status 0 if all went well, 1 if something failed or cannot be done, 2
        if the arguments cannot be understood, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a pipe may know no minus sign
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(f"dqn-plugins {__version__}")
        sys.exit(0)
    console = Console(stderr=True, highlight=False)
    try:
        status = _run(arguments, console)
    except (SettingsError, DependencyNotInstalled) as error:
        console.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        status = 1
    except KeyboardInterrupt:
        console.print(f"Interrupted.{GO_ON.get(arguments[0], '')}", soft_wrap=True)
        status = 130
    sys.exit(status)


def _run(arguments: list[str], console: Console) -> int:
    from_file = _settings_in_config(arguments)
    # tyro would add repeated flags to what the file has; they are to replace it.
    repeatable = [each.name for each in fields(from_file) if each.default == ()]
    changed = {**dict.fromkeys(repeatable, ()), "normalize": bool(from_file.normalize)}
    default = Compare(**{**vars(from_file), **changed})
    with warnings.catch_warnings():
        # Values of a wrong kind in the file are refused by the settings themselves.
        warnings.filterwarnings("ignore", module=r"tyro\b")
        command = tyro.cli(
            Annotated[Compare, tyro.conf.subcommand("compare", default=default)]
            | (Report | Train | Record | Export | Watch),
            prog="dqn-plugins",
            description="Deep Q-learning without a replay buffer: compare, train, record.",
            args=_with_whole_numbers(arguments),
            config=(tyro.conf.OmitArgPrefixes,),
        )
    kept: dict[str, Any] = {}
    given = {each.partition("=")[0][2:].replace("-", "_") for each in arguments if each[:2] == "--"}
    if given.isdisjoint(("normalize", "no_normalize")):
        kept["normalize"] = from_file.normalize
    if isinstance(command, Compare):
        for name in repeatable:
            typed, written = getattr(command, name), getattr(from_file, name)
            # Of two values with the same name, the later one counts.
            kept[name] = written + typed if name in ("hp", "env_kwargs") else typed or written
        budgets = ("timesteps", "cpu_seconds")
        if not given.isdisjoint(budgets):  # a budget that is typed replaces the file's
            kept |= {name: None for name in budgets if name not in given}
        settings = replace(command, **kept)
        return _compare(settings, shlex.join(["dqn-plugins", *arguments]), console)
    if isinstance(command, Train):
        command = replace(command, **kept)
    if isinstance(command, Watch):
        return watch(command, console)
    run: Any = {Report: _report, Train: train, Record: record, Export: export}[type(command)]
    run(command, console)
    return 0


def _with_whole_numbers(arguments: Sequence[str]) -> list[str]:
    """Write out what is 1e5, as in a study's file, where a whole number is asked for."""
    written = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        flag, equals, text = argument.rpartition("=")
        if (flag or previous).lstrip("-").replace("-", "_") in WHOLE_NUMBERS:
            with suppress(ValueError):
                if not text.isdigit() and float(text).is_integer():
                    text = f"{float(text):.0f}"
        written.append(flag + equals + text)
    return written


def _settings_in_config(arguments: list[str]) -> ComparisonSettings:
    """Read the file that ``--config`` names, if it is there, for the defaults of other flags."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path, nargs="?")
    path = parser.parse_known_args(arguments)[0].config if arguments[:1] == ["compare"] else None
    return read_settings(path) if path else ComparisonSettings()


def _compare(settings: Compare, command: str, console: Console) -> int:
    from dqn_plugins.comparison import run_comparison

    if settings.export is not None:  # before anything is trained
        output_folder(settings.export, "export")
    result = run_comparison(settings, command, console)
    for cell, error in result.failed.items():
        console.print(f"Failed: {cell}: {error}", style="red", markup=False, soft_wrap=True)
    _report(Report((result.out,), settings.videos, export=settings.export), console)
    return 1 if result.failed else 0


def _report(settings: Report, console: Console) -> None:
    from dqn_plugins.comparison import write_report

    path = write_report(
        settings.studies, settings.videos, settings.reference, settings.out, settings.export
    )
    console.print(f"Report: {path}", markup=False, soft_wrap=True)

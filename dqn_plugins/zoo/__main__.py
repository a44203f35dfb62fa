"""RL Zoo's commands: ``python -m dqn_plugins.zoo train --algo stream_q --env CartPole-v1``."""

import importlib
import runpy
import sys
from collections.abc import Callable
from functools import partial

from dqn_plugins.experiments.algorithms import ALGORITHMS
from dqn_plugins.zoo import register_algorithms


def _run(module: str, name: str) -> None:
    getattr(importlib.import_module(f"rl_zoo3.{module}"), name)()


# Not RL Zoo's own list of commands: that one is imported with its plots, whose libraries are many.
COMMANDS: dict[str, Callable[[], object]] = {
    "train": partial(_run, "train", "train"),
    "enjoy": partial(_run, "enjoy", "enjoy"),
    "record_video": partial(runpy.run_module, "rl_zoo3.record_video", run_name="__main__"),
    "plot_train": partial(_run, "plots", "plot_train"),
    "all_plots": partial(_run, "plots", "all_plots"),
    "plot_from_file": partial(_run, "plots", "plot_from_file"),
}
USAGE = f"""usage: python -m dqn_plugins.zoo COMMAND ...

Runs RL Zoo's command with {", ".join(name for name in ALGORITHMS if ALGORITHMS[name].search)} among
its algorithms.
COMMAND is one of: {", ".join(COMMANDS)}.
COMMAND --help lists its options."""


def main(arguments: list[str]) -> None:
    """Run one of RL Zoo's commands, with its options."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return
    if not arguments or arguments[0] not in COMMANDS:
        received = repr(arguments[0]) if arguments else "nothing"
        sys.exit(f"{USAGE}\n\nerror: COMMAND: received {received}")
    try:
        register_algorithms()
    except ImportError as error:
        sys.exit(str(error))
    command, *options = arguments
    sys.argv = [f"python -m dqn_plugins.zoo {command}", *options]
    COMMANDS[command]()


if __name__ == "__main__":
    main(sys.argv[1:])

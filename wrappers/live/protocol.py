"""What a training's process and its page's process agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["CAPACITY", "CONTROLS", "HEADER", "LOOPBACK", "REQUEST", "WANTED"]

LOOPBACK = "127.0.0.1"

#: Place of the byte that the page counts up when it wants something, in the memory both share.
REQUEST = 0
#: Place of the byte that tells whether it wants a frame, too: 1, or 0.
WANTED = 1
#: Where a frame begins, height * width * 3 bytes.
HEADER = 64
#: Bytes in all. The file is sparse, so it takes what frames use.
CAPACITY = HEADER + (48 << 20)


@dataclass(frozen=True)
class Control:
    """
    A control of the page. The page draws its button and knows its key from here, its server checks
    by it what a browser sends, and a method of its name in
    :class:`dqn_plugins.wrappers.live.training.Training` does what it says.

    :param name: Its name.
    :param kind: What values it takes: ``"flag"`` (on or off), ``"press"`` (none), ``"choice"`` (one
        of ``choices``), ``"rate"`` (0 to 1, or none), ``"index"`` (of an environment, or none), or
        ``"page"``: the browser does it by itself.
    :param label: On its button.
    :param pressed: On its button while it is on; "" for the same.
    :param key: On the keyboard; "" for none.
    :param title: What it does.
    :param group: Name of the row it stands in; "" for none.
    :param choices: Value, label, key and title of each choice.
    """

    name: str
    kind: str
    label: str = ""
    pressed: str = ""
    key: str = ""
    title: str = ""
    group: str = ""
    choices: tuple[tuple[int, str, str, str], ...] = ()

    def takes(self, value: Any) -> bool:
        """Look at what a browser sends; the training's process gets nothing else."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.kind == "flag":
            return isinstance(value, bool)
        if self.kind == "choice":
            return is_number and value in {choice[0] for choice in self.choices}
        if self.kind == "rate":
            return value is None or (is_number and math.isfinite(value) and 0 <= value <= 1)
        if self.kind == "index":
            return value is None or (type(value) is int and value >= 0)
        return self.kind == "press" and value is None


SPEEDS = (
    (1, "1×", "1", "Real time: the environment's own frame rate"),
    (10, "10×", "2", "Ten times real time"),
    (0, "Full", "3", "As fast as it goes"),
)

PACE, LEARNING, ACTIONS = "Pace", "Exploration and learning", "Actions"

#: All controls, in the order of the page.
CONTROLS = (
    Control("pause", "flag", "Pause", "Go on", " ", "Training waits before the next step", PACE),
    Control("step", "press", "Step", "", ".", "One step, then pause", PACE),
    Control("speed", "choice", "Speed", group=PACE, choices=SPEEDS),
    Control("exploration", "rate", "Hold ε", "Release ε", "h", "ε stays where it is", LEARNING),
    Control("learning", "flag", "Learning", "", "l", "Off: no weight changes", LEARNING),
    Control(
        "look", "press", "Greedy look", "Stop", "g", "One greedy episode; training waits", ACTIONS
    ),
    Control("disturb", "press", "Disturb", "", "d", "Eight random actions", ACTIONS),
    Control("reset", "press", "Reset", "", "r", "Cut the episode, as a time limit does", ACTIONS),
    Control("save", "press", "Save", "", "s", "Save the model into the training's folder", ACTIONS),
    Control("film", "page", "Film", "Stop filming", "f", "Film the page; again to stop", ACTIONS),
    Control("environment", "index"),
    Control("pictures", "flag"),
)

"""The table of controls, which the page, its server and the training share."""

from __future__ import annotations

import re
from pathlib import Path

from dqn_plugins.wrappers.live.protocol import CONTROLS
from dqn_plugins.wrappers.live.training import Training

ROOT = Path(__file__).parents[3]
OF_THE_SERVER = {"pictures"}


def test_each_control_does_something() -> None:
    for control in CONTROLS:
        if control.kind != "page" and control.name not in OF_THE_SERVER:
            assert callable(getattr(Training, control.name))


def test_no_two_controls_share_a_name_or_a_key() -> None:
    keys = [control.key for control in CONTROLS if control.key]
    keys += [key for control in CONTROLS for _, _, key, _ in control.choices]
    assert len(keys) == len(set(keys))
    assert len({control.name for control in CONTROLS}) == len(CONTROLS)


def test_the_documentation_has_every_button_with_its_key() -> None:
    text = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]*`[^|]*) \|", text, re.MULTILINE)
    documented = {name: keys for names, keys in rows for name in names.split(", ")}
    for control in CONTROLS:
        buttons = [(control.label, control.key)] if control.key else []
        buttons += [(label, key) for _, label, key, _ in control.choices]
        for label, key in buttons:
            written = "space" if key == " " else f"`{key.upper()}`"
            assert written in documented[label], label


def test_values_that_make_no_sense() -> None:
    values = [None, True, False, 0, 1, 10, 0.5, 2, -1, float("nan"), float("inf"), "1", [0], {}]
    takes = {
        control.kind: [value for value in values if control.takes(value)] for control in CONTROLS
    }
    assert takes == {
        "flag": [True, False],
        "press": [None],
        "choice": [0, 1, 10],
        "rate": [None, 0, 1, 0.5],
        "index": [None, 0, 1, 10, 2],
        "page": [],
    }

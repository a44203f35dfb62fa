"""Turns off, between pictures, what environments do for pictures at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym

__all__ = ["RenderSwitch"]

RENDER_MODE = "rgb_array"


class RenderSwitch:
    """
    Some environments work for their pictures at every step once they have a render mode:
    LunarLander moves the particles of its exhaust, which makes it eight times slower. While nobody
    looks, or most steps are not shown, they are told that they have none.

    :param envs: Environments of this process.
    """

    def __init__(self, envs: Sequence[gym.Env[Any, Any]]):
        self._envs = [env.unwrapped for env in envs if env.unwrapped.render_mode == RENDER_MODE]
        self._is_kept_on = False
        self.off()

    def on(self) -> None:
        """Have them draw, right before they are asked for a picture."""
        for env in self._envs:
            env.render_mode = RENDER_MODE

    def off(self) -> None:
        """Have them not draw any more, unless every step is shown."""
        if not self._is_kept_on:
            for env in self._envs:
                env.render_mode = None

    def keep_on(self, is_kept_on: bool) -> None:
        """
        Choose whether they draw at every step.

        :param is_kept_on: Whether they do, so that nothing is missing from what is shown.
        """
        self._is_kept_on = is_kept_on
        if is_kept_on:
            self.on()
        else:
            self.off()

"""
Pictures of terminal states from vectorised environments.

A ``VecEnv``, and Gymnasium's ``VectorEnv`` in one of its modes, reset a sub-environment inside the
very step that ends its episode, so whoever renders afterwards sees the next episode's first state.
The terminal state can only be rendered where the sub-environment lives, maybe in another process.

A wrapper that is passed to ``make_vec_env`` as ``wrapper_class`` would do it without any of what
follows, but only for environments that are made with it: whoever has a ``VecEnv`` already could not
record it, nor begin to watch it in the middle of a training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium import logger

from dqn_plugins.wrappers.environment_id import sub_environments
from dqn_plugins.wrappers.observing.infos import possible_actions

__all__ = [
    "TERMINAL_FRAME",
    "TerminalFrame",
    "keep_terminal_frames",
    "stop_keeping_terminal_frames",
]

#: Key of the picture in the info of an episode's last step; no environment's own.
TERMINAL_FRAME = "dqn_plugins.terminal_frame"

TerminalFrame: TypeAlias = tuple[Any, npt.NDArray[np.bool_] | None]
"""The picture, and which actions are possible there."""


class _StepWithTerminalFrame:
    """Stands in for the ``step`` of one environment object."""

    def __init__(self, env: Any):
        self.env = env
        self.step = env.step

    def __call__(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.step(action)
        if terminated or truncated:
            (mask,) = possible_actions([info], self.env)
            info = {**info, TERMINAL_FRAME: (self.env.render(), mask)}
        return observation, reward, terminated, truncated, info


class _VisitingType(type):
    """
    The type of classes that do something to an object when asked whether it is their instance.

    ``VecEnv.env_is_wrapped`` is the one public way to bring code to a sub-environment together
    with the environment itself, in this process or another: it takes a class there and asks
    whether the outermost wrapper is an instance of it.
    """

    def __instancecheck__(cls, env: Any) -> bool:
        cls.visit(env)  # type: ignore[attr-defined]
        return True


class KeepTerminalFrames(metaclass=_VisitingType):
    """Makes an environment put the picture of each terminal state into the info."""

    @staticmethod
    def visit(env: Any) -> None:
        """Replace ``step``."""
        if not isinstance(vars(env).get("step"), _StepWithTerminalFrame):
            env.step = _StepWithTerminalFrame(env)


class ForgetTerminalFrames(metaclass=_VisitingType):
    """Undoes :class:`KeepTerminalFrames`."""

    @staticmethod
    def visit(env: Any) -> None:
        """Restore ``step``."""
        if isinstance(vars(env).get("step"), _StepWithTerminalFrame):
            del env.step


def _visit(venv: Any, indices: Sequence[int], visitor: Any) -> list[int]:
    try:
        visited = venv.env_is_wrapped(visitor, indices=list(indices))
    except (NotImplementedError, AttributeError):  # the latter of Gymnasium's VectorEnv
        visited = []
    left_out = [index for index, done in zip_longest(indices, visited) if not done]
    # An environment without any gymnasium.Wrapper around it is not asked.
    envs = sub_environments(venv)
    if not envs:
        return left_out
    for index in left_out:
        visitor.visit(envs[index])
    return []


def keep_terminal_frames(venv: Any, indices: Sequence[int]) -> None:
    """
    From now on, the info of an episode's last step holds a :data:`TerminalFrame` under
    :data:`TERMINAL_FRAME`.
    """
    left_out = _visit(venv, indices, KeepTerminalFrames)
    if left_out:
        logger.warn(
            f"The terminal frames of the sub-environments {left_out} cannot be recorded: they "
            "cannot be reached, as in other processes without a gymnasium.Wrapper around them. "
            "Wrap each in stable_baselines3.common.monitor.Monitor, as make_vec_env does; with "
            "Gymnasium's AsyncVectorEnv, take AutoresetMode.NEXT_STEP."
        )


def stop_keeping_terminal_frames(venv: Any, indices: Sequence[int]) -> None:
    """Undo :func:`keep_terminal_frames`. Workers that are gone already are no trouble."""
    with contextlib.suppress(OSError, EOFError):
        _visit(venv, indices, ForgetTerminalFrames)

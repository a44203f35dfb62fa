"""Captions and Q-values under a frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dqn_plugins.values import value_kind, values_of
from dqn_plugins.wrappers.drawing.lettering import signed
from dqn_plugins.wrappers.drawing.panel import Axis, Panel
from dqn_plugins.wrappers.video.video_writer import Frame, to_rgb

__all__ = ["FrameDetails", "Overlay", "QValueOverlay"]

SMALLEST_WIDTH = 400


@dataclass(frozen=True)
class FrameDetails:
    """
    What is known about one frame when it is drawn.

    :param episode: Number of the episode, from 0.
    :param step: Steps taken in the episode, 0 in the frame of the reset.
    :param reward: Reward of the last step.
    :param episode_return: Sum of the episode's rewards so far.
    :param observation: What the agent sees in this frame.
    :param action_mask: Which actions are possible there, shape (n_actions,), bool; None if nothing
        tells.
    """

    episode: int
    step: int
    reward: float
    episode_return: float
    observation: Any
    action_mask: npt.NDArray[np.bool_] | None = None


CaptionOption: TypeAlias = bool | Callable[[FrameDetails], Mapping[str, str]]
QValueFunction: TypeAlias = Callable[[Any], npt.NDArray[Any]]


def standard_caption(details: FrameDetails) -> Mapping[str, str]:
    """Write the caption of ``caption=True``."""
    return {
        "episode": str(details.episode),
        "step": str(details.step),
        "reward": signed(details.reward, 2, longest=8),
        "return": signed(details.episode_return, 1, longest=8),
    }


def q_value_function(model: Any) -> QValueFunction:
    """Find out how to ask a model, or a function, for the Q-values of one observation."""
    if value_kind(model) == "Q":

        def ask(observation: Any) -> npt.NDArray[Any]:
            found = values_of(model, observation)
            assert found is not None
            return found.numbers

        return ask
    raise TypeError(
        f"model: received {type(model).__name__}, it must be a Stable-Baselines3 model with "
        "policy.q_net, such as DQN, or a function from an observation to an array of Q-values. "
        "Pass one of these, or leave model=None."
    )


class Overlay:
    """
    Draw a panel under each frame, with a caption, Q-values, or both. Nothing of the frame itself
    is covered; frames narrower than 400 pixels are enlarged by a whole factor, so that the text
    can be read.

    :param caption: True for episode, step, reward and return; a function from
        :class:`FrameDetails` to labels and texts for a caption of one's own; False for none.
    :param model: A model with ``policy.q_net``, or a function from one observation to its
        Q-values, shape (n_actions,); None for no Q-values. The greedy action's bar is in colour.
        Where ``details.action_mask`` says that an action is impossible, its name is struck out, and
        it has no bar.
    :param action_names: One name per action; numbers by default.
    :raises TypeError: If ``model`` cannot be asked for Q-values, or ``caption`` is something else.

    Example::

        import numpy as np
        from dqn_plugins.wrappers import FrameDetails, Overlay

        overlay = Overlay(caption=True)
        details = FrameDetails(
            episode=0, step=3, reward=1.0, episode_return=3.0, observation=np.zeros(4)
        )
        picture = overlay.draw(np.zeros((400, 600, 3), dtype=np.uint8), details)
    """

    def __init__(
        self,
        caption: CaptionOption = True,
        model: Any = None,
        action_names: Sequence[str] | None = None,
    ):
        if not (isinstance(caption, bool) or callable(caption)):
            raise TypeError(
                f"caption: received {caption!r}, it must be True, False or a function from "
                "FrameDetails to a dictionary of labels and texts. Pass caption=True."
            )
        self._caption = standard_caption if caption is True else caption
        self._q_values = None if model is None else q_value_function(model)
        self._action_names = None if action_names is None else tuple(map(str, action_names))
        self._axis = Axis()
        self._panel: Panel | None = None

    @classmethod
    def create(
        cls, caption: CaptionOption, model: Any, action_names: Sequence[str] | None
    ) -> Overlay | None:
        """
        Make an overlay if there is anything to draw.

        :param caption: As in the constructor.
        :param model: As in the constructor.
        :param action_names: As in the constructor.
        :return: The overlay, or None if ``caption`` is False and ``model`` None.
        """
        if caption is False and model is None:
            return None
        return cls(caption, model, action_names)

    def draw(self, frame: npt.NDArray[Any], details: FrameDetails) -> Frame:
        """
        Draw the panel under a frame.

        :param frame: A uint8 picture, see :func:`dqn_plugins.wrappers.video.video_writer.to_rgb`.
        :param details: What to write.
        :return: A uint8 array of shape (height + panel, width, 3).
        :raises ValueError: If the number of Q-values differs from the number of action names.
        :raises TypeError: If a caption of one's own is no dictionary.
        """
        picture = to_rgb(frame)
        factor = math.ceil(SMALLEST_WIDTH / picture.shape[1])
        if factor > 1:
            picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        caption = self._caption(details) if callable(self._caption) else {}
        if not isinstance(caption, Mapping):
            raise TypeError(
                f"caption: the function returned {caption!r}, it must be a dictionary of labels "
                'and texts. Return {"step": str(details.step)}.'
            )
        values, possible = self._ask(details.observation), details.action_mask
        if values is not None and (possible is None or np.shape(possible) != values.shape):
            possible = np.ones(values.shape, np.bool_)
        layout = (picture.shape[1], tuple(caption), self._names(values))
        panel = self._panel
        if panel is None or (panel.width, panel.labels, panel.action_names) != layout:
            panel = self._panel = Panel(*layout)
        texts = [str(text) for text in caption.values()]
        return np.concatenate([picture, panel.draw(texts, values, possible, self._axis)])

    def _ask(self, observation: Any) -> npt.NDArray[np.float64] | None:
        if self._q_values is None:
            return None
        return np.asarray(self._q_values(observation), dtype=np.float64).reshape(-1)

    def _names(self, values: npt.NDArray[np.float64] | None) -> tuple[str, ...]:
        if values is None:
            return ()
        if self._action_names is None:
            return tuple(str(index) for index in range(len(values)))
        if len(self._action_names) != len(values):
            raise ValueError(
                f"action_names: received {len(self._action_names)} names for {len(values)} "
                "Q-values. Pass one name per action."
            )
        return self._action_names


class QValueOverlay(Overlay):
    """
    Draw a model's Q-values under each frame, one bar per action, the greedy action's in colour.
    :class:`dqn_plugins.wrappers.RecordVideo` does so by itself when it is given a ``model``; this
    class is for frames that come from elsewhere.

    :param model: A model with ``policy.q_net``, or a function from one observation to its
        Q-values, shape (n_actions,).
    :param action_names: One name per action; numbers by default.
    :param caption: Whether the caption (episode, step, reward, return) stands beside the bars.
    :raises TypeError: If ``model`` cannot be asked for Q-values.

    Example::

        import gymnasium as gym
        from dqn_plugins.wrappers import FrameDetails, QValueOverlay
        from stable_baselines3 import DQN

        env = gym.make("CartPole-v1", render_mode="rgb_array")
        overlay = QValueOverlay(DQN("MlpPolicy", env), action_names=["left", "right"])
        observation, _ = env.reset(seed=0)
        details = FrameDetails(0, 0, 0.0, 0.0, observation)
        picture = overlay.draw(env.render(), details)
    """

    def __init__(
        self,
        model: Any,
        action_names: Sequence[str] | None = None,
        caption: CaptionOption = True,
    ):
        if model is None:
            raise TypeError("model: received None, so there are no Q-values to draw. Pass a model.")
        super().__init__(caption, model, action_names)

"""Captions and Q-values under a frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from dqn_plugins.wrappers.video_writer import Frame, to_rgb
from PIL import Image, ImageDraw, ImageFont

__all__ = ["FrameDetails", "Overlay", "QValueOverlay"]

BACKGROUND = (16, 19, 27)
HAIRLINE = (44, 50, 66)
TRACK = (31, 36, 49)
BAR = (96, 110, 140)
ACCENT = (255, 176, 59)
QUIET = (140, 149, 170)
BRIGHT = (240, 243, 250)

REFERENCE_WIDTH = 600
SMALLEST_WIDTH = 400
MOST_ROWS = 6
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class FrameDetails:
    """
    What is known about one frame when it is drawn.

    :param episode: number of the episode, from 0.
    :param step: steps taken in the episode, 0 in the frame of the reset.
    :param reward: reward of the last step.
    :param episode_return: sum of the episode's rewards so far.
    :param observation: what the agent sees in this frame.
    """

    episode: int
    step: int
    reward: float
    episode_return: float
    observation: Any


CaptionOption = bool | Callable[[FrameDetails], Mapping[str, str]]
QValueFunction = Callable[[Any], npt.NDArray[Any]]


def signed(value: float, decimals: int) -> str:
    """
    Write a number with the typographic minus.

    :param value: the number; NaN and infinities have their names.
    :param decimals: digits after the point.
    :return: the text.
    """
    if not math.isfinite(value):
        return str(value).replace("-", MINUS)
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def standard_caption(details: FrameDetails) -> Mapping[str, str]:
    """
    The caption of ``caption=True``.

    :param details: the frame's.
    :return: label to text.
    """
    return {
        "episode": str(details.episode),
        "step": str(details.step),
        "reward": signed(details.reward, 2),
        "return": signed(details.episode_return, 1),
    }


def q_value_function(model: Any) -> QValueFunction:
    """
    Find out how to ask a model for its Q-values.

    :param model: a Stable-Baselines3 model whose policy has a ``q_net`` (``DQN`` and its kin), or
        any callable from one observation to the Q-values, shape (n_actions,).
    :return: a function from one observation to the Q-values, float array of shape (n_actions,).
    :raises TypeError: if it is neither.
    """
    if getattr(getattr(model, "policy", None), "q_net", None) is not None:

        def from_network(observation: Any) -> npt.NDArray[Any]:
            import torch

            # Looked up each time: loading parameters may replace the policy.
            policy = model.policy
            with torch.no_grad():
                tensor, _ = policy.obs_to_tensor(observation)
                values: npt.NDArray[Any] = policy.q_net(tensor).cpu().numpy()
            return values

        return from_network
    if callable(model):
        function: QValueFunction = model
        return function
    raise TypeError(
        f"model={type(model).__name__}: Q-values come from a Stable-Baselines3 model with "
        "policy.q_net, such as DQN, or from a function from an observation to an array of "
        "Q-values. Fix: pass one of these, or leave model=None."
    )


class _Panel:
    """
    The strip under the frame, laid out for one width.

    :param width: of the frame, in pixels.
    :param labels: the caption's labels, left to right.
    :param action_names: one name per action, none if no Q-values are drawn.
    """

    def __init__(self, width: int, labels: tuple[str, ...], action_names: tuple[str, ...]):
        self.scale = scale = min(2.0, max(0.8, width / REFERENCE_WIDTH))
        self.width = width
        self.labels = labels
        self.action_names = action_names
        self.small = ImageFont.load_default(round(11 * scale))
        self.normal = ImageFont.load_default(round(13 * scale))
        self.large = ImageFont.load_default(round(20 * scale))
        self.margin = round(16 * scale)
        self.rows = 0 < len(action_names) <= MOST_ROWS
        self._place_caption()
        self._place_bars()
        self.image = self._background()

    def _place_caption(self) -> None:
        # With bars beside it the caption is two by two, without them one row.
        per_row = len(self.labels)
        self.caption_width = self.width - 2 * self.margin
        if self.action_names:
            per_row = 2
            self.caption_width = round(0.4 * self.width) - self.margin
        rows = math.ceil(len(self.labels) / per_row) if self.labels else 0
        cell_height = round(42 * self.scale)
        self.height = max(rows * cell_height + round(14 * self.scale), round(30 * self.scale))
        column = self.caption_width / max(per_row, 1)
        self.cells = [
            (
                self.margin + round(column * (index % per_row)),
                round(9 * self.scale) + cell_height * (index // per_row),
            )
            for index in range(len(self.labels))
        ]

    def _place_bars(self) -> None:
        if not self.action_names:
            return
        count = len(self.action_names)
        self.bars_left = round(0.4 * self.width) + self.margin if self.labels else self.margin
        self.bars_right = self.width - self.margin
        if self.rows:
            self.pitch = round(22 * self.scale)
            self.height = max(self.height, count * self.pitch + round(14 * self.scale))
        else:
            self.height = max(self.height, round(98 * self.scale))

    def _background(self) -> Image.Image:
        image = Image.new("RGB", (self.width, self.height), BACKGROUND)
        pen = ImageDraw.Draw(image)
        pen.line([(0, 0), (self.width, 0)], fill=HAIRLINE)
        for label, (left, top) in zip(self.labels, self.cells, strict=True):
            pen.text((left, top), label.upper(), font=self.small, fill=QUIET)
        return image


class Overlay:
    """
    Draw a panel under each frame, with a caption, Q-values, or both. Nothing of the frame itself
    is covered; frames narrower than 400 pixels are enlarged by a whole factor, so that the text
    can be read.

    :param caption: True for episode, step, reward and return; a function from
        :class:`FrameDetails` to label and text for a caption of one's own; False for none.
    :param model: a model with ``policy.q_net``, or a function from one observation to its
        Q-values; None for no Q-values.
    :param action_names: one name per action; numbers by default.
    :raises TypeError: if ``model`` cannot be asked for Q-values, or ``caption`` is something else.

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
                f"caption={caption!r}: allowed are True, False and a function from FrameDetails "
                "to a dictionary of labels and texts. Fix: pass caption=True."
            )
        self._caption = standard_caption if caption is True else caption
        self._q_values = None if model is None else q_value_function(model)
        self._action_names = None if action_names is None else tuple(map(str, action_names))
        self._panel: _Panel | None = None
        self._low = math.inf
        self._high = -math.inf

    @classmethod
    def create(
        cls, caption: CaptionOption, model: Any, action_names: Sequence[str] | None
    ) -> Overlay | None:
        """
        Make an overlay if there is anything to draw.

        :param caption: as in the constructor.
        :param model: as in the constructor.
        :param action_names: as in the constructor.
        :return: the overlay, or None if ``caption`` is False and ``model`` None.
        """
        if caption is False and model is None:
            return None
        return cls(caption, model, action_names)

    def draw(self, frame: npt.NDArray[Any], details: FrameDetails) -> Frame:
        """
        Draw the panel under a frame.

        :param frame: uint8 picture, see :func:`dqn_plugins.wrappers.video_writer.to_rgb`.
        :param details: what to write.
        :return: uint8 array of shape (height + panel, width, 3).
        :raises ValueError: if the number of Q-values differs from the number of action names.
        """
        picture = to_rgb(frame)
        factor = math.ceil(SMALLEST_WIDTH / picture.shape[1])
        if factor > 1:
            picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        caption = self._caption(details) if callable(self._caption) else {}
        values = self._ask(details.observation)
        names = self._names(values)
        width = picture.shape[1]
        labels = tuple(caption)
        panel = self._panel
        if panel is None or (panel.width, panel.labels, panel.action_names) != (
            width,
            labels,
            names,
        ):
            panel = self._panel = _Panel(width, labels, names)
        image = panel.image.copy()
        pen = ImageDraw.Draw(image)
        for text, (left, top) in zip(caption.values(), panel.cells, strict=True):
            pen.text(
                (left, top + round(14 * panel.scale)), str(text), font=panel.large, fill=BRIGHT
            )
        if values is not None:
            self._draw_bars(pen, panel, values)
        return np.concatenate([picture, np.asarray(image)])

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
                f"action_names has {len(self._action_names)} names for {len(values)} Q-values. "
                "Fix: pass one name per action."
            )
        return self._action_names

    def _axis(self, values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
        finite = values[np.isfinite(values)]
        if finite.size:
            # The axis follows at once outwards and slowly inwards, so that bars do not jump.
            low, high = float(finite.min()), float(finite.max())
            self._low = min(low, self._low + 0.02 * (low - self._low)) if self._low < low else low
            self._high = (
                max(high, self._high - 0.02 * (self._high - high)) if self._high > high else high
            )
        if self._low > self._high:
            return 0.0, 1.0, 0.0
        low, high = self._low, self._high
        spread = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-9)
        # Zero belongs on the axis unless that would squeeze the differences.
        if 0 < low < 2 * spread:
            low = 0.0
        if -2 * spread < high < 0:
            high = 0.0
        if low > 0 or (low < 0 and high < 0):
            low -= 0.25 * spread
        origin = min(max(0.0, low), high) if low <= 0 <= high else low
        return low, max(high, low + spread), origin

    def _draw_bars(
        self, pen: ImageDraw.ImageDraw, panel: _Panel, values: npt.NDArray[np.float64]
    ) -> None:
        low, high, origin = self._axis(values)
        greedy = int(np.argmax(values)) if np.isfinite(values).all() else -1
        if panel.rows:
            self._draw_rows(pen, panel, values, greedy, (low, high, origin))
        else:
            self._draw_columns(pen, panel, values, greedy, (low, high, origin))

    def _draw_rows(
        self,
        pen: ImageDraw.ImageDraw,
        panel: _Panel,
        values: npt.NDArray[np.float64],
        greedy: int,
        axis: tuple[float, float, float],
    ) -> None:
        low, high, origin = axis
        scale = panel.scale
        name_width = max(panel.normal.getlength(name) for name in panel.action_names)
        left = panel.bars_left + round(name_width + 24 * scale)
        right = panel.bars_right - round(58 * scale)
        top = (panel.height - panel.pitch * len(values)) / 2
        per_unit = (right - left) / (high - low)
        for index, value in enumerate(values):
            middle = round(top + panel.pitch * (index + 0.5))
            half = round(5 * scale)
            chosen = index == greedy
            ink = BRIGHT if chosen else QUIET
            if chosen:
                dot = 3.5 * scale
                centre = panel.bars_left + dot
                pen.ellipse([centre - dot, middle - dot, centre + dot, middle + dot], fill=ACCENT)
            pen.text(
                (panel.bars_left + round(14 * scale), middle),
                panel.action_names[index],
                font=panel.normal,
                fill=ink,
                anchor="lm",
            )
            pen.rectangle([left, middle - half, right, middle + half], fill=TRACK)
            if np.isfinite(value):
                ends = sorted(
                    (
                        round(left + (origin - low) * per_unit),
                        round(left + (min(max(value, low), high) - low) * per_unit),
                    )
                )
                pen.rectangle(
                    [ends[0], middle - half, ends[1], middle + half],
                    fill=ACCENT if chosen else BAR,
                )
            pen.text(
                (panel.bars_right, middle),
                signed(float(value), 2),
                font=panel.normal,
                fill=ink,
                anchor="rm",
            )

    def _draw_columns(
        self,
        pen: ImageDraw.ImageDraw,
        panel: _Panel,
        values: npt.NDArray[np.float64],
        greedy: int,
        axis: tuple[float, float, float],
    ) -> None:
        low, high, origin = axis


class QValueOverlay(Overlay):
    """
    Draw a model's Q-values under each frame, one bar per action, the greedy action's in colour.

    :param model: a model with ``policy.q_net``, or a function from one observation to its
        Q-values.
    :param action_names: one name per action; numbers by default.
    :param caption: whether the caption (episode, step, reward, return) stands beside the bars.
    """

    def __init__(
        self,
        model: Any,
        action_names: Sequence[str] | None = None,
        caption: CaptionOption = True,
    ):
        super().__init__(caption, model, action_names)

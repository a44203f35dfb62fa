"""The strip under a frame: caption at the left, Q-values at the right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dqn_plugins.wrappers.drawing.lettering import fitted, signed, text_width, write
from dqn_plugins.wrappers.video.video_writer import Frame

BACKGROUND = (16, 19, 27)
HAIRLINE = (44, 50, 66)
TRACK = (31, 36, 49)
BAR = (96, 110, 140)
ACCENT = (255, 176, 59)
QUIET = (140, 149, 170)
DIM = (104, 113, 135)
BRIGHT = (240, 243, 250)

# The width all sizes are given for; other widths scale them.
REFERENCE_WIDTH = 600
# More actions than this stand side by side instead of one above the other.
MOST_ROWS = 6
CAPTION_SHARE = 0.4


class Axis:
    """The scale of the bars. It follows the values at once outwards and slowly inwards."""

    def __init__(self) -> None:
        self._low = math.inf
        self._high = -math.inf

    def follow(self, values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
        """Adapt to new values; give the low end, the high end, and where the bars begin."""
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            self._low = low if low < self._low else self._low + 0.02 * (low - self._low)
            self._high = high if high > self._high else self._high + 0.02 * (high - self._high)
        if self._low > self._high:  # nothing finite yet
            return 0.0, 1.0, 0.0
        low, high = self._low, self._high
        spread = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-9)
        # Zero belongs on the axis unless it would squeeze the differences together.
        if 0 < low < 2 * spread:
            low = 0.0
        elif -2 * spread < high < 0:
            high = 0.0
        if low > 0 or high < 0:
            low -= 0.25 * spread
        high = max(high, low + spread)
        return low, high, 0.0 if low <= 0 <= high else low


class Panel:
    """The strip, laid out for one width; only what changes is drawn for each frame."""

    def __init__(self, width: int, labels: tuple[str, ...], action_names: tuple[str, ...]):
        self.width = width
        self.labels = labels
        self.action_names = action_names
        self._scale = min(2.0, max(0.8, width / REFERENCE_WIDTH))
        self._small, self._normal, self._large = map(self._px, (10, 12, 18))
        self._margin = self._px(16)
        self._as_rows = len(action_names) <= MOST_ROWS
        self._height = 0
        self._place_caption()
        if action_names:
            self._place_bars()
        self._background = self._draw_background()

    def _px(self, length: float) -> int:
        return round(length * self._scale)

    def _place_caption(self) -> None:
        # Two by two beside bars, one row without them.
        per_row = 2 if self.action_names else max(1, len(self.labels))
        room = (CAPTION_SHARE if self.action_names else 1.0) * self.width - 2 * self._margin
        self._column = room / per_row
        row_height = self._px(42)
        self._cells = [
            (
                self._margin + round(self._column * (index % per_row)),
                self._px(9) + row_height * (index // per_row),
            )
            for index in range(len(self.labels))
        ]
        self._height = math.ceil(len(self.labels) / per_row) * row_height + self._px(14)

    def _place_bars(self) -> None:
        self._left = self._margin
        if self.labels:
            self._left += round(CAPTION_SHARE * self.width)
        self._right = self.width - self._margin
        # The dot that marks the greedy action stands before its name.
        self._name_left = self._left + self._px(14)
        if self._as_rows:
            room = 0.35 * (self._right - self._left)
            self._names = [fitted(name, self._normal, room) for name in self.action_names]
            widest = max(text_width(name, self._normal) for name in self._names)
            self._bars_left = self._name_left + widest + self._px(12)
            self._bars_right = self._right - self._px(58)
            self._bars_top = self._px(24)
            self._pitch = self._px(20)
            self._height = max(
                self._height, self._bars_top + len(self._names) * self._pitch + self._px(8)
            )
        else:
            pitch = (self._right - self._left) / len(self.action_names)
            self._names = list(self.action_names)
            if max(text_width(name, self._small) for name in self._names) > pitch - 2:
                last = len(self._names) - 1
                step = math.ceil((text_width(str(last), self._small) + 2) / pitch)
                self._names = ["" if i % step else str(i) for i in range(last + 1)]
            self._height = max(self._height, self._px(98))

    def _draw_background(self) -> Image.Image:
        image = Image.new("RGB", (self.width, self._height), BACKGROUND)
        ImageDraw.Draw(image).line([(0, 0), (self.width, 0)], fill=HAIRLINE)
        for label, position in zip(self.labels, self._cells, strict=True):
            label = fitted(label.upper(), self._small, self._column - self._px(6))
            write(image, position, label, self._small, QUIET)
        if self.action_names and self._as_rows:
            top = self._px(9)
            write(image, (self._name_left, top), "ACTION", self._small, QUIET)
            write(image, (self._right, top), "Q-VALUE", self._small, QUIET, "rt")
        return image

    def draw(
        self,
        texts: Sequence[str],
        values: npt.NDArray[np.float64] | None,
        possible: npt.NDArray[np.bool_] | None,
        axis: Axis,
    ) -> Frame:
        """Draw the strip for one frame."""
        image = self._background.copy()
        for text, (left, top) in zip(texts, self._cells, strict=True):
            text = fitted(text, self._large, self._column - self._px(6))
            write(image, (left, top + self._px(14)), text, self._large, BRIGHT)
        if values is not None and possible is not None:
            choices = values[possible]
            # With a NaN among the values, what an argmax would take is not a choice.
            is_undecided = choices.size == 0 or np.isnan(choices).any()
            greedy = -1 if is_undecided else int(np.flatnonzero(possible)[np.argmax(choices)])
            draw_bars = self._draw_rows if self._as_rows else self._draw_columns
            draw_bars(image, values, possible, greedy, axis.follow(choices))
        return np.asarray(image)

    def _draw_dot(self, pen: ImageDraw.ImageDraw, middle: int) -> None:
        radius = 3.5 * self._scale
        centre = self._left + radius
        pen.ellipse([centre - radius, middle - radius, centre + radius, middle + radius], ACCENT)

    def _strike_out(
        self,
        image: Image.Image,
        position: tuple[float, float],
        name: str,
        size: int,
        anchor: str,
    ) -> None:
        write(image, position, name, size, DIM, anchor)
        width, (left, middle) = text_width(name, size), position
        left -= width / 2 if anchor[0] == "m" else 0
        ImageDraw.Draw(image).line([(left - 1, middle), (left + width, middle)], fill=DIM)

    def _draw_rows(
        self,
        image: Image.Image,
        values: npt.NDArray[np.float64],
        possible: npt.NDArray[np.bool_],
        greedy: int,
        axis: tuple[float, float, float],
    ) -> None:
        pen = ImageDraw.Draw(image)
        low, high, origin = axis
        per_unit = (self._bars_right - self._bars_left) / (high - low)
        start = round(self._bars_left + (origin - low) * per_unit)
        half = self._px(5)
        for index, value in enumerate(values):
            middle = round(self._bars_top + self._pitch * (index + 0.5))
            name = (self._name_left, middle), self._names[index], self._normal
            if not possible[index]:
                self._strike_out(image, *name, "lm")
                for left in range(self._bars_left, self._bars_right - 2 * half, self._px(5)):
                    pen.line([(left, middle + half), (left + 2 * half, middle - half)], fill=TRACK)
                write(image, (self._right, middle), "impossible", self._small, DIM, "rm")
                continue
            ink = BRIGHT if index == greedy else QUIET
            if index == greedy:
                self._draw_dot(pen, middle)
            write(image, *name, ink, "lm")
            track = [self._bars_left, middle - half, self._bars_right, middle + half]
            pen.rounded_rectangle(track, self._px(2), TRACK)
            if np.isfinite(value):
                end = round(self._bars_left + (min(max(value, low), high) - low) * per_unit)
                bar = [min(start, end), middle - half, max(start, end), middle + half]
                pen.rectangle(bar, ACCENT if index == greedy else BAR)
            if low < origin < high:
                pen.line([(start, middle - half - 2), (start, middle + half + 2)], fill=QUIET)
            text = signed(float(value), 2, longest=7)
            write(image, (self._right, middle), text, self._normal, ink, "rm")

    def _draw_columns(
        self,
        image: Image.Image,
        values: npt.NDArray[np.float64],
        possible: npt.NDArray[np.bool_],
        greedy: int,
        axis: tuple[float, float, float],
    ) -> None:
        pen = ImageDraw.Draw(image)
        low, high, origin = axis
        top, bottom = self._px(32), self._height - self._px(24)
        per_unit = (bottom - top) / (high - low)
        start = round(bottom - (origin - low) * per_unit)
        pitch = (self._right - self._left) / len(values)
        half = max(1, min(self._px(9), round(0.36 * pitch)))
        if greedy >= 0:
            # Names seldom fit under columns: the greedy action's stands above, with its value.
            middle = self._px(16)
            self._draw_dot(pen, middle)
            name = fitted(
                self.action_names[greedy], self._normal, 0.65 * (self._right - self._left)
            )
            write(image, (self._name_left, middle), name, self._normal, BRIGHT, "lm")
            text = signed(float(values[greedy]), 2)
            write(image, (self._right, middle), text, self._normal, BRIGHT, "rm")
        for index, value in enumerate(values):
            centre = round(self._left + pitch * (index + 0.5))
            label = (centre, bottom + self._px(11)), self._names[index], self._small
            if not possible[index]:
                self._strike_out(image, *label, "mm")
                continue
            pen.rectangle([centre - half, top, centre + half, bottom], TRACK)
            if np.isfinite(value):
                end = round(bottom - (min(max(value, low), high) - low) * per_unit)
                bar = [centre - half, min(start, end), centre + half, max(start, end)]
                pen.rectangle(bar, ACCENT if index == greedy else BAR)
            ink = BRIGHT if index == greedy else QUIET
            write(image, *label, ink, "mm")

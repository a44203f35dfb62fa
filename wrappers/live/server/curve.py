"""Returns over steps in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import fmean
from typing import Any

__all__ = ["Curve"]

MOST_POINTS = 4_000
MOST_RECENT = 100


class Curve:
    """
    The episodes of a run. When there are too many to draw, neighbours become one point, their mean,
    so a curve never takes more memory than some thousand points; the newest episodes stay as they
    were, for the table.
    """

    def __init__(self) -> None:
        self.points: list[list[Any]] = []
        self.recent: deque[Sequence[Any]] = deque(maxlen=MOST_RECENT)
        self.count = 0
        #: How many episodes are one point.
        self.episodes_per_point = 1
        self._unfinished: list[Sequence[Any]] = []

    def add(self, episodes: Sequence[Sequence[Any]]) -> bool:
        """
        Put episodes on the curve: of each the steps of the run at its end, seconds, return, length,
        and what controls changed. Tell whether the points before have become fewer.
        """
        was_thinned = False
        for episode in episodes:
            self.count += 1
            self.recent.append(episode)
            self._unfinished.append(episode)
            if len(self._unfinished) == self.episodes_per_point:
                self.points.append(_mean(self._unfinished))
                self._unfinished = []
            if len(self.points) == MOST_POINTS:
                pairs = zip(self.points[::2], self.points[1::2], strict=True)
                self.points = [_mean(pair) for pair in pairs]
                self.episodes_per_point *= 2
                was_thinned = True
        return was_thinned


def _mean(episodes: Sequence[Sequence[Any]]) -> list[Any]:
    last = episodes[-1]
    interventions = {text for each in episodes for text in each[4].split("; ") if text}
    return [
        last[0],
        last[1],
        fmean(each[2] for each in episodes),
        fmean(each[3] for each in episodes),
        "; ".join(sorted(interventions)),
    ]

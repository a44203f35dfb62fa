"""The numbers of Stream Q(λ)'s update rule."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["StreamRule", "TraceCut"]

TraceCut: TypeAlias = Literal["after", "watkins", "never"]
"""When an exploratory action cuts the eligibility trace, see :class:`StreamRule`."""


@dataclass(frozen=True)
class StreamRule:
    """
    The numbers of Stream Q(λ)'s update rule.

    :param gamma: Discount factor γ, in [0, 1].
    :param trace_decay: λ, in [0, 1].
    :param trace_cut: "after": an exploratory action still gives and gets credit, then the trace
        ends; "watkins": the trace ends before it; "never": the trace goes on.
    :param td_error_clip: Largest absolute TD error that is learned from, above 0.
    """

    gamma: float
    trace_decay: float
    trace_cut: TraceCut
    td_error_clip: float

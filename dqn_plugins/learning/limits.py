"""Where numbers become too large or too small to learn with, in every backend."""

from torch.optim import Optimizer

from dqn_plugins.arguments import is_number
from dqn_plugins.policies.optimizers import SMALLEST_EPS

__all__ = ["LARGEST_GRADIENT", "LARGEST_LEARNING_RATE", "LARGE_TD_ERROR", "check_optimizer"]

LARGEST_GRADIENT = 1e18
"""A gradient with a larger entry is refused: its square, which Adam takes, would overflow."""
LARGE_TD_ERROR = 1e6
"""With a larger TD error, not only the gradient is looked at but the traces that it is added to."""
LARGEST_LEARNING_RATE = 1e15
"""Up to here, one step from a gradient that is not refused leaves finite weights finite."""


def check_optimizer(optimizer: Optimizer) -> None:
    """Refuse numbers with which one step may give weights that are not finite."""
    for group in optimizer.param_groups:
        if not 0.0 <= group["lr"] <= LARGEST_LEARNING_RATE:
            raise ValueError(
                f"learning_rate: received {group['lr']!r}, it must be in [0, 1e15]. Try 1e-3."
            )
        eps = group.get("eps", SMALLEST_EPS)
        # Adafactor has two, and checks them itself.
        if is_number(eps) and not SMALLEST_EPS <= eps < float("inf"):
            raise ValueError(
                f"eps: received {eps!r}, it must be at least {SMALLEST_EPS}: with 0, "
                f"{type(optimizer).__name__} divides 0 by 0. Pass optimizer_kwargs=dict(eps=1e-8)."
            )

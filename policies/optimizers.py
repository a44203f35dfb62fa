"""Optimisers that torch does not have."""

from collections.abc import Callable
from typing import Any

import torch as th
from torch.optim.optimizer import ParamsT

__all__ = ["SMALLEST_EPS", "KerasAdam"]

SMALLEST_EPS = 1e-12
"""Smallest ``eps``. With 0, a weight that no gradient has reached yet is divided by zero, and the
fast learner takes moments below 1e-30 for 0, whose root is a thousandth of this."""


class KerasAdam(th.optim.Optimizer):
    r"""
    Adam as Keras computes it.

    Keras divides by :math:`\sqrt{v} + \epsilon` and corrects the bias of both moments in the step
    size; ``torch.optim.Adam`` corrects :math:`v` first and adds :math:`\epsilon` after, which makes
    its :math:`\epsilon` larger by :math:`1/\sqrt{1-\beta_2^t}` in the first steps. With the tiny
    gradients of a naive online learner the difference shows.

    Source: the form before section 2.1 of Kingma and Ba (2015), "Adam: A Method for Stochastic
    Optimization" (their :math:`\hat\epsilon`), with Keras's defaults.

    :param params: The parameters to optimise, or groups of them.
    :param lr: Learning rate, at least 0.
    :param betas: Decay rates of the first and the second moment, each in [0, 1).
    :param eps: The :math:`\epsilon` added to the root of the second moment, at least 1e-12.
    :raises ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
    ) -> None:
        if not lr >= 0.0:
            raise ValueError(f"lr: received {lr}, it must be at least 0. Try 1e-3.")
        check_eps(eps)
        check_decay_rates("betas", *betas)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @th.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """
        Change every parameter once, by its gradient.

        :param closure: Evaluates the model again and returns the loss. Optional.
        :return: The loss that ``closure`` returned, or None.
        """
        loss = None
        if closure is not None:
            with th.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in group["params"]:
                if param.grad is None:
                    continue
                state: dict[str, Any] = self.state[param]
                if not state:
                    # The names and shapes of torch.optim.Adam's state
                    state["step"] = th.tensor(0.0)
                    state["exp_avg"] = th.zeros_like(param)
                    state["exp_avg_sq"] = th.zeros_like(param)
                state["step"] += 1
                step = state["step"].item()
                state["exp_avg"].lerp_(param.grad, 1 - beta1)
                state["exp_avg_sq"].mul_(beta2).addcmul_(param.grad, param.grad, value=1 - beta2)
                step_size = group["lr"] * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
                denominator = state["exp_avg_sq"].sqrt().add_(group["eps"])
                param.addcdiv_(state["exp_avg"], denominator, value=-step_size)
        return loss


def check_eps(eps: float) -> None:
    """Refuse to add less than 1e-12 before dividing."""
    if not eps >= SMALLEST_EPS:
        raise ValueError(f"eps: received {eps}, it must be at least {SMALLEST_EPS}. Try 1e-8.")


def check_decay_rates(name: str, *rates: float) -> None:
    """Refuse decay rates that are not in [0, 1)."""
    if not all(0.0 <= rate < 1.0 for rate in rates):
        received = rates[0] if len(rates) == 1 else rates
        raise ValueError(f"{name}: received {received}, it must be in [0, 1). Try 0.9 to 0.999.")

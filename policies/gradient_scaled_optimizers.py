"""
Optimisers for eligibility traces that scale each weight's step by the gradients it has had.

They differ from :class:`~dqn_plugins.policies.TraceAdam` in what they take the mean square of: the
gradient ∇Q(s, a) of the transition itself, neither the trace nor its product with the TD error.
"""

from collections.abc import Sequence

import numpy as np
import torch as th
from torch.optim.optimizer import ParamsT
from typing_extensions import override

from dqn_plugins.policies.optimizers import check_decay_rates, check_eps
from dqn_plugins.policies.trace_optimizers import TraceOptimizer

__all__ = ["AdaptiveQOptimizer", "IntentionalOptimizer"]

SMALLEST_NORM = 1e-8
"""Intentional updates divide by a norm, and by no less than this, as the authors' code does."""


class AdaptiveQOptimizer(TraceOptimizer):
    r"""
    The optimiser of Adaptive Q(λ): traces divided by the root mean square of recent gradients.

    With g = ∇Q(s, a), the gradient of the transition and not the trace, v ← γλ·v + (1 − γλ)·g² and
    :math:`w \leftarrow w + \eta\,\delta\,z / (\sqrt{v} + \epsilon)`. Both γ and λ are the update
    rule's: v forgets as fast as the trace does. There is no momentum, and v is not corrected for
    its start at zero.

    Source: Gogianu, Lutu and Pascanu (2026), "Revisiting Adam for Streaming Reinforcement
    Learning", arXiv 2605.06764, algorithm 1, as two independent codes and a summary of the paper
    quote it, η and ε included. The paper clips δ to ±1: ``StreamQ(td_error_clip=1.0)``.

    With several environments whose updates are averaged, which the paper does not have, g² is the
    mean of their g², and v fades once per update.

    :param lr: Learning rate η, at least 0.
    :param eps: ε, added to the root of v, at least 1e-12. As large as the default is, it keeps the
        steps of weights with small gradients small.
    """

    def __init__(self, params: ParamsT, lr: float = 4.6e-4, eps: float = 0.1) -> None:
        check_eps(eps)
        super().__init__(params, {"lr": lr, "eps": eps})

    @override
    @th.no_grad()
    def accumulate(
        self,
        gradients: Sequence[Sequence[th.Tensor]],
        decay: float,
        env_indices: np.ndarray | None = None,
    ) -> None:
        super().accumulate(gradients, decay, env_indices)
        for param, squares in zip(self.trainable(), _mean_squares(gradients), strict=True):
            mean_square = self._moments(param, "exp_avg_sq")["exp_avg_sq"]
            mean_square.mul_(decay).add_(squares, alpha=1 - decay)

    @override
    @th.no_grad()
    def step(  # type: ignore[override]
        self, td_errors: th.Tensor, env_indices: np.ndarray | None = None
    ) -> None:
        for group in self.param_groups:
            for param in self.trainable(group):
                mean_square = self._moments(param, "exp_avg_sq")["exp_avg_sq"]
                update = self._mean_update(param, td_errors, env_indices)
                param.addcdiv_(update, mean_square.sqrt() + group["eps"], value=group["lr"])


class IntentionalOptimizer(TraceOptimizer):
    r"""
    Intentional updates: the step size that moves the value by a given part of the TD error.

    With g = ∇Q(s, a), the gradient of the transition and not the trace, each weight is scaled by
    :math:`D = 1 / (\sqrt{\hat v} + \epsilon)`, where v̂ is the running mean of g², and
    :math:`w \leftarrow w + \alpha\,\delta\,D z` with
    :math:`\alpha = \eta / \sqrt{\sigma\; z^\top D z}`, where σ is the running mean of
    :math:`g^\top D g`. Without traces, and were σ the transition's own, Q(s, a) would change by
    η·δ, as far as it is linear in the weights.

    Source: Sharifnassab, Elsayed, De Asis, Mahmood and Sutton (2026), "Intentional Updates for
    Streaming Reinforcement Learning", arXiv 2604.19033: the equations. What they leave open is as
    in the authors' code: the mean of g² has the decay rate β₂ and that of gᵀDg the rate γλ, which
    the update rule gives; both are corrected for their start at zero; g is taken in before D is
    used; the norm divided by is at least 1e-8; η, β₂ and ε. With γλ = 1 the correction is the one
    in the limit: σ is the mean of all. The authors clip δ at 20 times its root mean square:
    ``StreamQ(td_error_clip_rms=20.0)``, whose mean forgets half as fast as theirs.

    With several environments whose updates are averaged, which the paper does not have, g² is the
    mean of their g², both means fade once per update, and each environment has the α of its own
    trace.

    :param lr: η, the part of the TD error that an update is to take away, at least 0.
    :param beta2: Decay rate β₂ of the mean of g², in [0, 1).
    :param eps: ε, added to the root of v̂, at least 1e-12.
    """

    def __init__(
        self, params: ParamsT, lr: float = 0.25, beta2: float = 0.999, eps: float = 1e-8
    ) -> None:
        check_decay_rates("beta2", beta2)
        check_eps(eps)
        super().__init__(params, {"lr": lr, "beta2": beta2, "eps": eps})

    @override
    @th.no_grad()
    def accumulate(
        self,
        gradients: Sequence[Sequence[th.Tensor]],
        decay: float,
        env_indices: np.ndarray | None = None,
    ) -> None:
        super().accumulate(gradients, decay, env_indices)
        norms, all_squares = [], iter(_mean_squares(gradients))
        for group in self.param_groups:
            for param in self.trainable(group):
                state, squares = self._moments(param, "step", "exp_avg_sq"), next(all_squares)
                state.setdefault("squared_norm", param.new_zeros(()))
                state["step"] += 1
                state["exp_avg_sq"].mul_(group["beta2"]).add_(squares, alpha=1 - group["beta2"])
                norms.append((squares * self._scale(param, group["beta2"], group["eps"])).sum())
        # One number, σ, which is kept with every parameter as the count of steps is.
        squared_norm = th.stack(norms).sum()
        for param in self.trainable():
            state = self.state[param]
            step = state["step"].item()
            share = (1 - decay) / (1 - decay**step) if decay < 1.0 else 1.0 / step
            state["squared_norm"] += share * (squared_norm - state["squared_norm"])

    @override
    @th.no_grad()
    def step(  # type: ignore[override]
        self, td_errors: th.Tensor, env_indices: np.ndarray | None = None
    ) -> None:
        if "step" not in self.state[self.trainable()[0]]:
            return  # no gradient has come yet, and no trace
        scales = {
            param: self._scale(param, group["beta2"], group["eps"])
            for group in self.param_groups
            for param in self.trainable(group)
        }
        norms = sum(
            self.state[param]["squared_norm"]
            * (self._traces(param, env_indices).square() * scale).flatten(1).sum(dim=1)
            for param, scale in scales.items()
        )
        assert isinstance(norms, th.Tensor)
        for group in self.param_groups:
            step_sizes = group["lr"] / norms.sqrt().clamp(min=SMALLEST_NORM)
            for param in self.trainable(group):
                update = self._mean_update(param, step_sizes * td_errors, env_indices)
                param.add_(update * scales[param])

    def _scale(self, param: th.Tensor, beta2: float, eps: float) -> th.Tensor:
        """Compute D."""
        state = self.state[param]
        mean_square = state["exp_avg_sq"] / (1 - beta2 ** state["step"].item())
        scale: th.Tensor = 1.0 / (mean_square.sqrt() + eps)
        return scale


def _mean_squares(gradients: Sequence[Sequence[th.Tensor]]) -> list[th.Tensor]:
    """Compute for each parameter the mean over transitions of the gradient's squares."""
    return [th.stack(parts).square().mean(dim=0) for parts in zip(*gradients, strict=True)]

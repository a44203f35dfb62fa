"""
Optimisers that learn from eligibility traces and a TD error in place of a gradient and a loss.

A trace remembers, per environment and parameter, how much each weight contributed to the recent
action values. Every number lives in ``state`` and ``param_groups``, so that saving the optimiser
saves the traces too.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
import torch as th
from torch.optim.optimizer import ParamsT
from typing_extensions import override

from dqn_plugins.policies.optimizers import check_decay_rates, check_eps

__all__ = ["AdaptiveObGD", "MaxScaledOptimizer", "ObGD", "TraceAdam", "TraceOptimizer"]


class TraceOptimizer(th.optim.Optimizer):
    """
    Base of the optimisers with eligibility traces.

    For each environment i it keeps a trace z_i. One step of learning is: :meth:`accumulate` the
    gradients of Q(s_i, a_i) into the traces, :meth:`step` with the TD errors δ_i, and :meth:`clear`
    the traces of episodes that ended. With several environments their updates are averaged.

    An optimiser that needs the gradients themselves takes them in :meth:`accumulate`. A frozen
    parameter, one whose ``requires_grad`` is False, is left out of both.

    :param params: The parameters to optimise, or groups of them.
    :param defaults: Default values of the groups' numbers.
    :raises ValueError: If the learning rate among them is below 0.
    """

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        if not defaults["lr"] >= 0.0:
            raise ValueError(
                f"lr: received {defaults['lr']}, it must be at least 0. Try 1.0 for ObGD and "
                "AdaptiveObGD, 0.25 for IntentionalOptimizer, 0.03 for MaxScaledOptimizer, 5e-4 "
                "for TraceAdam and AdaptiveQOptimizer."
            )
        super().__init__(params, defaults)

    @th.no_grad()
    def keep_traces_for(self, n_envs: int) -> None:
        """
        Keep one trace per environment from now on.

        :param n_envs: Number of environments. Traces of another number of environments are
            replaced by zeros.
        :raises ValueError: If there is too little memory for them.
        """
        parameters = [param for group in self.param_groups for param in group["params"]]
        traces = [self.state[param].get("trace") for param in parameters]
        if all(trace is not None and len(trace) == n_envs for trace in traces):
            return
        of_each = sum(param.numel() * param.element_size() for param in parameters)
        available = psutil.virtual_memory().available
        if n_envs * of_each > available:
            raise ValueError(
                f"n_envs: received {n_envs} environments, whose traces take "
                f"{n_envs * of_each / 1e9:.1f} GB; {available / 1e9:.1f} GB of memory are free. "
                f"Take at most {available // of_each}, or a smaller network."
            )
        for param in parameters:
            self.state[param]["trace"] = param.new_zeros(n_envs, *param.shape)

    @th.no_grad()
    def accumulate(
        self,
        gradients: Sequence[Sequence[th.Tensor]],
        decay: float,
        env_indices: np.ndarray | None = None,
    ) -> None:
        """
        Let traces fade, and add gradients to them: z_i ← decay·z_i + ∇Q(s_i, a_i).

        :param gradients: For each of n transitions one tensor per parameter that is not frozen, in
            the order of the groups, each of its parameter's shape.
        :param decay: γλ, in [0, 1].
        :param env_indices: Which environments they are of, shape (n,); None for all.
        """
        envs = range(len(gradients)) if env_indices is None else env_indices.tolist()
        for env_index, gradient in zip(envs, gradients, strict=True):
            for param, part in zip(self.trainable(), gradient, strict=True):
                self.state[param]["trace"][env_index].mul_(decay).add_(part)

    @th.no_grad()
    def clear(self, env_index: int) -> None:
        """
        Forget a trace.

        :param env_index: Index of the environment.
        """
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["trace"][env_index].zero_()

    @abstractmethod
    def step(  # type: ignore[override]
        self, td_errors: th.Tensor, env_indices: np.ndarray | None = None
    ) -> None:
        """
        Move the weights along the traces.

        :param td_errors: TD errors δ, shape (n,).
        :param env_indices: Which environments they are of, shape (n,); None for all.
        """

    def _traces(self, param: th.Tensor, env_indices: np.ndarray | None) -> th.Tensor:
        """Some environments' traces of a parameter, shape (n, *param.shape)."""
        traces: th.Tensor = self.state[param]["trace"]
        return traces if env_indices is None else traces[env_indices]

    def _moments(self, param: th.Tensor, *names: str) -> dict[str, Any]:
        """Find a parameter's state, in which what has these names begins at zero."""
        state: dict[str, Any] = self.state[param]
        for name in names:
            if name not in state:
                state[name] = th.tensor(0.0) if name == "step" else th.zeros_like(param)
        return state

    def trainable(self, group: dict[str, Any] | None = None) -> list[th.Tensor]:
        """
        List the parameters that are learned: those that are not frozen.

        :param group: One of the groups; None for all.
        :return: Those whose ``requires_grad`` is True, in the order of the groups.
        """
        groups = self.param_groups if group is None else [group]
        return [param for each in groups for param in each["params"] if param.requires_grad]

    def _mean_update(
        self, param: th.Tensor, td_errors: th.Tensor, env_indices: np.ndarray | None
    ) -> th.Tensor:
        """Compute the mean of δ_i·z_i over the environments, of the parameter's shape."""
        mean: th.Tensor = th.tensordot(td_errors, self._traces(param, env_indices), dims=1)
        return mean / len(td_errors)


class ObGD(TraceOptimizer):
    r"""
    Overshooting-bounded gradient descent.

    The step size shrinks where a full step would overshoot the target on the very sample it was
    taken on: w ← w + α_i·δ_i·z_i with
    :math:`\alpha_i = \alpha / \max(1, \alpha\kappa\,\max(|\delta_i|, 1)\,\lVert z_i\rVert_1)`.

    With several environments the mean of their updates is taken. Each is bounded by its own trace
    and TD error, so that none overshoots by itself; the mean takes 1/n_envs of each step, which is
    on the safe side.

    Source: Elsayed, Vasan and Mahmood (2024), arXiv 2410.14606, algorithm 3.

    :param lr: Largest step size α, at least 0.
    :param overshoot_factor: κ, above 0: the larger, the smaller the steps.
    """

    def __init__(self, params: ParamsT, lr: float = 1.0, overshoot_factor: float = 2.0) -> None:
        check_overshoot_factor(overshoot_factor)
        super().__init__(params, {"lr": lr, "overshoot_factor": overshoot_factor})

    @override
    @th.no_grad()
    def step(  # type: ignore[override]
        self, td_errors: th.Tensor, env_indices: np.ndarray | None = None
    ) -> None:
        norms = sum(
            self._traces(param, env_indices).abs().flatten(1).sum(dim=1)
            for param in self.trainable()
        )
        for group in self.param_groups:
            bound = group["lr"] * group["overshoot_factor"] * td_errors.abs().clamp(min=1.0) * norms
            step_sizes = group["lr"] / bound.clamp(min=1.0)
            for param in self.trainable(group):
                param.add_(self._mean_update(param, step_sizes * td_errors, env_indices))


class AdaptiveObGD(TraceOptimizer):
    r"""
    Overshooting-bounded gradient descent whose traces are divided by the root of the running mean
    square of δ·z, weight by weight, as Adam divides gradients.

    Source: Elsayed, Vasan and Mahmood (2024), arXiv 2410.14606, appendix "Adaptive ObGD".

    :param lr: Largest step size α, at least 0.
    :param overshoot_factor: κ, above 0: the larger, the smaller the steps.
    :param beta2: Decay rate of the mean square, in [0, 1).
    :param eps: Added to the mean square before its root is taken, at least 1e-12.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        overshoot_factor: float = 2.0,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        check_overshoot_factor(overshoot_factor)
        check_decay_rates("beta2", beta2)
        check_eps(eps)
        super().__init__(
            params, {"lr": lr, "overshoot_factor": overshoot_factor, "beta2": beta2, "eps": eps}
        )

    @override
    @th.no_grad()
    def step(  # type: ignore[override]
        self, td_errors: th.Tensor, env_indices: np.ndarray | None = None
    ) -> None:
        norms = th.zeros_like(td_errors)
        scales: dict[th.Tensor, th.Tensor] = {}
        for group in self.param_groups:
            for param in self.trainable(group):
                state = self._moments(param, "step", "exp_avg_sq")
                update = self._mean_update(param, td_errors, env_indices)
                state["step"] += 1
                state["exp_avg_sq"].mul_(group["beta2"])
                state["exp_avg_sq"].addcmul_(update, update, value=1 - group["beta2"])
                correction = 1 - group["beta2"] ** state["step"].item()
                scales[param] = (state["exp_avg_sq"] / correction + group["eps"]).rsqrt()
                traces = self._traces(param, env_indices)
                norms += (traces * scales[param]).abs().flatten(1).sum(dim=1)
        for group in self.param_groups:
            bound = group["lr"] * group["overshoot_factor"] * td_errors.abs().clamp(min=1.0) * norms
            step_sizes = group["lr"] / bound.clamp(min=1.0)
            for param in self.trainable(group):
                param.add_(
                    self._mean_update(param, step_sizes * td_errors, env_indices) * scales[param]
                )


class TraceAdam(TraceOptimizer):
    r"""
    Plain Adam on the product of TD error and trace: the gradient is −δ·z.

    The arithmetic is ``torch.optim.Adam``'s, Kingma and Ba (2015), "Adam: A Method for Stochastic
    Optimization", algorithm 1: both moments are of −δ·z and corrected for their start at zero.

    It is not the optimiser of Adaptive Q(λ), which has no momentum and scales by the gradients: see
    :class:`~dqn_plugins.policies.AdaptiveQOptimizer`.

    :param lr: Learning rate, at least 0.
    :param betas: Decay rates of the first and the second moment, each in [0, 1).
    :param eps: Added to the root of the second moment, at least 1e-12.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        check_decay_rates("betas", *betas)
        check_eps(eps)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @override
    @th.no_grad()
    def step(  # type: ignore[override]
        self, td_errors: th.Tensor, env_indices: np.ndarray | None = None
    ) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for param in self.trainable(group):
                state = self._moments(param, "step", "exp_avg", "exp_avg_sq")
                gradient = -self._mean_update(param, td_errors, env_indices)
                state["step"] += 1
                step = state["step"].item()
                state["exp_avg"].lerp_(gradient, 1 - beta1)
                state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                denominator = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt() + group["eps"]
                step_size = group["lr"] / (1 - beta1**step)
                param.addcdiv_(state["exp_avg"], denominator, value=-step_size)


class MaxScaledOptimizer(TraceOptimizer):
    """
    A step along δ·z whose every weight is scaled by the largest recent size of its own.

    With u = δ·z, w ← w + α·u / (v + ε) and v ← max(βv, ``|u|``): no weight moves by more than α at
    once, and one whose u is as large as ever moves by α.

    Source: Elsayed, Lupu, Vasan and Mahmood, arXiv 2410.14606, version 3 of 2026, where it takes
    ObGD's place, as others quote it. The two equations are the quoted ones. The defaults of α, β
    and ε are ours, from a few runs on CartPole: the paper's were not at hand.

    With several environments u is the mean of their δ·z.

    :param lr: α, the largest change of a weight, at least 0.
    :param beta2: β, the decay rate of the largest size, in [0, 1).
    :param eps: ε, added to the largest size, at least 1e-12.
    """

    def __init__(
        self, params: ParamsT, lr: float = 0.03, beta2: float = 0.999, eps: float = 1e-8
    ) -> None:
        check_decay_rates("beta2", beta2)
        check_eps(eps)
        super().__init__(params, {"lr": lr, "beta2": beta2, "eps": eps})

    @override
    @th.no_grad()
    def step(  # type: ignore[override]
        self, td_errors: th.Tensor, env_indices: np.ndarray | None = None
    ) -> None:
        for group in self.param_groups:
            for param in self.trainable(group):
                update = self._mean_update(param, td_errors, env_indices)
                largest = self._moments(param, "exp_inf")["exp_inf"].mul_(group["beta2"])
                th.maximum(largest, update.abs(), out=largest)
                param.addcdiv_(update, largest + group["eps"], value=group["lr"])


def check_overshoot_factor(overshoot_factor: float) -> None:
    """Refuse a κ that is not above 0."""
    if not overshoot_factor > 0.0:
        raise ValueError(
            f"overshoot_factor: received {overshoot_factor}, it must be above 0. Try 2.0."
        )

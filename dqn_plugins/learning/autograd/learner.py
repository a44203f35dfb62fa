"""The backend in torch: for any policy, on any device. The reference."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from torch.nn import functional as F
from typing_extensions import override

from dqn_plugins.learning.autograd.naive import learn_naive
from dqn_plugins.learning.autograd.stream import learn_stream
from dqn_plugins.learning.autograd.values import action_values, as_tensor
from dqn_plugins.learning.learner import Learner
from dqn_plugins.learning.limits import LARGEST_GRADIENT, check_optimizer
from dqn_plugins.learning.rules import NaiveRule, Rule, StreamRule
from dqn_plugins.learning.transition import Observation, Transition, raise_if_not_finite, rows_of
from dqn_plugins.policies import TraceOptimizer

__all__ = ["AutogradLearner"]

RULES: dict[type[Rule], Callable[..., np.ndarray]] = {
    NaiveRule: learn_naive,
    StreamRule: learn_stream,
}
"""How each rule, and what is derived from it, is applied: functions of the policy, the rule, the
transitions, which rows to learn from, and ε."""


class AutogradLearner(Learner):
    """Applies a rule through torch's automatic differentiation. See :class:`Learner`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._keep_traces()

    def _keep_traces(self) -> Any:
        """Have a trace and a return for each environment, also after others were loaded."""
        if isinstance(self.policy.optimizer, TraceOptimizer):
            self.policy.optimizer.keep_traces_for(self.n_envs)
        normalizer = getattr(self.policy.q_net, "reward_normalizer", None)
        if normalizer is not None:
            normalizer.keep_returns_for(self.n_envs)
        return normalizer

    @override
    def is_current(self, thorough: bool = True) -> bool:
        return True  # torch itself is asked for the weights at every step

    @override
    def learn(self, transition: Transition) -> np.ndarray:
        # As torch computes by default, also within a program's own `no_grad` or `autocast`
        kind = self.policy.device.type
        try:
            with th.inference_mode(False), th.enable_grad(), th.autocast(kind, enabled=False):
                return super().learn(transition)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                "policy_kwargs: received a network with batch normalisation, it must be one that "
                "learns from a single transition. Use torch.nn.LayerNorm, or PQN's minibatches."
            ) from error

    @override
    def _clear_traces(self) -> None:
        normalizer, optimizer = self._keep_traces(), self.policy.optimizer
        for env_index in range(self.n_envs):
            if isinstance(optimizer, TraceOptimizer):
                optimizer.clear(env_index)
            if normalizer is not None:
                normalizer.returns[env_index] = 0.0

    @override
    def _observe(self, obs: Observation) -> None:
        normalizer = getattr(self.policy.q_net, "observation_normalizer", None)
        if normalizer is not None:
            normalizer.update(as_tensor(self.policy, obs))

    @override
    def _apply(self, transition: Transition) -> np.ndarray:
        check_optimizer(self.policy.optimizer)
        self._keep_traces()
        rewards, first = transition.rewards, transition.first_env_index
        raise_if_not_finite(transition.obs, rewards, transition.next_obs, first)
        td_errors = np.zeros(len(rewards), np.float32)
        rows = np.flatnonzero(transition.valid)
        apply = next(RULES[kind] for kind in type(self.rule).__mro__ if kind in RULES)
        for group in rows[:, np.newaxis] if self.rule.update == "each" else [rows]:
            if len(group):
                td_errors[group] = apply(
                    self.policy, self.rule, transition, group, self._exploration_rate
                )
        return td_errors

    @override
    def action_values(self, obs: Any) -> th.Tensor:
        return action_values(self.policy, obs)

    @override
    def fit(
        self, obs: Any, actions: th.Tensor, targets: th.Tensor, rows: np.ndarray, n_batches: int
    ) -> bool:
        policy, max_norm = self.policy, self.rule.max_grad_norm
        policy.set_training_mode(True)
        for batch in th.from_numpy(rows).to(actions.device).tensor_split(n_batches):
            values = policy.q_net.learned_values(rows_of(obs, batch))
            if not values.requires_grad:  # all is frozen
                continue
            taken = values.gather(1, actions[batch].view(-1, 1)).view(-1)
            policy.optimizer.zero_grad()
            F.mse_loss(taken, targets[batch]).backward()  # type: ignore[no-untyped-call]
            norm = th.nn.utils.clip_grad_norm_(policy.q_net.parameters(), max_norm or th.inf)
            if not norm < LARGEST_GRADIENT:
                return False
            policy.optimizer.step()
        return True

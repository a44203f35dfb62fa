"""The backend in torch: for any policy, on any device. The reference."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from torch.nn import functional as F
from typing_extensions import override

from dqn_plugins.learning.autograd.naive import learn_naive
from dqn_plugins.learning.autograd.stream import learn_stream
from dqn_plugins.learning.autograd.values import as_tensor, q_values, rows_of
from dqn_plugins.learning.learner import BackendLearner
from dqn_plugins.learning.limits import LARGEST_GRADIENT, check_optimizer
from dqn_plugins.learning.rules import NaiveRule, Rule, StreamRule
from dqn_plugins.learning.transition import Observation, Transition, raise_if_not_finite
from dqn_plugins.policies import QPolicy, TraceOptimizer
from dqn_plugins.policies.action_masks import possible_values

__all__ = ["AutogradLearner"]

RULES: dict[type[Rule], Callable[..., np.ndarray]] = {
    NaiveRule: learn_naive,
    StreamRule: learn_stream,
}
"""How each rule, and what is derived from it, is applied: functions of the policy, the rule, the
transitions, which rows to learn from, and ε."""

ROWS_AT_ONCE = 1024
"""Of so many observations the values are computed at once: of images, the network's layers need
more memory than the rollout itself."""


class AutogradLearner(BackendLearner):
    """
    Applies a rule through torch's automatic differentiation. See :class:`Learner`.

    :param policy: The policy, with its optimiser.
    :param rule: The update rule.
    :param n_envs: Number of environments.
    """

    rule: Any

    def __init__(self, policy: QPolicy, rule: Rule, n_envs: int) -> None:
        super().__init__(policy, rule, n_envs)
        check_optimizer(policy.optimizer)
        self._keep_traces()

    def _keep_traces(self) -> None:
        """Have a trace and a return for each environment, also after others were loaded."""
        if isinstance(self.policy.optimizer, TraceOptimizer):
            self.policy.optimizer.keep_traces_for(self.n_envs)
        if self._reward_normalizer is not None:
            self._reward_normalizer.keep_returns_for(self.n_envs)

    @property
    def _reward_normalizer(self) -> Any:
        return getattr(self.policy.q_net, "reward_normalizer", None)

    def is_current(self, thorough: bool = True) -> bool:
        """
        Tell whether the learner still works on the memory that the policy uses.

        :param thorough: Without effect.
        :return: True: torch itself is asked for the weights at every step.
        """
        return True

    @override
    def forget(self) -> None:
        self._keep_traces()
        optimizer = self.policy.optimizer
        for env_index in range(self.n_envs):
            if isinstance(optimizer, TraceOptimizer):
                optimizer.clear(env_index)
            if self._reward_normalizer is not None:
                self._reward_normalizer.returns[env_index] = 0.0

    @override
    def start_episodes(self, obs: Observation) -> None:
        self.forget()
        self._observe(obs)

    @override
    def greedy_actions(
        self, obs: Observation, action_masks: np.ndarray | None = None
    ) -> np.ndarray:
        values = possible_values(q_values(self.policy, obs), action_masks)
        actions: np.ndarray = values.argmax(axis=1)
        return actions

    @override
    def learn(self, transition: Transition) -> np.ndarray:
        check_optimizer(self.policy.optimizer)
        self._keep_traces()
        obs, rewards, next_obs = transition.obs, transition.rewards, transition.next_obs
        new_obs, begun, first = transition.new_obs, transition.begun, transition.first_env_index
        raise_if_not_finite(obs, rewards, next_obs, first)
        if begun is not None:
            raise_if_not_finite(new_obs, rewards, new_obs, first)
        td_errors = np.zeros(len(rewards), np.float32)
        rows = np.flatnonzero(transition.valid)
        apply = next(RULES[kind] for kind in type(self.rule).__mro__ if kind in RULES)
        for group in rows[:, np.newaxis] if self.rule.update == "each" else [rows]:
            if len(group):
                td_errors[group] = apply(
                    self.policy, self.rule, transition, group, self._exploration_rate
                )
        if begun is not None:
            self._observe(rows_of(new_obs, np.flatnonzero(begun)))
        return td_errors

    @override
    @th.no_grad()
    def action_values(self, obs: Any) -> th.Tensor:
        self.policy.set_training_mode(False)
        tensors = as_tensor(self.policy, obs)
        n = len(next(iter(tensors.values())) if isinstance(tensors, dict) else tensors)
        parts = (slice(start, start + ROWS_AT_ONCE) for start in range(0, n, ROWS_AT_ONCE))
        learned_values = self.policy.q_net.learned_values
        return th.cat([learned_values(rows_of(tensors, part)) for part in parts])

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

    def _observe(self, obs: Observation) -> None:
        """Take observations into the running statistics."""
        normalizer = getattr(self.policy.q_net, "observation_normalizer", None)
        if normalizer is not None:
            normalizer.update(as_tensor(self.policy, obs))

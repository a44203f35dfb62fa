"""Stream Q(λ)'s update rule in torch: for any policy, on any device. The reference."""

import numpy as np
import torch as th

from dqn_plugins.learning.autograd.base import AutogradLearner
from dqn_plugins.learning.learner import LARGE_TD_ERROR
from dqn_plugins.learning.rules import StreamRule
from dqn_plugins.learning.transition import Observation, raise_if_not_finite
from dqn_plugins.policies import StreamQPolicy

__all__ = ["StreamAutogradLearner"]


class StreamAutogradLearner(AutogradLearner):
    """
    Q(λ) with eligibility traces, one per environment.

    :param policy: The policy whose weights are learned, with its optimiser, which holds the traces.
    :param rule: The numbers of the update rule.
    :param n_envs: Number of environments.
    """

    policy: StreamQPolicy

    def __init__(self, policy: StreamQPolicy, rule: StreamRule, n_envs: int) -> None:
        super().__init__(policy)
        self.rule = rule
        self._keep_traces_for(n_envs)

    def forget(self) -> None:
        """Forget the traces and the discounted returns. See :meth:`Learner.forget`."""
        for env_index in range(self._n_envs):
            self._end_episode(env_index)

    def start_episodes(self, obs: Observation) -> None:
        """
        Forget what led here, and take the first observations of new episodes into the statistics.

        :param obs: The first observations in all environments, shape (n_envs, ...).
        """
        self._keep_traces_for(_n_envs(obs))
        self.forget()
        self._observe(obs)

    def learn(
        self,
        obs: Observation,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_obs: Observation,
        terminated: np.ndarray,
        dones: np.ndarray,
        new_obs: Observation,
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Learn from one transition per environment. See :meth:`Learner.learn`.

        :param obs: Observations before the step, shape (n_envs, ...).
        :param actions: Actions taken, shape (n_envs,), int.
        :param rewards: Rewards, shape (n_envs,), float.
        :param next_obs: Observations that the step led to, shape (n_envs, ...).
        :param terminated: Whether these are terminal states, shape (n_envs,), bool.
        :param dones: Whether the episodes ended, shape (n_envs,), bool.
        :param new_obs: Observations to act on next, shape (n_envs, ...).
        :return: TD errors, shape (n_envs,), and greedy actions of ``new_obs``.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. No weight or trace was
            changed.
        """
        raise_if_not_finite(obs, rewards, next_obs)
        raise_if_not_finite(new_obs, rewards, next_obs)
        policy, optimizer, rule = self.policy, self.policy.optimizer, self.rule
        n_envs = len(actions)
        self._keep_traces_for(n_envs)

        # The action values, normalised by what was known when the observations came, and ∇Q(s, a)
        policy.set_training_mode(True)
        q_values = policy.q_net(self._tensor(obs))
        explored = q_values.argmax(dim=1).cpu().numpy() != actions
        taken_values = q_values[np.arange(n_envs), actions]
        parameters = list(policy.q_net.parameters())
        gradients = [
            th.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
            for value in taken_values
        ]

        # The TD errors, after a look at the next observations and at the scale of the rewards
        self._observe(next_obs)
        if policy.reward_normalizer is not None:
            raw_rewards = th.as_tensor(rewards, device=policy.device)
            rewards = policy.reward_normalizer(raw_rewards, rule.gamma).cpu().numpy()
        next_values = self._q_values(next_obs).max(axis=1)
        next_values[terminated] = 0.0
        td_errors = self._td_errors(
            rewards, rule.gamma, next_values, taken_values.detach().cpu().numpy()
        )
        for env_index in range(n_envs):
            factors = list(gradients[env_index])
            if abs(td_errors[env_index]) > LARGE_TD_ERROR:
                factors += [optimizer.state[param]["trace"][env_index] for param in parameters]
            scale = max(abs(float(td_errors[env_index])), 1.0)
            self._refuse_overflow(factors, env_index, td_errors, scale)

        # The traces: fade, and take in the gradient
        for env_index in range(n_envs):
            for param, gradient in zip(parameters, gradients[env_index], strict=True):
                param.grad = gradient
            cut_before = explored[env_index] and rule.trace_cut == "watkins"
            optimizer.accumulate(env_index, 0.0 if cut_before else rule.gamma * rule.trace_decay)
        optimizer.zero_grad()

        # The weights: along the traces
        clipped = td_errors.clip(-rule.td_error_clip, rule.td_error_clip)
        optimizer.step(th.as_tensor(clipped, device=policy.device))
        policy.update_average()

        # What ended is forgotten, what begins is looked at
        for env_index in range(n_envs):
            if explored[env_index] and rule.trace_cut == "after":
                optimizer.clear(env_index)
            if dones[env_index]:
                self._end_episode(env_index)
                if new_obs is not next_obs:
                    self._observe(_only(new_obs, env_index))
        return td_errors, self.greedy_actions(new_obs)

    def _observe(self, obs: Observation) -> None:
        """Take observations into the running statistics."""
        normalizer = self.policy.q_net.observation_normalizer
        if normalizer is not None:
            normalizer.update(self._tensor(obs))

    def _end_episode(self, env_index: int) -> None:
        """Forget the trace and the discounted return of an environment."""
        self.policy.optimizer.clear(env_index)
        if self.policy.reward_normalizer is not None:
            self.policy.reward_normalizer.returns[env_index] = 0.0

    def _keep_traces_for(self, n_envs: int) -> None:
        self._n_envs = n_envs
        self.policy.optimizer.keep_traces_for(n_envs)
        if self.policy.reward_normalizer is not None:
            self.policy.reward_normalizer.keep_returns_for(n_envs)


def _n_envs(obs: Observation) -> int:
    return len(next(iter(obs.values())) if isinstance(obs, dict) else obs)


def _only(obs: Observation, env_index: int) -> Observation:
    rows = slice(env_index, env_index + 1)
    if isinstance(obs, dict):
        return {key: value[rows] for key, value in obs.items()}
    return obs[rows]

"""Q(λ) from rollouts: transitions are collected, and then learned from in minibatches."""

from typing import Any

import numpy as np
import torch as th
from typing_extensions import override

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learning.lambda_returns import lambda_returns
from dqn_plugins.learning.learner import BackendLearner, Learner
from dqn_plugins.learning.limits import check_optimizer
from dqn_plugins.learning.rollout import Rollout, as_observation
from dqn_plugins.learning.rules import RolloutRule
from dqn_plugins.learning.transition import Observation, Transition, raise_if_not_finite
from dqn_plugins.policies.action_masks import possible_values

__all__ = ["RolloutLearner"]


class RolloutLearner(Learner):
    """
    Collects transitions until they make a rollout, then has a backend take steps.

    :param backend: The backend, with a :class:`RolloutRule`.
    :param rollout: Where transitions are kept.
    :param rng: Draws the order of the minibatches.
    """

    rule: RolloutRule

    def __init__(self, backend: BackendLearner, rollout: Rollout, rng: np.random.Generator) -> None:
        super().__init__(backend.policy, backend.rule, backend.n_envs)
        check_optimizer(backend.policy.optimizer)
        self.rollout, self.rng = rollout, rng
        self.n_updates = 0
        """How many gradient steps the last rollout was worth."""
        self._backend = backend

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._backend, self.rollout, self.rng)

    @override
    def is_current(self, thorough: bool = True) -> bool:
        return self._backend.is_current(thorough)

    @override
    def compile(self, masked: bool = False) -> None:
        self._backend.compile(masked)

    def set_rule(self, rule: Any) -> None:
        """
        Learn by other numbers from now on. With another length, the rollout begins anew.

        :param rule: The rule.
        """
        super().set_rule(rule)
        self._backend.set_rule(rule)
        if rule.n_steps != self.rollout.n_steps:
            self.rollout.resize(rule.n_steps)

    def forget(self) -> None:
        """Forget the steps that have not been learned from."""
        self.rollout.clear()

    @override
    def start_episodes(self, obs: Observation) -> None:
        self.forget()

    @override
    def greedy_actions(
        self, obs: Observation, action_masks: np.ndarray | None = None
    ) -> np.ndarray:
        return self._backend.greedy_actions(obs, action_masks)

    def learn(self, transition: Transition) -> np.ndarray:
        """
        Take in one transition per environment, and learn if they complete a rollout.

        :param transition: The transitions.
        :return: Of a completed rollout, what λ-returns were more than the values before learning,
            one number per transition, float32; otherwise nothing, shape (0,).
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If an update overflows. All is as it was before the rollout.
        """
        obs, rewards, next_obs = transition.obs, transition.rewards, transition.next_obs
        first = transition.first_env_index
        if transition.begun is None and not transition.valid.any():
            return np.zeros(0, np.float32)  # environments that take turns have just begun
        # The observation before the step is the one after an earlier step, or the first one.
        raise_if_not_finite(obs if self.rollout.is_empty else next_obs, rewards, next_obs, first)
        if transition.begun is not None:
            raise_if_not_finite(transition.new_obs, rewards, transition.new_obs, first)
        self.rollout.add(transition)
        if not self.rollout.is_full:
            return np.zeros(0, np.float32)
        check_optimizer(self.policy.optimizer)
        try:
            return self._learn_from_rollout()
        finally:
            self.policy.set_training_mode(False)
            self.rollout.clear()

    def _learn_from_rollout(self) -> np.ndarray:
        rule, rollout, backend = self.rule, self.rollout, self._backend
        actions = rollout.tensor("actions").view(-1)
        returns, errors = self._targets(actions)
        rows = np.flatnonzero(rollout.array("valid"))
        n_batches = max(1, round(len(rows) / rule.batch_size))
        td_errors = errors[rows]
        self.n_updates = rule.n_epochs * n_batches if len(rows) else 0
        if not len(rows):
            return td_errors
        largest = int(rows[np.abs(td_errors).argmax()])
        divergence = DivergenceError(largest % rollout.n_envs, float(errors[largest]))
        if not np.isfinite(td_errors).all():
            raise divergence
        obs = {key: part[: rollout.n_steps].flatten(0, 1) for key, part in rollout.obs.items()}
        before = backend.snapshot()
        for _ in range(rule.n_epochs):
            order = self.rng.permutation(rows)
            if not backend.fit(as_observation(obs), actions, returns, order, n_batches):
                backend.restore(before)
                raise divergence
        return td_errors

    @th.no_grad()
    def _targets(self, actions: th.Tensor) -> tuple[th.Tensor, np.ndarray]:
        """
        Compute what the values of the actions taken are to become.

        :param actions: The actions, shape (n_steps · n_envs,).
        :return: λ-returns, likewise, and by how much they exceed the values now.
        """
        rollout, rule = self.rollout, self.rule
        shape = rollout.n_steps, rollout.n_envs
        obs = {key: part.flatten(0, 1) for key, part in rollout.obs.items()}
        values = self._backend.action_values(as_observation(obs))
        masks = rollout.action_masks
        if masks is not None:
            masks = masks[1:].reshape(-1, masks.shape[2])
        next_values = best_values(values[shape[1] :], masks).view(shape)
        if rollout.last_obs:
            steps, environments, observations = zip(*rollout.last_obs, strict=True)
            last = {
                key: th.from_numpy(np.stack([each[key] for each in observations])).to(part.device)
                for key, part in obs.items()
            }
            last_masks = None if masks is None else np.stack(rollout.last_action_masks)
            best = best_values(self._backend.action_values(as_observation(last)), last_masks)
            next_values[list(steps), list(environments)] = best
        dones = rollout.tensor("dones")
        terminated = rollout.tensor("terminated") if rule.bootstrap_at_truncation else dones
        returns = lambda_returns(
            rollout.tensor("rewards"), next_values, terminated, dones, rule.gamma, rule.q_lambda
        ).view(-1)
        errors = returns - values[: len(actions)].gather(1, actions.view(-1, 1)).view(-1)
        return returns, errors.cpu().numpy()


def best_values(values: th.Tensor, action_masks: np.ndarray | None) -> th.Tensor:
    """
    Find the highest values of possible actions.

    :param values: Action values, shape (n, n_actions).
    :param action_masks: Which actions are possible, shape (n, n_actions), bool; None for all.
    :return: The highest values, shape (n,); 0 where nothing is possible.
    """
    if action_masks is None:
        return values.amax(1)
    best = possible_values(values.cpu().numpy(), action_masks).max(axis=1)
    return th.from_numpy(best).to(values.device)

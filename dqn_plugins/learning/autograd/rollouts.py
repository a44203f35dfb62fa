"""Q(λ) from rollouts, in torch: for any policy, on any device."""

from typing import Any

import numpy as np
import torch as th
from torch.nn import functional as F

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learning.autograd.descent import Descent
from dqn_plugins.learning.autograd.values import as_tensor
from dqn_plugins.learning.lambda_returns import lambda_returns
from dqn_plugins.learning.learner import Learner
from dqn_plugins.learning.limits import check_optimizer
from dqn_plugins.learning.rollout import Rollout, as_observation
from dqn_plugins.learning.rules import RolloutRule
from dqn_plugins.learning.transition import Observation, Transition, raise_if_not_finite
from dqn_plugins.policies import QPolicy

__all__ = ["RolloutLearner"]

ROWS_AT_ONCE = 1024
"""Of so many observations the values are computed at once: of images, the network's layers need
more memory than the rollout itself."""


class RolloutLearner(Learner):
    """
    Collects transitions until they make a rollout, then learns from it. See :class:`Learner`.

    :param policy: The policy, with its optimiser.
    :param rule: The update rule.
    :param n_envs: Number of environments.
    :param rollout: Where transitions are kept.
    :param rng: Draws the order of the minibatches.
    """

    rule: RolloutRule

    def __init__(
        self,
        policy: QPolicy,
        rule: RolloutRule,
        n_envs: int,
        rollout: Rollout,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(policy, rule, n_envs)
        check_optimizer(policy.optimizer)
        self.rollout, self.rng = rollout, rng
        self._descent = Descent(policy)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.policy, self.rule, self.n_envs, self.rollout, self.rng)

    @property
    def n_updates(self) -> int:
        """How many gradient steps the last rollout was worth."""
        return self._n_updates

    def is_current(self, thorough: bool = True) -> bool:
        """
        Tell whether the learner still works on the memory that the policy uses.

        :param thorough: Without effect.
        :return: True: torch itself is asked for the weights at every step.
        """
        return True

    def set_rule(self, rule: Any) -> None:
        """
        Learn by other numbers from now on. With another length, the rollout begins anew.

        :param rule: The rule.
        """
        super().set_rule(rule)
        if rule.n_steps != self.rollout.n_steps:
            self.rollout.resize(rule.n_steps)

    def forget(self) -> None:
        """Forget the steps that have not been learned from."""
        self.rollout.clear()

    def start_episodes(self, obs: Observation) -> None:
        """
        Begin a rollout. See :meth:`Learner.start_episodes`.

        :param obs: The first observations in all environments, shape (n_envs, ...).
        """
        self.forget()

    @th.no_grad()
    def greedy_actions(self, obs: Observation) -> np.ndarray:
        """
        Find the actions of the highest values. See :meth:`Learner.greedy_actions`.

        :param obs: Observations, shape (n_envs, ...).
        :return: Actions, shape (n_envs,), int64.
        """
        values = self.policy.q_net.learned_values(as_tensor(self.policy, obs))
        actions: np.ndarray = values.argmax(dim=1).cpu().numpy()
        return actions

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
        rule, rollout = self.rule, self.rollout
        n = rollout.n_steps * rollout.n_envs
        obs = {key: part[: rollout.n_steps].flatten(0, 1) for key, part in rollout.obs.items()}
        actions = rollout.tensor("actions").view(n, 1)
        returns, errors = self._targets(actions)
        rows = np.flatnonzero(rollout.array("valid"))
        n_batches = max(1, round(len(rows) / rule.batch_size))
        td_errors = errors[rows]
        if not len(rows):
            self._n_updates = 0
            return td_errors
        largest = int(rows[np.abs(td_errors).argmax()])
        env_index, td_error = largest % rollout.n_envs, float(errors[largest])
        if not np.isfinite(td_errors).all():
            raise DivergenceError(env_index, td_error)
        self._n_updates = rule.n_epochs * n_batches
        self.policy.set_training_mode(True)
        with self._descent as descent:
            for _ in range(rule.n_epochs):
                order = th.from_numpy(self.rng.permutation(rows)).to(rollout.device)
                batches = order.tensor_split(n_batches)
                if not self._descend(descent, obs, actions, returns, batches):
                    raise DivergenceError(env_index, td_error)
        return td_errors

    def _descend(
        self,
        descent: Descent,
        obs: dict[str, th.Tensor],
        actions: th.Tensor,
        returns: th.Tensor,
        batches: tuple[th.Tensor, ...],
    ) -> bool:
        """
        Take one step for each minibatch.

        :param descent: Takes the steps.
        :param obs: Observations, shape (n, ...) each.
        :param actions: Actions, shape (n, 1).
        :param returns: What their values are to become, shape (n, 1).
        :param batches: The rows of each minibatch.
        :return: False if a gradient is too large or NaN.
        """
        for batch in batches:
            part = {key: values[batch] for key, values in obs.items()}
            values = self.policy.q_net.learned_values(as_observation(part))
            taken = values.gather(1, actions[batch])
            F.mse_loss(taken, returns[batch]).backward()  # type: ignore[no-untyped-call]
            if not descent.step(self.rule.max_grad_norm):
                return False
        return True

    @th.no_grad()
    def _targets(self, actions: th.Tensor) -> tuple[th.Tensor, np.ndarray]:
        """
        Compute what the values of the actions taken are to become.

        :param actions: The actions, shape (n_steps · n_envs, 1).
        :return: λ-returns, likewise, and by how much they exceed the values now, flat.
        """
        rollout, rule = self.rollout, self.rule
        shape = rollout.n_steps, rollout.n_envs
        n_obs = (shape[0] + 1) * shape[1]
        obs = {key: part.flatten(0, 1) for key, part in rollout.obs.items()}
        values = th.cat(
            [self._values(obs, slice(i, i + ROWS_AT_ONCE)) for i in range(0, n_obs, ROWS_AT_ONCE)]
        )
        next_values = values.amax(1)[shape[1] :].view(shape)
        if rollout.last_obs:
            steps, environments, observations = zip(*rollout.last_obs, strict=True)
            last = {
                key: th.from_numpy(np.stack([each[key] for each in observations])).to(
                    rollout.device
                )
                for key in obs
            }
            next_values[list(steps), list(environments)] = self._values(last).amax(1)
        dones = rollout.tensor("dones")
        terminated = rollout.tensor("terminated") if rule.bootstrap_at_truncation else dones
        returns = lambda_returns(
            rollout.tensor("rewards"), next_values, terminated, dones, rule.gamma, rule.q_lambda
        ).view(-1, 1)
        errors = returns - values[: len(actions)].gather(1, actions)
        return returns, errors.view(-1).cpu().numpy()

    def _values(self, obs: dict[str, th.Tensor], rows: slice = slice(None)) -> th.Tensor:
        part = {key: values[rows] for key, values in obs.items()}
        return self.policy.q_net.learned_values(as_observation(part))

"""What the algorithms ask of a learner, and what is the same in both backends."""

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import Any

import numpy as np
import torch as th

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learning.lambda_returns import lambda_returns
from dqn_plugins.learning.limits import check_optimizer
from dqn_plugins.learning.rollout import Rollout, as_observation
from dqn_plugins.learning.rules import Rule
from dqn_plugins.learning.transition import Observation, Transition, raise_if_not_finite, rows_of
from dqn_plugins.policies import QPolicy
from dqn_plugins.policies.action_masks import possible_values

__all__ = ["Learner"]


class Learner(ABC):
    """
    Turns transitions, one per environment, into a change of the policy's weights.

    Everything that a saved model needs (weights, optimiser state, statistics) stays in the policy;
    a learner only works on it. A copy of a learner, made by ``copy.deepcopy`` or ``pickle``, is a
    new one that works on the copy of the policy.

    :param policy: The policy, with its optimiser.
    :param rule: The update rule.
    :param n_envs: Number of environments.
    :param rollout: Where transitions are kept until they are learned from, for a
        :class:`RolloutRule`; None for the others.
    :param rng: Draws the order of the minibatches, likewise.
    """

    rule: Any
    n_updates = 0
    """How many gradient steps the last rollout was worth."""

    def __init__(
        self,
        policy: QPolicy,
        rule: Rule,
        n_envs: int,
        rollout: Rollout | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_optimizer(policy.optimizer)
        self.policy, self.rule, self.n_envs = policy, rule, n_envs
        self.rollout, self.rng = rollout, rng
        self._exploration_rate = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.policy, self.rule, self.n_envs, self.rollout, self.rng)

    def set_rule(self, rule: Any) -> None:
        """
        Learn by other numbers from now on. With another length, the rollout begins anew.

        :param rule: A rule of the same kind.
        """
        self.rule = rule
        if self.rollout is not None and rule.n_steps != self.rollout.n_steps:
            self.rollout.resize(rule.n_steps)

    def set_exploration_rate(self, exploration_rate: float) -> None:
        """
        Tell by which ε actions are chosen, for rules whose target depends on it.

        :param exploration_rate: ε, in [0, 1].
        """
        self._exploration_rate = exploration_rate

    @abstractmethod
    def is_current(self, thorough: bool = True) -> bool:
        """
        Tell whether the learner still works on the memory that the policy uses.

        :param thorough: Whether to look at every tensor of the policy. Otherwise only at what a
            callback may do between two steps: load parameters or an optimiser's state, put another
            optimiser or other memory in place of the weights.
        :return: False if somebody replaced the weights, the optimiser or its state; then a new
            learner has to be made.
        """

    def compile(self, masked: bool = False) -> None:  # noqa: B027 - in torch, there is nothing to do
        """
        Do beforehand what would keep the first update waiting. Nothing is changed.

        :param masked: Whether transitions will have masks of possible actions.
        """

    def forget(self) -> None:
        """Forget what led here: what comes next is no continuation of what was learned last."""
        if self.rollout is not None:
            self.rollout.clear()
        else:
            self._clear_traces()

    def start_episodes(self, obs: Observation) -> None:
        """
        Forget what led here, and take the first observations of new episodes into the statistics.

        :param obs: The first observations in all environments, shape (n_envs, ...).
        """
        self.forget()
        if self.rollout is None:
            self._observe(obs)

    def greedy_actions(
        self, obs: Observation, action_masks: np.ndarray | None = None
    ) -> np.ndarray:
        """
        Find the actions of the highest values, the first of them where several are.

        :param obs: Observations, shape (n_envs, ...).
        :param action_masks: Which actions are possible, shape (n_envs, n_actions), bool; None for
            all.
        :return: Actions, shape (n_envs,), int64.
        """
        values = possible_values(self._values_to_act_by(obs), action_masks)
        actions: np.ndarray = values.argmax(axis=1)
        return actions

    def _values_to_act_by(self, obs: Any) -> np.ndarray:
        return self.action_values(obs).cpu().numpy()

    def learn(self, transition: Transition) -> np.ndarray:
        """
        Learn from one transition per environment, each by itself or all at once as the rule says;
        with a rollout, take them in, and learn if they complete it.

        :param transition: The transitions.
        :return: TD errors before each change, in the units of the environment's rewards, shape
            (n_envs,), float32; 0 where there was no transition. Of a completed rollout, what
            λ-returns were more than the values before learning, one number per transition; while
            one is collected, nothing, shape (0,).
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. All is as it was before
            the transition that it names, the mean that it is a part of, or the rollout.
        :raises ValueError: If the optimiser's learning rate or eps is out of the range that can be
            learned with. Nothing was changed.
        """
        new_obs, begun, first = transition.new_obs, transition.begun, transition.first_env_index
        if begun is not None:
            raise_if_not_finite(new_obs, transition.rewards, new_obs, first)
        if self.rollout is not None:
            return self._collect(self.rollout, transition)
        td_errors = self._apply(transition)
        if begun is not None:
            self._observe(rows_of(new_obs, np.flatnonzero(begun)))
        return td_errors

    def _collect(self, rollout: Rollout, transition: Transition) -> np.ndarray:
        nothing, rewards = np.zeros(0, np.float32), transition.rewards
        if transition.begun is None and not transition.valid.any():
            return nothing  # environments that take turns have just begun
        # The observation before the step is the one after an earlier step, or the first one.
        obs = transition.obs if rollout.is_empty else transition.next_obs
        raise_if_not_finite(obs, rewards, transition.next_obs, transition.first_env_index)
        rollout.add(transition)
        if not rollout.is_full:
            return nothing
        check_optimizer(self.policy.optimizer)
        try:
            return self._learn_from_rollout()
        finally:
            self.policy.set_training_mode(False)
            rollout.clear()

    def _learn_from_rollout(self) -> np.ndarray:
        rollout, rng = self.rollout, self.rng
        assert rollout is not None
        assert rng is not None
        actions = rollout.tensor("actions").view(-1)
        returns, errors = self._targets(actions)
        rows = np.flatnonzero(rollout.array("valid"))
        n_batches = max(1, round(len(rows) / self.rule.batch_size))
        td_errors = errors[rows]
        self.n_updates = self.rule.n_epochs * n_batches if len(rows) else 0
        if not len(rows):
            return td_errors
        largest = int(rows[np.abs(td_errors).argmax()])
        divergence = DivergenceError(largest % rollout.n_envs, float(errors[largest]))
        if not np.isfinite(td_errors).all():
            raise divergence
        obs = {key: part[: rollout.n_steps].flatten(0, 1) for key, part in rollout.obs.items()}
        before = self.snapshot()
        for _ in range(self.rule.n_epochs):
            order = rng.permutation(rows)
            if not self.fit(as_observation(obs), actions, returns, order, n_batches):
                self.restore(before)
                raise divergence
        return td_errors

    @th.no_grad()
    def _targets(self, actions: th.Tensor) -> tuple[th.Tensor, np.ndarray]:
        """Compute λ-returns of all steps, one row, and by how much they exceed the values now."""
        rollout, rule = self.rollout, self.rule
        assert rollout is not None
        shape = rollout.n_steps, rollout.n_envs
        obs = {key: part.flatten(0, 1) for key, part in rollout.obs.items()}
        values = self.action_values(as_observation(obs))
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
            best = best_values(self.action_values(as_observation(last)), last_masks)
            next_values[list(steps), list(environments)] = best
        dones = rollout.tensor("dones")
        terminated = rollout.tensor("terminated") if rule.bootstrap_at_truncation else dones
        returns = lambda_returns(
            rollout.tensor("rewards"), next_values, terminated, dones, rule.gamma, rule.q_lambda
        ).view(-1)
        errors = returns - values[: len(actions)].gather(1, actions.view(-1, 1)).view(-1)
        return returns, errors.cpu().numpy()

    @abstractmethod
    def action_values(self, obs: Any) -> th.Tensor:
        """
        Compute the values of all actions, in the units that are learned in.

        :param obs: Observations, arrays or tensors, shape (n, ...), or a dictionary of them.
        :return: The values, shape (n, n_actions), float32.
        """

    @abstractmethod
    def fit(
        self, obs: Any, actions: th.Tensor, targets: th.Tensor, rows: np.ndarray, n_batches: int
    ) -> bool:
        """
        Take one step for each minibatch, on the mean squared error of the values of actions.

        :param obs: Observations, tensors of shape (n, ...), or a dictionary of them.
        :param actions: Actions, shape (n,), int64.
        :param targets: What their values are to become, shape (n,), float32.
        :param rows: Which of them to learn from, in which order, int64.
        :param n_batches: Into how many minibatches to divide them.
        :return: False if a gradient is too large or NaN; no step was taken along it.
        """

    @abstractmethod
    def _apply(self, transition: Transition) -> np.ndarray:
        """Apply the rule to transitions as they come, see :meth:`learn`."""

    @abstractmethod
    def _observe(self, obs: Observation) -> None:
        """Take observations into the running statistics, where there are any."""

    @abstractmethod
    def _clear_traces(self) -> None:
        """Let traces and returns begin anew in all environments."""

    def snapshot(self) -> Any:
        """
        Copy what learning changes.

        :return: Something for :meth:`restore`.
        """
        return deepcopy((self.policy.state_dict(), self.policy.optimizer.state_dict()))

    def restore(self, state: Any) -> None:
        """
        Return to an earlier state.

        :param state: What :meth:`snapshot` returned.
        """
        self.policy.load_state_dict(state[0])
        self.policy.optimizer.load_state_dict(state[1])


def best_values(values: th.Tensor, action_masks: np.ndarray | None) -> th.Tensor:
    """Find the highest values of possible actions, shape (n,); 0 where nothing is possible."""
    if action_masks is None:
        return values.amax(1)
    best = possible_values(values.cpu().numpy(), action_masks).max(axis=1)
    return th.from_numpy(best).to(values.device)

"""The naive update rule in torch: for any policy, on any device. The reference."""

import numpy as np
import torch as th
from torch.nn import functional as F

from dqn_plugins.learning.autograd.base import AutogradLearner
from dqn_plugins.learning.transition import Observation, raise_if_not_finite
from dqn_plugins.policies import QPolicy

__all__ = ["NaiveAutogradLearner"]


class NaiveAutogradLearner(AutogradLearner):
    """
    One gradient step on the mean squared error to a target that moves only the taken action.

    :param policy: The policy whose weights are learned, with its optimiser.
    :param gamma: Discount factor γ.
    :param q_step_size: Step size α of the target.
    :param bootstrap_at_terminal: Whether to bootstrap from terminal states, as the notebook does.
    :param max_grad_norm: Largest norm of the gradient; None for any.
    """

    def __init__(
        self,
        policy: QPolicy,
        gamma: float,
        q_step_size: float,
        bootstrap_at_terminal: bool,
        max_grad_norm: float | None,
    ) -> None:
        super().__init__(policy)
        self.gamma = gamma
        self.q_step_size = q_step_size
        self.bootstrap_at_terminal = bootstrap_at_terminal
        self.max_grad_norm = max_grad_norm

    def forget(self) -> None:
        """See :meth:`Learner.forget`. The naive rule remembers nothing between transitions."""

    def start_episodes(self, obs: Observation) -> None:
        """
        See :meth:`Learner.start_episodes`. The naive rule remembers nothing between transitions.

        :param obs: The first observations, shape (n_envs, ...).
        """

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
        :param dones: Whether the episodes ended; without effect.
        :param new_obs: Observations to act on next, shape (n_envs, ...).
        :return: TD errors, shape (n_envs,), and greedy actions of ``new_obs``.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. Nothing was changed.
        """
        raise_if_not_finite(obs, rewards, next_obs)
        q_net, optimizer = self.policy.q_net, self.policy.optimizer
        taken = np.arange(len(actions)), actions

        # The value of the next state, zero where there is none
        next_values = self._q_values(next_obs).max(axis=1)
        if not self.bootstrap_at_terminal:
            next_values[terminated] = 0.0

        # The TD error, and a target that moves only the taken action, by α times the TD error
        self.policy.set_training_mode(True)
        q_values = q_net(self._tensor(obs))
        target = q_values.detach().cpu().numpy().copy()
        td_errors = self._td_errors(rewards, self.gamma, next_values, target[taken])
        target[taken] += self.q_step_size * td_errors

        # One gradient step on the mean squared error over all actions
        loss = F.mse_loss(q_values, th.as_tensor(target, device=q_values.device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [param.grad for param in q_net.parameters() if param.grad is not None]
        self._refuse_overflow(gradients, int(np.abs(td_errors).argmax()), td_errors)
        if self.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        optimizer.step()
        return td_errors, self.greedy_actions(new_obs)

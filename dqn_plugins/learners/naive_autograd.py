"""The naive update rule in torch: for any policy, on any device. The reference."""

import numpy as np
import torch as th
from stable_baselines3.common.utils import obs_as_tensor
from torch.nn import functional as F

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learners.base import LARGEST_GRADIENT, Learner
from dqn_plugins.policies import QPolicy
from dqn_plugins.transitions import Observation, raise_if_not_finite

__all__ = ["NaiveAutogradLearner"]


class NaiveAutogradLearner(Learner):
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
        self.policy = policy
        self.gamma = gamma
        self.q_step_size = q_step_size
        self.bootstrap_at_terminal = bootstrap_at_terminal
        self.max_grad_norm = max_grad_norm

    def is_current(self) -> bool:
        """
        Tell whether the learner still works on the memory that the policy uses.

        :return: True: torch itself is asked for the weights at every step.
        """
        return True

    def greedy_actions(self, obs: Observation) -> np.ndarray:
        """
        Find the actions of the highest values. See :meth:`Learner.greedy_actions`.

        :param obs: Observations, shape (n_envs, ...).
        :return: Actions, shape (n_envs,), int64.
        """
        actions: np.ndarray = self._q_values(obs).argmax(axis=1)
        return actions

    def learn(
        self,
        obs: Observation,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_obs: Observation,
        terminated: np.ndarray,
        new_obs: Observation,
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Learn from one transition per environment. See :meth:`Learner.learn`.

        :param obs: Observations before the step, shape (n_envs, ...).
        :param actions: Actions taken, shape (n_envs,), int.
        :param rewards: Rewards, shape (n_envs,), float.
        :param next_obs: Observations that the step led to, shape (n_envs, ...).
        :param terminated: Whether these are terminal states, shape (n_envs,), bool.
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
        with np.errstate(over="ignore", invalid="ignore"):
            td_errors = (rewards + self.gamma * next_values - target[taken]).astype(np.float32)
        if not np.isfinite(td_errors).all():
            env_index = int(np.flatnonzero(~np.isfinite(td_errors))[0])
            raise DivergenceError(env_index, td_errors[env_index])
        target[taken] += self.q_step_size * td_errors

        # One gradient step on the mean squared error over all actions
        loss = F.mse_loss(q_values, th.as_tensor(target, device=q_values.device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if not largest_gradient(self.policy) < LARGEST_GRADIENT:
            env_index = int(np.abs(td_errors).argmax())
            raise DivergenceError(env_index, td_errors[env_index])
        if self.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        optimizer.step()
        return td_errors, self.greedy_actions(new_obs)

    def _q_values(self, obs: Observation) -> np.ndarray:
        self.policy.set_training_mode(False)
        with th.no_grad():
            q_values: th.Tensor = self.policy.q_net(self._tensor(obs))
        return q_values.cpu().numpy()

    def _tensor(self, obs: Observation) -> th.Tensor | dict[str, th.Tensor]:
        return obs_as_tensor(obs, self.policy.device)


def largest_gradient(policy: QPolicy) -> float:
    """
    Find the largest entry of a policy's gradient.

    :param policy: A policy after ``backward``.
    :return: Its absolute value; NaN if there is one.
    """
    gradients = [param.grad for param in policy.parameters() if param.grad is not None]
    return th.stack([gradient.abs().max() for gradient in gradients]).max().item()

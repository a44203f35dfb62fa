"""PQN: Q(λ) from short rollouts of many environments, without buffer and target network."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import LinearSchedule

from dqn_plugins.algorithms.exploration import Exploration
from dqn_plugins.algorithms.q_algorithm import Backend, QAlgorithm, arguments_in
from dqn_plugins.environments import Vectorization
from dqn_plugins.learning import Learner, Rollout, RolloutRule, Transition
from dqn_plugins.policies import PQNCnnPolicy, PQNMlpPolicy, PQNMultiInputPolicy, PQNPolicy

__all__ = ["PQN"]

FALLING_LEARNING_RATE = LinearSchedule(2.5e-4, 0.0, 1.0)


class PQN(QAlgorithm):
    """
    Parallelised Q-network: Q(λ) from short rollouts of many environments.

    All environments take ``n_steps`` steps, ε-greedily. The λ-returns of these steps are the
    targets of a few passes of minibatches, and the steps are forgotten. There is no replay buffer
    and no target network: layer normalisation keeps learning stable, and many environments give
    minibatches that are varied enough. See :func:`~dqn_plugins.learning.lambda_returns` for the
    targets.

    ``learn`` ends with a whole rollout. Where a callback or a signal stops it earlier, the steps at
    hand are kept, also in a saved model, and learning goes on with them; a reset from outside drops
    them.

    Source: Gallici, Fellows, Ellis, Pou, Masmitja, Foerster and Martin (2024), "Simplifying Deep
    Temporal Difference Learning", arXiv 2407.04811. The defaults are those of CleanRL's ``pqn.py``.
    Unlike there, a time limit is not taken for a terminal state (``bootstrap_at_truncation``).

    :param policy: The policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a class.
    :param env: The environment to learn from; an id if it is registered in Gymnasium.
    :param learning_rate: Learning rate of the optimiser, at least 0; or a function of the progress
        remaining (from 1 to 0), which is called at the beginning of each rollout.
    :param n_steps: Steps of each environment in a rollout, at least 1.
    :param batch_size: Transitions in a minibatch, at least 1. About as many: rollouts are divided
        evenly.
    :param n_epochs: Passes over each rollout, at least 1.
    :param gamma: Discount factor γ, in [0, 1].
    :param q_lambda: λ of the λ-returns, in [0, 1]: 0 for one-step targets, 1 for all rewards of the
        rollout.
    :param exploration_fraction: Fraction of the training over which the exploration rate ε goes
        from its initial to its final value, in [0, 1].
    :param exploration_initial_eps: First ε, in [0, 1].
    :param exploration_final_eps: Last ε, in [0, 1].
    :param max_grad_norm: Largest norm of the gradient, above 0; None for any.
    :param stats_window_size: Number of episodes that logged means are taken over.
    :param tensorboard_log: Folder for TensorBoard logs; None for none.
    :param policy_kwargs: Keyword arguments for the policy, see
        :class:`~dqn_plugins.policies.PQNPolicy`.
    :param verbose: 0 for silence, 1 for information, 2 for debug messages.
    :param seed: Seed of everything random: weights, exploration, minibatches, environment.
    :param device: Device of the network and of the rollout. "auto" is the CPU wherever nothing is
        faster.
    :param bootstrap_at_truncation: Whether to bootstrap from the last observation of an episode
        that a time limit cuts short; False takes it for a terminal state, as CleanRL does.
    :param exploration: For how long a random action is taken: "epsilon_greedy", "extended" or
        "extended_when_stuck".
    :param exploration_duration: For how many steps a random action is held, if it is; None to draw
        it from a zeta distribution.
    :param exploration_stuck_eps: Smallest ε while the agent is stuck, in [0, 1].
    :param n_envs: How many environments to make of an id. PQN is for several: CleanRL takes 4.
    :param vectorization: Where they run, see :func:`~dqn_plugins.make_vec_env`: "sync", "async" or
        "envpool".
    :param backend: "torch" for the reference learner in torch; "compiled" for the fast one, which
        takes perceptrons and convolutions on the CPU; "auto" for "compiled" wherever it can be and
        is faster, which with many filters on large images it is not.
    :param use_action_masks: Whether to use masks of possible actions where the environment tells
        them, see :doc:`/docs/how_to/action_masks`: impossible actions are then neither taken nor
        valued.
    :raises ValueError: If a number is out of its range, or the policy's name is unknown.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": PQNMlpPolicy,
        "CnnPolicy": PQNCnnPolicy,
        "MultiInputPolicy": PQNMultiInputPolicy,
    }
    policy: PQNPolicy
    rule_class = RolloutRule
    n_steps: int
    batch_size: int
    n_epochs: int
    q_lambda: float
    max_grad_norm: float | None
    bootstrap_at_truncation: bool
    _n_envs_per_turn = None  # their actions may be a rollout old

    def __init__(
        self,
        policy: str | type[PQNPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = FALLING_LEARNING_RATE,
        n_steps: int = 128,
        batch_size: int = 128,
        n_epochs: int = 4,
        gamma: float = 0.99,
        q_lambda: float = 0.65,
        exploration_fraction: float = 0.5,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float | None = 10.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        bootstrap_at_truncation: bool = True,
        exploration: Exploration = "epsilon_greedy",
        exploration_duration: int | None = 16,
        exploration_stuck_eps: float = 0.2,
        n_envs: int = 1,
        vectorization: Vectorization = "sync",
        backend: Backend = "auto",
        use_action_masks: bool = True,
    ) -> None:
        super().__init__(**arguments_in(locals()))

    def _make_learner(self, backend: type[Learner], rule: Any, n_envs: int) -> Learner:
        shape, rollout = (self.n_steps, n_envs), getattr(self, "_rollout", None)
        if rollout is None or (rollout.n_steps, rollout.n_envs) != shape:
            rollout = Rollout(*shape, self.device)  # a loaded model brings its own
        self._rollout = rollout
        rollout.move_to(self.device)
        return backend(self.policy, rule, n_envs, rollout, self._explorer.rng)

    def _goes_on(self, total_timesteps: int) -> bool:
        return super()._goes_on(total_timesteps) or not self._rollout.is_empty

    @property
    def _is_between_rollouts(self) -> bool:
        return self._rollout.is_empty

    def _set_learning_rate(self, learning_rate: float) -> None:
        if self._rollout.is_empty:
            super()._set_learning_rate(learning_rate)

    def _learn_from(self, transition: Transition) -> np.ndarray:
        self._learner.rng = self._explorer.rng
        return super()._learn_from(transition)

    def _count_updates(self, n_transitions: int, td_errors: np.ndarray) -> None:
        if len(td_errors) > 0:
            self._n_updates += self._learner.n_updates
            self._td_errors.count += len(td_errors)
            squares = np.square(td_errors, dtype=np.float64)
            self._td_errors.sum_of_squares += float(squares.sum())

    def _loss_from(self, mean_squared_td_error: float) -> float:
        return mean_squared_td_error

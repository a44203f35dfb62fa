"""The naive online DQN of an introductory notebook, as a Stable-Baselines3 algorithm."""

from typing import Any

import torch as th
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from dqn_plugins.algorithms.online import OnlineQAlgorithm
from dqn_plugins.algorithms.q_algorithm import Backend, arguments_in
from dqn_plugins.environments import Vectorization
from dqn_plugins.learning import NaiveRule, Update
from dqn_plugins.policies import KerasAdam, QPolicy, glorot_uniform

__all__ = ["NOTEBOOK_HYPERPARAMETERS", "NaiveDQN"]

NOTEBOOK_HYPERPARAMETERS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "gamma": 0.95,
    "exploration_fraction": 1.0,
    "exploration_initial_eps": 0.3,
    "exploration_final_eps": 0.3,
    "max_grad_norm": None,
    "q_step_size": 0.1,
    "bootstrap_at_terminal": True,
    "policy_kwargs": {
        "net_arch": [16, 8],
        "activation_fn": th.nn.ReLU,
        "optimizer_class": KerasAdam,
        "optimizer_kwargs": {"betas": (0.9, 0.999), "eps": 1e-7},
        "weight_initializer": glorot_uniform,
    },
}
"""Keyword arguments with which ``NaiveDQN("MlpPolicy", env, **NOTEBOOK_HYPERPARAMETERS)`` computes
what the notebook's Keras code computes, bootstrapping through the end of an episode included."""


class NaiveDQN(OnlineQAlgorithm):
    """
    Naive online deep Q-learning: no replay buffer, no target network.

    At every environment step, one gradient step is taken on the one new transition (s, a, r, s′):
    the target is the network's own output for s, in which the taken action's entry is moved to
    q + α·(r + γ·max q(s′) − q), and the loss is the mean squared error over all actions.

    The default numbers are the notebook's. Unlike there, nothing is bootstrapped from terminal
    states, and Adam and the first weights are torch's: ``NOTEBOOK_HYPERPARAMETERS`` sets all as in
    the notebook. A time limit is not a terminal state: a truncated transition bootstraps from the
    true last observation.

    Arguments that Stable-Baselines3's ``DQN`` has too have its names and its order.

    :param policy: The policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a class.
    :param env: The environment to learn from; an id if it is registered in Gymnasium.
    :param learning_rate: Learning rate of the optimiser, at least 0; or a function of the progress
        remaining (from 1 to 0).
    :param gamma: Discount factor γ, in [0, 1].
    :param exploration_fraction: Fraction of the training over which the exploration rate ε goes
        from its initial to its final value, in [0, 1].
    :param exploration_initial_eps: First ε, in [0, 1].
    :param exploration_final_eps: Last ε, in [0, 1].
    :param max_grad_norm: Largest norm of the gradient, above 0; None for any.
    :param stats_window_size: Number of episodes that logged means are taken over.
    :param tensorboard_log: Folder for TensorBoard logs; None for none.
    :param policy_kwargs: Keyword arguments for the policy, see
        :class:`~dqn_plugins.policies.QPolicy`.
    :param verbose: 0 for silence, 1 for information, 2 for debug messages.
    :param seed: Seed of everything random: weights, exploration, environment.
    :param device: Device of the network. "auto" is the CPU wherever nothing is faster.
    :param q_step_size: Step size α with which the target moves towards the one-step return, in
        [0, 1].
    :param bootstrap_at_terminal: Whether to bootstrap from terminal states as if the episode went
        on, which is what the notebook does.
    :param advantage_gap: Fraction of max q(s) − q(s, a), in [0, 1), that is subtracted from the TD
        error, so that actions that are not the best fall behind further. The TD errors that are
        returned and logged include this.
    :param update: With several environments: "each" learns from their new transitions one after the
        other, each by itself; "mean" takes one step on the mean over them.
    :param n_envs: How many environments to make of an id.
    :param vectorization: Where several environments run, see
        :func:`~dqn_plugins.make_vec_env`: "sync", "async" or "envpool".
    :param backend: "torch" for the reference learner in torch; "compiled" for the fast one, which
        takes perceptrons and convolutions on the CPU; "auto" for "compiled" wherever it can be and
        is faster, which with very many filters on large images it is not.
    :param use_action_masks: Whether to use masks of possible actions where the environment tells
        them, see :doc:`/docs/how_to/action_masks`: impossible actions are then neither taken nor
        valued.
    :raises ValueError: If a number is out of its range, or the policy's name is unknown.
    """

    rule_class = NaiveRule
    max_grad_norm: float | None
    q_step_size: float
    bootstrap_at_terminal: bool
    advantage_gap: float

    def __init__(
        self,
        policy: str | type[QPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-3,
        gamma: float = 0.95,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 0.3,
        exploration_final_eps: float = 0.3,
        max_grad_norm: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        q_step_size: float = 0.1,
        bootstrap_at_terminal: bool = False,
        advantage_gap: float = 0.0,
        update: Update = "each",
        n_envs: int = 1,
        vectorization: Vectorization = "sync",
        backend: Backend = "auto",
        use_action_masks: bool = True,
    ) -> None:
        super().__init__(**arguments_in(locals()))

    def _loss_from(self, mean_squared_td_error: float) -> float:
        # Only one of the n_actions entries differs from its target, by α times the TD error.
        return self.q_step_size**2 * mean_squared_td_error / int(self.action_space.n)

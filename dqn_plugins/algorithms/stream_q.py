"""Stream Q(λ): online Q-learning without a replay buffer and without a target network."""

import warnings
from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import LinearSchedule, update_learning_rate

from dqn_plugins.algorithms.exploration import Exploration
from dqn_plugins.algorithms.online import OnlineQAlgorithm
from dqn_plugins.algorithms.q_algorithm import Backend, arguments_in, has_convolutions
from dqn_plugins.environments import Vectorization
from dqn_plugins.learning import StreamRule, Target, TraceCut, Update
from dqn_plugins.policies import (
    ObGD,
    QPolicy,
    SparseInitializer,
    StreamCnnPolicy,
    StreamMlpPolicy,
    StreamMultiInputPolicy,
    StreamQPolicy,
)

__all__ = ["STREAM_Q_PAPER_HYPERPARAMETERS", "StreamQ"]

STREAM_Q_PAPER_HYPERPARAMETERS: dict[str, Any] = {
    "learning_rate": 1.0,
    "gamma": 0.99,
    "exploration_fraction": 0.05,
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 0.01,
    "trace_decay": 0.8,
    "trace_cut": "after",
    "td_error_clip": None,
    "td_error_clip_rms": None,
    "advantage_gap": 0.0,
    "policy_kwargs": {
        "net_arch": [128, 128],
        "activation_fn": th.nn.LeakyReLU,
        "optimizer_class": ObGD,
        "optimizer_kwargs": {"overshoot_factor": 2.0},
        "layer_norm": True,
        "weight_initializer": SparseInitializer(0.9),
        "normalize_observations": True,
        "normalize_rewards": "return_deviation",
        "averaging_window": None,
        "local_values": False,
    },
}
"""Keyword arguments for Stream Q(λ) as its paper has it, with ObGD."""


DEFAULTS = {
    "learning_rate": LinearSchedule(1e-3, 1e-4, 1.0),
    "exploration_final_eps": 0.01,
    "trace_decay": 0.8,
}
"""What StreamQ takes for None."""

DEFAULTS_FOR_IMAGES = {
    "learning_rate": LinearSchedule(1.5e-4, 1.5e-5, 1.0),
    "exploration_final_eps": 0.05,
    "trace_decay": 0.6,
    "advantage_gap": 0.9,
}
"""The same where the policy has convolutions. Its network is about ten times as large, and the same
step of each weight moves action values that much further. In one frame of a game actions differ by
less than that; the gap keeps them apart."""


class StreamQ(OnlineQAlgorithm):
    """
    Q(λ) that learns from every transition once, as it arrives.

    At every environment step the eligibility trace z takes in the gradient of the action's value,
    z ← γλ·z + ∇Q(s, a), and the weights move along it by the TD error
    δ = r + γ·max Q(s′, ·) − Q(s, a). What makes this stable is in the policy: normalised
    observations and rewards, layer normalisation, sparse first weights, and an optimiser for
    traces. See :class:`~dqn_plugins.policies.StreamQPolicy`; each ingredient can be taken out there
    through ``policy_kwargs``.

    The trace ends with its episode: at termination, at truncation (after bootstrapping from the
    true last observation) and at every reset from outside. An exploratory action, one that is not
    greedy, cuts it as ``trace_cut`` says.

    While learning it acts by the newest weights, as ``act`` does; ``predict`` acts by their
    average, from which nothing is learned (``averaging_window``). Action values and TD errors are
    in the units of the environment's rewards.

    With several environments each has a trace of its own, and each new transition is learned from
    by itself, in the order of the environments (``update``). Where updates are averaged instead,
    ObGD bounds each environment's step by its own trace and TD error before that.

    Source: Elsayed, Vasan and Mahmood (2024), "Streaming Deep Reinforcement Learning Finally
    Works", arXiv 2410.14606, whose settings are ``STREAM_Q_PAPER_HYPERPARAMETERS``. The default
    optimiser is not the paper's but plain Adam on −δ·z, see
    :class:`~dqn_plugins.policies.TraceAdam`; those of later papers are beside it.

    :param policy: The policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a class.
    :param env: The environment to learn from; an id if it is registered in Gymnasium.
    :param learning_rate: Learning rate of the optimiser, at least 0; or a function of the progress
        remaining (from 1 to 0). None falls from 1e-3 to 1e-4 over the run, and with a policy that
        has convolutions from 1.5e-4 to 1.5e-5. For ``ObGD`` and ``AdaptiveObGD`` pass 1.0, for
        ``IntentionalOptimizer`` 0.25, for ``MaxScaledOptimizer`` 0.03.
    :param gamma: Discount factor γ, in [0, 1].
    :param exploration_fraction: Fraction of the training over which the exploration rate ε goes
        from its initial to its final value, in [0, 1].
    :param exploration_initial_eps: First ε, in [0, 1].
    :param exploration_final_eps: Last ε, in [0, 1]. None is 0.01, and with a policy that has
        convolutions 0.05.
    :param stats_window_size: Number of episodes that logged means are taken over.
    :param tensorboard_log: Folder for TensorBoard logs; None for none.
    :param policy_kwargs: Keyword arguments for the policy.
    :param verbose: 0 for silence, 1 for information, 2 for debug messages.
    :param seed: Seed of everything random: weights, exploration, environment.
    :param device: Device of the network. "auto" is the CPU wherever nothing is faster.
    :param trace_decay: λ, in [0, 1]: how slowly credit fades on its way back. None is 0.8, and with
        a policy that has convolutions 0.6.
    :param trace_cut: What an exploratory action does to the trace: "after" lets it still give and
        get credit, then ends the trace, as the authors' code does; "watkins" ends the trace before
        it; "never" lets the trace go on.
    :param td_error_clip: Largest absolute TD error that is learned from, above 0, in the units of
        normalised rewards; None for any.
    :param td_error_clip_rms: The same in multiples of the root mean square of the TD errors, of
        which about the last 10,000 count, above 0; None for any.
    :param target: "max" learns the value of acting greedily, as Q-learning does; "expected" that of
        acting ε-greedily, as expected Sarsa(λ) does, for which ``trace_cut="never"`` is right.
    :param advantage_gap: α, in [0, 1): α·(max Q(s, ·) − Q(s, a)) is subtracted from δ, so that
        actions that are not the best fall behind by 1 / (1 − α) times as much. The TD errors that
        are returned and logged include this. With ``target="expected"`` the expected value of s
        takes the place of the maximum here, too. None is 0.9 times the share of the rewards that is
        a constant cost, see :class:`~dqn_plugins.policies.RewardNormalizer`, and 0.9 with a policy
        that has convolutions.
    :param exploration: How long a random action is taken: "epsilon_greedy" for one step; "extended"
        for several; "extended_when_stuck" for several while the last episodes were the longest and
        the worst seen so far, else for one.
    :param exploration_duration: For how many steps, at least 1; None draws the number anew each
        time, most often a small one.
    :param exploration_stuck_eps: With "extended_when_stuck", the least ε of an agent whose last
        episodes were all like that, or were the longest while shorter ones did better; in [0, 1].
    :param update: With several environments: "each" learns from their new transitions one after the
        other, each by itself; "mean" averages their updates.
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

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": StreamMlpPolicy,
        "CnnPolicy": StreamCnnPolicy,
        "MultiInputPolicy": StreamMultiInputPolicy,
    }
    policy: StreamQPolicy
    rule_class = StreamRule
    trace_decay: float | None
    trace_cut: TraceCut
    td_error_clip: float | None
    td_error_clip_rms: float | None
    target: Target
    advantage_gap: float | None
    _learns_from_traces = True

    def __init__(
        self,
        policy: str | type[StreamQPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule | None = None,
        gamma: float = 0.99,
        exploration_fraction: float = 0.2,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        trace_decay: float | None = None,
        trace_cut: TraceCut = "after",
        td_error_clip: float | None = None,
        td_error_clip_rms: float | None = 10.0,
        target: Target = "max",
        advantage_gap: float | None = None,
        exploration: Exploration = "extended_when_stuck",
        exploration_duration: int | None = 16,
        exploration_stuck_eps: float = 0.2,
        update: Update = "each",
        n_envs: int = 1,
        vectorization: Vectorization = "sync",
        backend: Backend = "auto",
        use_action_masks: bool = True,
    ) -> None:
        super().__init__(**arguments_in(locals()))

    def _setup_model(self) -> None:
        self._left_open = [name for name in DEFAULTS_FOR_IMAGES if getattr(self, name) is None]
        self._fill_in(DEFAULTS)
        super()._setup_model()
        del self._left_open

    def _fill_in(self, defaults: dict[str, Any]) -> None:
        """Take defaults for what the caller left open."""
        vars(self).update({name: defaults[name] for name in self._left_open if name in defaults})

    def _make_policy(self) -> QPolicy:
        policy = super()._make_policy()
        if has_convolutions(policy):
            self._fill_in(DEFAULTS_FOR_IMAGES)
            self._setup_schedules()
            update_learning_rate(policy.optimizer, self.lr_schedule(1.0))
        return policy

    def _check_env(self) -> None:
        if self._vec_normalize_env is None:
            return
        if self.q_net.observation_normalizer or self.q_net.reward_normalizer:
            warnings.warn(
                "The environment is wrapped in VecNormalize, and StreamQ normalises observations "
                "and rewards itself. Drop VecNormalize: StreamQ's statistics are saved with the "
                "model and need no file of their own. To keep VecNormalize, pass "
                "policy_kwargs=dict(normalize_observations=False, normalize_rewards=False).",
                stacklevel=3,
            )

    def _loss_from(self, mean_squared_td_error: float) -> float:
        # Without traces, the update would be a step on half the squared TD error.
        return 0.5 * mean_squared_td_error

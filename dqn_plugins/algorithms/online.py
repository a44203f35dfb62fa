"""The loop that all Q-learners share: act, step, learn from the new transitions."""

import sys
import time
from abc import abstractmethod
from typing import Any, ClassVar, TypeVar, get_args

import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv

from dqn_plugins.algorithms.exporting import Exporting
from dqn_plugins.algorithms.interruption import Interruption
from dqn_plugins.algorithms.own_loop import OwnLoop
from dqn_plugins.algorithms.progress_bar import ProgressBar
from dqn_plugins.algorithms.saving import Saving
from dqn_plugins.algorithms.updates import Backend
from dqn_plugins.arguments import check_one_of, is_number
from dqn_plugins.environments import (
    TransitionStream,
    Vectorization,
    environment_failure,
    make_env,
    make_vec_env,
    raise_if_dead,
    was_raised_in,
    wrap_env,
)
from dqn_plugins.errors import (
    MalformedTransitionError,
    NonFiniteTransitionError,
)
from dqn_plugins.learning import (
    LARGEST_LEARNING_RATE,
)
from dqn_plugins.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, QNetwork, QPolicy

__all__ = ["Backend", "OnlineQAlgorithm", "QAlgorithm"]

SelfQAlgorithm = TypeVar("SelfQAlgorithm", bound="QAlgorithm")


class QAlgorithm(Saving, Exporting):
    """
    Base of the algorithms, whether they learn from every transition as it arrives or from rollouts.

    It owns the loop and the logging. A subclass brings its rule and its defaults.

    :param policy: The policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a class.
    :param env: The environment to learn from; an id if it is registered in Gymnasium.
    :param learning_rate: Learning rate of the optimiser, in [0, 1e15]; or a function of the
        progress remaining (from 1 to 0).
    :param gamma: Discount factor γ, in [0, 1].
    :param exploration_fraction: Fraction of the training over which the exploration rate ε goes
        from its initial to its final value, in [0, 1].
    :param exploration_initial_eps: First ε, in [0, 1].
    :param exploration_final_eps: Last ε, in [0, 1].
    :param stats_window_size: Number of episodes that logged means are taken over.
    :param tensorboard_log: Folder for TensorBoard logs; None for none.
    :param policy_kwargs: Keyword arguments for the policy.
    :param verbose: 0 for silence, 1 for information, 2 for debug messages.
    :param seed: Seed of everything random: weights, exploration, environment.
    :param device: Device of the network. "auto" is the CPU for networks without convolutions, and
        for those that the compiled learner takes: there a GPU only adds latency to single
        transitions.
    :param n_envs: How many environments to make of an id.
    :param vectorization: Where several environments run: "sync", "async" or "envpool".
    :param backend: "torch", "compiled", or "auto" for "compiled" wherever it can be and is faster.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    _n_envs_per_turn: ClassVar[int | None] = 4
    q_net: QNetwork
    env: VecEnv | None
    action_space: spaces.Discrete

    def __init__(
        self,
        policy: str | type[QPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule,
        gamma: float,
        exploration_fraction: float,
        exploration_initial_eps: float,
        exploration_final_eps: float,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        n_envs: int = 1,
        vectorization: Vectorization = "sync",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(
            policy,
            self._environments_from(env, n_envs, vectorization, seed, verbose),
            learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=(spaces.Discrete,),
        )
        self.gamma = gamma
        self.exploration_fraction = exploration_fraction
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        self.exploration_rate = exploration_initial_eps
        self.backend = backend
        self._is_device_auto = device == "auto"
        self._reset_training_statistics()

    # Setting up

    def _setup_model(self) -> None:
        self._check_hyperparameters()
        self._check_spaces_start_at_zero()
        self._setup_lr_schedule()
        self._setup_exploration()
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            **self.policy_kwargs,
        )
        # The policy is on the CPU still: where it can be compiled, no GPU makes it faster.
        if self._is_device_auto and (not _has_convolutions(self.policy) or self._is_compiled()):
            self.device = th.device("cpu")
        self.policy = self.policy.to(self.device)
        self.q_net = self.policy.q_net
        self._n_actions = int(self.action_space.n)
        self._check_policy()
        self._replace_learner(self.n_envs)

    def _check_hyperparameters(self) -> None:
        """
        Check the numbers that the user chose.

        :raises ValueError: If one is out of its range.
        """
        check_one_of("backend", self.backend, get_args(Backend), "'auto' is right for most.")
        self._check_exploration()
        self._make_rule()
        rate = self.learning_rate
        if not callable(rate) and not (is_number(rate) and 0.0 <= rate <= LARGEST_LEARNING_RATE):
            raise ValueError(
                f"learning_rate: received {self.learning_rate!r}, it must be a number in "
                f"[0, {LARGEST_LEARNING_RATE:g}], or a function of the progress remaining. "
                "Try 1e-3."
            )

    def _check_spaces_start_at_zero(self) -> None:
        for name in ("action_space", "observation_space"):
            space = getattr(self, name)
            if isinstance(space, spaces.Discrete) and space.start != 0:
                raise ValueError(
                    f"{name}: received {space}, a Discrete space must start at 0. Wrap the "
                    f"environment so that it shifts these numbers by {space.start}."
                )

    def _check_policy(self) -> None:
        """
        Check what the policy is made of.

        :raises ValueError: If the algorithm cannot learn with it.
        """

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        try:
            return super()._get_policy_from_name(policy_name)
        except ValueError as error:
            raise ValueError(
                f"policy: {error}; received {policy_name!r}, it must be one of "
                f"{sorted(self.policy_aliases)} or a policy class."
            ) from None

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return wrap_env(env, verbose, monitor_wrapper)

    @classmethod
    def _environments_from(
        cls,
        env: GymEnv | str | None,
        n_envs: int,
        vectorization: Vectorization,
        seed: int | None,
        verbose: int,
    ) -> GymEnv | None:
        if not isinstance(env, str):
            if (n_envs, vectorization) != (1, "sync"):
                raise ValueError(
                    f"n_envs: received {n_envs!r}, and vectorization={vectorization!r}, with "
                    "environments that are made already; they must be left out. Pass an id instead."
                )
            return env
        if (n_envs, vectorization) == (1, "sync"):
            return make_env(env, verbose)
        return make_vec_env(env, n_envs, vectorization, seed, n_envs_per_turn=cls._n_envs_per_turn)

    # Learning

    def learn(
        self: SelfQAlgorithm,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfQAlgorithm:
        """
        Interact with the environment and learn.

        A callback sees every step after it was learned from, so that a checkpoint it writes holds
        all that the model has seen, and a stop loses nothing.

        :param total_timesteps: Environment steps to do, over all environments: a lower bound.
        :param callback: Callbacks, called at every step.
        :param log_interval: Episodes between two logs; None for no logs.
        :param tb_log_name: Name of the run in TensorBoard; the algorithm's name by default.
        :param reset_num_timesteps: Whether to count steps from 0 and reset the environment.
        :param progress_bar: Whether to show a progress bar.
        :return: The model itself.
        :raises EnvironmentStepError: If the environment raises an exception, or its process dies.
        :raises MalformedTransitionError: If the environment gives something of another form than
            its spaces say.
        :raises NonFiniteTransitionError: If the environment gives NaN or infinity.
        :raises DivergenceError: If a TD error or an update overflows. The weights are the last
            finite ones.
        :raises KeyboardInterrupt: On Ctrl-C (SIGINT) and on SIGTERM: learning stops after the
            transition at hand, never within one, and callbacks and the progress bar are closed as
            after any other end. The model can then be used, saved, and taught further:
            ``learn(..., reset_num_timesteps=False)`` goes on in the middle of the episode. A second
            signal interrupts at once, as does the first one in a callback. This holds in the main
            thread, where signals are handled in Python's default way; handlers of your own stay in
            force.

        Whatever is raised, the weights, the optimiser's state, traces and statistics are those of
        before the transition that could not be learned from, and the model can be saved.
        """
        name = tb_log_name or type(self).__name__
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, name
        )
        env = self.env
        assert env is not None
        assert self._last_obs is not None
        stream = TransitionStream(env, self.observation_space)
        obs = stream.to_act_on(self._last_obs)
        watched = not _is_empty(callback)
        with Interruption() as interruption:
            bar = ProgressBar(self, total_timesteps) if progress_bar else None
            try:
                callback.on_training_start(locals(), globals())
                while self._goes_on(total_timesteps) and not interruption.requested:
                    if watched and self._is_between_rollouts:
                        callback.on_rollout_start()
                    actions = self._choose_actions(obs, stream.first_env_index)
                    # Until this transition is learned from, the environment is a step ahead: after
                    # an error, begin anew.
                    self._last_obs = None
                    transition, infos = stream.step(obs, actions, self.num_timesteps + len(actions))
                    self.num_timesteps += transition.n_transitions
                    self._learn_from(transition)
                    obs = self._last_obs = stream.to_act_on(transition.new_obs)
                    dones = self._last_episode_starts = transition.dones
                    n_ended = dones.tolist().count(True)
                    if n_ended:
                        self._update_info_buffer(infos, dones)
                    self._follow_schedules(total_timesteps)
                    keep_going = True
                    if watched:
                        rewards, new_obs = transition.rewards, transition.new_obs
                        callback.update_locals(locals())
                        keep_going = interruption.at_once(callback.on_step)
                        self._notice_changes()
                    if n_ended:
                        self._count_and_log_episodes(n_ended, log_interval)
                    if bar is not None:
                        bar.update()
                    if not keep_going:
                        break
                    if watched and self._is_between_rollouts:
                        callback.on_rollout_end()
            finally:
                callback.on_training_end()
                if bar is not None:
                    bar.close()
        return self

    def _goes_on(self, total_timesteps: int) -> bool:
        """Whether there are more steps to do."""
        return self.num_timesteps < total_timesteps

    @property
    def _is_between_rollouts(self) -> bool:
        """Whether all transitions so far have been learned from."""
        return True

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        resets_env = reset_num_timesteps or self._last_obs is None
        env = self.env
        assert env is not None
        try:
            self._renew_learner(self.n_envs)
            self._learner.compile()  # before anything is stepped, so that Ctrl-C ends it at once
            if resets_env:
                raise_if_dead(env)
        except EOFError as error:
            raise environment_failure(env, error, None, self.num_timesteps) from error
        try:
            total_timesteps, callback = super()._setup_learn(
                total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
            )
            self._renew_learner(self.n_envs)
            self._forget_own_episode()
            if resets_env:
                assert self._last_obs is not None
                self._start_episodes(self._last_obs)
        except (MalformedTransitionError, NonFiniteTransitionError) as error:
            error.step = self.num_timesteps
            self._last_obs = None
            raise
        except Exception as error:
            if not was_raised_in(env, error):
                raise
            raise environment_failure(env, error, None, self.num_timesteps) from error
        self.policy.set_training_mode(False)
        self._follow_schedules(total_timesteps)
        return total_timesteps, callback

    # Logging

    def _count_and_log_episodes(self, n_ended: int, log_interval: int | None) -> None:
        for _ in range(n_ended):
            self._episode_num += 1
            if log_interval is not None and self._episode_num % log_interval == 0:
                self.dump_logs()

    def dump_logs(self) -> None:
        """Write what the last episodes and updates were like to the logger."""
        assert self.ep_info_buffer is not None
        assert self.ep_success_buffer is not None
        elapsed = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        record = self.logger.record
        if len(self.ep_info_buffer) > 0 and len(self.ep_info_buffer[0]) > 0:
            record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        if len(self.ep_success_buffer) > 0:
            record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        record("rollout/exploration_rate", self.exploration_rate)
        record("time/episodes", self._episode_num, exclude="tensorboard")
        fps = int((self.num_timesteps - self._num_timesteps_at_start) / elapsed)
        record("time/fps", fps)
        record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        record("train/learning_rate", self.policy.optimizer.param_groups[0]["lr"])
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        if self._td_error_count > 0:
            mean_squared_td_error = self._squared_td_error_sum / self._td_error_count
            record("train/loss", self._loss_from(mean_squared_td_error))
            record("train/td_error", mean_squared_td_error**0.5)
        self._reset_training_statistics()
        self.logger.dump(step=self.num_timesteps)

    @abstractmethod
    def _loss_from(self, mean_squared_td_error: float) -> float:
        """
        Express the loss that the update rule descends in terms of the TD errors.

        :param mean_squared_td_error: Mean of the squared TD errors since the last log.
        :return: The mean loss.
        """


class OnlineQAlgorithm(OwnLoop, QAlgorithm):
    """Base of the algorithms that learn from every transition once, as it arrives."""


def _has_convolutions(policy: QPolicy) -> bool:
    return any(isinstance(module, _CONVOLUTIONS) for module in policy.modules())


_CONVOLUTIONS = (th.nn.Conv1d, th.nn.Conv2d, th.nn.Conv3d)


def _is_empty(callback: BaseCallback) -> bool:
    """Whether a callback is what Stable-Baselines3 makes of ``callback=None``."""
    return isinstance(callback, ConvertCallback) and callback.callback is None

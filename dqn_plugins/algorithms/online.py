"""The loop that all online Q-learners share: act, step, learn from the one new transition."""

import sys
import time
from abc import abstractmethod
from collections.abc import Iterable
from copy import deepcopy
from inspect import signature
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space, maybe_transpose
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule, TensorDict
from stable_baselines3.common.utils import (
    ConstantSchedule,
    LinearSchedule,
    safe_mean,
    update_learning_rate,
)
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.patch_gym import _patch_env

from dqn_plugins.algorithms.interruption import Interruption
from dqn_plugins.algorithms.model_files import (
    check_model_file,
    is_path,
    read_parameters,
    written_whole,
)
from dqn_plugins.environments.failure import (
    environment_failure,
    raise_if_dead,
    step_watched,
    was_raised_in,
)
from dqn_plugins.environments.single_env import ConstantMemoryMonitor, SingleVecEnv
from dqn_plugins.errors import (
    DivergenceError,
    MalformedTransitionError,
    NonFiniteTransitionError,
)
from dqn_plugins.learning import Learner, reason_against_compiling
from dqn_plugins.learning.transition import (
    Observation,
    raise_if_malformed,
    raise_if_not_finite,
    true_next_observation,
)
from dqn_plugins.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, QNetwork, QPolicy

__all__ = ["Backend", "OnlineQAlgorithm"]

Backend: TypeAlias = Literal["auto", "torch", "compiled"]
"""Which learner to use."""

LARGEST_LEARNING_RATE = 1e15
"""Up to here, one step from a gradient that is not refused leaves finite weights finite."""

SelfOnlineQAlgorithm = TypeVar("SelfOnlineQAlgorithm", bound="OnlineQAlgorithm")


class OnlineQAlgorithm(BaseAlgorithm):
    """
    Base of the algorithms that learn from every transition once, as it arrives.

    It owns the loop, ε-greedy exploration, logging, saving and loading. A subclass brings its
    learner and its defaults.

    :param policy: The policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a class.
    :param env: The environment to learn from; an id if it is registered in Gymnasium.
    :param learning_rate: Learning rate of the optimiser, at least 0; or a function of the progress
        remaining (from 1 to 0).
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
    :param device: Device of the network. "auto" is the CPU for networks without convolutions,
        where a GPU only adds latency to single transitions.
    :param backend: "torch", "compiled", or "auto" for "compiled" wherever it can be.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: QPolicy
    q_net: QNetwork
    env: VecEnv | None
    exploration_schedule: Schedule
    action_space: spaces.Discrete
    _learner: Learner
    _last_td_error: float
    _n_actions: int
    _rule_in_force: dict[str, Any]

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
        backend: Backend = "auto",
    ) -> None:
        if device == "auto" and self._has_no_convolutions(policy):
            device = "cpu"
        super().__init__(
            policy,
            env,
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
        # One generator explores while learning, the other in `predict`: evaluating a model must
        # not change how it goes on learning.
        self._exploration_rng: np.random.Generator | None = None
        self._predict_rng: np.random.Generator | None = None
        self._rng_seed: int | None = None
        # Whether the next call of `learn_one` begins an episode, and whether the last transition
        # came from it: its episodes and those of `learn` must not give each other credit.
        self._own_episode_is_over = True
        self._learned_one = False
        self._reset_training_statistics()

    # Setting up

    @classmethod
    def _has_no_convolutions(cls, policy: str | type[BasePolicy]) -> bool:
        return policy in ("MlpPolicy", cls.policy_aliases["MlpPolicy"])

    @abstractmethod
    def _update_rule(self) -> dict[str, Any]:
        """
        Collect the numbers of the update rule, as they are now.

        :return: The learner's keyword arguments.
        """

    @abstractmethod
    def _make_learner(self) -> Learner:
        """
        Make the learner that applies :meth:`_update_rule` to ``self.policy``.

        :return: The learner.
        """

    def _is_compiled(self) -> bool:
        """
        Choose between the two learners.

        :return: Whether to use the compiled one.
        :raises ValueError: If it was asked for and cannot work on the policy.
        """
        if self.backend == "torch":
            return False
        reason = reason_against_compiling(self.policy)
        if reason is not None and self.backend == "compiled":
            raise ValueError(
                f"backend: received 'compiled', but {reason}. Pass backend='torch', or 'auto' to "
                "have the compiled learner wherever it can be."
            )
        return reason is None

    def _check_hyperparameters(self) -> None:
        """
        Check the numbers that the user chose.

        :raises ValueError: If one is out of its range.
        """
        if self.backend not in get_args(Backend):
            raise ValueError(
                f"backend: received {self.backend!r}, it must be one of {get_args(Backend)}. "
                "'auto' is right for most."
            )
        for name in (
            "gamma",
            "exploration_fraction",
            "exploration_initial_eps",
            "exploration_final_eps",
        ):
            self._check_in_unit_interval(name)
        rate = self.learning_rate
        if not callable(rate) and not (_is_number(rate) and 0.0 <= rate < float("inf")):
            raise ValueError(
                f"learning_rate: received {self.learning_rate!r}, it must be a finite number of at "
                "least 0, or a function of the progress remaining. Try 1e-3."
            )

    def _check_in_unit_interval(self, name: str) -> None:
        value = getattr(self, name)
        if not _is_number(value) or not 0.0 <= value <= 1.0:
            raise ValueError(
                f"{name}: received {value!r}, it must be a number in [0, 1]. "
                f"Pass {name}=... within that range."
            )

    def _check_above_zero(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and not (_is_number(value) and value > 0.0):
            raise ValueError(
                f"{name}: received {value!r}, it must be a number above 0, or None for no limit."
            )

    def _setup_model(self) -> None:
        self._check_hyperparameters()
        self._check_spaces_start_at_zero()
        self._setup_lr_schedule()
        generators = self._exploration_rng, self._predict_rng
        self.set_random_seed(self.seed)
        if None not in generators and self._rng_seed == self.seed:
            # A loaded model goes on with the random numbers where the saved one stopped.
            self._exploration_rng, self._predict_rng = generators
        else:
            self._seed_generators(self.seed)
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            **self.policy_kwargs,
        )
        self.policy = self.policy.to(self.device)
        self.q_net = self.policy.q_net
        if self.exploration_fraction > 0:
            self.exploration_schedule = LinearSchedule(
                self.exploration_initial_eps, self.exploration_final_eps, self.exploration_fraction
            )
        else:
            self.exploration_schedule = ConstantSchedule(self.exploration_final_eps)
        self._n_actions = int(self.action_space.n)
        self._replace_learner()

    def _check_spaces_start_at_zero(self) -> None:
        for name in ("action_space", "observation_space"):
            space = getattr(self, name)
            if isinstance(space, spaces.Discrete) and space.start != 0:
                raise ValueError(
                    f"{name}: received {space}, a Discrete space must start at 0. Wrap the "
                    f"environment so that it shifts these numbers by {space.start}."
                )

    def _seed_generators(self, seed: int | None) -> None:
        exploration, predict = np.random.SeedSequence(seed).spawn(2)
        self._exploration_rng = np.random.default_rng(exploration)
        self._predict_rng = np.random.default_rng(predict)
        self._rng_seed = seed

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed everything random: Python, NumPy, torch, the environment and the exploration.

        :param seed: The seed; None changes nothing.
        """
        super().set_random_seed(seed)
        if seed is not None:
            self._seed_generators(seed)

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
        """
        Make a ``VecEnv`` of whatever environment was given.

        :param env: An environment.
        :param verbose: 1 to say which wrappers are used.
        :param monitor_wrapper: Whether to put a ``Monitor`` around a single environment.
        :return: The vectorised environment.
        :raises TypeError: If it is a Gymnasium vector environment.
        """
        given: object = env
        if isinstance(given, gym.vector.VectorEnv):
            raise TypeError(
                f"env: received {type(env).__name__}, a Gymnasium vector environment. "
                "Stable-Baselines3 has vector environments of its own: pass "
                "make_vec_env(env_id, n_envs=...) from stable_baselines3.common.env_util."
            )
        if not isinstance(env, VecEnv):
            env = _patch_env(env)
            if monitor_wrapper and not is_wrapped(env, Monitor):
                if verbose >= 1:
                    print("Wrapping the env with a `Monitor` wrapper")
                env = ConstantMemoryMonitor(env)
            if verbose >= 1:
                print("Wrapping the env in a SingleVecEnv.")
            env = SingleVecEnv(env)
        return BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        Learn from another environment from now on.

        :param env: The environment, with the same spaces and the same number of environments.
        :param force_reset: Whether to reset it before learning goes on.
        :raises ValueError: If its spaces are not those of the model.
        :raises AssertionError: If the number of environments differs.
        """
        with _explain_space_mismatch():
            super().set_env(env, force_reset)

    @classmethod
    def load(  # type: ignore[override]
        cls: type[SelfOnlineQAlgorithm], path: Any, env: GymEnv | None = None, **kwargs: Any
    ) -> SelfOnlineQAlgorithm:
        """
        Load a model from the file that ``save`` wrote.

        :param path: The file, with or without ``.zip``, or a file-like object.
        :param env: An environment to go on learning from, with any number of environments; None if
            the model shall only predict.
        :param kwargs: Whatever else ``BaseAlgorithm.load`` takes, and hyperparameters to change.
        :return: The model.
        :raises ValueError: If the spaces of ``env`` are not those of the model, or the file is
            damaged, no model, or another algorithm's. Nothing in such a file is unpickled.

        Load only files that you trust: Stable-Baselines3 keeps spaces, schedules and
        ``policy_kwargs`` pickled, and unpickling can run any code. :meth:`set_parameters` reads the
        weights, the statistics and the optimiser's state of a file without running code from it.
        """
        check_model_file(path, cls._own_arguments())
        with _explain_space_mismatch():
            return super().load(path, env, **kwargs)

    # Acting

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose actions, ε-greedily or greedily.

        :param observation: One observation, or one per environment, shape (n_envs, ...).
        :param state: Handed back; for recurrent policies.
        :param episode_start: Without effect; for recurrent policies.
        :param deterministic: Whether to always take the greedy action. Otherwise each environment
            tosses its own coin and takes a random action with probability ``exploration_rate``.
        :return: The actions, shape () or (n_envs,), int64, and ``state``.
        """
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if not deterministic:
            assert self._predict_rng is not None
            actions = np.array(actions)
            explore = self._predict_rng.random(actions.shape) < self.exploration_rate
            random_actions = self._predict_rng.integers(self.action_space.n, size=actions.shape)
            actions = np.where(explore, random_actions, actions)
        return actions, state

    def _explore(self, greedy_actions: np.ndarray) -> np.ndarray:
        """
        Replace each environment's greedy action by a random one with probability ε.

        :param greedy_actions: Greedy actions, shape (n_envs,), int64.
        :return: The actions to take, shape (n_envs,), int64.
        """
        assert self._exploration_rng is not None
        toss, epsilon = self._exploration_rng.random, self.exploration_rate
        actions = greedy_actions.copy()
        for env_index in range(len(actions)):
            if (draw := toss()) < epsilon:
                # Below ε, the draw divided by ε is again uniform in [0, 1).
                actions[env_index] = int(draw / epsilon * self._n_actions)
        return actions

    # Learning

    def learn(
        self: SelfOnlineQAlgorithm,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfOnlineQAlgorithm:
        """
        Interact with the environment and learn from each transition once.

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
        total_timesteps, callback = self._setup_learn(
            total_timesteps,
            callback,
            reset_num_timesteps,
            tb_log_name or type(self).__name__,
            progress_bar,
        )
        env = self.env
        assert env is not None
        assert self._last_obs is not None
        watched = not _is_empty(callback)
        self.policy.set_training_mode(False)
        self._update_schedules()
        with Interruption() as interruption:
            callback.on_training_start(locals(), globals())
            try:
                obs: Observation = self._last_obs
                greedy_actions = self._learner.greedy_actions(obs)
                while self.num_timesteps < total_timesteps and not interruption.requested:
                    if watched:
                        callback.on_rollout_start()
                    actions = self._explore(greedy_actions)
                    # Until this transition is learned from, the environment is a step ahead: after
                    # an error, begin anew.
                    self._last_obs = None
                    new_obs, rewards, dones, infos = self._step(env, actions)
                    self.num_timesteps += env.num_envs
                    next_obs, terminated = true_next_observation(new_obs, dones, infos)
                    greedy_actions = self._learn_from(
                        obs, actions, rewards, next_obs, terminated, dones, new_obs
                    )
                    obs = self._last_obs = new_obs
                    self._last_episode_starts = dones
                    n_ended = dones.tolist().count(True)
                    if n_ended:
                        self._update_info_buffer(infos, dones)
                    self._update_schedules()
                    keep_going = True
                    if watched:
                        callback.update_locals(locals())
                        with interruption.at_once():
                            keep_going = callback.on_step()
                        # A callback may have changed the weights, or learned from a transition
                        # itself.
                        self._renew_learner()
                        self._forget_own_episode()
                        greedy_actions = self._learner.greedy_actions(obs)
                    if n_ended:
                        self._count_and_log_episodes(n_ended, log_interval)
                    if not keep_going:
                        break
                    if watched:
                        callback.on_rollout_end()
            finally:
                callback.on_training_end()
        return self

    def _step(
        self, env: VecEnv, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """
        Step the environments.

        :param env: The environments.
        :param actions: Actions, shape (n_envs,).
        :return: Observations, rewards, dones and infos, of the form that was agreed on.
        :raises EnvironmentStepError: If one of the environments fails.
        :raises MalformedTransitionError: If one of them gives something of another form.
        """
        step = self.num_timesteps + env.num_envs
        try:
            new_obs, rewards, dones, infos = step_watched(env, actions)
            raise_if_malformed(new_obs, rewards, dones, self.observation_space)  # type: ignore[arg-type]
        except MalformedTransitionError as error:
            error.step = step
            raise
        except Exception as error:
            raise environment_failure(env, error, actions, step) from error
        return new_obs, rewards, dones, infos  # type: ignore[return-value]

    def learn_one(
        self,
        obs: Observation,
        action: int,
        reward: float,
        next_obs: Observation,
        terminated: bool,
        truncated: bool = False,
    ) -> float:
        """
        Learn from one transition, for loops of one's own: the same update as ``learn``'s.

        :param obs: The observation before the step, of the observation space's shape.
        :param action: The action taken, in [0, n_actions).
        :param reward: The reward, a finite number.
        :param next_obs: The observation that the step led to, of the observation space's shape. At
            a time limit this is the last observation of the episode.
        :param terminated: Whether ``next_obs`` is a terminal state. A time limit is not one.
        :param truncated: Whether the episode was cut short, so that the next transition belongs to
            another one. For algorithms that remember what led to a transition.
        :return: The TD error r + γ·max Q(s′, ·) − Q(s, a) before the update.
        :raises ValueError: If an argument has the wrong shape or range. Nothing was changed.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        """
        obs_batch = self._as_batch("obs", obs)
        next_obs_batch = self._as_batch("next_obs", next_obs)
        n_actions = int(self.action_space.n)
        if not _is_integer(action) or not 0 <= action < n_actions:
            raise ValueError(
                f"action: received {action!r}, it must be an integer from 0 to {n_actions - 1}. "
                "Pass what `predict` returned."
            )
        if not _is_number(reward):
            raise ValueError(
                f"reward: received {reward!r}, it must be one number. For several environments "
                "call `learn_one` once for each."
            )
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, (bool, np.bool_)):
                raise ValueError(
                    f"{name}: received {flag!r}, it must be True or False, as the environment's "
                    "`step` returned it."
                )
        rewards = _as_float32([reward])
        self._renew_learner()
        self.num_timesteps += 1
        try:
            # Before the cast, which turns NaN in an image into a number
            raise_if_not_finite(obs_batch, rewards, next_obs_batch)
            obs_batch = self._cast("obs", obs_batch)
            next_obs_batch = self._cast("next_obs", next_obs_batch)
            if self._own_episode_is_over:
                self._start_episodes(obs_batch)
            self._learn_from(
                obs_batch,
                np.array([action], dtype=np.int64),
                rewards,
                next_obs_batch,
                np.array([terminated]),
                np.array([terminated or truncated]),
                next_obs_batch,
            )
        except (ValueError, DivergenceError) as error:
            if isinstance(error, NonFiniteTransitionError):
                error.step = self.num_timesteps
            self.num_timesteps -= 1
            raise
        self._own_episode_is_over = bool(terminated or truncated)
        self._learned_one = True
        return self._last_td_error

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
            if resets_env:
                raise_if_dead(env)
        except EOFError as error:
            raise environment_failure(env, error, None, self.num_timesteps) from error
        try:
            total_timesteps, callback = super()._setup_learn(
                total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
            )
            self._renew_learner()
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
        return total_timesteps, callback

    def _forget_own_episode(self) -> None:
        """Keep ``learn`` from continuing what ``learn_one`` learned last, and vice versa."""
        if self._learned_one:
            self._learner.forget()
        self._learned_one = False
        self._own_episode_is_over = True

    def _start_episodes(self, obs: Observation) -> None:
        """
        Tell the learner that new episodes begin in all environments.

        :param obs: The first observations, shape (n_envs, ...).
        """
        raise_if_malformed(obs, None, None, self.observation_space)
        raise_if_not_finite(obs, np.zeros(0), obs)
        self._learner.start_episodes(obs)

    def _as_batch(self, name: str, obs: Observation) -> Observation:
        """
        Check the shape of one observation and add the batch dimension.

        :param name: Name of the argument.
        :param obs: The observation.
        :return: The observation as a batch of one.
        :raises ValueError: If it does not fit the observation space.
        """
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            if not isinstance(obs, dict) or obs.keys() != space.spaces.keys():
                received = sorted(obs) if isinstance(obs, dict) else type(obs).__name__
                raise ValueError(
                    f"{name}: received {received}, it must be a dictionary with the keys "
                    f"{sorted(space.spaces)}. Pass it as the environment returned it."
                )
            return {
                key: _batch_of_one(f"{name}[{key!r}]", obs[key], part)
                for key, part in space.spaces.items()
            }
        return _batch_of_one(name, obs, space)

    def _cast(self, name: str, batch: Observation) -> Observation:
        """
        Give a batch the observation space's number type.

        :param name: Name of the argument.
        :param batch: Observations, shape (1, ...).
        :return: The same observations.
        :raises ValueError: If the type cannot hold them.
        """
        space = self.observation_space
        if isinstance(batch, dict):
            assert isinstance(space, spaces.Dict)
            return {
                key: _cast_to_space(f"{name}[{key!r}]", values, space[key])
                for key, values in batch.items()
            }
        return _cast_to_space(name, batch, space)

    def _learn_from(
        self,
        obs: Observation,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_obs: Observation,
        terminated: np.ndarray,
        dones: np.ndarray,
        new_obs: Observation,
    ) -> np.ndarray:
        """
        Learn from one transition per environment.

        :return: Greedy actions of ``new_obs``, shape (n_envs,).
        """
        huge = self.policy.optimizer.param_groups[0]["lr"] > LARGEST_LEARNING_RATE
        learn = self._learn_or_undo if huge else self._learner.learn
        try:
            td_errors, greedy_actions = learn(
                obs, actions, rewards, next_obs, terminated, dones, new_obs
            )
        except (NonFiniteTransitionError, DivergenceError) as error:
            error.step = self.num_timesteps
            raise
        self._n_updates += 1
        for td_error in td_errors.tolist():
            self._last_td_error = td_error
            self._td_error_count += 1
            self._squared_td_error_sum += td_error * td_error
        return greedy_actions

    def _learn_or_undo(self, *transitions: Any) -> tuple[np.ndarray, np.ndarray]:
        """
        Learn at a rate that may take finite weights to infinity in one step.

        :param transitions: What :meth:`Learner.learn` takes.
        :return: What it returns.
        :raises DivergenceError: If a number overflows. All are as they were before.
        """
        before: Any = deepcopy(self.get_parameters())
        try:
            result = self._learner.learn(*transitions)
            if _all_finite(self.get_parameters()):
                return result
        except RuntimeError:  # torch refuses numbers beyond float32's, in the middle of a step
            self.set_parameters(before)
            self.policy.optimizer.param_groups[0]["lr"] = 0.0
            result = self._learner.learn(*transitions)
        td_errors = result[0].copy()
        self.set_parameters(before)
        env_index = int(np.abs(td_errors).argmax())
        raise DivergenceError(env_index, float(td_errors[env_index]))

    def _renew_learner(self) -> None:
        """Make a new learner if the user changed the policy's tensors or the rule's numbers."""
        if not self._learner.is_current() or self._rule_in_force != self._update_rule():
            self._replace_learner()

    def _replace_learner(self) -> None:
        self._rule_in_force = self._update_rule()
        self._learner = self._make_learner()

    def _update_schedules(self) -> None:
        """Bring the exploration rate and the learning rate up to the current progress."""
        if self._total_timesteps > 0:  # not in a loop of the user's own, which has no end known
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        progress = self._current_progress_remaining
        self.exploration_rate = self.exploration_schedule(progress)
        if callable(self.learning_rate):
            update_learning_rate(self.policy.optimizer, self.lr_schedule(progress))

    # Logging

    def _reset_training_statistics(self) -> None:
        self._last_td_error = 0.0
        self._td_error_count = 0
        self._squared_td_error_sum = 0.0

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

    # Saving

    def save(
        self,
        path: Any,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        Save all that the model is: weights, statistics, optimiser, traces, counters, arguments.

        The file is written beside its place and moved there when it is complete: if the program is
        killed meanwhile, or the disk is full, an earlier file of that name is intact. A killed
        program may leave a file ``.{name}.*.tmp`` behind, which can be deleted.

        :param path: The file, with or without ``.zip``, or a file-like object.
        :param exclude: Names of attributes to leave out.
        :param include: Names of attributes to save that would be left out.
        :raises OSError: If the file cannot be written.
        """
        if not is_path(path):
            super().save(path, exclude, include)
            return
        with written_whole(path) as file:
            super().save(file, exclude, include)  # type: ignore[arg-type]

    def set_parameters(
        self,
        load_path_or_dict: str | TensorDict,
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        """
        Load weights, running statistics, traces and the optimiser's state into this model.

        This is the safe way to use a file from somebody else: it reads tensors and numbers only,
        and runs no code from the file. The model has to be made with the same architecture before.
        Counters, ε and the state of the random numbers stay those of this model.

        :param load_path_or_dict: A file that ``save`` wrote, or what ``get_parameters`` returned.
        :param exact_match: Whether every parameter must be given.
        :param device: Device to load to.
        :raises ValueError: If the file is damaged or no model, or a parameter is missing that
            ``exact_match`` wants. Nothing was changed.
        :raises RuntimeError: If the parameters are those of another architecture. Nothing was
            changed.
        """
        before: Any = deepcopy(self.get_parameters())
        # torch's optimisers keep the very tensors they are given, which may be another model's.
        parameters = (
            deepcopy(load_path_or_dict)
            if isinstance(load_path_or_dict, dict)
            else read_parameters(load_path_or_dict, device)
        )
        try:
            super().set_parameters(parameters, exact_match, device)
        except Exception:
            super().set_parameters(before)
            raise
        finally:
            self._renew_learner()

    @classmethod
    def _own_arguments(cls) -> set[str]:
        """Names of the arguments that the algorithm has and others do not."""
        algorithms = cls.__mro__[: cls.__mro__.index(OnlineQAlgorithm)]
        return {
            parameter.name
            for algorithm in algorithms
            for parameter in signature(algorithm).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        } - set(signature(OnlineQAlgorithm).parameters)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "q_net", "_learner", "_rule_in_force"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


class _explain_space_mismatch:
    """Context in which Stable-Baselines3's complaint about spaces also says what to do."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: Any, error: BaseException | None, _traceback: Any) -> None:
        if isinstance(error, ValueError) and "spaces do not match" in str(error):
            raise ValueError(
                f"env: {error} (the model's first, the environment's second). Pass an environment "
                "with the model's spaces, or make a new model for this environment."
            ) from error


def _all_finite(numbers: Any) -> bool:
    """Whether all tensors in a nested dictionary are finite."""
    if isinstance(numbers, th.Tensor):
        return bool(th.isfinite(numbers).all())
    return not isinstance(numbers, dict) or all(map(_all_finite, numbers.values()))


def _is_empty(callback: BaseCallback) -> bool:
    """Whether a callback is what Stable-Baselines3 makes of ``callback=None``."""
    return isinstance(callback, ConvertCallback) and callback.callback is None


def _is_integer(value: Any) -> bool:
    return _is_number(value) and np.issubdtype(np.asarray(value).dtype, np.integer)


def _is_number(value: Any) -> bool:
    array = np.asarray(value)
    return (
        array.shape == ()
        and array.dtype != np.bool_
        and (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating))
    )


def _as_float32(numbers: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity is refused further on
        return np.asarray(numbers, dtype=np.float32)


def _batch_of_one(name: str, obs: Any, space: spaces.Space[Any]) -> np.ndarray:
    if is_image_space(space) and np.ndim(obs) == len(space.shape or ()):
        # Stable-Baselines3 puts the channels of an environment's images first.
        obs = maybe_transpose(np.asarray(obs), space)
    if np.shape(obs) != space.shape:
        raise ValueError(
            f"{name}: received shape {np.shape(obs)}, the observation space has {space.shape}. "
            "Pass one observation, without a batch dimension, as the environment returned it."
        )
    return np.asarray(obs)[np.newaxis]


def _cast_to_space(name: str, batch: np.ndarray, space: spaces.Space[Any]) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity is refused further on
        cast = batch.astype(space.dtype)
    real = isinstance(space, spaces.Box) and not is_image_space(space)
    # Of an image or a discrete observation, the cast would make another one.
    if not real and not (np.array_equal(cast, batch) and space.contains(cast[0])):
        allowed = f"an element of {space}"
        if isinstance(space, spaces.Discrete):
            allowed = f"an integer from 0 to {space.n - 1}"
        raise ValueError(
            f"{name}: received {batch[0]}, it must be {allowed}. Pass it as the environment "
            "returned it."
        )
    return cast

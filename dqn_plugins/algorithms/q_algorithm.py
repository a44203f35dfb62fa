"""What all algorithms share: the loop, the logs, the model files."""

import os
import sys
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields
from inspect import signature
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    ConvertCallback,
    ProgressBarCallback,
)
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule, TensorDict
from stable_baselines3.common.utils import (
    ConstantSchedule,
    LinearSchedule,
    safe_mean,
    update_learning_rate,
)
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn import policies as dqn_policies
from typing_extensions import override

from dqn_plugins.algorithms.exploration import EpsilonGreedy, Exploration
from dqn_plugins.algorithms.exporting import export_onnx
from dqn_plugins.algorithms.interruption import Interruption
from dqn_plugins.algorithms.model_files import (
    check_model_file,
    is_path,
    naming_env,
    read_parameters,
    written_whole,
)
from dqn_plugins.algorithms.spaces import check_spaces
from dqn_plugins.arguments import (
    check_in_unit_interval,
    check_is_bool,
    check_one_of,
    is_integer,
    is_number,
)
from dqn_plugins.environments import (
    ActionMasks,
    TransitionStream,
    Vectorization,
    environment_failure,
    make_env,
    make_vec_env,
    raise_if_dead,
    raise_if_malformed,
    resets_of,
    was_raised_in,
    wrap_env,
)
from dqn_plugins.errors import DivergenceError, MalformedTransitionError, NonFiniteTransitionError
from dqn_plugins.learning import (
    LARGEST_LEARNING_RATE,
    Backend,
    CompiledLearner,
    Learner,
    Observation,
    Rule,
    Transition,
    Update,
    choose_backend,
    raise_if_not_finite,
)
from dqn_plugins.policies import (
    CnnPolicy,
    MlpPolicy,
    MultiInputPolicy,
    QNetwork,
    QPolicy,
    StreamQPolicy,
    TraceOptimizer,
)
from dqn_plugins.policies.q_policy import arguments_in

__all__ = ["Backend", "QAlgorithm", "TdErrors", "arguments_in", "has_convolutions"]

SelfQAlgorithm = TypeVar("SelfQAlgorithm", bound="QAlgorithm")

POLICIES_OF_DQN: dict[type[BasePolicy], str] = {
    dqn_policies.MlpPolicy: "MlpPolicy",
    dqn_policies.CnnPolicy: "CnnPolicy",
    dqn_policies.MultiInputPolicy: "MultiInputPolicy",
}
"""Classes that scripts pass to Stable-Baselines3's ``DQN``, and the names of ours."""


@dataclass
class TdErrors:
    """TD errors since the last log: how many, the sum of their squares, and the last one."""

    count: int = 0
    sum_of_squares: float = 0.0
    last: float = 0.0

    @property
    def mean_square(self) -> float:
        """Mean of their squares, if there were any."""
        return self.sum_of_squares / self.count


class QAlgorithm(BaseAlgorithm):
    """
    Base of the algorithms, whether they learn from every transition as it arrives or from rollouts.

    It owns the loop and the logging. A subclass brings its rule and its defaults.

    As in Stable-Baselines3's ``DQN``, a subclass may override ``predict``, which is then asked for
    the actions while learning, and ``_on_step``, which is then called after every step. A
    policy whose modules have hooks is learned with in torch.

    See the algorithms for the arguments. Those that are not named here become attributes.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    rule_class: ClassVar[type[Rule]]
    """The update rule. The algorithm has an attribute for each of its numbers."""
    _rule_numbers: ClassVar[Any]
    _n_envs_per_turn: ClassVar[int | None] = 4
    _learns_from_traces: ClassVar[bool] = False
    gamma: float
    exploration_fraction: float
    exploration_initial_eps: float
    exploration_final_eps: float
    exploration: Exploration = "epsilon_greedy"
    exploration_duration: int | None = None
    exploration_stuck_eps: float = 0.0
    use_action_masks: bool = True
    action_masks: np.ndarray | None = None
    """Which actions are possible in the observations that ``learn`` saw last, shape
    (n_envs, n_actions), bool; None where there are no masks, and all are."""
    exploration_schedule: Schedule
    _lr_in_force: tuple[float | Schedule, Schedule]
    policy: QPolicy
    q_net: QNetwork
    env: VecEnv | None
    action_space: spaces.Discrete
    backend: Backend
    update: Update
    _learner: Learner
    _explorer: EpsilonGreedy
    # What an overridden `predict` is asked about: observations, the first one's environment, masks
    _asked: tuple[Observation, int, np.ndarray | None] | None = None
    _masks: ActionMasks | None = None
    _masks_told: str | None = None
    _resets_seen: int | None = None

    def __init__(
        self,
        policy: str | type[QPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        n_envs: int = 1,
        vectorization: Vectorization = "sync",
        **attributes: Any,
    ) -> None:
        super().__init__(
            self._policy_from(policy),
            self._environments_from(env, n_envs, vectorization, seed, verbose),
            learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=_as_seed(seed),
            supported_action_spaces=(spaces.Discrete,),
        )
        vars(self).update(attributes)
        self.exploration_rate: float = self.exploration_initial_eps
        self._is_device_auto = device == "auto"
        self._td_errors = TdErrors()
        if _init_setup_model:
            self._setup_model()

    # Setting up

    def _setup_model(self) -> None:
        if not hasattr(self, "observation_space"):
            raise ValueError(
                "env: received None, it must be an environment or its id, since nothing else says "
                "what is observed. To load a model without one, call `load`."
            )
        _convert_from_0_2_0(vars(self))
        self._check_hyperparameters()
        check_spaces(self.observation_space, self.action_space)
        self._setup_exploration()
        self._setup_schedules()
        self.policy = self._make_policy()
        # The policy is on the CPU still: where it can be compiled, no GPU makes it faster.
        if self._is_device_auto and (not has_convolutions(self.policy) or self._is_compiled()):
            self.device = th.device("cpu")
        self.policy = self.policy.to(self.device)
        self.q_net = self.policy.q_net
        if isinstance(self.policy.optimizer, TraceOptimizer) and not self._learns_from_traces:
            raise ValueError(
                f"optimizer_class: received {type(self.policy.optimizer).__name__}, which learns "
                f"from eligibility traces; {type(self).__name__} has none. Use StreamQ, or an "
                "optimiser of torch.optim."
            )
        self._replace_learner(self.n_envs)
        self._check_env()

    def _make_policy(self) -> QPolicy:
        try:
            return self.policy_class(  # type: ignore[return-value]
                self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
            )
        except KeyError as error:
            # torch names modules by the keys of a dictionary, and does not take all of them.
            if not isinstance(self.observation_space, spaces.Dict):
                raise
            raise ValueError(
                f"observation_space: received the keys {list(self.observation_space.spaces)}, with "
                f"which no policy can be made: {error.args[0]}. Rename the key in the environment."
            ) from error
        except RuntimeError as error:
            if "Kernel size can't be greater" not in str(error):
                raise
            raise ValueError(
                f"observation_space: received {self.observation_space}, an image must have at "
                "least 36×36 pixels for Stable-Baselines3's NatureCNN. Enlarge it in the "
                "environment, or flatten it."
            ) from error

    def _check_hyperparameters(self) -> None:
        """Refuse what is out of its range."""
        check_one_of("backend", self.backend, get_args(Backend), "'auto' is right for most.")
        check_one_of("exploration", self.exploration, get_args(Exploration), "Try the default.")
        for name in ("fraction", "initial_eps", "final_eps", "stuck_eps"):
            check_in_unit_interval(f"exploration_{name}", getattr(self, f"exploration_{name}"))
        duration = self.exploration_duration
        if duration is not None and not (is_integer(duration) and duration >= 1):
            raise ValueError(
                f"exploration_duration: received {duration!r}, it must be an integer of at least "
                "1, or None to draw it from a zeta distribution. Try 16."
            )
        check_is_bool("use_action_masks", self.use_action_masks, "True uses masks that are there.")
        self._make_rule()
        self._check_learning_rate()

    def _check_learning_rate(self) -> None:
        rate = self.learning_rate
        if not callable(rate) and not (is_number(rate) and 0.0 <= rate <= LARGEST_LEARNING_RATE):
            raise ValueError(
                f"learning_rate: received {self.learning_rate!r}, it must be a number in "
                f"[0, {LARGEST_LEARNING_RATE:g}], or a function of the progress remaining. "
                "Try 1e-3."
            )

    def _check_env(self) -> None:
        """Warn of an environment that the algorithm is not made for."""

    @classmethod
    def _policy_from(cls, policy: Any) -> Any:
        """Take the policies of Stable-Baselines3's ``DQN`` for ours of the same name."""
        base = cls.policy_aliases["MlpPolicy"]
        if isinstance(policy, type):
            policy = POLICIES_OF_DQN.get(policy, policy)
        is_class = isinstance(policy, type) and issubclass(policy, base)
        if is_class or (isinstance(policy, str) and policy in cls.policy_aliases):
            return policy
        raise ValueError(
            f"policy: received {policy!r}, unknown to {cls.__name__}, it must be one of "
            f"{sorted(cls.policy_aliases)} or a policy class, a subclass of {base.__name__}. Pass "
            "'MlpPolicy'."
        )

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        space = getattr(env, "single_observation_space", getattr(env, "observation_space", None))
        if isinstance(space, spaces.Space):  # those of old Gym's environments are converted first
            check_spaces(space)
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

    # The learner

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The algorithm's attributes that make its rule, in the order of the rule's fields
        if hasattr(cls, "rule_class"):
            cls._rule_numbers = attrgetter(*(field.name for field in fields(cls.rule_class)))

    def _make_rule(self) -> Rule:
        return self.rule_class(*self._rule_numbers(self))

    def _is_compiled(self) -> bool:
        """Whether compiled code learns, or would."""
        learner, _ = choose_backend(self.policy, self._make_rule(), self.backend)
        return learner is CompiledLearner

    def _replace_learner(self, n_envs: int) -> None:
        rule = self._make_rule()
        learner, reason = choose_backend(self.policy, rule, self.backend)
        if reason is not None and self.verbose >= 1:
            print(f"Learning in torch, which is slower than compiled code: {reason}.")
        self._learner = self._make_learner(learner, rule, n_envs)
        self._learner.set_exploration_rate(self.exploration_rate)
        self._rule_in_force = self._rule_numbers(self)

    def _make_learner(self, backend: type[Learner], rule: Rule, n_envs: int) -> Learner:
        return backend(self.policy, rule, n_envs)

    def _renew(self, n_envs: int | None = None, thorough: bool = True) -> None:
        """Follow what somebody changed: numbers, weights, and what the learner works on."""
        explorer, learner = self._explorer, self._learner
        explorer.kind, explorer.duration = self.exploration, self.exploration_duration
        explorer.stuck_rate = self.exploration_stuck_eps
        if n_envs is None:
            n_envs = learner.n_envs
        is_of_another = learner.policy is not self.policy
        if n_envs != learner.n_envs or is_of_another or not learner.is_current(thorough):
            self.q_net = self.policy.q_net
            self._replace_learner(n_envs)
        elif self._rule_in_force != self._rule_numbers(self):
            learner.set_rule(self._make_rule())
            self._rule_in_force = self._rule_numbers(self)

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
        :param callback: Callbacks, called at every step. They find the loss since the last log in
            ``logger.name_to_value["train/loss"]``.
        :param log_interval: Episodes between two logs, at least 1; None for no logs.
        :param tb_log_name: Name of the run in TensorBoard; the algorithm's name by default.
        :param reset_num_timesteps: Whether to count steps from 0 and reset the environment.
        :param progress_bar: Whether to show a progress bar.
        :return: The model itself.
        :raises ValueError: If ``log_interval`` is below 1, or an overridden ``predict`` gives other
            than one action per environment.
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
        if log_interval is not None and log_interval < 1:
            raise ValueError(
                f"log_interval: received {log_interval!r}, it must be at least 1. Pass None for no "
                "logs."
            )
        name = tb_log_name or type(self).__name__
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, name
        )
        env = self.env
        assert env is not None
        assert self._last_obs is not None
        stream = TransitionStream(env, self.observation_space, self._masks, self.action_masks)
        obs = stream.to_act_on(stream.kept(self._last_obs))
        watched = not _is_empty(callback) or self._is_overridden("_on_step")
        choose = self._ask_predict if self._is_overridden("predict") else self._choose_actions
        with Interruption() as interruption:
            bar = ProgressBarCallback() if progress_bar else None
            if bar is not None:
                bar.init_callback(self)
                bar.on_training_start({"total_timesteps": total_timesteps}, {})
            try:
                callback.on_training_start(locals(), globals())
                while self._goes_on(total_timesteps) and not interruption.requested:
                    if watched and self._is_between_rollouts:
                        callback.on_rollout_start()
                    actions = choose(obs, stream.first_env_index, stream.masks_to_act_on)
                    # Until this transition is learned from, the environment is a step ahead: after
                    # an error, begin anew.
                    self._last_obs = None
                    transition, infos = stream.step(obs, actions, self.num_timesteps + len(actions))
                    self.num_timesteps += transition.n_transitions
                    self._learn_from(transition)
                    obs = self._last_obs = stream.to_act_on(transition.new_obs)
                    self.action_masks = stream.action_masks
                    dones = self._last_episode_starts = transition.dones
                    n_ended = dones.tolist().count(True)
                    if n_ended:
                        self._update_info_buffer(infos, dones)
                    self._follow_schedules(total_timesteps)
                    keep_going = True
                    if watched:
                        rewards, new_obs = transition.rewards, transition.new_obs
                        callback.update_locals(locals())
                        self._record_loss()
                        keep_going = interruption.at_once(callback.on_step)
                        self._on_step()
                        self._notice_changes()
                        if self._last_obs is None or self._was_reset_by_others:
                            stream = self._begin_anew()
                            assert self._last_obs is not None
                            obs = stream.to_act_on(stream.kept(self._last_obs))
                    for _ in range(n_ended):
                        self._episode_num += 1
                        if log_interval is not None and self._episode_num % log_interval == 0:
                            self.dump_logs()
                    if bar is not None:
                        bar.pbar.update(transition.n_transitions)
                    if not keep_going:
                        break
                    if watched and self._is_between_rollouts:
                        callback.on_rollout_end()
            finally:
                callback.on_training_end()
                if bar is not None:
                    bar.on_training_end()
        return self

    def _on_step(self) -> None:
        """Called after every step, if a subclass overrides it. Here it does nothing."""

    def _is_overridden(self, name: str) -> bool:
        own = getattr(QAlgorithm, name)
        return getattr(getattr(self, name), "__func__", None) is not own

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
        env = self.env
        if env is None:
            raise ValueError("env: this model has none to learn from. Call `set_env` before.")
        if self._was_reset_by_others:
            self._last_obs = None
        resets_env = reset_num_timesteps or self._last_obs is None
        self._renew(self.n_envs)
        with self._naming_failures(env, resets_env):
            if resets_env:
                raise_if_dead(env)
            total_timesteps, callback = super()._setup_learn(
                total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
            )
            self._forget_own_episode()
            self._find_action_masks(env, resets_env)
            # Before anything is stepped, so that Ctrl-C ends it at once
            self._learner.compile(self.action_masks is not None)
            if resets_env:
                assert self._last_obs is not None
                self._start_episodes(self._last_obs)
        self._resets_seen = resets_of(env)
        self.policy.set_training_mode(False)
        self._follow_schedules(total_timesteps)
        return total_timesteps, callback

    @property
    def _was_reset_by_others(self) -> bool:
        """Whether somebody has begun episodes in the environment, such as ``evaluate_policy``."""
        assert self.env is not None
        return self._resets_seen is not None and self._resets_seen != resets_of(self.env)

    def _begin_anew(self) -> TransitionStream:
        """Begin new episodes: a callback played in the environment, or has set another."""
        env = self.env
        assert env is not None
        with self._naming_failures(env, resets_env=True):
            self._last_obs = obs = env.reset()  # type: ignore[assignment]
            self._find_action_masks(env, is_reset=True)
            self._start_episodes(obs)  # type: ignore[arg-type]
        self._resets_seen = resets_of(env)
        return TransitionStream(env, self.observation_space, self._masks, self.action_masks)

    @contextmanager
    def _naming_failures(self, env: VecEnv, resets_env: bool) -> Iterator[None]:
        """Say which environment failed where episodes begin, and begin them anew next time."""
        try:
            yield
        except (MalformedTransitionError, NonFiniteTransitionError) as error:
            error.step = self.num_timesteps
            self._last_obs = None
            raise
        except KeyboardInterrupt:
            if resets_env:
                self._last_obs = None
            raise
        except Exception as error:
            if not (isinstance(error, EOFError) or was_raised_in(env, error)):
                raise
            raise environment_failure(env, error, None, self.num_timesteps) from error

    def _find_action_masks(self, env: VecEnv, is_reset: bool) -> None:
        """Find out whether environments tell which actions are possible, and which are now."""
        self._masks = None
        if not self.use_action_masks:
            self.action_masks = None
            return
        self._masks = masks = ActionMasks(env, int(self.action_space.n))
        if self.verbose >= 1 and masks.found not in (None, self._masks_told):
            print(f"Using the environment's action masks, found in {masks.found}.")
        self._masks_told = masks.found
        if is_reset or masks.found is None:
            self.action_masks = masks.at_first()
        elif (now := masks.now()) is not None:
            self.action_masks = now

    def _notice_changes(self) -> None:
        """Take note of what a callback did: it may set numbers, or load."""
        self._renew(self.n_envs, thorough=False)

    def _forget_own_episode(self) -> None:
        """Keep ``learn`` from continuing what another loop learned last: here, there is none."""

    def _start_episodes(self, obs: Observation) -> None:
        """Tell learner and exploration that new episodes begin in all environments."""
        raise_if_malformed(obs, None, None, self.observation_space)
        raise_if_not_finite(obs, np.zeros(0), obs)
        self._learner.start_episodes(obs)
        self._explorer.begin(self._learner.n_envs)

    def _learn_from(self, transition: Transition) -> np.ndarray:
        try:
            td_errors = self._learner.learn(transition)
        except (NonFiniteTransitionError, DivergenceError) as error:
            error.step = self.num_timesteps
            raise
        self._explorer.follow(transition)
        self._count_updates(transition.n_transitions, td_errors)
        return td_errors

    def _count_updates(self, count: int, td_errors: np.ndarray) -> None:
        """Take note of what was learned from so many transitions."""
        errors = td_errors.tolist()
        self._n_updates += count if self.update == "each" else min(count, 1)
        self._td_errors.count += count
        self._td_errors.sum_of_squares += sum(error * error for error in errors)
        self._td_errors.last = errors[-1]

    def _follow_schedules(self, total_timesteps: int) -> None:
        """Bring the exploration rate and the learning rate up to the current progress."""
        done = min(self.num_timesteps, total_timesteps)  # the last steps may be more than asked for
        self._update_current_progress_remaining(done, max(total_timesteps, 1))
        progress = self._current_progress_remaining
        self._set_exploration_rate(
            max(self.exploration_schedule(progress), self._explorer.smallest_rate)
        )
        learning_rate, lr_schedule = self._lr_in_force
        if self.learning_rate != learning_rate:
            self._check_learning_rate()
            self._setup_lr_schedule()
            self._lr_in_force = self.learning_rate, lr_schedule
        if callable(self.learning_rate) or self.lr_schedule is not lr_schedule:
            self._set_learning_rate(self.lr_schedule(progress))

    def _set_learning_rate(self, learning_rate: float) -> None:
        update_learning_rate(self.policy.optimizer, learning_rate)

    # Acting

    def _setup_schedules(self) -> None:
        """Make functions of the progress remaining."""
        self._setup_lr_schedule()
        # A constant rate is not written again at every step, unless somebody sets another.
        self._lr_in_force = self.learning_rate, self.lr_schedule
        if self.exploration_fraction > 0:
            self.exploration_schedule = LinearSchedule(
                self.exploration_initial_eps, self.exploration_final_eps, self.exploration_fraction
            )
        else:
            self.exploration_schedule = ConstantSchedule(self.exploration_final_eps)

    def _setup_exploration(self) -> None:
        """Make what a loaded model did not bring."""
        self.seed = _as_seed(self.seed)
        super().set_random_seed(self.seed)
        if not hasattr(self, "_explorer"):
            self._explorer = EpsilonGreedy(int(self.action_space.n), self.n_envs, self.seed)
        elif self._explorer.seed != self.seed:  # `load` was given another one
            self._explorer.seed = self.seed
            self._explorer.set_random_seed(self.seed)

    @override
    def set_random_seed(self, seed: int | None = None) -> None:
        seed = _as_seed(seed)
        super().set_random_seed(seed)
        if seed is not None:
            self._explorer.set_random_seed(seed)

    def _set_exploration_rate(self, exploration_rate: float) -> None:
        if exploration_rate != self.exploration_rate:
            self.exploration_rate = exploration_rate
            self._learner.set_exploration_rate(exploration_rate)

    def _choose_actions(
        self, obs: Observation, first_env_index: int = 0, masks: np.ndarray | None = None
    ) -> np.ndarray:
        """Choose actions by the newest weights, ε-greedily."""
        greedy = self._learner.greedy_actions(obs, masks)
        return self._explorer.choose(greedy, self.exploration_rate, first_env_index, masks)

    def _ask_predict(
        self, obs: Observation, first_env_index: int = 0, masks: np.ndarray | None = None
    ) -> np.ndarray:
        """The same where a subclass overrides ``predict``; what it may call is our own, below."""
        self._asked = obs, first_env_index, masks
        told: dict[str, Any] = {} if masks is None else {"action_masks": masks}
        try:
            answer, _ = self.predict(obs, deterministic=False, **told)
        finally:
            self._asked = None
        n = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        actions = np.asarray(answer)
        if actions.shape != (n,) or not all(self.action_space.contains(each) for each in actions):
            raise ValueError(
                f"predict: returned the actions {answer!r}, it must be {n} in all, each an integer "
                f"from 0 to {self.action_space.n - 1}. Correct the method of {type(self).__name__}."
            )
        actions = actions.astype(np.int64, copy=False)
        if masks is not None and not masks[np.arange(n), actions].all():
            raise ValueError(
                f"predict: returned the actions {actions.tolist()}, they must be possible by "
                f"{masks.astype(int).tolist()}. Choose by `action_masks` in the method of "
                f"{type(self).__name__}."
            )
        return actions

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose actions, ε-greedily or greedily.

        :param observation: One observation, or one per environment, shape (n_envs, ...).
        :param state: Handed back; for recurrent policies.
        :param episode_start: Without effect; for recurrent policies.
        :param deterministic: Whether to always take the greedy action. Otherwise each environment
            tosses its own coin and takes a random action with probability ``exploration_rate``.
        :param action_masks: Which actions are possible, of which one is chosen, shape (n_actions,)
            or (n_envs, n_actions): Booleans, or 1 and 0. None for all.
        :return: The actions, shape () or (n_envs,), int64, and ``state``.
        :raises ValueError: If a mask is of another form, or an observation has no possible action.
        """
        if self._asked is not None and observation is self._asked[0]:
            if deterministic:
                return self._learner.greedy_actions(observation, self._asked[2]), state
            return self._choose_actions(*self._asked), state
        # A policy's own method may take no more than Stable-Baselines3's.
        told: dict[str, Any] = {} if action_masks is None else {"action_masks": action_masks}
        actions, state = self.policy.predict(
            observation, state, episode_start, deterministic, **told
        )
        if not deterministic:
            actions, masks = np.asarray(actions), None
            if action_masks is not None:
                masks = np.asarray(action_masks, np.bool_).reshape(*actions.shape, -1)
            actions = self._explorer.choose_to_predict(actions, self.exploration_rate, masks)
        return actions, state

    # Logging

    def _update_info_buffer(
        self, infos: list[dict[str, Any]], dones: np.ndarray | None = None
    ) -> None:
        # What else an environment itself may call an episode is not ours to average.
        told = [
            info if _tells_return(info.get("episode")) else {**info, "episode": None}
            for info in infos
        ]
        super()._update_info_buffer(told, dones)

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
        record("time/episodes", self._episode_num, exclude="tensorboard")
        fps = int((self.num_timesteps - self._num_timesteps_at_start) / elapsed)
        record("time/fps", fps)
        record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        record("rollout/exploration_rate", self.exploration_rate)
        record("train/learning_rate", self.policy.optimizer.param_groups[0]["lr"])
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        self._record_loss()
        if self._td_errors.count > 0:
            record("train/td_error", self._td_errors.mean_square**0.5)
        self._td_errors = TdErrors()
        self.logger.dump(step=self.num_timesteps)

    def _record_loss(self) -> None:
        """Tell the logger the mean loss since the last log, for it and for callbacks."""
        if self._td_errors.count > 0:
            self.logger.record("train/loss", self._loss_from(self._td_errors.mean_square))

    @abstractmethod
    def _loss_from(self, mean_squared_td_error: float) -> float:
        """Express the loss that the update rule descends in terms of the TD errors."""

    # Model files

    def save(
        self, path: Any, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """
        Save the whole model: weights, statistics, optimiser, traces, counters, arguments.

        A temporary file is moved into place when it is complete: if the program is killed
        meanwhile, or the disk is full, an earlier file of that name is intact. A killed program may
        leave a file ``.{name}.*.tmp`` behind, which can be deleted.

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

    @classmethod
    def load(
        cls: type[SelfQAlgorithm],
        path: Any,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfQAlgorithm:
        """
        Load a model from the file that ``save`` wrote.

        :param path: The file, with or without ``.zip``, or a file-like object.
        :param env: An environment to go on learning from, with any number of environments; None if
            the model shall only predict.
        :param device: Device to put the model on.
        :param custom_objects: What to take in place of attributes that cannot be unpickled.
        :param print_system_info: Whether to print the versions of the file's and of this system.
        :param force_reset: Whether to reset ``env`` before learning goes on.
        :param kwargs: Hyperparameters to change.
        :return: The model.
        :raises ValueError: If the spaces of ``env`` are not those of the model, or the file is
            damaged, no model, or another algorithm's. Nothing in such a file is unpickled.

        Load only files that you trust: Stable-Baselines3 keeps spaces, schedules and
        ``policy_kwargs`` pickled, and unpickling can run any code. :meth:`set_parameters` reads the
        weights, the statistics and the optimiser's state of a file without running code from it.
        """
        check_model_file(path, cls._own_arguments())
        with naming_env():
            model = super().load(
                path, env, device, custom_objects, print_system_info, force_reset, **kwargs
            )
        # The optimiser's state brought the earlier one.
        if "learning_rate" in {**(custom_objects or {}), **kwargs}:
            progress = model._current_progress_remaining
            update_learning_rate(model.policy.optimizer, model.lr_schedule(progress))
        return model

    @override
    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        with naming_env():
            super().set_env(env, force_reset)
        self._check_env()
        self._resets_seen = None

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
            self._renew()

    def export_onnx(self, path: str | os.PathLike[str], action_masks: bool | None = None) -> Path:
        """
        Write the greedy policy as an ONNX file, which onnxruntime runs on a server, a small device
        or in a browser.

        Its input is ``observation``, or one input for each key of a dictionary, shape (n, ...) with
        any n and the number type of the observation space: observations as :meth:`predict` takes
        them, but images always with their channels first, as ``model.observation_space`` has them.
        With masks the last input is ``action_mask``, shape (n, n_actions), bool. Its outputs are
        ``q_values``, shape (n, n_actions), float32, of all actions, in the units of the
        environment's rewards, and ``action``, shape (n,), int64: what ``predict(observation,
        deterministic=True, action_masks=action_mask)`` returns. Where a dictionary has one of these
        names as a key, an underscore is appended to ours. Running statistics are inside, as they
        are now. A ``VecNormalize`` around the environment is not, as it is not part of ``predict``
        either.

        :param path: The file; without a suffix, ``.onnx`` is appended. Missing folders are made.
            As with :meth:`save`, an earlier file of that name is replaced only by a whole one.
        :param action_masks: Whether the file is told which actions are possible. None if ``learn``
            was told by its environment.
        :return: The file.
        :raises ValueError: If the policy cannot be written as ONNX. There is no file then.
        :raises DependencyNotInstalled: If the extra ``export`` is not installed.
        :raises OSError: If the file cannot be written.
        """
        if action_masks is None:
            action_masks = self.action_masks is not None
        facts = {name: vars(self)[name] for name in ("num_timesteps", "gamma", "action_space")}
        facts["algorithm"] = type(self).__name__
        network = self.policy.greedy_q_net
        return export_onnx(network, self.observation_space, path, facts, action_masks)

    @classmethod
    def _own_arguments(cls) -> set[str]:
        """Names of the arguments that an algorithm has beside those that others have, too."""
        of_the_rule = {field.name for field in fields(cls.rule_class)} - {"advantage_gap", "update"}
        return {
            parameter.name
            for algorithm in cls.__mro__
            for parameter in signature(algorithm).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name in of_the_rule
        }

    def _excluded_save_params(self) -> list[str]:
        made_anew = ["q_net", "_learner", "_rule_in_force", "_is_device_auto", "_masks"]
        made_anew += ["_lr_in_force", "_resets_seen"]
        return [*super()._excluded_save_params(), *made_anew]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


def _convert_from_0_2_0(attributes: dict[str, Any]) -> None:
    """Put what that version kept in a model's attributes where it is now."""
    if "_exploration_rng" not in attributes:
        return
    space, n_envs, seed = (attributes[name] for name in ("action_space", "n_envs", "seed"))
    explorer = attributes["_explorer"] = EpsilonGreedy(int(space.n), n_envs, seed)
    explorer.rng = attributes.pop("_exploration_rng")
    explorer.predict_rng = attributes.pop("_predict_rng")
    explorer.held = attributes.pop("_held", explorer.held)
    explorer.episodes = attributes.pop("_recent_episodes", explorer.episodes)
    numbers = ("_td_error_count", "_squared_td_error_sum", "_last_td_error")
    attributes["_td_errors"] = TdErrors(*(attributes.pop(name) for name in numbers))
    for name in ("_rng_seed", "_n_actions"):
        attributes.pop(name, None)
    if issubclass(attributes["policy_class"], StreamQPolicy):  # its defaults were others
        attributes["advantage_gap"] = 0.0
        attributes["policy_kwargs"].setdefault("normalize_observations", True)
        attributes["policy_kwargs"].setdefault("local_values", False)


def _as_seed(seed: Any) -> Any:
    """Make an integer of NumPy's one of Python, which alone Python's generator takes."""
    return int(seed) if isinstance(seed, np.integer) else seed


def has_convolutions(policy: QPolicy) -> bool:
    """Tell whether a policy looks at images by convolutions."""
    convolutions = th.nn.Conv1d, th.nn.Conv2d, th.nn.Conv3d
    return any(isinstance(module, convolutions) for module in policy.modules())


def _tells_return(episode: Any) -> bool:
    """Whether this is what a ``Monitor`` tells of an episode."""
    return isinstance(episode, Mapping) and {"r", "l"} <= episode.keys()


def _is_empty(callback: BaseCallback) -> bool:
    """Whether a callback is what Stable-Baselines3 makes of ``callback=None``."""
    return isinstance(callback, ConvertCallback) and callback.callback is None

"""Steps a ``VecEnv`` and reads transitions out of what it returns."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from dqn_plugins.environments.action_masks import ActionMasks
from dqn_plugins.environments.failure import environment_failure, step_watched
from dqn_plugins.environments.gymnasium_vec_env import GymnasiumVecEnv, each_part
from dqn_plugins.environments.single_env import SingleVecEnv, SyncVecEnv, are_counted
from dqn_plugins.environments.turns import TurnTakingVecEnv
from dqn_plugins.errors import MalformedTransitionError
from dqn_plugins.learning.transition import Observation, Transition
from dqn_plugins.policies.action_masks import NUMBERS

__all__ = ["TransitionStream", "raise_if_malformed", "resets_of", "true_next_observation"]


class TransitionStream:
    """
    Transitions of environments that are stepped together, each learned from as it arrives.

    :param env: The environments. They reset themselves when an episode ends.
    :param observation_space: The space that their observations must be of.
    :param masks: Where they tell which actions are possible; None not to ask.
    :param action_masks: Which are possible now, shape (n_envs, n_actions), bool; None for all.
    """

    def __init__(
        self,
        env: VecEnv,
        observation_space: spaces.Space[Any],
        masks: ActionMasks | None = None,
        action_masks: np.ndarray | None = None,
    ) -> None:
        self.env = env
        self._masks, self.action_masks, self._is_first = masks, action_masks, True
        self._space = observation_space
        self._every_row = np.ones(env.num_envs, np.bool_)
        self._turns = env if type(env) is TurnTakingVecEnv else None
        # Where a step may be none, its environments say so.
        source = env.unwrapped
        self._source = source if isinstance(source, GymnasiumVecEnv | TurnTakingVecEnv) else None
        # They look by themselves at what their environments give.
        self._is_checked = type(env) in (SingleVecEnv, SyncVecEnv)
        self._step = env.step if self._is_checked else partial(step_watched, env)
        # A VecEnv of one's own may give the same array at each step.
        known = DummyVecEnv | SubprocVecEnv | GymnasiumVecEnv | TurnTakingVecEnv
        self._gives_its_own = not isinstance(source, known)

    @property
    def first_env_index(self) -> int:
        """Index of the first environment that is to act."""
        return self._turns.first_env_index if self._turns is not None else 0

    def to_act_on(self, obs: Observation) -> Observation:
        """
        Return what the environments see that act next.

        :param obs: What all of them saw last, shape (n_envs, ...).
        :return: The same; of environments that take turns, that of those whose turn it is.
        """
        return self._turns.obs if self._turns is not None else obs

    def kept(self, obs: Observation) -> Observation:
        """
        Copy observations that the environment may overwrite with its next ones.

        :param obs: Observations, shape (n_envs, ...).
        :return: The same; copies of those of a ``VecEnv`` of one's own.
        """
        return each_part(np.copy, obs) if self._gives_its_own else obs

    @property
    def masks_to_act_on(self) -> np.ndarray | None:
        """Which actions are possible where it is to act, shape (n, n_actions); None for all."""
        if self._turns is None or self.action_masks is None:
            return self.action_masks
        return self.action_masks[self._turns.rows]

    def step(
        self, obs: Observation, actions: np.ndarray, step: int
    ) -> tuple[Transition, list[dict[str, Any]]]:
        """
        Step the environments. Where they take turns, the transitions are those of the ones before.

        :param obs: Observations to act on, shape (n_envs, ...).
        :param actions: Actions, shape (n_envs,), int64.
        :param step: Environment steps done after this one, over all environments, for messages.
        :return: The transitions, and what the environments say about them.
        :raises EnvironmentStepError: If one of the environments fails.
        :raises MalformedTransitionError: If one of them gives something of another form than the
            space says.
        :raises ValueError: If the last observation of a truncated episode is missing.
        """
        first = 0
        masks: tuple[np.ndarray | None, ...] = ()
        try:
            if self._turns is not None:
                first, obs, actions, result, valid, begun = self._turns.exchange(actions)
                new_obs, rewards, dones, infos = result
            else:
                new_obs, rewards, dones, infos = self._step(actions)
                new_obs = self.kept(new_obs)  # type: ignore[arg-type]
                valid, begun = self._every_row, None
            if not self._is_checked:
                rewards, dones = np.asarray(rewards), np.asarray(dones)
                raise_if_malformed(new_obs, rewards, dones, self._space)  # type: ignore[arg-type]
                rewards = rewards.astype(np.float32, copy=False)
                dones = dones.astype(np.bool_, copy=False)
        except MalformedTransitionError as error:
            error.step = step
            raise
        except Exception as error:
            raise environment_failure(self.env, error, actions, step) from error
        try:
            next_obs, terminated = true_next_observation(new_obs, dones, infos)  # type: ignore[arg-type]
            if next_obs is not new_obs and not self._is_checked:
                raise_if_malformed(next_obs, None, None, self._space)
        except MalformedTransitionError as error:
            error.step = step
            raise
        if self._source is None:
            begun = None if next_obs is new_obs else dones
        elif self._turns is None:
            valid, begun = self._source.valid, self._source.begun
        # Where there were no masks at the reset, a look now and then is enough.
        looks = self.action_masks is not None or self._is_first or next_obs is not new_obs
        if looks and self._masks is not None:
            self._is_first = False
            try:
                before = self.action_masks
                if self._turns is not None and before is not None:
                    before = before[first : first + len(dones)]
                if self._turns is not None and begun is None and not valid.any():
                    masks = before, before, before  # these have just begun
                else:
                    following, now = self._masks.after_step(dones, begun, terminated, infos, first)
                    masks = before, following, now
                    self.action_masks = now if self._turns is None else self._put(now, first)
            except MalformedTransitionError as error:
                error.step = step
                raise
            except Exception as error:
                raise environment_failure(self.env, error, actions, step) from error
        transition = Transition(
            obs,
            actions,
            rewards,
            next_obs,
            terminated,
            dones,
            new_obs,  # type: ignore[arg-type]
            valid,
            begun,
            first,
            *masks,
        )
        return transition, infos

    def _put(self, masks: np.ndarray | None, first: int) -> np.ndarray | None:
        """Put masks of some environments in the place of their earlier ones."""
        if masks is None or self.action_masks is None:
            return masks
        parts = self.action_masks[:first], masks, self.action_masks[first + len(masks) :]
        return np.concatenate(parts)


class _CountedReset:
    """Stands in for the ``reset`` of a ``VecEnv``."""

    def __init__(self, reset: Callable[..., Any]) -> None:
        self.reset, self.n = reset, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.n += 1
        return self.reset(*args, **kwargs)


def resets_of(env: VecEnv) -> int:
    """
    Count how often episodes were begun by a call, in all environments.

    :param env: The environments.
    :return: How often since the first time that this was asked.
    """
    source: Any = env.unwrapped
    if not isinstance(source.reset, _CountedReset):
        source.reset = _CountedReset(source.reset)
    return source.reset.n


def true_next_observation(
    new_obs: Observation, dones: np.ndarray, infos: list[dict[str, Any]]
) -> tuple[Observation, np.ndarray]:
    """
    Undo the automatic reset: find the observation that each transition really led to.

    A ``VecEnv`` resets an environment whose episode ended and returns the first observation of the
    next episode; the last one of the ended episode is in ``infos``.

    :param new_obs: Observations that ``VecEnv.step`` returned. Left as they are.
    :param dones: Whether each episode ended, shape (n_envs,), bool.
    :param infos: Information dictionaries that ``VecEnv.step`` returned.
    :return: The next observations, and whether each one is terminal, shape (n_envs,), bool. A
        time limit ends an episode without making its last observation terminal.
    :raises ValueError: If an episode was truncated and its last observation is missing, since
        nothing is then known to bootstrap from.
    :raises MalformedTransitionError: If a last observation has another shape.
    """
    if True not in dones.tolist():
        return new_obs, dones
    terminated = dones.copy()
    next_obs: Observation = each_part(np.copy, new_obs)
    for env_index in np.flatnonzero(dones):
        info = infos[env_index]
        terminated[env_index] = not info.get("TimeLimit.truncated", False)
        last_obs = info.get("terminal_observation")
        if last_obs is None:
            if terminated[env_index]:
                continue
            raise ValueError(
                f"infos[{env_index}]: the episode was truncated, but 'terminal_observation' is "
                f"missing; the keys are {sorted(info)}. A VecEnv that resets by itself must put "
                "the last observation there, as Stable-Baselines3's DummyVecEnv does."
            )
        each_part(partial(_put_last, int(env_index)), next_obs, last_obs)
    return next_obs, terminated


def _put_last(env_index: int, values: np.ndarray, last_obs: Any) -> None:
    if np.shape(last_obs) != values.shape[1:]:  # NumPy would repeat a single number
        raise MalformedTransitionError(
            "last observation",
            env_index,
            f"shape {np.shape(last_obs)}",
            f"of shape {values.shape[1:]}",
        )
    values[env_index] = last_obs


def raise_if_malformed(
    obs: Observation,
    rewards: np.ndarray | None,
    dones: np.ndarray | None,
    space: spaces.Space[Any],
) -> None:
    """
    Refuse what is not of the form that the observation space promises.

    :param obs: Observations, one per environment.
    :param rewards: Rewards, one per environment; None at a reset.
    :param dones: Whether the episodes ended, one per environment; None at a reset.
    :param space: The observation space.
    :raises MalformedTransitionError: If a shape is another one, something is no real number, or a
        number is none of those that a space counts.
    """
    named: dict[str, Any] = {"observation": (obs, space)}
    if isinstance(space, spaces.Dict):
        named = {f"observation {key!r}": (obs[key], space[key]) for key in space}
    for name, (values, part) in named.items():
        _raise_if_misshapen(name, values, part.shape or ())
        if not are_counted(values, part):
            env_index = next(i for i, each in enumerate(values) if not are_counted(each, part))
            received, expected = f"{values[env_index]}", f"an element of {part}"
            raise MalformedTransitionError(name, env_index, received, expected)
    if rewards is not None and dones is not None:
        _raise_if_misshapen("reward", rewards, ())
        _raise_if_misshapen("done flag", dones, ())


def _raise_if_misshapen(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape[1:] != shape or values.dtype.kind not in NUMBERS:
        raise MalformedTransitionError(
            name,
            0,
            f"shape {values.shape[1:]} of type {values.dtype}",
            f"shape {shape}, of real numbers",
        )

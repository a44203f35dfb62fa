"""Masks of possible actions: found in environments, read, and checked."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.core import ActType, ObsType
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from dqn_plugins.environments.gymnasium_vec_env import GymnasiumVecEnv
from dqn_plugins.errors import MalformedTransitionError
from dqn_plugins.policies.action_masks import NUMBERS
from dqn_plugins.wrappers.observing.infos import KEY, METHOD

__all__ = ["ActionMasks", "TellLastActionMask", "tell_last_action_mask"]

BOOL = np.dtype(np.bool_)


class TellLastActionMask(gym.Wrapper[ObsType, ActType, ObsType, ActType], RecordConstructorArgs):
    """
    Tells at an episode's end which actions are possible in its last observation.

    A vectorised environment resets within the step that ends an episode, and afterwards
    ``action_masks()`` is about the next one. To bootstrap at a time limit, the mask of the last
    observation is needed. Wrap environments in worker processes of your own in this;
    :func:`~dqn_plugins.make_vec_env` does so itself.

    :param env: An environment with a method ``action_masks``.
    """

    def __init__(self, env: gym.Env[ObsType, ActType]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._action_masks = env.get_wrapper_attr(METHOD)

    def step(self, action: ActType) -> Any:
        """
        Step the environment.

        :param action: The action.
        :return: What the environment returns, at an episode's end with ``info["action_mask"]``.
        """
        result = self.env.step(action)
        if result[2] or result[3]:
            result[4].setdefault(KEY, self._action_masks())
        return result


class ActionMasks:
    """
    Which actions are possible in the environments of a ``VecEnv``, if they tell.

    :param env: The environments, which have been reset.
    :param n_actions: Number of actions.
    """

    found: str | None = None
    """Where they were found, in words; None if there are none."""

    def __init__(self, env: VecEnv, n_actions: int) -> None:
        self._env, self._n_actions, self._shape = env.unwrapped, n_actions, (n_actions,)
        self._ask = self._method()
        if self._ask is not None:
            self.found = "the method action_masks()"
        elif any(self._told_at_reset(index) is not None for index in range(env.num_envs)):
            self.found = "info['action_mask']"

    def _method(self) -> Callable[[], Any] | None:
        """Find the method, and have environments of this process tell the last mask, too."""
        try:
            tell = [bool(each) for each in self._env.env_method("has_wrapper_attr", METHOD)]
        except (AttributeError, NotImplementedError, TypeError):  # no single ones can be asked
            return None
        if not all(tell):
            if any(tell):
                raise _malformed(
                    tell.index(False),
                    f"no method {METHOD}()",
                    "there in all environments or in none",
                )
            return None
        venv: Any = self._env.env.unwrapped if isinstance(self._env, GymnasiumVecEnv) else self._env
        if not isinstance(venv, DummyVecEnv | SyncVectorEnv):
            return lambda: self._env.env_method(METHOD)
        env_index = 0
        try:
            for env_index, env in enumerate(venv.envs):  # noqa: B007
                env.get_wrapper_attr(METHOD)()
        except NotImplementedError:  # of a class that leaves it to others
            return None
        except TypeError as error:
            raise _malformed(
                env_index,
                f"{METHOD} that cannot be called ({error})",
                "returned by a method without arguments",
            ) from error
        venv.envs = type(venv.envs)(tell_last_action_mask(env) for env in venv.envs)
        methods = [env.get_wrapper_attr(METHOD) for env in venv.envs]
        return lambda: [method() for method in methods]

    def _told_at_reset(self, index: int) -> Any:
        """Find what an environment told when it was reset; some tell None instead of nothing."""
        infos = getattr(self._env, "reset_infos", ())  # not all that is wrapped is a VecEnv
        return (infos[index] or {}).get(KEY) if index < len(infos) else None

    def at_first(self) -> np.ndarray | None:
        """
        Read which actions are possible after a reset.

        :return: Masks, shape (n_envs, n_actions), bool; None if the environments tell of none.
        :raises MalformedTransitionError: If one is of another form, or missing.
        """
        if self.found is None:
            return None
        return self._look([self._told_at_reset(index) for index in range(self._env.num_envs)])

    def now(self) -> np.ndarray | None:
        """
        Read which actions are possible in the middle of an episode.

        :return: The same, if there is a method to ask; None otherwise.
        """
        return None if self._ask is None else self._read(self._ask())

    def after_step(
        self,
        dones: np.ndarray,
        begun: np.ndarray | None,
        terminated: np.ndarray,
        infos: list[dict[str, Any]],
        first_env_index: int = 0,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """
        Read which actions are possible after a step.

        :param dones: Whether the episodes ended, shape (n,), bool.
        :param begun: Which episodes begin with what was returned, shape (n,), bool; None for none.
        :param terminated: Whether these are terminal states, shape (n,), bool.
        :param infos: What the environments say of the step.
        :param first_env_index: Index of the environment of the first row.
        :return: Masks of the observations that the step led to, and of those to act on next, shape
            (n, n_actions), bool; None if the environments tell of none.
        :raises MalformedTransitionError: If a mask is of another form, missing, or not the one that
            is told otherwise.
        """
        if self.found is None:
            for row, info in enumerate(infos):
                if KEY in info or self._told_at_reset(first_env_index + row) is not None:
                    raise _malformed(
                        first_env_index + row,
                        "one in info['action_mask']",
                        "there at every reset and step, or never; at first it was not there",
                    )
            return None, None
        told = [info.get(KEY) for info in infos]
        if True not in dones.tolist():
            masks = self._look(told, first_env_index)
            return masks, masks
        last, resets, over = list(told), [], dones
        for row in np.flatnonzero(dones).tolist():
            if last[row] is None and terminated[row]:
                last[row] = np.zeros(self._n_actions, np.bool_)
            told[row] = last[row] if self._ask is None else told[row]
            if begun is not None and begun[row]:  # what was told is of the last observation
                resets.append(row)
                told[row] = self._told_at_reset(first_env_index + row)
        if begun is not None:
            over = dones & ~begun
        masks = self._look(told, first_env_index, over)
        next_masks = masks.copy() if resets else masks
        for row in resets:
            if last[row] is None:
                raise _malformed(
                    first_env_index + row,
                    "none of the last observation of an episode that was cut short",
                    "in info['action_mask'] then; wrap each environment in "
                    "dqn_plugins.TellLastActionMask, within its vectorised environment",
                )
            is_over = dones[row : row + 1]
            next_masks[row] = self._read([last[row]], first_env_index + row, is_over)[0]
        return next_masks, masks

    def _look(
        self, told: list[Any], first_env_index: int = 0, ended: np.ndarray | None = None
    ) -> np.ndarray:
        """Read what is told in ``info``, or ask, and refuse what ``info`` says otherwise."""
        if self._ask is None:
            return self._read(told, first_env_index, ended)
        masks = self._read(self._ask(), first_env_index, ended)
        for row, mask in enumerate(told):
            if mask is not None and not np.array_equal(masks[row], mask):
                raise _malformed(
                    first_env_index + row,
                    f"{np.asarray(mask).tolist()} in info['action_mask']",
                    f"{masks[row].astype(int).tolist()}, which action_masks() returned",
                )
        return masks

    def _read(
        self, told: Any, first_env_index: int = 0, ended: np.ndarray | None = None
    ) -> np.ndarray:
        """Check masks; where an episode has ended, nothing need be possible."""
        masks = np.empty((len(told), self._n_actions), np.bool_)
        for row, mask in enumerate(told):
            array = mask if type(mask) is np.ndarray else _as_array(mask)
            is_bool = array.dtype is BOOL
            if array.shape != self._shape or not (is_bool or array.dtype.kind in NUMBERS):
                raise self._another_form(mask, first_env_index + row)
            # Lists are quicker than NumPy for as few numbers as there are actions.
            numbers = array.tolist()
            n_possible = numbers.count(True)
            if not is_bool and n_possible + numbers.count(False) != self._n_actions:
                raise self._another_form(mask, first_env_index + row)
            if n_possible == 0 and (ended is None or not ended[row]):
                raise _malformed(
                    first_env_index + row,
                    "one without a possible action",
                    "one with a possible action, until the episode ends",
                )
            masks[row] = array
        return masks

    def _another_form(self, mask: Any, env_index: int) -> MalformedTransitionError:
        return _malformed(
            env_index,
            "none" if mask is None else f"{mask!r} of shape {_as_array(mask).shape}",
            f"an array of shape {self._shape} of True and False, or 1 and 0, at every reset and "
            f"step, in {self.found}",
        )


def tell_last_action_mask(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Have an environment tell its last mask, if it tells any; a ``Monitor`` stays outermost."""
    if isinstance(env, Monitor):
        env.env = tell_last_action_mask(env.env)
        return env
    if isinstance(env, TellLastActionMask) or not env.has_wrapper_attr(METHOD):
        return env
    return TellLastActionMask(env)


def _as_array(mask: Any) -> np.ndarray:
    try:
        return np.asarray(mask)
    except ValueError:  # lists of different lengths
        return np.asarray(mask, dtype=object)


def _malformed(env_index: int, received: str, expected: str) -> MalformedTransitionError:
    return MalformedTransitionError("action mask", env_index, received, expected)

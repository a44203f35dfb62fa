"""Gymnasium's vector environments as ``VecEnv``."""

import time
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
from typing_extensions import override

from dqn_plugins.wrappers.observing.infos import rows_of

__all__ = ["GymnasiumVecEnv", "each_part"]


class GymnasiumVecEnv(VecEnv):
    """
    A Gymnasium ``VectorEnv`` as one of Stable-Baselines3's, whichever way it resets itself.

    A ``VecEnv`` resets an environment within the step that ends its episode. With
    ``AutoresetMode.NEXT_STEP`` a vector environment does so in the step after, whose action it
    ignores: that row is no transition, and :attr:`valid` says so. With ``AutoresetMode.DISABLED``
    this class resets what ended.

    Like a ``Monitor``, it tells the return, length and time of each episode that ends, unless the
    environments tell them.

    :param env: The environments. They have to say in ``metadata["autoreset_mode"]`` how they reset
        themselves.
    :param observation_space: The space of each one's observations; None for that which they say.
    :raises ValueError: If they do not say how they reset themselves.
    """

    valid: np.ndarray
    """Which rows of the last step are transitions, shape (n_envs,), bool."""
    begun: np.ndarray | None
    """Which observations of the last step are the first of an episode, likewise; None for none."""

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        observation_space: spaces.Space[Any] | None = None,
    ) -> None:
        mode = env.metadata.get("autoreset_mode")
        try:
            self._mode = AutoresetMode(mode)
        except ValueError:
            raise ValueError(
                f"env: received {env}, whose metadata['autoreset_mode'] is {mode!r}; it must be "
                "one of gymnasium.vector.AutoresetMode. Set it in the class of the environment: "
                "it says which steps are transitions."
            ) from None
        self.env = env
        # One of one's own may give the same array at each step.
        self._has_to_copy = not getattr(env.unwrapped, "copy", self._gives_new_arrays)
        super().__init__(
            env.num_envs,
            observation_space or env.single_observation_space,
            env.single_action_space,
        )
        self._every_row = np.ones(self.num_envs, np.bool_)
        self._forget()

    def _forget(self) -> None:
        self.valid, self.begun = self._every_row, None
        self._ended = ~self._every_row
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._start_time = time.time()

    @property
    def processes(self) -> Sequence[Any]:
        """The processes that the environments run in; none if they run in this one."""
        return getattr(self.env.unwrapped, "processes", ())

    _gives_new_arrays = False

    def reset(self) -> Any:
        """Begin an episode in every environment."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError(
                f"options: received {self._options}, they must be the same for all environments "
                "of a Gymnasium VectorEnv. Pass one dictionary."
            )
        # One number: environments of one piece take no list, and the others count up from it, too.
        first_seed = self._seeds[0]
        seed = None if first_seed is None else int(first_seed)
        obs, infos = self._reset_env(seed, options or None)
        self.reset_infos = rows_of(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        self._forget()
        return deepcopy(obs) if self._has_to_copy else obs

    def _reset_env(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, Any]:
        return self.env.reset(seed=seed, options=options)

    @override
    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Finish the step, and tell of episodes that ended what a ``Monitor`` tells."""
        obs, rewards, terminations, truncations, infos = self.env.step(self._actions)
        rows = rows_of(infos, self.num_envs)
        return self._read(obs, rewards, terminations, truncations, rows)

    def _read(
        self,
        obs: Any,
        rewards: np.ndarray,
        terminations: np.ndarray,
        truncations: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> VecEnvStepReturn:
        if self._has_to_copy:
            obs = deepcopy(obs)
        dones = np.logical_or(terminations, truncations)
        self.valid, self.begun = self._every_row, None
        if self._mode is AutoresetMode.NEXT_STEP:
            if self._ended.any():
                self.valid, self.begun = ~self._ended, self._ended
            self._ended = dones
        elif dones.any():
            self.begun = dones
        self._returns += rewards
        self._lengths += 1
        if self.begun is not None and self._mode is AutoresetMode.NEXT_STEP:
            self._returns[self.begun], self._lengths[self.begun] = 0.0, 0
        ended = np.flatnonzero(dones).tolist()
        if ended:
            self._describe_episodes(ended, obs, truncations & ~terminations, infos)
            if self._mode is AutoresetMode.DISABLED:
                first_obs, first_infos = self._reset_env(None, {"reset_mask": dones})
                obs = each_part(partial(_with_rows, dones), obs, first_obs)
                for row, info in enumerate(rows_of(first_infos, self.num_envs)):
                    if dones[row]:
                        self.reset_infos[row] = info
        return obs, rewards, dones, infos

    def _describe_episodes(
        self, ended: list[int], obs: Any, cut_short: np.ndarray, infos: list[dict[str, Any]]
    ) -> None:
        """Tell of episodes that ended what a ``VecEnv`` with a ``Monitor`` tells."""
        elapsed = round(time.time() - self._start_time, 6)
        for row in ended:
            info = infos[row]
            last_obs = each_part(lambda part, row=row: part[row].copy(), obs)
            if self._mode is AutoresetMode.SAME_STEP:
                # What else is there is about the next episode.
                last_obs = info["final_obs"]
                self.reset_infos[row] = info
                info = infos[row] = dict(info["final_info"])
            info["terminal_observation"] = last_obs
            info["TimeLimit.truncated"] = bool(cut_short[row])
            if not isinstance(info.get("episode"), dict):
                episode_return, length = float(self._returns[row]), int(self._lengths[row])
                info["episode"] = {"r": round(episode_return, 6), "l": length, "t": elapsed}
            self._returns[row], self._lengths[row] = 0.0, 0

    def close(self) -> None:
        """Close the environments, also where the process of one has died."""
        if all(process.is_alive() for process in self.processes):
            self.env.close()
        else:
            # Of the dead one, whose pipe its siblings hold open, Gymnasium would await an answer.
            self.env.close(terminate=True)

    @override
    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        if hasattr(self.env.unwrapped, "get_attr"):
            values = self.env.unwrapped.get_attr(attr_name)
        else:
            values = [getattr(self.env, attr_name)] * self.num_envs
        return [values[index] for index in self._get_indices(indices)]

    def has_attr(self, attr_name: str) -> bool:
        """Tell whether all have an attribute. A worker process asked in vain would end."""
        if hasattr(self.env.unwrapped, "call"):
            return all(self.env_method("has_wrapper_attr", attr_name))
        return super().has_attr(attr_name)

    @override
    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        self._check_all(indices)
        self.env.unwrapped.set_attr(attr_name, [value] * self.num_envs)  # type: ignore[attr-defined]

    @override
    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        self._check_all(indices)
        call = self.env.unwrapped.call  # type: ignore[attr-defined]
        return list(call(method_name, *method_args, **method_kwargs))

    def _check_all(self, indices: VecEnvIndices) -> None:
        if list(self._get_indices(indices)) != list(range(self.num_envs)):
            raise NotImplementedError(
                f"indices: received {indices!r}, it must be None: a Gymnasium VectorEnv can only "
                "be asked as a whole. Take make_vec_env of Stable-Baselines3 to ask a single one."
            )

    @override
    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        # This class does what a monitor does.
        return [issubclass(Monitor, wrapper_class) for _ in self._get_indices(indices)]

    @override
    def get_images(self) -> Sequence[np.ndarray | None]:
        frames: Iterable[np.ndarray] | None = self.env.render()  # type: ignore[assignment]
        return [None] * self.num_envs if frames is None else list(frames)


def each_part(function: Callable[..., Any], *observations: Any) -> Any:
    """Do something with arrays of observations, or with each key's of dictionaries."""
    first = observations[0]
    if isinstance(first, dict):
        return {key: function(*(each[key] for each in observations)) for key in first}
    return function(*observations)


def _with_rows(rows: np.ndarray, values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Put rows of other values in the place of these."""
    result = values.copy()
    result[rows] = others[rows]
    return result

"""The observer, and what it looks at: one environment, or several of Gymnasium's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import logger
from gymnasium.core import ActType, ObsType
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from typing_extensions import override

from dqn_plugins.wrappers.observing.infos import masks_in
from dqn_plugins.wrappers.rewards.episode import RunningEpisode

__all__ = ["ObservedEnv", "ObservedVectorEnv", "Observer", "SharedReference"]


# What a copy refers to as it is
BY_REFERENCE = (type, FunctionType, BuiltinFunctionType)


class SharedReference:
    """
    What a copy of the environment's spec refers to instead of copying: a model on screen must stay
    the model in training and may hold the very environment that is copied, and a function may
    belong to a queue or a console, which cannot be copied.
    """

    def __init__(self, value: Any):
        self.value: Any = value.value if isinstance(value, SharedReference) else value

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedReference:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.value(*args, **kwargs)


class Observer:
    """
    The running episodes, and what a wrapper does when something happens in them. A wrapper inherits
    from a listener, which overrides the methods below, and from what looks at its kind of
    environment: :class:`ObservedEnv`, :class:`ObservedVectorEnv`, or ``ObservedVecEnv`` for those
    of Stable-Baselines3.
    """

    _episodes: list[RunningEpisode]
    #: What the agent sees at this moment, of all environments.
    _observations: Any = None
    #: What the environments told with it, one dictionary for each; of Gymnasium's, one for all.
    _infos: Any
    #: Whether to be told of each step, rather than of those that end episodes.
    _wants_every_step = True
    #: Whether an episode that ended has been followed by the next within the same step.
    _resets_within_step = False

    def _observe(self, gamma: float | None = None) -> None:
        n_envs = 1 if isinstance(self, gym.Env) else self.num_envs  # type: ignore[attr-defined]
        self._episodes = [RunningEpisode(gamma, index) for index in range(n_envs)]
        self._infos = [{}] * n_envs

    def _before_reset(self, indices: Sequence[int]) -> None:
        """Some environments are about to be reset, in the middle of an episode or not."""

    def _after_begin(self, indices: Sequence[int], when: str) -> None:
        """
        Episodes have begun: by a "reset", "after step" by themselves, or "in step", in place of a
        step, of which :meth:`_after_step` will tell as well.
        """

    def _after_step(self, ended: Sequence[int], infos: Any) -> None:
        """All environments have taken a step; these episodes, if any, are over with it."""

    def _after_failure(self, error: Exception) -> None:
        """An environment has raised this. There may be nobody left to close it."""

    def _before_close(self) -> None:
        """The environments are about to be closed."""

    def _as_number(self, reward: Any) -> float:
        """Take a reward for a number; one of several parts is none, which not all need it to be."""
        try:
            return float(np.asarray(reward, np.float64).item())
        except (TypeError, ValueError):
            return np.nan

    def close(self, **kwargs: Any) -> None:
        """
        Finish what is observed, and close the environments.

        :param kwargs: Passed on.
        """
        try:
            self._before_close()
        finally:
            super().close(**kwargs)  # type: ignore[misc]

    def _begin(
        self, indices: Sequence[int], seeds: Sequence[int | None] = (), when: str = "reset"
    ) -> None:
        for position, index in enumerate(indices):
            self._episodes[index].begin(seeds[position] if seeds else None)
        self._after_begin(indices, when)

    def _ask(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self._after_failure(error)
            raise

    def _add(
        self, rewards: Any, ends: Mapping[int, tuple[bool, bool]], begun: Sequence[int]
    ) -> None:
        """Count a step of several: which it terminated or truncated, which began one instead."""
        if begun:
            self._begin(begun, when="in step")
        numbers = np.asarray(rewards, dtype=np.float64)
        if numbers.ndim > 1:
            numbers = np.array([self._as_number(each) for each in rewards])
        for episode, reward in zip(self._episodes, numbers.tolist(), strict=True):
            if not begun or episode.environment not in begun:
                episode.add(reward)
        for index, (terminated, truncated) in ends.items():
            self._episodes[index].end(terminated, truncated)


class ObservedEnv(Observer, gym.Wrapper[ObsType, ActType, ObsType, ActType], RecordConstructorArgs):
    """Looks at one environment, and has its ``spec`` tell the arguments of the wrapper."""

    def __init__(self, env: gym.Env[ObsType, ActType], **arguments: Any):
        for name, value in arguments.items():
            is_copied = callable(value) and not isinstance(value, BY_REFERENCE)
            if value is not None and (name == "model" or is_copied):
                arguments[name] = SharedReference(value)
        RecordConstructorArgs.__init__(self, **arguments)
        gym.Wrapper.__init__(self, env)

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        self._before_reset((0,))
        self._observations, info = self._ask(self.env.reset, seed=seed, options=options)
        self._infos = (info,)
        self._begin((0,), (seed,))
        return self._observations, info

    @override
    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            self._after_failure(error)
            raise
        if terminated or truncated:  # an environment's own may be the same one at each step
            info = dict(info)
        self._observations, self._infos = observation, (info,)
        episode = self._episodes[0]
        ended: Sequence[int] = ()
        try:
            episode.add(float(reward))
        except (TypeError, ValueError):  # an array of one, too, which NumPy takes for no number
            episode.add(self._as_number(reward))
        if terminated or truncated:
            episode.end(bool(terminated), bool(truncated))
            ended = (0,)
        if ended or self._wants_every_step:
            self._after_step(ended, self._infos)
        return observation, reward, terminated, truncated, info


class ObservedVectorEnv(Observer, VectorWrapper[ObsType, ActType, ObsType, ActType, Any]):
    """Looks at Gymnasium's ``VectorEnv``, whichever way it resets itself."""

    def __init__(self, env: VectorEnv[ObsType, ActType, Any], **_: Any):
        VectorWrapper.__init__(self, env)
        mode = env.metadata.get("autoreset_mode")
        if mode is None:
            logger.warn(
                f"{env} does not say in metadata['autoreset_mode'] how it resets itself, so it is "
                "taken to do so in the step after an episode's last (AutoresetMode.NEXT_STEP)."
            )
            mode = AutoresetMode.NEXT_STEP
        self._mode = AutoresetMode(mode)
        self._resets_within_step = self._mode is AutoresetMode.SAME_STEP

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        mask = (options or {}).get("reset_mask")
        indices = list(range(self.num_envs)) if mask is None else np.flatnonzero(mask).tolist()
        self._before_reset(indices)
        self._observations, infos = self._ask(self.env.reset, seed=seed, options=options)
        self._infos = infos if mask is None else self._with_others(infos, indices)
        seeds: Any = seed
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + index for index in range(self.num_envs)]
        self._begin(indices, [seeds[index] for index in indices])
        return self._observations, infos

    def _with_others(self, infos: Any, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Keep what is known of environments that are not reset."""
        now, before = (masks_in(each, self.num_envs) for each in (infos, self._infos))
        return [now[i] if i in indices else told for i, told in enumerate(before)]

    @override
    def step(self, actions: ActType) -> tuple[ObsType, Any, Any, Any, dict[str, Any]]:
        results = self._ask(self.env.step, actions)
        self._observations, rewards, terminations, truncations, infos = results
        self._infos = infos
        begun: list[int] = []
        if self._mode is AutoresetMode.NEXT_STEP:
            begun = [episode.environment for episode in self._episodes if episode.over]
        over = np.logical_or(np.asarray(terminations), np.asarray(truncations))
        ended = np.flatnonzero(over).tolist()
        ends = {index: (bool(terminations[index]), bool(truncations[index])) for index in ended}
        self._add(rewards, ends, begun)
        self._after_step(ended, infos)
        if ended and self._resets_within_step:
            self._begin(ended, when="after step")
        return results  # type: ignore[no-any-return]

"""Environments that take turns: some step while others are learned from."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
from typing_extensions import override

from dqn_plugins.environments.gymnasium_vec_env import GymnasiumVecEnv, each_part
from dqn_plugins.learning.transition import Observation

__all__ = ["TurnTakingVecEnv"]


class Turn(NamedTuple):
    """The step of a group of environments: ``valid`` and ``begun`` are ``GymnasiumVecEnv``'s."""

    first_env_index: int
    obs: Observation
    actions: np.ndarray
    result: VecEnvStepReturn
    valid: np.ndarray
    begun: np.ndarray | None


class _Group:
    """Some of the environments, and what they are busy with."""

    def __init__(self, env: GymnasiumVecEnv, first_env_index: int) -> None:
        self.env = env
        self.first_env_index = first_env_index
        self.obs: Any = None
        self.actions: np.ndarray | None = None

    def begin(self, actions: np.ndarray) -> None:
        self.actions = actions
        self.env.step_async(actions)

    def finish(self) -> Turn:
        """Wait for the step. A group that has not begun one has nothing to learn from."""
        obs, actions, env = self.obs, self.actions, self.env
        if actions is None:
            n = env.num_envs
            nothing = np.zeros(n, np.bool_)
            infos: list[dict[str, Any]] = [{} for _ in range(n)]
            result: VecEnvStepReturn = obs, np.zeros(n, np.float32), nothing, infos
            actions = np.zeros(n, np.int64)
            return Turn(self.first_env_index, obs, actions, result, nothing, None)
        result = env.step_wait()
        self.obs, self.actions = result[0], None
        return Turn(self.first_env_index, obs, actions, result, env.valid, env.begun)


class TurnTakingVecEnv(VecEnv):
    """
    Groups of environments of which one is learned from while the next one steps.

    As a ``VecEnv`` it steps all groups together. :meth:`exchange` is the other way to step it:
    begin the step of one group, and finish that of the one before. The turns go round in order, so
    that a seed decides everything, however quick each group is.

    Only two groups are ever under way, so that the weights by which a group acts are at most two
    groups old when it is learned from. The others wait: the more environments act by the same
    weights, the less is learned from each of their transitions.

    :param groups: The groups, of one kind, at least two.
    """

    def __init__(self, groups: Sequence[GymnasiumVecEnv]) -> None:
        firsts = np.cumsum([0, *(group.num_envs for group in groups)]).tolist()
        self.groups = [_Group(env, first) for env, first in zip(groups, firsts, strict=False)]
        self._turn = 0
        one = groups[0]
        super().__init__(firsts[-1], one.observation_space, one.action_space)

    @property
    def valid(self) -> np.ndarray:
        """Which rows of the last step of all environments are transitions, (n_envs,), bool."""
        return np.concatenate([group.env.valid for group in self.groups])

    @property
    def begun(self) -> np.ndarray | None:
        """Which observations of that step are the first of an episode, likewise; None for none."""
        masks = [
            np.zeros(env.num_envs, np.bool_) if env.begun is None else env.begun
            for env in (group.env for group in self.groups)
        ]
        begun = np.concatenate(masks)
        return begun if begun.any() else None

    @property
    def first_env_index(self) -> int:
        """Index of the first environment of the group whose turn it is."""
        return self.groups[self._turn].first_env_index

    @property
    def rows(self) -> slice:
        """Which environments have their turn, among all of them."""
        first = self.first_env_index
        return slice(first, first + self.groups[self._turn].env.num_envs)

    @property
    def obs(self) -> Observation:
        """What the environments see whose turn it is to act, shape (n, ...)."""
        return self.groups[self._turn].obs  # type: ignore[no-any-return]

    def exchange(self, actions: np.ndarray) -> Turn:
        """Begin the step of the group whose turn it is, and finish that of the one before."""
        before = self.groups[self._turn - 1]
        self.groups[self._turn].begin(actions)
        self._turn = (self._turn + 1) % len(self.groups)
        return before.finish()

    @override
    def reset(self) -> Any:
        self._turn = 0
        for group in self.groups:
            group.finish()
            group.obs = group.env.reset()
        self.reset_infos = [info for group in self.groups for info in group.env.reset_infos]
        return each_part(_concatenated, *(group.obs for group in self.groups))

    def step_async(self, actions: np.ndarray) -> None:
        """Begin a step of all environments."""
        if any(group.actions is not None for group in self.groups):
            raise RuntimeError(
                "step: some of these environments are in the middle of a step that `learn` began. "
                "Call reset() first."
            )
        for group in self.groups:
            group.begin(actions[group.first_env_index :][: group.env.num_envs])

    @override
    def step_wait(self) -> VecEnvStepReturn:
        results = [group.finish().result for group in self.groups]
        obs, rewards, dones, infos = zip(*results, strict=True)
        all_infos = [info for part in infos for info in part]
        obs = each_part(_concatenated, *obs)
        return obs, np.concatenate(rewards), np.concatenate(dones), all_infos

    @override
    def close(self) -> None:
        for group in self.groups:
            group.env.close()

    @override
    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        return self._from_all(
            lambda group: group.env.seed(None if seed is None else seed + group.first_env_index)
        )

    @override
    def set_options(self, options: Any = None) -> None:
        for group in self.groups:
            group.env.set_options(options)

    @override
    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        values = self._from_all(lambda group: group.env.get_attr(attr_name))
        return [values[index] for index in self._get_indices(indices)]

    @override
    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        for group in self.groups:
            group.env.set_attr(attr_name, value, indices)

    @override
    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        return self._from_all(
            lambda group: group.env.env_method(
                method_name, *method_args, indices=indices, **method_kwargs
            )
        )

    @override
    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        wrapped = self._from_all(lambda group: group.env.env_is_wrapped(wrapper_class))
        return [wrapped[index] for index in self._get_indices(indices)]

    @override
    def get_images(self) -> Sequence[np.ndarray | None]:
        return self._from_all(lambda group: group.env.get_images())

    def _from_all(self, ask: Callable[[_Group], Sequence[Any]]) -> list[Any]:
        return [value for group in self.groups for value in ask(group)]


def _concatenated(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)

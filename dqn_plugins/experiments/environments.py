"""Environments of a run: arguments, wrappers, how many, normalisation, stacked frames."""

import importlib
import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, TypeAlias, get_args

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.core import ActType, ObsType
from rich.console import Console

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.hyperparameters import describe
from dqn_plugins.experiments.names import nearest_names
from dqn_plugins.experiments.running import check_at_least

if TYPE_CHECKING:
    from dqn_plugins.experiments.algorithms import Variant

__all__ = [
    "EnvironmentSettings",
    "MasksFromInfo",
    "TrainingEnvironment",
    "load_normalization",
    "make_environment",
    "policy_for",
    "preprocessed",
    "save_normalization",
    "say_imports",
]

WRAPPER_PACKAGES = (
    "gymnasium.wrappers",
    "stable_baselines3.common",
    "sb3_contrib.common",
    "dqn_plugins.wrappers",
)

Vectorization: TypeAlias = Literal["sync", "async", "envpool"]


@dataclass(frozen=True)
class EnvironmentSettings:
    """
    How an environment is made.

    :param env_kwargs: Keyword arguments of ``gymnasium.make``.
    :param wrappers: Wrappers around it, the innermost first: each a dotted name in one of
        :data:`WRAPPER_PACKAGES`, ``module:Name`` for one of your own, or a mapping from such a name
        to keyword arguments, as in RL Zoo.
    :param n_envs: Copies to learn from at the same time.
    :param vectorization: Whether they take turns in one process (``"sync"``), have one each
        (``"async"``) or are EnvPool's (``"envpool"``, for this package's algorithms and without
        wrappers). Episodes that are evaluated are Gymnasium's.
    :param normalize: Whether ``VecNormalize`` is around them, or its keyword arguments.
    :param frame_stack: Observations that are stacked by ``VecFrameStack``; 1 for none.
    """

    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[str | Mapping[str, Any], ...] = ()
    n_envs: int = 1
    vectorization: Vectorization = "sync"
    normalize: bool | Mapping[str, Any] = False
    frame_stack: int = 1

    def check(self) -> None:
        """Refuse what is out of its range, as far as that needs no environment."""
        check_at_least(self, n_envs=1, frame_stack=1)
        if self.vectorization not in get_args(Vectorization):
            raise SettingsError(
                f"vectorization: received {self.vectorization!r}, it must be one of "
                f"{get_args(Vectorization)}."
            )
        if self.vectorization == "envpool" and self.wrappers:
            raise SettingsError(
                "wrappers: EnvPool's environments take none. Pass --vectorization sync or async."
            )
        for name, kinds, example in (
            ("env_kwargs", Mapping, "{gravity: -5}"),
            ("normalize", (bool, Mapping), "true or {norm_reward: false}"),
            ("wrappers", (list, tuple), "[gymnasium.wrappers.TimeAwareObservation]"),
        ):
            if not isinstance(getattr(self, name), kinds):
                raise SettingsError(
                    f"{name}: received {getattr(self, name)!r}, it must be like {example}."
                )

    @property
    def named_wrappers(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Names of the wrappers with their keyword arguments."""
        mappings = (
            each if isinstance(each, Mapping) else {str(each): {}} for each in self.wrappers
        )
        return [(str(name), kwargs or {}) for each in mappings for name, kwargs in each.items()]

    def described(self) -> dict[str, Any]:
        """Return what differs from a plain environment, as JSON has it."""
        plain = EnvironmentSettings()
        return {
            name: describe(value, name)
            for name, value in asdict(self).items()
            if value != getattr(plain, name)
        }

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "EnvironmentSettings":
        """Read the settings by name out of a mapping that may hold others."""
        mine = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        if isinstance(mine.get("wrappers"), list):
            mine["wrappers"] = tuple(mine["wrappers"])
        return cls(**mine)


PLAIN = EnvironmentSettings()


def say_imports(
    environments: Collection[tuple[str, EnvironmentSettings]], console: Console
) -> None:
    """Say which modules will be imported because environments or wrappers are named after them."""
    names = {env_id for env_id, _ in environments} | {
        name for _, settings in environments for name, _ in settings.named_wrappers
    }
    modules = sorted({name.partition(":")[0] for name in names if ":" in name})
    if modules:
        line = f"Imports {', '.join(modules)}, as the settings ask."
        console.print(line, markup=False, soft_wrap=True)


def make_environment(
    env_id: str, settings: EnvironmentSettings = PLAIN, render_mode: str | None = None
) -> gym.Env[Any, Any]:
    """
    Make one environment with its wrappers.

    :param env_id: Its id in Gymnasium; ``"module:Name-v0"`` imports the module first.
    :param settings: Its arguments and wrappers.
    :param render_mode: None unless frames are wanted: environments that render step many times
        slower.
    :return: The environment.
    :raises SettingsError: If it cannot be made, or its actions are not discrete.
    """
    from dqn_plugins.environments import register_plugin

    try:
        register_plugin(env_id)
        if ":" in env_id:
            _import_own(env_id.partition(":")[0])
        try:
            env = gym.make(env_id, render_mode=render_mode, **settings.env_kwargs)
        except TypeError as error:
            # An environment without pictures need not have the argument.
            env = gym.make(env_id, **settings.env_kwargs)
            if render_mode is not None:
                env.close()
                raise SettingsError(
                    f"env: received {env_id!r}, which has no pictures ({error}). Give it the "
                    f"argument render_mode, and a render() for {render_mode!r}."
                ) from error
    except (gym.error.Error, ModuleNotFoundError, TypeError) as error:
        advice = "Pass the arguments that it takes, such as --env-kwargs level:1."
        if not isinstance(error, TypeError):
            hint = nearest_names(env_id.rpartition(":")[2], gym.registry)
            own = "For an environment of your own, pass 'its_module:ItsName-v0'."
            advice = f"{hint} {own}".strip()
        raise SettingsError(
            f"env: received {env_id!r}, which Gymnasium cannot make ({error}). {advice}"
        ) from error
    for name, arguments in settings.named_wrappers:
        cls = _wrapper_class(name)
        try:
            env = cls(env, **arguments)
        except Exception as error:
            raise SettingsError(
                f"wrappers: received {name!r}, which cannot be made ({error}). Pass the arguments "
                f"that it takes, such as {{{name}: {{argument: value}}}}."
            ) from error
    if not isinstance(env.action_space, spaces.Discrete):
        kind = "continuous" if isinstance(env.action_space, spaces.Box) else "not Discrete"
        space = env.action_space
        env.close()
        raise SettingsError(
            f"env: received {env_id!r}, whose actions are {kind}: {space}. The algorithms here "
            "choose among discrete actions: take an environment with a Discrete action space, such "
            "as 'LunarLander-v3', or pass --wrapper with one that offers a few fixed actions."
        )
    if render_mode == "rgb_array":
        from dqn_plugins.wrappers import EnlargeFrames

        env = EnlargeFrames(env)
    return env


def _import_own(module: str) -> Any:
    """Import a module, from the working directory if need be, where a command does not look."""
    if not module or module.startswith("."):
        raise ModuleNotFoundError(f"{module!r} is no name of a module")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] or os.getcwd() in sys.path:
            raise
        sys.path.append(os.getcwd())
        return importlib.import_module(module)


def _wrapper_class(name: str) -> Any:
    own_module, colon, own_name = name.partition(":")
    module, _, class_name = (own_module, "", own_name) if colon else name.rpartition(".")
    if not colon and not f"{module}.".startswith(tuple(f"{each}." for each in WRAPPER_PACKAGES)):
        raise SettingsError(
            f"wrappers: received {name!r}, it must be a dotted name in one of "
            f"{', '.join(WRAPPER_PACKAGES)}, or 'module:Name' for one of your own."
        )
    try:
        cls = getattr(_import_own(module), class_name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"wrappers: received {name!r}, which cannot be found ({error})."
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, gym.Wrapper)):
        raise SettingsError(f"wrappers: received {name!r}, it must be a gymnasium.Wrapper.")
    return cls


def preprocessed(venv: Any, settings: EnvironmentSettings, evaluating: bool) -> tuple[Any, Any]:
    """
    Normalise and stack what a ``VecEnv`` gives, in RL Zoo's order. For evaluating, statistics are
    only read, and rewards stay as they are. Return the ``VecEnv`` around it, and the
    ``VecNormalize`` in it or None.
    """
    from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

    normalization = None
    if settings.normalize is not False:
        arguments = {} if settings.normalize is True else dict(settings.normalize)
        if evaluating:
            arguments |= {"training": False, "norm_reward": False}
        venv = normalization = VecNormalize(venv, **arguments)
    if settings.frame_stack > 1:
        venv = VecFrameStack(venv, settings.frame_stack)
    return venv, normalization


class MasksFromInfo(gym.Wrapper[ObsType, ActType, ObsType, ActType]):
    """Tells which actions are possible as sb3-contrib asks for it, where ``info`` tells it."""

    def __init__(self, env: gym.Env[ObsType, ActType]) -> None:
        super().__init__(env)
        self._info: dict[str, Any] = {}

    @property
    def action_masks(self) -> Callable[[], Any]:
        """What ``info`` told last, as sb3-contrib's method; absent if nothing."""
        if "action_mask" not in self._info:
            raise AttributeError("action_masks")
        return lambda: self._info["action_mask"]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """Reset the environment, and note what it tells."""
        observation, self._info = self.env.reset(seed=seed, options=options)
        return observation, self._info

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment, and note what it tells."""
        observation, reward, terminated, truncated, self._info = self.env.step(action)
        return observation, reward, terminated, truncated, self._info


class TrainingEnvironment:
    """
    What a model learns from, with a log of its episodes.

    :param env_id: Id in Gymnasium.
    :param variant: What learns, and how its environment is made.
    :param log_file: Log of the episodes; of several environments one each, with a number.
    """

    def __init__(self, env_id: str, variant: "Variant", log_file: Path) -> None:
        from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

        from dqn_plugins.environments import make_vec_env
        from dqn_plugins.wrappers import EpisodeReward, VecEpisodeReward

        settings = variant.environment
        asks_for_masks = "use_masking" in signature(variant.kind.load_class().learn).parameters

        def make() -> gym.Env[Any, Any]:
            env = make_environment(env_id, settings)
            if asks_for_masks:
                env = MasksFromInfo(env)
                env.reset(seed=0)  # which shows whether there are any
            return env

        # A single environment stays one: this package's algorithms are faster with it.
        is_plain = settings.normalize is False and settings.frame_stack == 1
        self.normalization: Any = None
        if settings.n_envs == 1 and is_plain and settings.vectorization != "envpool":
            self.env: Any = EpisodeReward(make(), window=100, log_file=log_file)
            self.rewards: Any = self.env
            return
        if settings.vectorization == "envpool":
            kwargs = dict(settings.env_kwargs)
            venv: Any = make_vec_env(env_id, settings.n_envs, "envpool", env_kwargs=kwargs)
        else:
            several = SubprocVecEnv if settings.vectorization == "async" else DummyVecEnv
            venv = several([make] * settings.n_envs)
        self.rewards = VecEpisodeReward(venv, window=100, log_file=log_file)
        self.env, self.normalization = preprocessed(self.rewards, settings, evaluating=False)
        if self.normalization is not None and "gamma" in variant.arguments:
            self.normalization.gamma = variant.arguments["gamma"]


def save_normalization(normalization: Any, path: Path) -> None:
    """Write what a ``VecNormalize`` knows of observations, to be read without unpickling."""
    parts = _statistics_of(normalization).items()
    means = {f"mean.{key}": each.mean for key, each in parts}
    np.savez(path, **means, **{f"var.{key}": each.var for key, each in parts})


def load_normalization(normalization: Any, path: Path) -> None:
    """Put what :func:`save_normalization` wrote into a ``VecNormalize``."""
    with np.load(path, allow_pickle=False) as content:
        for key, each in _statistics_of(normalization).items():
            each.mean, each.var = content[f"mean.{key}"], content[f"var.{key}"]


def _statistics_of(normalization: Any) -> dict[str, Any]:
    statistics = normalization.obs_rms
    return statistics if isinstance(statistics, dict) else {"": statistics}


def policy_for(observation_space: spaces.Space[Any]) -> str:
    """Name Stable-Baselines3's policy for what is observed: vectors, images or dictionaries."""
    from stable_baselines3.common.preprocessing import is_image_space

    if isinstance(observation_space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(observation_space) else "MlpPolicy"

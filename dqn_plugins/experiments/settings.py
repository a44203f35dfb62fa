"""What `train` and `compare` are asked alike, and the files it is read from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, get_type_hints

import numpy as np

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.environments import Vectorization
from dqn_plugins.experiments.hyperparameters import parse_value, read_yaml

__all__ = ["RunSettings", "Settings", "variants_in"]

Assignments: TypeAlias = Mapping[str, Any] | tuple[str | tuple[str, Any], ...] | str
"""Values by name: a mapping, or "NAME:VALUE" each, as they are typed. Read once, they are pairs."""

ENVIRONMENT_FLAGS = ("n_envs", "vectorization", "normalize", "frame_stack")


@dataclass(frozen=True)
class Settings:
    """Settings of a command. A program may pass text for paths, and one value for several."""

    def __post_init__(self) -> None:
        """Make what the fields say of what was given."""
        for name, hint in get_type_hints(type(self)).items():
            value, kind = getattr(self, name), str(hint)
            if value is None:
                continue
            if kind.startswith("tuple") and not isinstance(value, (list, tuple)):
                value = (value,)
            elif isinstance(value, list):
                value = tuple(value)
            elif isinstance(value, np.generic):  # which JSON does not have
                value = value.item()
            if "pathlib" in kind:
                is_one = not isinstance(value, tuple)
                value = Path(str(value)) if is_one else tuple(Path(str(each)) for each in value)
            object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """
    How models are made and what they learn from.

    :param algo: Algorithm or variant, by name.
    :param env: Environment, by its Gymnasium id.
    :param hp: Hyperparameter as NAME:VALUE, such as gamma:0.995 or policy_kwargs.net_arch:[64,64];
        of one algorithm of several as dqn.gamma:0.995. Repeat for more.
    :param zoo: File of hyperparameters in RL Zoo's format, named after its algorithm (dqn.yml),
        with a section for each environment; or "tuned" for those that come with RL Zoo and, for our
        algorithms, with this package. Repeat for more.
    :param env_kwargs: Argument of the environment as NAME:VALUE. Repeat for more.
    :param wrapper: Wrapper of the environment by name, such as
        gymnasium.wrappers.TimeAwareObservation, or my_module:MyWrapper. Repeat for more.
    :param n_envs: Environments to learn from at the same time.
    :param vectorization: How they run: one after the other (sync), each in a process of its own
        (async), or as EnvPool's (envpool).
    :param normalize: Whether observations and rewards go through VecNormalize. StreamQ normalises
        by itself.
    :param frame_stack: Number of observations that are stacked.
    :param tensorboard: Whether TensorBoard's files are written, into the folder of each run.
    """

    algo: Any
    env: Any
    hp: Assignments = ()
    zoo: tuple[Path, ...] = ()
    env_kwargs: Assignments = ()
    wrapper: tuple[str | Mapping[str, Any], ...] = ()
    n_envs: int | None = None
    vectorization: Vectorization | None = None
    normalize: bool | Mapping[str, Any] | None = None
    frame_stack: int | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Read what was typed as text."""
        super().__post_init__()
        wrappers = (
            parse_value(each) if isinstance(each, str) and each.startswith("{") else each
            for each in self.wrapper
        )
        object.__setattr__(self, "hp", self.hyperparameters)
        env_kwargs = dict(_pairs("env_kwargs", self.env_kwargs, "gravity:-5"))
        object.__setattr__(self, "env_kwargs", tuple(env_kwargs.items()))
        object.__setattr__(self, "wrapper", tuple(wrappers))

    @property
    def hyperparameters(self) -> tuple[tuple[str, Any], ...]:
        """Names and values of ``hp``."""
        return _pairs("hp", self.hp, "gamma:0.995")

    @property
    def environment(self) -> dict[str, Any]:
        """What was said of how environments are made, by the names of EnvironmentSettings."""
        env_kwargs = dict(_pairs("env_kwargs", self.env_kwargs, "gravity:-5"))
        given = {"env_kwargs": env_kwargs, "wrappers": self.wrapper}
        given |= {name: getattr(self, name) for name in ENVIRONMENT_FLAGS}
        return {name: value for name, value in given.items() if value not in (None, {}, ())}


def _pairs(flag: str, given: Assignments, example: str) -> tuple[tuple[str, Any], ...]:
    pairs = []
    given = (given,) if isinstance(given, str) else given
    entries: Iterable[Any] = given.items() if isinstance(given, Mapping) else given
    for entry in entries:
        name, colon, text = entry.partition(":") if isinstance(entry, str) else (entry[0], ":", "")
        if not colon or not all(name.strip().split(".")):
            raise SettingsError(f"{flag}: received {entry!r}, it must be like {example}.")
        pairs.append((name.strip(), parse_value(text) if isinstance(entry, str) else entry[1]))
    return tuple(pairs)


def variants_in(path: Path | None) -> dict[str, Mapping[str, Any]]:
    """
    Read variants by name from a YAML file, if one is given: under ``algorithms``, mappings with the
    key ``algorithm``, whose other entries are hyperparameters, settings of the environment, ``zoo``
    and ``environments``.

    :raises SettingsError: If it cannot be read.
    """
    variants = {} if path is None else read_yaml(path).get("algorithms") or {}
    if not isinstance(variants, Mapping):
        raise SettingsError(
            f"config: {path}: algorithms holds {variants!r}, it must be a mapping, such as "
            "'algorithms: {my_dqn: {algorithm: dqn}}'. For algorithms with their defaults, write "
            "'algo: [dqn, ppo]'."
        )
    for name, variant in variants.items():
        if not isinstance(name, str) or not isinstance(variant, (dict, type(None))):
            raise SettingsError(
                f"config: {path}: {name!r} under algorithms holds {variant!r}, it must be a "
                "mapping, such as '{algorithm: dqn, learning_rate: 1e-3}'."
            )
    return {name: variant or {} for name, variant in variants.items()}

"""What `train` and `compare` are asked alike, and the files it is read from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.environments import EnvironmentSettings, Vectorization
from dqn_plugins.experiments.hyperparameters import parse_value, read_yaml
from dqn_plugins.experiments.names import nearest_names

__all__ = ["RunSettings", "read_settings", "variants_in"]

Settings = TypeVar("Settings")
Assignments: TypeAlias = Mapping[str, Any] | tuple[str | tuple[str, Any], ...]
"""Values by name: a mapping, or "NAME:VALUE" each, as they are typed. Read once, they are pairs."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
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
    :param vectorization: Whether these take turns (sync), have a process each (async) or are
        EnvPool's (envpool).
    :param normalize: Whether observations and rewards go through VecNormalize. StreamQ normalises
        by itself.
    :param frame_stack: Observations that are stacked.
    :param tensorboard: Whether TensorBoard's files are written, into the folder of each run.
    """

    algo: Any
    env: Any
    hp: Assignments = ()
    zoo: tuple[Path, ...] = ()
    env_kwargs: Assignments = ()
    wrapper: tuple[str | Mapping[str, Any], ...] = ()
    n_envs: int = 1
    vectorization: Vectorization = "sync"
    normalize: bool = False
    frame_stack: int = 1
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Read what was typed as text."""
        wrappers = (
            parse_value(each) if isinstance(each, str) and each.startswith("{") else each
            for each in self.wrapper
        )
        object.__setattr__(self, "hp", self.hyperparameters)
        object.__setattr__(self, "env_kwargs", tuple(self.environment.env_kwargs.items()))
        object.__setattr__(self, "wrapper", tuple(wrappers))

    @property
    def hyperparameters(self) -> tuple[tuple[str, Any], ...]:
        """Names and values of ``hp``."""
        return _pairs("hp", self.hp, "gamma:0.995")

    @property
    def environment(self) -> EnvironmentSettings:
        """How environments are made where a variant says nothing else."""
        return EnvironmentSettings(
            dict(_pairs("env_kwargs", self.env_kwargs, "gravity:-5")),
            self.wrapper,
            self.n_envs,
            self.vectorization,
            self.normalize,
            self.frame_stack,
        )


def _pairs(flag: str, given: Assignments, example: str) -> tuple[tuple[str, Any], ...]:
    pairs = []
    entries: Iterable[Any] = given.items() if isinstance(given, Mapping) else given
    for entry in entries:
        name, colon, text = entry.partition(":") if isinstance(entry, str) else (entry[0], ":", "")
        if not colon or not all(name.strip().split(".")):
            raise SettingsError(f"{flag}: received {entry!r}, it must be such as {example}.")
        pairs.append((name.strip(), parse_value(text) if isinstance(entry, str) else entry[1]))
    return tuple(pairs)


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """
    Read settings from a YAML file.

    Its keys are the arguments of the settings, all of them optional, those that may be repeated
    being one value or a list, and ``algorithms``, see :func:`variants_in`. Keys that begin with
    ``x-`` are skipped: anchors can be kept there.

    :param path: The file.
    :param kind: Class of the settings.
    :return: The settings.
    :raises SettingsError: If it cannot be read, a key is unknown or a value of another kind.
    """
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    content: dict[str, Any] = {}
    for key, value in read_yaml(path).items():
        if str(key).startswith("x-") or key == "algorithms":
            continue
        if key not in known or key in ("variants", "config"):
            hint = nearest_names(str(key), [*known, "algorithms"])
            raise SettingsError(f"config: received {key!r} in {path}, which is no setting.{hint}")
        default = known[key].default
        if isinstance(default, tuple) and not isinstance(value, Mapping):
            listed = value if isinstance(value, list) else [value]
            value = tuple(each if isinstance(each, Mapping) else str(each) for each in listed)
            value = tuple(map(Path, value)) if key == "zoo" else value
        elif isinstance(default, Path):
            value = Path(str(value))
        elif isinstance(default, (bool, str)) and not isinstance(value, type(default)):
            raise SettingsError(
                f"config: {path}: {key}: received {value!r}, it must be such as {default!r}."
            )
        content[key] = value
    return kind(**{**content, "variants": variants_in(path)})


def variants_in(path: Path) -> dict[str, Mapping[str, Any]]:
    """
    Read variants from a YAML file: under ``algorithms``, mappings with the key ``algorithm``, whose
    other entries are hyperparameters, settings of the environment, ``zoo`` and ``environments``.

    :param path: The file.
    :return: Variants by name.
    :raises SettingsError: If it cannot be read.
    """
    variants = read_yaml(path).get("algorithms") or {}
    if not isinstance(variants, Mapping):
        raise SettingsError(
            f"config: {path}: algorithms holds {variants!r}, it must be a mapping, such as "
            "'algorithms: {my_dqn: {algorithm: dqn}}'. Algorithms as they come are named by "
            "'algo: [dqn, ppo]'."
        )
    for name, variant in variants.items():
        if not isinstance(name, str) or not isinstance(variant, (dict, type(None))):
            raise SettingsError(
                f"config: {path}: {name!r} under algorithms holds {variant!r}, it must be a "
                "mapping, such as '{algorithm: dqn, learning_rate: 1e-3}'."
            )
    return {name: variant or {} for name, variant in variants.items()}

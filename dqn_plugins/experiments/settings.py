"""What `train` and `compare` are asked alike, and the files it is read from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.environments import EnvironmentSettings, Vectorization
from dqn_plugins.experiments.hyperparameters import parse_value, read_yaml
from dqn_plugins.experiments.names import nearest_names

__all__ = ["RunSettings", "read_settings", "variants_in"]

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """
    How models are made and what they learn from.

    :param algo: Algorithm or variant, by name.
    :param env: Environment, by its Gymnasium id.
    :param hp: Hyperparameter as NAME:VALUE, such as gamma:0.995 or policy_kwargs.net_arch:[64,64];
        of one algorithm of several as dqn.gamma:0.995. Repeat for more.
    :param zoo: File of hyperparameters in RL Zoo's format, named after its algorithm (dqn.yml),
        with a section for each environment. Repeat for more.
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
    hp: tuple[str, ...] = ()
    zoo: tuple[Path, ...] = ()
    env_kwargs: tuple[str, ...] = ()
    wrapper: tuple[str, ...] = ()
    n_envs: int = 1
    vectorization: Vectorization = "sync"
    normalize: bool = False
    frame_stack: int = 1
    tensorboard: bool = False

    @property
    def environment(self) -> EnvironmentSettings:
        """How environments are made where a variant says nothing else."""
        env_kwargs = {}
        for flag in self.env_kwargs:
            name, colon, value = flag.partition(":")
            if not colon:
                raise SettingsError(
                    f"env_kwargs: received {flag!r}, it must be such as gravity:-5."
                )
            env_kwargs[name.strip()] = parse_value(value)
        return EnvironmentSettings(
            env_kwargs,
            tuple(parse_value(each) if each.startswith("{") else each for each in self.wrapper),
            self.n_envs,
            self.vectorization,
            self.normalize,
            self.frame_stack,
        )


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
        if isinstance(default, tuple):
            listed = value if isinstance(value, list) else [value]
            if isinstance(value, Mapping):
                listed = [f"{name}:{_as_text(entry)}" for name, entry in value.items()]
            entries = (each if isinstance(each, str) else _as_text(each) for each in listed)
            value = tuple(map(Path, entries)) if key == "zoo" else tuple(entries)
        elif isinstance(default, Path):
            value = Path(str(value))
        elif isinstance(default, (bool, str)) and not isinstance(value, type(default)):
            raise SettingsError(
                f"config: {path}: {key}: received {value!r}, it must be such as {default!r}."
            )
        content[key] = value
    return kind(**{**content, "variants": variants_in(path)})


def _as_text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


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

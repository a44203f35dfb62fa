"""Algorithms by name: this package's, Stable-Baselines3's, and what to hold them against."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import gymnasium as gym

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.environments import EnvironmentSettings, policy_for
from dqn_plugins.experiments.hyperparameters import (
    build,
    describe,
    parse_value,
    zoo_hyperparameters,
)
from dqn_plugins.experiments.names import is_file_safe, nearest_names

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Variant",
    "check_flags",
    "load_model",
    "make_model",
    "resolve",
]

# What a study or a training run settles itself, or what changes no result.
NOT_HYPERPARAMETERS = {"self", "env", "seed", "settings", "verbose", "tensorboard_log", "device"}
NOT_HYPERPARAMETERS |= {"stats_window_size", "_init_setup_model", "n_envs", "vectorization"}
ENVIRONMENT_SETTINGS = frozenset(each.name for each in fields(EnvironmentSettings))


@dataclass(frozen=True)
class Algorithm:
    """
    An algorithm that has a name here.

    :param module: Module of its class.
    :param class_name: Name of its class, which has Stable-Baselines3's signature.
    :param hyperparameters: Keyword arguments that make it what its name says.
    :param cost: Microseconds per environment step, roughly: what is to be begun first, so that a
        study does not end with one long cell and idle workers.
    :param sign: Attribute that saved models of its class have, and those of later entries have not.
    :param has_q_values: Whether videos can show what it thinks of each action.
    """

    module: str
    class_name: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 100.0
    sign: str = ""
    has_q_values: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether it is this package's."""
        return self.module.startswith("dqn_plugins")

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.module.partition(".")[0]) is not None

    def load_class(self) -> Any:
        """Import its class."""
        return getattr(import_module(self.module), self.class_name)


ALGORITHMS: dict[str, Algorithm] = {
    "stream_q": Algorithm("dqn_plugins", "StreamQ", cost=100, sign="trace_decay"),
    "naive_dqn": Algorithm("dqn_plugins", "NaiveDQN", cost=60, sign="q_step_size"),
    "pqn": Algorithm("dqn_plugins", "PQN", cost=60, sign="q_lambda"),
    "qrdqn": Algorithm("sb3_contrib", "QRDQN", cost=1_500, sign="quantile_net"),
    "dqn": Algorithm("stable_baselines3", "DQN", cost=1_000, sign="target_update_interval"),
    # Learns from each transition once, as it arrives: what remains of DQN without its buffer.
    "dqn1": Algorithm(
        "stable_baselines3",
        "DQN",
        {
            "buffer_size": 1,
            "batch_size": 1,
            "learning_starts": 0,
            "train_freq": 1,
            "gradient_steps": 1,
        },
        cost=1_500,
    ),
    "ppo": Algorithm("stable_baselines3", "PPO", {}, 600, "clip_range", has_q_values=False),
    "a2c": Algorithm("stable_baselines3", "A2C", {}, 600, "gae_lambda", has_q_values=False),
    "random": Algorithm(
        "dqn_plugins.experiments.random_policy", "RandomPolicy", {}, 30, "acting", False
    ),
}
"""Algorithms by name."""


@dataclass(frozen=True)
class Variant:
    """
    An algorithm with all that was chosen for it on one environment, under a name of its own.

    :param name: Its name in folders, tables and charts.
    :param algorithm: Name of its algorithm, a key of :data:`ALGORITHMS`.
    :param hyperparameters: Keyword arguments for the algorithm, as YAML or Python has them.
    :param environment: How its environments are made.
    """

    name: str
    algorithm: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    environment: EnvironmentSettings = field(default_factory=EnvironmentSettings)

    @property
    def class_name(self) -> str:
        """Name of the algorithm's class."""
        return ALGORITHMS[self.algorithm].class_name

    @property
    def arguments(self) -> dict[str, Any]:
        """All keyword arguments that were chosen for the algorithm, as the algorithm takes them."""
        built: dict[str, Any] = build(self.hyperparameters)
        if isinstance(built.get("train_freq"), list):  # YAML has no tuples
            built["train_freq"] = tuple(built["train_freq"])
        return {**ALGORITHMS[self.algorithm].hyperparameters, **built}

    def described(self, env: gym.Env[Any, Any]) -> dict[str, Any]:
        """
        Describe all that decides what it learns, also what was left at its default.

        :param env: The environment, on which the policy depends.
        :return: Readable values by name.
        """
        cls = ALGORITHMS[self.algorithm].load_class()
        values = {**_defaults(cls), "policy": policy_for(env.observation_space), **self.arguments}
        policy = cls.policy_aliases.get(values["policy"], values["policy"])
        values["policy_kwargs"] = {**_defaults(policy), **(values.get("policy_kwargs") or {})}
        described: dict[str, Any] = describe(values, self.name)
        return {**described, **self.environment.described()}


def _defaults(cls: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in signature(cls.__init__).parameters.items()
        if name not in NOT_HYPERPARAMETERS and parameter.default is not Parameter.empty
    }


def _parameters(algorithm: str) -> set[str]:
    names = {*signature(ALGORITHMS[algorithm].load_class().__init__).parameters}
    return names - NOT_HYPERPARAMETERS | {"device"}


def resolve(
    name: str,
    env_id: str,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    environment: EnvironmentSettings | None = None,
    zoo: Iterable[Path] = (),
    hp: Sequence[str] = (),
) -> Variant:
    """
    Find what a name stands for on an environment. Later sources override earlier ones: the
    algorithm's defaults, RL Zoo's file, the variant, its entry for the environment, flags.

    :param name: Name of an algorithm or of a variant.
    :param env_id: Id of the environment.
    :param variants: Variants by name: each a mapping with the key "algorithm", whose other entries
        are hyperparameters or settings of the environment, with "zoo" for one of RL Zoo's files and
        "environments" for entries that hold on one environment only.
    :param environment: How environments are made where nothing else is said.
    :param zoo: RL Zoo's files for algorithms by these names, such as ``dqn.yml``.
    :param hp: Flags such as "gamma:0.995", or "dqn.gamma:0.995" for one algorithm.
    :return: The variant.
    :raises SettingsError: If the name is unknown, with the nearest ones; if a hyperparameter is; or
        if a package is missing.
    """
    variants = variants or {}
    chosen = dict(variants.get(name, {}))
    algorithm = str(chosen.pop("algorithm", name))
    where = f"algorithm of {name!r}" if name in variants else "algo"
    if not is_file_safe(name):
        raise SettingsError(
            f"algo: received {name!r}, the name is also a folder's: use letters, digits, '.', "
            "'_', '+' and '-'."
        )
    if algorithm not in ALGORITHMS:
        known = [each for each in ALGORITHMS if ALGORITHMS[each].is_installed]
        raise _unknown(where, algorithm, known if name in variants else [*variants, *known])
    if not ALGORITHMS[algorithm].is_installed:
        package = ALGORITHMS[algorithm].module.replace("_", "-")
        raise SettingsError(
            f"{where}: received {algorithm!r}, which is in {package}, and that is not installed. "
            f"Run `pip install {package}`."
        )
    files = [Path(chosen.pop("zoo"))] if "zoo" in chosen else []
    files += [path for path in zoo if path.stem in (name, algorithm)]
    here = (chosen.pop("environments", None) or {}).get(env_id) or {}
    sources = [zoo_hyperparameters(path, env_id) for path in files[:1]]
    values: dict[str, Any] = {}
    for source in (*sources, chosen, here):
        values |= source
    for flag in hp:
        _set_by_flag(values, flag, name, algorithm)
    shared = {} if environment is None else asdict(environment)
    made = EnvironmentSettings.from_mapping({**shared, **values})
    made.check()
    hyperparameters = {
        key: value for key, value in values.items() if key not in ENVIRONMENT_SETTINGS
    }
    variant = Variant(name, algorithm, hyperparameters, made)
    if made.vectorization == "envpool":
        _check_envpool(variant, env_id)
    _check_hyperparameters(variant)
    return variant


def _check_envpool(variant: Variant, env_id: str) -> None:
    from dqn_plugins.environments.making import load_envpool

    if not ALGORITHMS[variant.algorithm].is_ours:
        raise SettingsError(
            f"vectorization: received 'envpool' for {variant.name!r}. {variant.class_name} would "
            "learn from EnvPool's resets, too, which are no steps. Pass it for others only, such "
            "as --hp stream_q.vectorization:envpool."
        )
    try:
        load_envpool(env_id)
    except (ValueError, ModuleNotFoundError) as error:
        raise SettingsError(str(error)) from error


def _set_by_flag(values: dict[str, Any], flag: str, name: str, algorithm: str) -> None:
    path, colon, text = flag.partition(":")
    keys = path.split(".")
    if not colon or not all(keys):
        raise SettingsError(f"hp: received {flag!r}, it must be such as gamma:0.995.")
    allowed = _parameters(algorithm) | ENVIRONMENT_SETTINGS
    if keys[0] in (name, algorithm) and len(keys) > 1:
        keys = keys[1:]
    elif keys[0] not in allowed:
        return  # another algorithm's, see check_flags
    for key in keys[:-1]:
        inner = values.get(key)
        values[key] = dict(inner) if isinstance(inner, Mapping) else {}
        values = values[key]
    values[keys[-1]] = parse_value(text)


def check_flags(hp: Sequence[str], variants: Iterable[Variant]) -> None:
    """
    See that each flag reached an algorithm.

    :param hp: Flags such as "gamma:0.995".
    :param variants: What they may be meant for.
    :raises SettingsError: If one is a hyperparameter of none, with the nearest names.
    """
    names = {name for each in variants for name in (each.name, each.algorithm)}
    known = set(ENVIRONMENT_SETTINGS).union(*(_parameters(each.algorithm) for each in variants))
    for flag in hp:
        first = flag.partition(":")[0].partition(".")[0]
        if first not in names | known:
            raise SettingsError(
                f"hp: received {flag!r}, but no algorithm here has {first!r}."
                f"{nearest_names(first, names | known)}"
            )


def _check_hyperparameters(variant: Variant) -> None:
    for key, value in variant.hyperparameters.items():
        if str(key).endswith("_kwargs") and isinstance(value, str):
            raise SettingsError(
                f"{key} of {variant.name!r}: received {value!r}, it must be a mapping, such as "
                f"'{key}: {{net_arch: [64, 64]}}'."
            )
    allowed = _parameters(variant.algorithm)
    for key in variant.arguments:
        if key not in allowed:
            raise SettingsError(
                f"hyperparameters of {variant.name!r}: received {key!r}, which "
                f"{variant.class_name} does not have."
                f"{nearest_names(str(key), allowed | ENVIRONMENT_SETTINGS)}"
            )


def make_model(variant: Variant, env: Any, seed: int, tensorboard_log: str | None = None) -> Any:
    """
    Make an untrained model.

    :param variant: What to make.
    :param env: The environment, or Stable-Baselines3's ``VecEnv``, to learn from.
    :param seed: Seed of everything random.
    :param tensorboard_log: Folder of TensorBoard's files; None for none.
    :return: A model with ``learn``, ``predict`` and ``save``.
    :raises SettingsError: If the algorithm refuses a hyperparameter.
    """
    arguments = variant.arguments
    policy = arguments.pop("policy", policy_for(env.observation_space))
    # Workers side by side on one GPU would get in each other's way, and CPU seconds could not be
    # compared.
    arguments.setdefault("device", "cpu")
    cls = ALGORITHMS[variant.algorithm].load_class()
    try:
        return cls(policy, env, seed=seed, tensorboard_log=tensorboard_log, **arguments)
    except (ValueError, TypeError, AssertionError) as error:
        raise SettingsError(f"{variant.name}: {error}") from error


def load_model(path: Path, algorithm: str | None = None, env: Any = None) -> Any:
    """
    Load a saved model of any of the algorithms. What is loaded is unpickled, which can run code.

    :param path: The file that ``save`` wrote, or the folder of a cell or of a training run.
    :param algorithm: Name of the algorithm; None to find out.
    :param env: An environment to go on learning from; None if the model shall only predict.
    :return: The model.
    :raises SettingsError: If the name is unknown, or there is no such file.
    """
    file = path / "model.zip" if path.is_dir() else path
    if not file.exists() and file.with_name(file.name + ".zip").exists():
        file = file.with_name(file.name + ".zip")
    if not file.is_file():
        raise SettingsError(f"model: {file} is not there. Pass a file that `save` wrote.")
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise _unknown("algo", algorithm, ALGORITHMS)
    cls = ALGORITHMS[algorithm or _algorithm_of(file)].load_class()
    return cls.load(file, env=env, device="cpu")


def _unknown(where: str, algorithm: str, known: Iterable[str]) -> SettingsError:
    hint = nearest_names(algorithm, known)
    return SettingsError(f"{where}: received {algorithm!r}, there is no such algorithm.{hint}")


def _algorithm_of(file: Path) -> str:
    from stable_baselines3.common.save_util import load_from_zip_file

    try:
        data, _, _ = load_from_zip_file(file, device="cpu")
    except (OSError, ValueError, BadZipFile) as error:
        raise SettingsError(f"model: {file} cannot be read ({error}). Save it again.") from error
    assert data is not None
    # QRDQN and DQN differ in their policies only.
    policy = data["policy_class"].__module__
    attributes = {*data, *(["quantile_net"] if "qrdqn" in policy else [])}
    for name, algorithm in ALGORITHMS.items():
        if algorithm.sign in attributes:
            return name
    raise SettingsError(
        f"model: {file} does not tell which algorithm it is of. Pass --algo with one of "
        f"{', '.join(ALGORITHMS)}."
    )

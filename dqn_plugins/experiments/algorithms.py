"""Algorithms by name: this package's, Stable-Baselines3's, and what to hold them against."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import gymnasium as gym

from dqn_plugins.experiments.environments import policy_for
from dqn_plugins.experiments.hyperparameters import build, describe
from dqn_plugins.experiments.names import nearest_names

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Variant",
    "known_algorithms",
    "load_model",
    "make_model",
    "resolve",
]

# What a study or a training run settles itself, or what changes no result.
NOT_HYPERPARAMETERS = frozenset(
    {
        "self",
        "env",
        "seed",
        "verbose",
        "tensorboard_log",
        "stats_window_size",
        "device",
        "_init_setup_model",
    }
)


@dataclass(frozen=True)
class Algorithm:
    """
    An algorithm that has a name here.

    :param module: Module of its class.
    :param class_name: Name of its class, which has Stable-Baselines3's signature.
    :param hyperparameters: Keyword arguments that make it what its name says.
    :param cost: Microseconds per environment step, roughly: what is to be begun first, so that a
        study does not end with one long cell and idle workers.
    """

    module: str
    class_name: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 100.0

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.module.partition(".")[0]) is not None

    def load_class(self) -> Any:
        """
        Import its class.

        :return: The class.
        """
        return getattr(import_module(self.module), self.class_name)


ALGORITHMS: dict[str, Algorithm] = {
    "naive_dqn": Algorithm("dqn_plugins", "NaiveDQN", cost=60),
    "stream_q": Algorithm("dqn_plugins", "StreamQ", cost=100),
    "dqn": Algorithm("stable_baselines3", "DQN", cost=1_000),
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
    "ppo": Algorithm("stable_baselines3", "PPO", cost=600),
    "a2c": Algorithm("stable_baselines3", "A2C", cost=600),
    "qrdqn": Algorithm("sb3_contrib", "QRDQN", cost=1_500),
    "random": Algorithm("dqn_plugins.experiments.random_policy", "RandomPolicy", cost=30),
}
"""Algorithms by name."""


@dataclass(frozen=True)
class Variant:
    """
    An algorithm with hyperparameters, under a name of its own.

    :param name: Its name in folders, tables and charts.
    :param algorithm: Name of its algorithm, a key of :data:`ALGORITHMS`.
    :param hyperparameters: Keyword arguments for the algorithm, as YAML or Python has them.
    """

    name: str
    algorithm: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

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
        Describe all hyperparameters, also those left at their defaults.

        :param env: The environment, on which the policy depends.
        :return: Hyperparameters by name, readable.
        """
        cls = ALGORITHMS[self.algorithm].load_class()
        chosen = self.arguments
        if self.algorithm == "random":
            return {}
        values = {**_defaults(cls), "policy": policy_for(env.observation_space), **chosen}
        policy = cls.policy_aliases.get(values["policy"], values["policy"])
        values["policy_kwargs"] = {
            **_defaults(policy),
            **(values.get("policy_kwargs") or {}),
        }
        described: dict[str, Any] = describe(values)
        return described


def _defaults(cls: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in signature(cls.__init__).parameters.items()
        if name not in NOT_HYPERPARAMETERS and parameter.default is not Parameter.empty
    }


def known_algorithms() -> list[str]:
    """
    List the algorithms whose packages are installed.

    :return: Their names.
    """
    return [name for name, algorithm in ALGORITHMS.items() if algorithm.is_installed]


def resolve(name: str, variants: Mapping[str, Mapping[str, Any]]) -> Variant:
    """
    Find what a name stands for.

    :param name: Name of an algorithm or of a variant.
    :param variants: Variants by name: each a mapping with the key "algorithm", whose other entries
        are hyperparameters.
    :return: The variant.
    :raises ValueError: If the name is unknown, with the nearest ones; if a hyperparameter is; or
        if a package is missing.
    """
    if name in variants:
        hyperparameters = dict(variants[name])
        algorithm = str(hyperparameters.pop("algorithm", name))
        where = f"algorithm of {name!r}"
    else:
        algorithm, hyperparameters, where = name, {}, "algo"
    if algorithm not in ALGORITHMS:
        known = known_algorithms() if where != "algo" else [*variants, *known_algorithms()]
        raise ValueError(
            f"{where}: received {algorithm!r}, there is no such algorithm."
            f"{nearest_names(algorithm, known)}"
        )
    if not ALGORITHMS[algorithm].is_installed:
        package = ALGORITHMS[algorithm].module.replace("_", "-")
        raise ValueError(
            f"{where}: received {algorithm!r}, which is in {package}, and that is not installed. "
            f"Run `pip install {package}`."
        )
    variant = Variant(name, algorithm, hyperparameters)
    _check_hyperparameters(variant)
    return variant


def _check_hyperparameters(variant: Variant) -> None:
    """
    Check the names of a variant's hyperparameters.

    :param variant: The variant.
    :raises ValueError: If one is unknown, with the nearest ones.
    """
    for key, value in variant.hyperparameters.items():
        if key.endswith("_kwargs") and isinstance(value, str):
            raise ValueError(
                f"{key} of {variant.name!r}: received {value!r}, it must be a mapping, such as "
                f"'{key}: {{net_arch: [64, 64]}}'."
            )
    cls = ALGORITHMS[variant.algorithm].load_class()
    allowed = {*signature(cls.__init__).parameters} - NOT_HYPERPARAMETERS | {"device"}
    for key in variant.arguments:
        if variant.algorithm == "random" or key not in allowed:
            raise ValueError(
                f"hyperparameters of {variant.name!r}: received {key!r}, which "
                f"{variant.class_name} does not have.{nearest_names(key, allowed)}"
            )


def make_model(variant: Variant, env: gym.Env[Any, Any], seed: int) -> Any:
    """
    Make an untrained model.

    :param variant: What to make.
    :param env: The environment to learn from.
    :param seed: Seed of everything random.
    :return: A model with ``learn``, ``predict`` and, except for random actions, ``save``.
    """
    cls = ALGORITHMS[variant.algorithm].load_class()
    arguments = variant.arguments
    policy = arguments.pop("policy", policy_for(env.observation_space))
    if variant.algorithm != "random":
        # Workers side by side on one GPU would get in each other's way, and CPU seconds could
        # not be compared.
        arguments.setdefault("device", "cpu")
    return cls(policy, env, seed=seed, **arguments)


def load_model(
    path: Path, algorithm: str | None = None, env: gym.Env[Any, Any] | None = None
) -> Any:
    """
    Load a saved model of any of the algorithms.

    :param path: The file that ``save`` wrote, or the folder of a cell or of a training run.
    :param algorithm: Name of the algorithm; None to find out.
    :param env: An environment to go on learning from; None if the model shall only predict.
    :return: The model.
    :raises ValueError: If the name is unknown, or there is no such file.
    """
    file = path / "model.zip" if path.is_dir() else path
    if not file.exists() and file.with_name(file.name + ".zip").exists():
        file = file.with_name(file.name + ".zip")
    if not file.is_file():
        raise ValueError(f"model: {file} is not there. Pass a file that `save` wrote.")
    if algorithm is None:
        algorithm = _algorithm_of(file)
    elif algorithm not in ALGORITHMS or algorithm == "random":
        raise ValueError(
            f"algo: received {algorithm!r}, which saves no models."
            f"{nearest_names(algorithm, known_algorithms())}"
        )
    return ALGORITHMS[algorithm].load_class().load(file, env=env, device="cpu")


# Attributes that a saved model of one class has, and one of the classes below it has not.
_SIGNS = {
    "trace_decay": "stream_q",
    "q_step_size": "naive_dqn",
    "quantile_net": "qrdqn",
    "clip_range": "ppo",
    "gae_lambda": "a2c",
    "target_update_interval": "dqn",
}


def _algorithm_of(file: Path) -> str:
    """
    Find out which algorithm a saved model is of.

    :param file: The file.
    :return: Name of the algorithm.
    :raises ValueError: If it cannot be told.
    """
    from stable_baselines3.common.save_util import load_from_zip_file

    try:
        data, _, _ = load_from_zip_file(file, device="cpu")
    except (OSError, ValueError, BadZipFile) as error:
        raise ValueError(f"model: {file} cannot be read ({error}). Save it again.") from error
    assert data is not None
    # QRDQN and DQN differ in their policies only.
    policy = data["policy_class"].__module__
    attributes = {*data, *(["quantile_net"] if "qrdqn" in policy else [])}
    for sign, algorithm in _SIGNS.items():
        if sign in attributes:
            return algorithm
    raise ValueError(
        f"model: {file} does not tell which algorithm it is of. Pass --algo with one of "
        f"{', '.join(known_algorithms())}."
    )

"""The algorithms: one table, from which the command line, RL Zoo and the reference have theirs."""

import json
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.environments import EnvironmentSettings, make_environment, policy_for
from dqn_plugins.experiments.hyperparameters import build, describe, zoo_hyperparameters
from dqn_plugins.experiments.names import is_file_safe, nearest_names

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Variant",
    "check_flags",
    "is_masked",
    "learning_arguments",
    "load_model",
    "make_model",
    "model_file",
    "resolve",
    "tuned_file",
]

# What a study or a training run settles itself, or what changes no result.
NOT_HYPERPARAMETERS = {"self", "env", "seed", "settings", "verbose", "tensorboard_log", "device"}
NOT_HYPERPARAMETERS |= {"stats_window_size", "_init_setup_model", "n_envs", "vectorization"}
# What a hyperparameter must be, by the end of its name.
KINDS: tuple[tuple[str, Any, str], ...] = (
    ("_kwargs", Mapping, "a mapping, such as {net_arch: [64, 64]}"),
    ("_class", Callable, "a class by its dotted name, such as torch.optim.Adam"),
    ("_fn", Callable, "a class or function by its dotted name, such as torch.nn.ReLU"),
    ("net_arch", (list, tuple, Mapping), "a list, such as [64, 64]"),
)
TUNED = "tuned"
OUR_FILES = Path(__file__).parents[1] / "zoo"
ENVIRONMENT_SETTINGS = frozenset(each.name for each in fields(EnvironmentSettings))


@dataclass(frozen=True)
class Algorithm:
    """
    An algorithm that has a name here. This entry is all that it takes.

    :param path: Dotted name of its class, which has Stable-Baselines3's signature.
    :param about: What it is, in a few words.
    :param cost: Microseconds per environment step, roughly: a study begins with what takes longest.
    :param values: What it expects of an observation: a value for each action ("Q"), for the state
        ("V"), or nothing ("").
    :param n_envs: How many environments its defaults are made for.
    :param extra: Extra of this package that brings it; empty if it is there anyway.
    :param hyperparameters: Keyword arguments that make it what its name says.
    :param search: What RL Zoo's search draws from: a list to choose from, or ("log", low, high), or
        (low, high), of whole numbers where both are. Empty where RL Zoo has its own.
    """

    path: str
    about: str
    cost: float
    values: Literal["Q", "V", ""] = "Q"
    n_envs: int = 1
    extra: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        """Name of its class."""
        return self.path.rpartition(".")[2]

    @property
    def is_ours(self) -> bool:
        """Whether it is this package's."""
        return self.path.startswith("dqn_plugins")

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.path.partition(".")[0]) is not None

    def load_class(self) -> Any:
        """Import its class."""
        module, _, name = self.path.rpartition(".")
        return getattr(import_module(module), name)


_SEARCH: dict[str, Any] = {
    "one_minus_gamma": ("log", 1e-4, 0.1),
    "exploration_fraction": (0.0, 0.5),
    "exploration_final_eps": (0.0, 0.2),
}
_LARGE = ["small", "medium", "big"]
# Learns from each transition once, as it arrives: what remains of DQN without its buffer.
_WITHOUT_BUFFER = {"buffer_size": 1, "batch_size": 1, "learning_starts": 0}

ALGORITHMS: dict[str, Algorithm] = {
    "stream_q": Algorithm(
        "dqn_plugins.StreamQ",
        "Q(λ) with normalisation inside the model",
        100,
        search={
            "learning_rate": ("log", 1e-5, 3e-3),
            "trace_decay": (0.0, 0.98),
            "net_arch": _LARGE,
            **_SEARCH,
        },
    ),
    "naive_dqn": Algorithm(
        "dqn_plugins.NaiveDQN",
        "the notebook's one-step Q-learning",
        60,
        search={
            "learning_rate": ("log", 1e-5, 1e-2),
            "q_step_size": ("log", 0.05, 1.0),
            "net_arch": ["tiny", "small", "medium"],
            **_SEARCH,
        },
    ),
    "pqn": Algorithm(
        "dqn_plugins.PQN",
        "λ-returns of rollouts",
        60,
        n_envs=4,
        search={
            "learning_rate": ("log", 1e-5, 3e-3),
            "q_lambda": (0.0, 0.98),
            "n_steps": [8, 16, 32, 64, 128],
            "n_epochs": (1, 4),
            "net_arch": _LARGE,
            **_SEARCH,
        },
    ),
    "dqn": Algorithm("stable_baselines3.DQN", "with replay buffer and target network", 1_000),
    "dqn1": Algorithm(
        "stable_baselines3.DQN",
        "the same with a buffer and a batch of 1, learning at every step",
        1_500,
        hyperparameters={**_WITHOUT_BUFFER, "train_freq": 1, "gradient_steps": 1},
    ),
    "ppo": Algorithm("stable_baselines3.PPO", "policy gradient", 600, "V"),
    "a2c": Algorithm("stable_baselines3.A2C", "policy gradient", 600, "V"),
    "qrdqn": Algorithm("sb3_contrib.QRDQN", "DQN with quantiles", 1_500, extra="contrib"),
    "maskable_ppo": Algorithm(
        "sb3_contrib.MaskablePPO", "PPO that knows impossible actions", 650, "V", extra="contrib"
    ),
    "random": Algorithm(
        "dqn_plugins.experiments.random_policy.RandomPolicy",
        "learns nothing: what learning has to beat",
        30,
        "",
    ),
}
"""Algorithms by name."""


@dataclass(frozen=True)
class Variant:
    """
    An algorithm with all that was chosen for it on one environment, under a name of its own.

    :param name: Its name in folders, tables and charts.
    :param algorithm: Name of its algorithm, a key of :data:`ALGORITHMS`.
    :param arguments: All keyword arguments that were chosen, as the algorithm takes them.
    :param environment: How its environments are made.
    :param source: Where they are from: "defaults", "RL Zoo: dqn.yml", "ours: pqn.yml", or "own".
    :param zoo: RL Zoo's file among them, as it was named; None if there is none.
    """

    name: str
    algorithm: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: EnvironmentSettings = field(default_factory=EnvironmentSettings)
    source: str = "defaults"
    zoo: Path | str | None = None

    @property
    def kind(self) -> Algorithm:
        """The algorithm itself."""
        return ALGORITHMS[self.algorithm]

    def described(self, env_id: str) -> dict[str, Any]:
        """
        Describe all that decides what it learns, also what was left at its default.

        :param env_id: Id of the environment, on which the policy depends.
        :return: Readable values by name, as JSON has them.
        :raises SettingsError: If the environment cannot be made, or the policy has no such
            argument, with the nearest ones.
        """
        env = make_environment(env_id, self.environment)
        env.close()
        cls = self.kind.load_class()
        values = {**_defaults(cls), "policy": policy_for(env.observation_space), **self.arguments}
        policy = cls.policy_aliases.get(values["policy"], values["policy"])
        kwargs = values.get("policy_kwargs") or {}
        values["policy_kwargs"] = {**_defaults(policy), **kwargs}
        _check_arguments(f"policy_kwargs of {self.name!r}", kwargs, policy)
        optimizer = values["policy_kwargs"].get("optimizer_class")
        if optimizer is not None:
            where = f"optimizer_kwargs of {self.name!r}"
            _check_arguments(where, kwargs.get("optimizer_kwargs") or {}, optimizer)
        described = {**describe(values, self.name), **self.environment.described()}
        return dict(json.loads(json.dumps(described)))


def _check_names(where: str, given: Iterable[str], known: Iterable[str], whose: str) -> None:
    for name in given:
        if name not in known:
            hint = nearest_names(str(name), known)
            raise SettingsError(f"{where}: received {name!r}, which {whose} does not have.{hint}")


def _check_arguments(where: str, given: Mapping[str, Any], cls: Any) -> None:
    parameters = signature(cls.__init__).parameters
    if not any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()):
        _check_names(where, given, {*parameters} - {"self"}, cls.__name__)


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
    environment: Mapping[str, Any] | None = None,
    zoo: Iterable[Path] = (),
    hp: Iterable[tuple[str, Any]] = (),
) -> Variant:
    """
    Find what a name stands for on an environment. Later sources override earlier ones: the
    algorithm's defaults, RL Zoo's file, ``environment``, the variant, its entry for the
    environment, ``hp``.

    :param name: Name of an algorithm or of a variant.
    :param env_id: Id of the environment.
    :param variants: Variants by name, as :func:`~.settings.variants_in` reads them.
    :param environment: How environments are made where the variant says nothing else.
    :param zoo: RL Zoo's files for algorithms by these names, such as ``dqn.yml``.
    :param hp: Hyperparameters by name, such as "gamma", or "dqn.gamma" for one algorithm.
    :return: The variant.
    :raises SettingsError: If a name is unknown, with the nearest ones, or a package is missing.
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
        extra = ALGORITHMS[algorithm].extra
        raise SettingsError(
            f"{where}: received {algorithm!r}, whose package is not installed. "
            f"Run `pip install 'dqn-plugins[{extra}]'`."
        )
    file = named = chosen.pop("zoo", None) or next(
        (path for path in zoo if path.stem in (name, algorithm, TUNED)), None
    )
    if file is not None and not isinstance(file, (str, Path)):
        raise SettingsError(
            f"zoo of {name!r}: received {file!r}, it must be a file's name, or {TUNED!r}."
        )
    environments = chosen.pop("environments", None) or {}
    here = (environments.get(env_id) or {}) if isinstance(environments, Mapping) else environments
    if not isinstance(here, Mapping):
        raise SettingsError(
            f"environments of {name!r}: received {here!r}, it must be like "
            "'{CartPole-v1: {gamma: 0.99}}'."
        )
    own: dict[str, Any] = {**chosen, **here}
    shared = dict(environment or {})
    values = {**shared, **own}
    source = "defaults"
    if file is not None:
        file = Path(file) if str(file) != TUNED else tuned_file(algorithm)
        if file is None:
            raise SettingsError(f"zoo: received {TUNED!r}, but there is no tuned {algorithm}.")
        source = f"{'ours' if file.parent == OUR_FILES else 'RL Zoo'}: {file.name}"
        tuned = zoo_hyperparameters(file, env_id)
        own = {**{key: value for key, value in shared.items() if key in tuned}, **own}
        values = {**tuned, **values}
    changed = [_set_by_flag(values, path, value, name, algorithm) for path, value in hp]
    if own or any(changed):
        source = "own" if file is None else f"{source}, changed"
    made = EnvironmentSettings.from_mapping(values)
    made.check()
    variant = Variant(name, algorithm, _arguments(name, algorithm, values), made, source, named)
    if made.vectorization == "envpool":
        _check_envpool(variant, env_id)
    return variant


def _check_envpool(variant: Variant, env_id: str) -> None:
    from dqn_plugins.environments.making import load_envpool

    if not variant.kind.is_ours:
        raise SettingsError(
            f"vectorization: received 'envpool' for {variant.name!r}. {variant.kind.class_name} "
            "would learn from EnvPool's resets, too, which are not steps. Pass it for others only, "
            "such as --hp stream_q.vectorization:envpool."
        )
    try:
        load_envpool(env_id)
    except (ValueError, ModuleNotFoundError) as error:
        raise SettingsError(str(error)) from error


def tuned_file(algorithm: str) -> Path | None:
    """Find the file of what was tuned for each environment: RL Zoo's, or ours in its format."""
    folder = OUR_FILES
    if not ALGORITHMS[algorithm].is_ours:
        # Not imported: that would replace Gymnasium's TimeLimit by one of RL Zoo's own.
        found = find_spec("rl_zoo3")
        if found is None or found.origin is None:
            raise SettingsError(
                f"zoo: received {TUNED!r}, but RL Zoo, whose settings these are, is not installed. "
                "Run `pip install 'dqn-plugins[zoo]'`."
            )
        folder = Path(found.origin).parent / "hyperparams"
    file = folder / f"{algorithm}.yml"
    return file if file.is_file() else None


def _set_by_flag(values: dict[str, Any], path: str, value: Any, name: str, algorithm: str) -> bool:
    """Set a value in place, and return whether it is one of this algorithm's, see check_flags."""
    keys = path.split(".")
    if keys[0] in (name, algorithm) and len(keys) > 1:
        keys = keys[1:]
    elif keys[0] not in _parameters(algorithm) | ENVIRONMENT_SETTINGS:
        return False
    for key in keys[:-1]:
        inner = values.get(key)
        values[key] = dict(inner) if isinstance(inner, Mapping) else {}
        values = values[key]
    values[keys[-1]] = value
    return True


def check_flags(
    hp: Iterable[tuple[str, Any]], zoo: Iterable[Path], variants: Iterable[Variant]
) -> None:
    """
    Refuse hyperparameters by name, such as "dqn.gamma", that are of none of the variants, and files
    that none of them is from.
    """
    variants = list(variants)
    names = {name for each in variants for name in (each.name, each.algorithm)}
    known = set(ENVIRONMENT_SETTINGS).union(*(_parameters(each.algorithm) for each in variants))
    for path, _ in hp:
        first = path.partition(".")[0]
        if first not in names | known:
            hint = nearest_names(first, names | known)
            raise SettingsError(
                f"hp: received {path!r}, but no algorithm here has {first!r}.{hint}"
            )
    for file in zoo:
        if all(each.zoo != file for each in variants):
            raise SettingsError(
                f"zoo: received {str(file)!r}, from which no algorithm here takes its settings. "
                f"Pass {TUNED!r}, or a file named after {' or '.join(sorted(names))}, such as "
                f"{min(names)}.yml."
            )


def _arguments(name: str, algorithm: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Make of a file's values what the constructor takes."""
    chosen = {key: value for key, value in values.items() if key not in ENVIRONMENT_SETTINGS}
    known = _parameters(algorithm) | ENVIRONMENT_SETTINGS
    _check_names(f"hyperparameters of {name!r}", chosen, known, ALGORITHMS[algorithm].class_name)
    built: dict[str, Any] = build(chosen)
    _check_kinds(name, built)
    if isinstance(built.get("train_freq"), list):  # YAML has no tuples
        built["train_freq"] = tuple(built["train_freq"])
    return {**ALGORITHMS[algorithm].hyperparameters, **built}


def _check_kinds(name: str, given: Mapping[str, Any], where: str = "") -> None:
    """Refuse what cannot be what its key says, in mappings within mappings, too."""
    for key, value in given.items():
        for ending, kind, example in KINDS:
            if str(key).endswith(ending) and value is not None and not isinstance(value, kind):
                raise SettingsError(
                    f"{where}{key} of {name!r}: received {value!r}, it must be {example}."
                )
        if str(key).endswith("_kwargs") and value is not None:
            _check_kinds(name, value, f"{where}{key}.")


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
    # Some algorithms write into what they are given.
    arguments = deepcopy(dict(variant.arguments))
    policy = arguments.pop("policy", policy_for(env.observation_space))
    # On a GPU workers would get in each other's way, and CPU seconds could not be compared.
    arguments.setdefault("device", "cpu")
    cls = variant.kind.load_class()
    try:
        return cls(policy, env, seed=seed, tensorboard_log=tensorboard_log, **arguments)
    except (ValueError, TypeError, AssertionError) as error:
        raise SettingsError(f"{variant.name}: {error}") from error


def learning_arguments(model: Any) -> dict[str, Any]:
    """Keyword arguments of ``learn`` for a model with an environment: whether masks are used."""
    asks = "use_masking" in signature(model.learn).parameters
    return {"use_masking": is_masked(model, model.env)} if asks else {}


def is_masked(model: Any, env: Any) -> bool:
    """
    Find out whether ``predict`` can be told which actions are possible, and the environment, one or
    a ``VecEnv`` that has been reset, tells.
    """
    tells = env.has_attr if hasattr(env, "has_attr") else env.has_wrapper_attr
    return "action_masks" in signature(model.predict).parameters and tells("action_masks")


def model_file(path: Path) -> Path:
    """
    Find the file of a saved model.

    :param path: The file that ``save`` wrote, with or without .zip, or the folder of a cell or of a
        training run.
    :return: The file.
    :raises SettingsError: If there is none.
    """
    file = path / "model.zip" if path.is_dir() else path
    if not file.exists() and file.with_name(file.name + ".zip").exists():
        file = file.with_name(file.name + ".zip")
    if not file.is_file():
        raise SettingsError(f"model: {file} is not there. Pass a file that `save` wrote.")
    return file


def load_model(path: Path, algorithm: str | None = None, env: Any = None) -> Any:
    """
    Load a saved model of any of the algorithms. What is loaded is unpickled, which can run code.

    :param path: Where it is, see :func:`model_file`.
    :param algorithm: Name of the algorithm; None to find out.
    :param env: An environment to go on learning from; None if the model shall only predict.
    :return: The model.
    :raises SettingsError: If the name is unknown, or the file is not there or no model.
    """
    file = model_file(path)
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise _unknown("algo", algorithm, ALGORITHMS)
    try:
        cls = ALGORITHMS[algorithm or _algorithm_of(file)].load_class()
        return cls.load(file, env=env, device="cpu")
    except SettingsError:
        raise
    except Exception as error:  # of zipfile, pickle, torch: whatever is not as it was saved
        raise SettingsError(
            f"model: {file} cannot be read ({error}). Pass a file that `save` wrote."
        ) from error


def _unknown(where: str, algorithm: str, known: Iterable[str]) -> SettingsError:
    hint = nearest_names(algorithm, known)
    return SettingsError(f"{where}: received {algorithm!r}, there is no such algorithm.{hint}")


def _algorithm_of(file: Path) -> str:
    from stable_baselines3.common.save_util import load_from_zip_file

    data, _, _ = load_from_zip_file(file, device="cpu")
    if data is None or "policy_class" not in data:
        raise ValueError("there is no policy in it")
    policy, known = data["policy_class"], {*data}
    fits = {}
    for name, algorithm in ALGORITHMS.items():
        cls = algorithm.load_class() if algorithm.is_installed else None
        if cls is not None and issubclass(policy, tuple(cls.policy_aliases.values())):
            parameters = {*signature(cls.__init__).parameters}
            fits[name] = len(parameters & known) - len(parameters - known)
    if fits:
        return max(fits, key=lambda name: fits[name])  # the first of those that fit alike
    raise SettingsError(
        f"model: {file} does not say which algorithm saved it. Pass --algo with one of "
        f"{', '.join(ALGORITHMS)}."
    )

"""Settings of a comparison as a user gives them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from dqn_plugins.arguments import is_integer
from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.hyperparameters import read_yaml
from dqn_plugins.experiments.names import nearest_names
from dqn_plugins.experiments.running import FIRST_EVALUATION_SEED, check_at_least, check_tensorboard
from dqn_plugins.experiments.settings import RunSettings, variants_in

__all__ = ["ComparisonSettings", "RunProtocol", "read_settings"]

Backend = Literal["local", "dask"]


@dataclass(frozen=True, kw_only=True)
class RunProtocol:
    """
    What every run of a study has in common.

    :param timesteps: Budget of a run in environment steps, as in learn(total_timesteps=...).
    :param cpu_seconds: Budget of a run in CPU seconds of training, instead of --timesteps.
    :param evaluations: Number of greedy evaluations during a run, evenly spread.
    :param evaluation_episodes: Episodes of each evaluation, the same for all.
    :param final_evaluation_episodes: Episodes of the greedy evaluation at the end.
    :param max_episode_steps: Steps after which an episode of an evaluation is cut.
    """

    timesteps: int | None = None
    cpu_seconds: float | None = None
    evaluations: int = 10
    evaluation_episodes: int = 10
    final_evaluation_episodes: int = 20
    max_episode_steps: int = 10_000

    @property
    def protocol(self) -> dict[str, Any]:
        """All of it by name."""
        return {each.name: getattr(self, each.name) for each in fields(RunProtocol)}


@dataclass(frozen=True)
class ComparisonSettings(RunProtocol, RunSettings):
    """
    Train algorithms on environments with several seeds each, evaluate them, and report.

    :param env: Environment, by its Gymnasium id; repeat for several.
    :param algo: Algorithm or variant from --config, by name; repeat for several. All variants of
        --config by default.
    :param seeds: Number of training runs per algorithm and environment.
    :param first_seed: Seed of the first run; the others count up from it.
    :param reference: Algorithm to compare the others with; by default the first but random.
    :param videos: Whether the best seed of each algorithm is recorded.
    :param out: Folder of the study. Runs that it has already are not done again.
    :param jobs: Runs at the same time, each in a process of its own; -1 for one per core.
    :param cell_timeout: Seconds after which a run is given up; none by default.
    :param backend: What runs them: local for the cores of this machine, or dask.
    :param dask_address: Address of a Dask scheduler; without one a local cluster is started.
    :param variants: Variants by name: the algorithm's name under "algorithm", and hyperparameters.
    """

    env: tuple[str, ...] = ()
    algo: tuple[str, ...] = ()
    seeds: int = 5
    first_seed: int = 0
    reference: str | None = None
    videos: bool = True
    out: Path = Path("runs/comparison")
    jobs: int = -1
    cell_timeout: float | None = None
    backend: Backend = "local"
    dask_address: str | None = None
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what is compared."""
        return self.algo or tuple(self.variants)

    def check(self) -> None:
        """
        Check everything that can be checked without importing an algorithm.

        :raises SettingsError: If a setting is missing, out of its range or contradicts another.
        """
        positive = ("seeds", "timesteps", "evaluations", "max_episode_steps")
        episodes = ("evaluation_episodes", "final_evaluation_episodes")
        check_at_least(self, first_seed=0, **dict.fromkeys((*positive, *episodes), 1))
        if not is_integer(self.jobs) or (self.jobs < 1 and self.jobs != -1):
            raise SettingsError(
                f"jobs: received {self.jobs!r}, it must be a whole number of at least 1, or -1 for "
                "one run per core."
            )
        if self.first_seed + self.seeds > FIRST_EVALUATION_SEED:
            raise SettingsError(
                f"seeds: received {self.seeds} from {self.first_seed} on, they must stay below "
                f"{FIRST_EVALUATION_SEED:,}, where the seeds of evaluations begin."
            )
        if (self.timesteps is None) == (self.cpu_seconds is None):
            received = "neither" if self.timesteps is None else "both"
            raise SettingsError(
                f"timesteps, cpu_seconds: received {received}, exactly one sets the budget of a "
                "run. Pass --timesteps 100000, or --cpu-seconds 60."
            )
        for name in ("cpu_seconds", "cell_timeout"):
            seconds = getattr(self, name)
            is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
            if seconds is not None and not (is_number and 0 < seconds < float("inf")):
                raise SettingsError(f"{name}: received {seconds!r}, it must be above 0. Try 60.")
        if self.backend not in get_args(Backend):
            raise SettingsError(
                f"backend: received {self.backend!r}, it must be one of {get_args(Backend)}."
            )
        if self.dask_address is not None and self.backend != "dask":
            raise SettingsError(
                f"dask_address: received {self.dask_address!r} with the backend "
                f"{self.backend!r}. Pass --backend dask too."
            )
        for name, example in (("env", "LunarLander-v3"), ("names", "stream_q")):
            values, flag = getattr(self, name), name.replace("names", "algo")
            if not values:
                raise SettingsError(
                    f"{flag}: received none. Pass at least one, such as --{flag} {example}."
                )
            if len(set(values)) < len(values):
                raise SettingsError(f"{flag}: received {values}, each may be named once.")
        if self.tensorboard:
            check_tensorboard()


def read_settings(path: Path) -> ComparisonSettings:
    """
    Read a study from a YAML file. Its keys are arguments of :class:`ComparisonSettings`, those that
    may be repeated being one value or a list, and ``algorithms``, see
    :func:`~dqn_plugins.experiments.settings.variants_in`. Keys that begin with ``x-`` are skipped:
    anchors can be kept there.

    :param path: The file.
    :return: The settings.
    :raises SettingsError: If it cannot be read, a key is unknown or a value of another kind.
    """
    known = {each.name: each for each in fields(ComparisonSettings)}
    content: dict[str, Any] = {}
    for key, value in read_yaml(path).items():
        if str(key).startswith("x-") or key == "algorithms":
            continue
        if key not in known or key in ("variants", "config"):
            hint = nearest_names(str(key), [*known, "algorithms"])
            raise SettingsError(f"config: received {key!r} in {path}, which is no setting.{hint}")
        default, kind = known[key].default, known[key].type
        if isinstance(default, tuple) and not isinstance(value, Mapping):
            listed = value if isinstance(value, list) else [value]
            value = tuple(each if isinstance(each, Mapping) else str(each) for each in listed)
        elif isinstance(value, float) and value.is_integer() and int in (kind, *get_args(kind)):
            value = int(value)  # timesteps: 1e5
        elif isinstance(default, (bool, str)) and not isinstance(value, type(default)):
            raise SettingsError(
                f"config: {path}: {key}: received {value!r}, it must be like {default!r}."
            )
        content[key] = value
    return ComparisonSettings(**{**content, "variants": variants_in(path)})

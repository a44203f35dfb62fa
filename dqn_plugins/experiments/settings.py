"""Settings of a comparison as a user gives them, and the files they are read from."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dqn_plugins.experiments.hyperparameters import read_yaml
from dqn_plugins.experiments.names import nearest_names
from dqn_plugins.experiments.seeds import FIRST_EVALUATION_SEED

__all__ = ["ComparisonSettings", "settings_from_file"]

Backend = Literal["loky", "dask", "ray"]


@dataclass(frozen=True)
class ComparisonSettings:
    """
    Train algorithms on environments with several seeds each, evaluate them, and report.

    :param env: Environment, by its Gymnasium id; repeat for several.
    :param algo: Algorithm or variant from --config, by name; repeat for several. All variants of
        --config by default. Algorithms: naive_dqn, stream_q, dqn, dqn1, ppo, a2c, qrdqn, random.
    :param seeds: Number of training runs per algorithm and environment.
    :param first_seed: Seed of the first run; the others count up from it.
    :param timesteps: Budget of a run in environment steps, as in learn(total_timesteps=...).
    :param cpu_seconds: Budget of a run in CPU seconds of training, instead of --timesteps.
    :param evaluations: Number of greedy evaluations during a run, evenly spread.
    :param evaluation_episodes: Episodes of each evaluation, the same for all.
    :param final_evaluation_episodes: Episodes of the greedy evaluation at the end.
    :param out: Folder of the study. What it holds already is not done again.
    :param jobs: Runs at the same time, each in a process of its own; -1 for one per core.
    :param backend: What runs them: loky on this machine, dask or ray on a cluster.
    :param dask_address: Address of a Dask scheduler; without one a local cluster is started.
    :param variants: Variants by name: the algorithm's name under "algorithm", and hyperparameters.
    """

    env: tuple[str, ...] = ()
    algo: tuple[str, ...] = ()
    seeds: int = 5
    first_seed: int = 0
    timesteps: int | None = None
    cpu_seconds: float | None = None
    evaluations: int = 10
    evaluation_episodes: int = 10
    final_evaluation_episodes: int = 20
    out: Path = Path("runs/comparison")
    jobs: int = -1
    backend: Backend = "loky"
    dask_address: str | None = None
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def seed_range(self) -> range:
        """The seeds of the training runs."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def evaluate_every(self) -> int | None:
        """Environment steps between two evaluations; None if the budget is CPU seconds."""
        return None if self.timesteps is None else max(self.timesteps // self.evaluations, 1)

    def check(self) -> None:
        """
        Check everything that can be checked without importing an algorithm.

        :raises ValueError: If a setting is missing, out of its range or contradicts another.
        """
        for name in ("seeds", "evaluations", "evaluation_episodes", "final_evaluation_episodes"):
            self._check_number(name, 1)
        self._check_number("first_seed", 0)
        if self.first_seed + self.seeds > FIRST_EVALUATION_SEED:
            raise ValueError(
                f"seeds: received {self.seeds} from {self.first_seed} on, they must stay below "
                f"{FIRST_EVALUATION_SEED:,}, where the seeds of evaluations begin."
            )
        if max(self.evaluation_episodes, self.final_evaluation_episodes) > FIRST_EVALUATION_SEED:
            raise ValueError(
                f"evaluation_episodes: at most {FIRST_EVALUATION_SEED:,}, each has its own seed."
            )
        if (self.timesteps is None) == (self.cpu_seconds is None):
            received = "neither" if self.timesteps is None else "both"
            raise ValueError(
                f"timesteps, cpu_seconds: received {received}, exactly one sets the budget of a "
                "run. Pass --timesteps 100000, or --cpu-seconds 60."
            )
        if self.timesteps is not None:
            self._check_number("timesteps", 1)
        if self.cpu_seconds is not None and not 0 < self.cpu_seconds < float("inf"):
            raise ValueError(
                f"cpu_seconds: received {self.cpu_seconds}, it must be above 0. Try 60."
            )
        if self.jobs != -1:
            self._check_number("jobs", 1)
        if self.dask_address is not None and self.backend != "dask":
            raise ValueError(
                f"dask_address: received {self.dask_address!r} with the backend "
                f"{self.backend!r}. Pass --backend dask too."
            )
        if not self.env:
            raise ValueError("env: received none. Pass at least one, such as --env LunarLander-v3.")
        if not self.algo and not self.variants:
            raise ValueError("algo: received none. Pass at least one, such as --algo stream_q.")
        for name in ("env", "algo"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: received {values}, each may be there once.")

    def _check_number(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"{name}: received {value!r}, it must be a whole number of at least {least}."
            )


def settings_from_file(path: Path) -> ComparisonSettings:
    """
    Read a study from a YAML file.

    Its keys are the arguments of :class:`ComparisonSettings`, all of them optional, ``env`` being a
    name or a list of names, and ``algorithms``: variants by name, each a mapping with the key
    ``algorithm``, whose other entries are hyperparameters. Keys that begin with ``x-`` are left
    aside: anchors can be kept there.

    :param path: The file.
    :return: The settings.
    :raises ValueError: If it cannot be read, or a key is unknown.
    """
    content = {
        key: value for key, value in read_yaml(path).items() if not str(key).startswith("x-")
    }
    variants = content.pop("algorithms", None) or {}
    for name, variant in variants.items():
        if not isinstance(name, str) or not isinstance(variant, (dict, type(None))):
            raise ValueError(
                f"config: {path}: {name!r} under algorithms holds {variant!r}, it must be a "
                "mapping, such as '{algorithm: dqn, learning_rate: 1e-3}'."
            )
    known = {each.name for each in dataclasses.fields(ComparisonSettings)} - {"variants"}
    for key in content:
        if key not in known:
            raise ValueError(
                f"config: {path}: {key!r} is no setting."
                f"{nearest_names(str(key), [*known, 'algorithms'])}"
            )
    for key in ("env", "algo"):
        if key in content:
            value = content[key]
            content[key] = tuple(value) if isinstance(value, list) else (str(value),)
    if "out" in content:
        content["out"] = Path(content["out"])
    return ComparisonSettings(
        **content, variants={name: variant or {} for name, variant in variants.items()}
    )

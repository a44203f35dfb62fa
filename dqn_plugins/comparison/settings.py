"""The study that the settings of a comparison amount to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dqn_plugins.experiments.algorithms import Variant, resolve
from dqn_plugins.experiments.environments import make_environment
from dqn_plugins.experiments.names import folder_name, is_file_safe
from dqn_plugins.experiments.seeds import FIRST_EVALUATION_SEED
from dqn_plugins.experiments.settings import ComparisonSettings

__all__ = ["Study"]


@dataclass(frozen=True)
class Study:
    """
    All that decides the results of a comparison.

    :param settings: The settings it comes from.
    :param variants: What is compared, in the order of the report.
    :param hyperparameters: Of each environment and variant, complete and readable.
    """

    settings: ComparisonSettings
    variants: tuple[Variant, ...]
    hyperparameters: Mapping[str, Mapping[str, dict[str, Any]]]

    @classmethod
    def from_settings(cls, settings: ComparisonSettings) -> "Study":
        """
        Find out what the settings amount to, before anything is trained.

        :param settings: The settings.
        :return: The study.
        :raises ValueError: If a name is unknown, or something cannot be done as asked.
        """
        settings.check()
        names = settings.algo or tuple(settings.variants)
        for name in names:
            if not is_file_safe(name):
                raise ValueError(
                    f"algo: received {name!r}, the name is also a folder's: use letters, digits, "
                    "'.', '_', '+' and '-'."
                )
        hyperparameters = {}
        envs = {env_id: make_environment(env_id) for env_id in settings.env}
        variants = tuple(resolve(name, settings.variants) for name in names)
        for env_id, env in envs.items():
            hyperparameters[env_id] = {variant.name: variant.described(env) for variant in variants}
            env.close()
        if len({folder_name(env_id) for env_id in settings.env}) < len(settings.env):
            raise ValueError(f"env: received {settings.env}, two of them share a folder's name.")
        return cls(settings, variants, hyperparameters)

    def described(self) -> dict[str, Any]:
        """
        Describe the study for ``study.json``.

        :return: Everything that decides results, readable.
        """
        settings = self.settings
        algorithms = {
            variant.name: {
                "algorithm": variant.algorithm,
                "algorithm_class": variant.class_name,
                "hyperparameters": {
                    env_id: self.hyperparameters[env_id][variant.name] for env_id in settings.env
                },
            }
            for variant in self.variants
        }
        return {
            "environments": list(settings.env),
            "algorithms": algorithms,
            "seeds": list(settings.seed_range),
            "timesteps": settings.timesteps,
            "cpu_seconds": settings.cpu_seconds,
            "evaluations": settings.evaluations,
            "evaluation": self.evaluation,
            "final_evaluation_episodes": settings.final_evaluation_episodes,
        }

    @property
    def evaluation(self) -> dict[str, Any]:
        """How the periodic evaluations are taken."""
        return {
            "every": self.settings.evaluate_every,
            "episodes": self.settings.evaluation_episodes,
            "seed": FIRST_EVALUATION_SEED,
        }

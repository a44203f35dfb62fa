"""RL Zoo's experiment manager, at home with algorithms whose hyperparameter files are ours."""

from pathlib import Path
from typing import Any

import optuna
from rl_zoo3.exp_manager import ExperimentManager

from dqn_plugins.errors import DivergenceError

__all__ = ["OnlineExperimentManager"]

HYPERPARAMETERS = Path(__file__).parent


class OnlineExperimentManager(ExperimentManager):
    """
    RL Zoo's experiment manager, with this package's hyperparameter files as the default ones.

    :param arguments: Positional arguments of RL Zoo's.
    :param settings: Keyword arguments of RL Zoo's.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        own_file = HYPERPARAMETERS / f"{self.algo}.yml"
        if settings.get("config") is None and own_file.is_file():
            self.config = str(own_file)

    def objective(self, trial: optuna.Trial) -> float:
        """
        Train with what a trial draws.

        :param trial: The trial.
        :return: The mean return of the last evaluation.
        :raises optuna.TrialPruned: If it was not promising, or learning diverged.
        """
        try:
            return super().objective(trial)
        except DivergenceError as error:
            # RL Zoo gives up only on values that it knows: one diverging trial would end the study.
            print(error)
            raise optuna.TrialPruned from error

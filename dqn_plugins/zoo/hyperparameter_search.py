"""What RL Zoo's ``--optimize-hyperparameters`` tries for this package's algorithms."""

from typing import Any

import optuna

from dqn_plugins.experiments.algorithms import ALGORITHMS

__all__ = ["convert_sampled", "sample"]

NETWORKS = {"tiny": [16, 8], "small": [64, 64], "medium": [128, 128], "big": [256, 256]}


def sample(
    algorithm: str,
    trial: optuna.Trial,
    n_actions: int,
    n_envs: int,
    additional_args: dict[str, Any],
) -> dict[str, Any]:
    """
    Draw hyperparameters of an algorithm from what the table of algorithms says.

    :param algorithm: Its name.
    :param trial: The trial that they are for.
    :param n_actions: Dimension of a continuous action space, which RL Zoo passes; not used.
    :param n_envs: Number of environments, which RL Zoo passes; not used.
    :param additional_args: Settings for hindsight replay, which RL Zoo passes; not used.
    :return: Keyword arguments of the algorithm.
    """
    drawn: dict[str, Any] = {}
    for name, choices in ALGORITHMS[algorithm].search.items():
        if isinstance(choices, list):
            drawn[name] = trial.suggest_categorical(name, choices)
        elif choices[0] == "log":
            drawn[name] = trial.suggest_float(name, *choices[1:], log=True)
        elif isinstance(choices[0], int):
            drawn[name] = trial.suggest_int(name, *choices)
        else:
            drawn[name] = trial.suggest_float(name, *choices)
    # The study's report shows the number that one would pass on.
    trial.set_user_attr("gamma", 1.0 - drawn["one_minus_gamma"])
    return convert_sampled(drawn)


def convert_sampled(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Turn what a trial drew, and a study keeps, into keyword arguments.

    :param sampled_params: Values by the names under which the trial drew them.
    :return: Keyword arguments of the algorithm.
    """
    hyperparameters = dict(sampled_params)
    hyperparameters["gamma"] = 1.0 - hyperparameters.pop("one_minus_gamma")
    hyperparameters["policy_kwargs"] = {"net_arch": NETWORKS[hyperparameters.pop("net_arch")]}
    return hyperparameters

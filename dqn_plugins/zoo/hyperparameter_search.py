"""What RL Zoo's ``--optimize-hyperparameters`` tries for this package's algorithms."""

from typing import Any

import optuna

__all__ = ["convert_sampled", "sample_naive_dqn", "sample_pqn", "sample_stream_q"]

NETWORKS = {"tiny": [16, 8], "small": [64, 64], "medium": [128, 128], "big": [256, 256]}


def sample_naive_dqn(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    Draw hyperparameters of ``NaiveDQN``.

    :param trial: The trial that they are for.
    :param n_actions: Dimension of a continuous action space, which RL Zoo passes; not used.
    :param n_envs: Number of environments, which RL Zoo passes; not used.
    :param additional_args: Settings for hindsight replay, which RL Zoo passes; not used.
    :return: Keyword arguments of ``NaiveDQN``.
    """
    return convert_sampled(
        {
            "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
            "q_step_size": trial.suggest_float("q_step_size", 0.05, 1.0, log=True),
            "net_arch": trial.suggest_categorical("net_arch", ["tiny", "small", "medium"]),
            **_sample_discount_and_exploration(trial),
        }
    )


def sample_pqn(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    Draw hyperparameters of ``PQN``.

    :param trial: The trial that they are for.
    :param n_actions: Dimension of a continuous action space, which RL Zoo passes; not used.
    :param n_envs: Number of environments, which RL Zoo passes; not used.
    :param additional_args: Settings for hindsight replay, which RL Zoo passes; not used.
    :return: Keyword arguments of ``PQN``.
    """
    return convert_sampled(
        {
            "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-3, log=True),
            "q_lambda": trial.suggest_float("q_lambda", 0.0, 0.98),
            "n_steps": trial.suggest_categorical("n_steps", [8, 16, 32, 64, 128]),
            "n_epochs": trial.suggest_int("n_epochs", 1, 4),
            "net_arch": trial.suggest_categorical("net_arch", ["small", "medium", "big"]),
            **_sample_discount_and_exploration(trial),
        }
    )


def sample_stream_q(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    Draw hyperparameters of ``StreamQ``, for its default optimiser.

    :param trial: The trial that they are for.
    :param n_actions: Dimension of a continuous action space, which RL Zoo passes; not used.
    :param n_envs: Number of environments, which RL Zoo passes; not used.
    :param additional_args: Settings for hindsight replay, which RL Zoo passes; not used.
    :return: Keyword arguments of ``StreamQ``.
    """
    return convert_sampled(
        {
            "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-3, log=True),
            "trace_decay": trial.suggest_float("trace_decay", 0.0, 0.98),
            "net_arch": trial.suggest_categorical("net_arch", ["small", "medium", "big"]),
            **_sample_discount_and_exploration(trial),
        }
    )


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


def _sample_discount_and_exploration(trial: optuna.Trial) -> dict[str, float]:
    one_minus_gamma = trial.suggest_float("one_minus_gamma", 1e-4, 0.1, log=True)
    # The study's report shows the number that one would pass on.
    trial.set_user_attr("gamma", 1.0 - one_minus_gamma)
    return {
        "one_minus_gamma": one_minus_gamma,
        "exploration_fraction": trial.suggest_float("exploration_fraction", 0.0, 0.5),
        "exploration_final_eps": trial.suggest_float("exploration_final_eps", 0.0, 0.2),
    }

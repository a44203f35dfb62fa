"""Making RL Zoo know this package's algorithms."""

from functools import partial

from dqn_plugins.experiments.algorithms import ALGORITHMS

__all__ = ["register_algorithms"]


def register_algorithms() -> None:
    """
    Make RL Zoo know this package's algorithms: to train, load and optimise them.

    Call it before RL Zoo's own functions. Its other algorithms stay as they are.

    :raises ImportError: If RL Zoo is not installed.
    """
    try:
        import rl_zoo3
    except ModuleNotFoundError as error:
        if error.name != "rl_zoo3":
            raise
        raise ImportError(
            "rl_zoo3: it is not installed, and dqn_plugins.zoo needs it. Run: "
            "pip install 'dqn-plugins[zoo]'"
        ) from error
    # Not before RL Zoo is known to be there, and only for those who use it: importing it replaces
    # Gymnasium's TimeLimit by one of its own.
    import rl_zoo3.train
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    from dqn_plugins.zoo.experiment_manager import OnlineExperimentManager
    from dqn_plugins.zoo.hyperparameter_search import convert_sampled, sample

    for name, algorithm in ALGORITHMS.items():
        if algorithm.search:
            rl_zoo3.ALGOS[name] = algorithm.load_class()
            HYPERPARAMS_SAMPLER[name] = partial(sample, name)
            HYPERPARAMS_CONVERTER[name] = convert_sampled
    rl_zoo3.train.ExperimentManager = OnlineExperimentManager  # type: ignore[attr-defined]

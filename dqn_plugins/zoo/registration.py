"""Making RL Zoo know this package's algorithms."""

from dqn_plugins.algorithms.naive_dqn import NaiveDQN
from dqn_plugins.algorithms.pqn import PQN
from dqn_plugins.algorithms.stream_q import StreamQ

__all__ = ["register_algorithms"]


def register_algorithms() -> None:
    """
    Make RL Zoo know ``naive_dqn``, ``pqn`` and ``stream_q``: to train, load and optimise them.

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
    from dqn_plugins.zoo.hyperparameter_search import (
        convert_sampled,
        sample_naive_dqn,
        sample_pqn,
        sample_stream_q,
    )

    rl_zoo3.ALGOS.update(naive_dqn=NaiveDQN, pqn=PQN, stream_q=StreamQ)
    HYPERPARAMS_SAMPLER.update(naive_dqn=sample_naive_dqn, pqn=sample_pqn, stream_q=sample_stream_q)
    HYPERPARAMS_CONVERTER.update(dict.fromkeys(("naive_dqn", "pqn", "stream_q"), convert_sampled))
    rl_zoo3.train.ExperimentManager = OnlineExperimentManager  # type: ignore[attr-defined]

"""Making RL Zoo know this package's algorithms, and what its search of hyperparameters tries."""

from functools import partial
from typing import TYPE_CHECKING, Any

from dqn_plugins.errors import DivergenceError
from dqn_plugins.experiments.algorithms import ALGORITHMS, OUR_FILES

if TYPE_CHECKING:
    import optuna

__all__ = ["convert_sampled", "register_algorithms", "sample"]

NETWORKS = {"tiny": [16, 8], "small": [64, 64], "medium": [128, 128], "big": [256, 256]}


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
    from optuna import TrialPruned
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    class OnlineExperimentManager(ExperimentManager):
        """RL Zoo's, with this package's hyperparameter files as the default ones."""

        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            own_file = OUR_FILES / f"{self.algo}.yml"
            if settings.get("config") is None and own_file.is_file():
                self.config = str(own_file)

        def objective(self, trial: "optuna.Trial") -> float:
            try:
                return super().objective(trial)
            except DivergenceError as error:
                # RL Zoo gives up only on values that it knows: it would end the whole study.
                print(error)
                raise TrialPruned from error

    for name, algorithm in ALGORITHMS.items():
        if algorithm.search:
            rl_zoo3.ALGOS[name] = algorithm.load_class()
            HYPERPARAMS_SAMPLER[name] = partial(sample, name)
            HYPERPARAMS_CONVERTER[name] = convert_sampled
    rl_zoo3.train.ExperimentManager = OnlineExperimentManager  # type: ignore[attr-defined]


def sample(
    algorithm: str,
    trial: "optuna.Trial",
    n_actions: int,
    n_envs: int,
    additional_args: dict[str, Any],
) -> dict[str, Any]:
    """
    Draw keyword arguments of an algorithm from what the table of algorithms says. RL Zoo passes the
    rest, too.
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
    """Turn what a trial drew, and a study keeps, into keyword arguments of the algorithm."""
    hyperparameters = dict(sampled_params)
    hyperparameters["gamma"] = 1.0 - hyperparameters.pop("one_minus_gamma")
    hyperparameters["policy_kwargs"] = {"net_arch": NETWORKS[hyperparameters.pop("net_arch")]}
    return hyperparameters

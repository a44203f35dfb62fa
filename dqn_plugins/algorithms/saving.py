"""Saving models, loading them, and reading parameters without running code from a file."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from typing import Any, TypeVar

import torch as th
from stable_baselines3.common.type_aliases import GymEnv, TensorDict
from stable_baselines3.common.utils import update_learning_rate

from dqn_plugins.algorithms.model_files import (
    check_model_file,
    is_path,
    read_parameters,
    written_whole,
)
from dqn_plugins.algorithms.updates import Updates

__all__ = ["Saving"]

SelfSaving = TypeVar("SelfSaving", bound="Saving")


class Saving(Updates):
    """The part of an algorithm that writes model files and reads them."""

    def save(
        self,
        path: Any,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        Save all that the model is: weights, statistics, optimiser, traces, counters, arguments.

        The file is written beside its place and moved there when it is complete: if the program is
        killed meanwhile, or the disk is full, an earlier file of that name is intact. A killed
        program may leave a file ``.{name}.*.tmp`` behind, which can be deleted.

        :param path: The file, with or without ``.zip``, or a file-like object.
        :param exclude: Names of attributes to leave out.
        :param include: Names of attributes to save that would be left out.
        :raises OSError: If the file cannot be written.
        """
        if not is_path(path):
            super().save(path, exclude, include)
            return
        with written_whole(path) as file:
            super().save(file, exclude, include)  # type: ignore[arg-type]

    @classmethod
    def load(
        cls: type[SelfSaving],
        path: Any,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfSaving:
        """
        Load a model from the file that ``save`` wrote.

        :param path: The file, with or without ``.zip``, or a file-like object.
        :param env: An environment to go on learning from, with any number of environments; None if
            the model shall only predict.
        :param device: Device to put the model on.
        :param custom_objects: What to take in place of attributes that cannot be unpickled.
        :param print_system_info: Whether to print the versions of the file's and of this system.
        :param force_reset: Whether to reset ``env`` before learning goes on.
        :param kwargs: Hyperparameters to change.
        :return: The model.
        :raises ValueError: If the spaces of ``env`` are not those of the model, or the file is
            damaged, no model, or another algorithm's. Nothing in such a file is unpickled.

        Load only files that you trust: Stable-Baselines3 keeps spaces, schedules and
        ``policy_kwargs`` pickled, and unpickling can run any code. :meth:`set_parameters` reads the
        weights, the statistics and the optimiser's state of a file without running code from it.
        """
        check_model_file(path, cls._own_arguments())
        with _naming_the_argument():
            model = super().load(
                path, env, device, custom_objects, print_system_info, force_reset, **kwargs
            )
        if "learning_rate" in kwargs:  # the optimiser's state brought the earlier one
            progress = model._current_progress_remaining
            update_learning_rate(model.policy.optimizer, model.lr_schedule(progress))
        return model

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        Learn from another environment from now on.

        :param env: The environment, with the same spaces and the same number of environments.
        :param force_reset: Whether to reset it before learning goes on.
        :raises ValueError: If its spaces are not those of the model.
        :raises AssertionError: If the number of environments differs.
        """
        with _naming_the_argument():
            super().set_env(env, force_reset)

    def set_parameters(
        self,
        load_path_or_dict: str | TensorDict,
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        """
        Load weights, running statistics, traces and the optimiser's state into this model.

        This is the safe way to use a file from somebody else: it reads tensors and numbers only,
        and runs no code from the file. The model has to be made with the same architecture before.
        Counters, ε and the state of the random numbers stay those of this model.

        :param load_path_or_dict: A file that ``save`` wrote, or what ``get_parameters`` returned.
        :param exact_match: Whether every parameter must be given.
        :param device: Device to load to.
        :raises ValueError: If the file is damaged or no model, or a parameter is missing that
            ``exact_match`` wants. Nothing was changed.
        :raises RuntimeError: If the parameters are those of another architecture. Nothing was
            changed.
        """
        before: Any = deepcopy(self.get_parameters())
        # torch's optimisers keep the very tensors they are given, which may be another model's.
        parameters = (
            deepcopy(load_path_or_dict)
            if isinstance(load_path_or_dict, dict)
            else read_parameters(load_path_or_dict, device)
        )
        try:
            super().set_parameters(parameters, exact_match, device)
        except Exception:
            super().set_parameters(before)
            raise
        finally:
            self._renew_learner()

    @classmethod
    def _own_arguments(cls) -> set[str]:
        """Names of the arguments that an algorithm has beside those that others have, too."""
        return {
            parameter.name
            for algorithm in cls.__mro__
            for parameter in signature(algorithm).parameters.values()
            if algorithm.__module__ != "builtins"
            and parameter.kind is parameter.KEYWORD_ONLY
            and not parameter.name.startswith("exploration")
        } - {"backend", "update", "n_envs", "vectorization"}

    def _excluded_save_params(self) -> list[str]:
        made_anew = ["q_net", "_learner", "_rule_in_force", "_is_device_auto"]
        return [*super()._excluded_save_params(), *made_anew]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


@contextmanager
def _naming_the_argument() -> Iterator[None]:
    """Let Stable-Baselines3's complaint about spaces also say what to do."""
    try:
        yield
    except ValueError as error:
        if "spaces do not match" not in str(error):
            raise
        raise ValueError(
            f"env: {error} (the model's first, the environment's second). Pass an environment "
            "with the model's spaces, or make a new model for this environment."
        ) from error

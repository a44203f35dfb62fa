"""Features of observations in parts, whatever the parts are called."""

from collections.abc import Iterable
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import nn

__all__ = ["DictionaryExtractor", "module_name"]


class DictionaryExtractor(CombinedExtractor):
    """
    Stable-Baselines3's ``CombinedExtractor`` for dictionaries with any keys.

    That one names its modules by the keys, and torch takes no name that is a number, holds a dot,
    or is a module's own, such as "type". Only such keys get another name here.

    :param observation_space: A dictionary.
    :param kwargs: Arguments of ``CombinedExtractor``.
    """

    def __init__(self, observation_space: spaces.Dict, **kwargs: Any) -> None:
        reserved = nn.ModuleDict()
        names: dict[Any, str] = {}
        for key in observation_space.spaces:
            is_name = isinstance(key, str) and "." not in key and not hasattr(reserved, key)
            names[key] = key if is_name else module_name(key, [*observation_space, *names.values()])
        renamed = {names[key]: part for key, part in observation_space.spaces.items()}
        super().__init__(spaces.Dict(renamed), **kwargs)
        self._observation_space = observation_space
        self._names = names

    @property
    def has_images(self) -> bool:
        """Whether a part goes through a network of its own."""
        return any(type(part) is not nn.Flatten for part in self.extractors.values())

    @property
    def keys(self) -> list[Any]:
        """The keys of the dictionary, in the order of their features."""
        key_of = {name: key for key, name in self._names.items()}
        return [key_of[name] for name in self.extractors]

    def forward(self, observations: dict[str, th.Tensor]) -> th.Tensor:
        """
        Extract the features of all parts.

        :param observations: The parts, each of shape (n, ...).
        :return: Features, shape (n, features_dim).
        """
        return super().forward({name: observations[key] for key, name in self._names.items()})


def module_name(key: Any, taken: Iterable[Any]) -> str:
    """
    Name the module of a part of a dictionary.

    :param key: The part's key.
    :param taken: Names that other modules have.
    :return: Another name, which torch takes.
    """
    name = "part_" + str(key).replace(".", "_")
    while name in taken:
        name += "_"
    return name

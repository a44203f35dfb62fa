"""The policy of PQN: a Q-network with layer normalisation, in place of a target network."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from dqn_plugins.policies.dictionary_extractor import DictionaryExtractor
from dqn_plugins.policies.image_extractor import ImageExtractor
from dqn_plugins.policies.initializers import orthogonal
from dqn_plugins.policies.q_policy import QPolicy, WeightInitializer, arguments_in

__all__ = ["PQNCnnPolicy", "PQNMlpPolicy", "PQNMultiInputPolicy", "PQNPolicy"]


class PQNPolicy(QPolicy):
    """
    :class:`QPolicy` with layer normalisation, RAdam and orthogonal first weights.

    Without layer normalisation, learning from a network's own values may diverge; with it, it does
    not (Gallici et al. 2024, arXiv 2407.04811, section 4).

    The arguments are those of :class:`QPolicy`.

    :param net_arch: Number of units of each hidden layer. By default ``[120, 84]``; on top of
        convolutions as in :class:`QPolicy`.
    """

    default_net_arch = (120, 84)

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.RAdam,
        optimizer_kwargs: dict[str, Any] | None = None,
        layer_norm: bool = True,
        weight_initializer: WeightInitializer | None = orthogonal,
        layer_norm_affine: bool = True,
    ) -> None:
        super().__init__(**arguments_in(locals()))


PQNMlpPolicy = PQNPolicy


class PQNCnnPolicy(PQNPolicy):
    """:class:`PQNPolicy` for images: the same arguments, by default with ``ImageExtractor``."""

    default_features_extractor_class = ImageExtractor


class PQNMultiInputPolicy(PQNPolicy):
    """:class:`PQNPolicy` for dictionaries: the same, by default with ``DictionaryExtractor``."""

    default_features_extractor_class = DictionaryExtractor

"""The policy of an online Q-learner: one Q-network, no target network."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
    create_mlp,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import QNetwork as SB3QNetwork
from torch import nn
from typing_extensions import override

from dqn_plugins.policies.action_masks import as_action_masks, possible_values
from dqn_plugins.policies.dictionary_extractor import DictionaryExtractor
from dqn_plugins.policies.image_extractor import ImageExtractor

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "QNetwork", "QPolicy", "WeightInitializer"]

WeightInitializer = Callable[[nn.Module], None]
"""Called once with every module of a new network, as ``torch.nn.Module.apply`` does."""


def arguments_in(namespace: dict[str, Any]) -> dict[str, Any]:
    """Find the arguments of a constructor in its ``locals()``, before anything else is in it."""
    return {key: value for key, value in namespace.items() if key not in ("self", "__class__")}


class QNetwork(SB3QNetwork):
    """
    Action-value network: Stable-Baselines3's ``QNetwork``, with a choice of layer normalisation
    and of the first weights.

    :param observation_space: Observation space.
    :param action_space: Action space.
    :param features_extractor: Turns observations into features of shape (batch, features_dim).
    :param features_dim: Number of features.
    :param net_arch: Number of units of each hidden layer; ``[]`` makes the network linear.
    :param activation_fn: Activation function.
    :param normalize_images: Whether to divide images by 255.
    :param layer_norm: Whether to normalise each hidden layer before its activation.
    :param weight_initializer: Draws the first weights; None keeps torch's.
    :param layer_norm_affine: Whether layer normalisation learns a scale and a shift, too.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        layer_norm: bool = False,
        weight_initializer: WeightInitializer | None = None,
        layer_norm_affine: bool = False,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            features_extractor,
            features_dim,
            net_arch,
            activation_fn,
            normalize_images,
        )
        self.layer_norm = layer_norm
        self.weight_initializer = weight_initializer
        self.layer_norm_affine = layer_norm_affine
        if layer_norm:
            layers = create_mlp(
                self.features_dim,
                int(action_space.n),
                self.net_arch,
                self.activation_fn,
                post_linear_modules=[partial(nn.LayerNorm, elementwise_affine=layer_norm_affine)],  # type: ignore[list-item]
            )
            self.q_net = nn.Sequential(*layers)
        if weight_initializer is not None:
            self.apply(weight_initializer)

    @property
    def reward_scale(self) -> float:
        """What rewards are divided by before they are learned from: here 1."""
        return 1.0

    def learned_values(self, obs: PyTorchObs) -> th.Tensor:
        """
        Compute action values in the units that are learned in: here, those of the rewards.

        :param obs: Observations, shape (n, ...).
        :return: Action values, shape (n, n_actions).
        """
        return super().forward(obs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            # A copy: torch keeps what shares memory together, so that drawing first weights for the
            # extractor while a network is loaded would change the weights that are to be loaded.
            "features_extractor": deepcopy(self.features_extractor),
            "layer_norm": self.layer_norm,
            "weight_initializer": self.weight_initializer,
            "layer_norm_affine": self.layer_norm_affine,
        }


class QPolicy(BasePolicy):
    """
    Policy with one Q-network: Stable-Baselines3's ``DQNPolicy`` without the target network.

    :param observation_space: Observation space.
    :param action_space: Action space.
    :param lr_schedule: Learning rate as a function of the progress remaining (1 to 0).
    :param net_arch: Number of units of each hidden layer. By default ``[16, 8]``, the notebook's;
        on top of :class:`~dqn_plugins.policies.ImageExtractor` ``[128]``, or ``[256]`` for images
        with sides of 53 pixels or more; ``[]`` on top of ``NatureCNN``, or if the features
        extractor is given a ``features_dim``.
    :param activation_fn: Activation function.
    :param features_extractor_class: Features extractor; by default ``FlattenExtractor``.
    :param features_extractor_kwargs: Keyword arguments for the features extractor. An
        ``ImageExtractor`` takes over ``activation_fn`` and ``layer_norm`` if it is given none.
    :param normalize_images: Whether to divide images by 255.
    :param optimizer_class: Optimiser.
    :param optimizer_kwargs: Keyword arguments for the optimiser, without the learning rate.
    :param layer_norm: Whether to normalise each hidden layer before its activation.
    :param weight_initializer: Draws the first weights, for instance
        :func:`~dqn_plugins.policies.glorot_uniform`; None keeps torch's.
    :param layer_norm_affine: Whether layer normalisation learns a scale and a shift, too.
    :raises ValueError: If observations are no dictionary and the features extractor needs one.
    """

    q_net: QNetwork
    default_features_extractor_class: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    default_net_arch: ClassVar[tuple[int, ...]] = (16, 8)

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
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        layer_norm: bool = False,
        weight_initializer: WeightInitializer | None = None,
        layer_norm_affine: bool = False,
    ) -> None:
        if features_extractor_class is None:
            features_extractor_class = self.default_features_extractor_class
        # Where it is no class but a function that makes one, nothing is known of it.
        made = features_extractor_class if isinstance(features_extractor_class, type) else object
        if issubclass(made, CombinedExtractor) and not isinstance(observation_space, spaces.Dict):
            raise ValueError(
                f"observation_space: received {observation_space}, it must be a Dict for "
                "MultiInputPolicy. Pass 'MlpPolicy' for vectors, 'CnnPolicy' for images."
            )
        # A copy: SB3's base class adds to this dictionary, which is the caller's.
        extractor_kwargs = dict(features_extractor_kwargs or {})
        is_image_extractor = issubclass(made, ImageExtractor)
        if is_image_extractor:
            own: dict[str, Any] = {"activation_fn": activation_fn, "layer_norm": layer_norm}
            extractor_kwargs = own | extractor_kwargs
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class,
            extractor_kwargs,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            normalize_images=normalize_images,
        )
        if net_arch is None:
            net_arch = list(self.default_net_arch)
            has_features_dim = extractor_kwargs.get("features_dim") is not None
            if features_extractor_class is NatureCNN or (is_image_extractor and has_features_dim):
                net_arch = []
            elif is_image_extractor:
                net_arch = [ImageExtractor.default_units(observation_space, **extractor_kwargs)]
        self.net_arch, self.activation_fn = net_arch, activation_fn
        self.net_args = {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "net_arch": net_arch,
            "activation_fn": activation_fn,
            "normalize_images": normalize_images,
            "layer_norm": layer_norm,
            "weight_initializer": weight_initializer,
            "layer_norm_affine": layer_norm_affine,
        }
        self._build(lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        """Create the network and the optimiser, with the first learning rate of the schedule."""
        self.q_net = self.make_q_net()
        self.optimizer = self.optimizer_class(
            self.q_net.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def make_q_net(self) -> QNetwork:
        """
        Create the Q-network.

        :return: A new network on the policy's device.
        """
        return QNetwork(**self._update_features_extractor(self.net_args)).to(self.device)

    @override
    def forward(self, obs: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        return self._predict(obs, deterministic=deterministic)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose the greedy actions.

        :param observation: One observation, or several, shape (n, ...).
        :param state: Handed back.
        :param episode_start: Without effect.
        :param deterministic: Without effect: exploration is the algorithm's.
        :param action_masks: Which actions are possible, shape (n_actions,) or (n, n_actions):
            Booleans, or 1 and 0. None for all.
        :return: The actions, shape () or (n,), int64, and ``state``.
        :raises ValueError: If a mask is of another form, or an observation has no possible action.
        """
        if action_masks is None:
            return super().predict(observation, state, episode_start, deterministic)
        self.set_training_mode(False)
        obs, is_batch = self.obs_to_tensor(observation)
        with th.no_grad():
            values = self.greedy_q_net(obs).cpu().numpy()
        masks = as_action_masks(action_masks, *values.shape)
        actions: np.ndarray = possible_values(values, masks).argmax(axis=1)
        return (actions if is_batch else actions.squeeze(axis=0)), state

    @property
    def greedy_q_net(self) -> QNetwork:
        """The network by whose values ``predict`` chooses."""
        return self.q_net

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        return self.greedy_q_net._predict(observation, deterministic=deterministic)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        network = {
            name: value
            for name, value in self.net_args.items()
            if name not in ("observation_space", "action_space", "normalize_images")
        }
        return {
            **super()._get_constructor_parameters(),
            **network,
            # Loading a policy alone needs no learning rate.
            "lr_schedule": self._dummy_schedule,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
            "features_extractor_class": self.features_extractor_class,
            "features_extractor_kwargs": self.features_extractor_kwargs,
        }

    def load_from_vector(self, vector: np.ndarray) -> None:
        """
        Copy a vector into the weights, which stay where they are in memory.

        :param vector: All weights one after another, in the order of ``parameters()``.
        :raises ValueError: If the vector has another length than the weights.
        """
        n_weights = sum(param.numel() for param in self.parameters())
        if np.shape(vector) != (n_weights,):
            raise ValueError(
                f"vector: received shape {np.shape(vector)}, this policy needs ({n_weights},). "
                "Take it from `parameters_to_vector()` of a policy of the same architecture."
            )
        start = 0
        with th.no_grad():
            for param in self.parameters():
                values = vector[start : start + param.numel()]
                param.copy_(th.as_tensor(values, dtype=param.dtype).view_as(param))
                start += param.numel()


MlpPolicy = QPolicy


class CnnPolicy(QPolicy):
    """:class:`QPolicy` for images: the same arguments, by default with ``ImageExtractor``."""

    default_features_extractor_class = ImageExtractor


class MultiInputPolicy(QPolicy):
    """:class:`QPolicy` for dictionaries: the same, by default with ``DictionaryExtractor``."""

    default_features_extractor_class = DictionaryExtractor

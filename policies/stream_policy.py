"""The policy of Stream Q(λ): a Q-network that normalises what it sees, and its average."""

from copy import deepcopy
from typing import Any, Literal

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    FlattenExtractor,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn
from typing_extensions import override

from dqn_plugins.policies.dictionary_extractor import DictionaryExtractor
from dqn_plugins.policies.image_extractor import ImageExtractor
from dqn_plugins.policies.initializers import SparseInitializer
from dqn_plugins.policies.local_values import LocalValues
from dqn_plugins.policies.normalization import (
    ObservationNormalizer,
    RecentMeanSquare,
    RewardNormalizer,
    RewardScale,
)
from dqn_plugins.policies.q_policy import QNetwork, QPolicy, WeightInitializer, arguments_in
from dqn_plugins.policies.trace_optimizers import TraceAdam, TraceOptimizer

__all__ = [
    "NormalizingQNetwork",
    "StreamCnnPolicy",
    "StreamMlpPolicy",
    "StreamMultiInputPolicy",
    "StreamQPolicy",
]


NINE_TENTHS_SPARSE = SparseInitializer(0.9)


class NormalizingQNetwork(QNetwork):
    """
    :class:`QNetwork` over observations and rewards that it normalises by running statistics.

    Its action values are in the units of the rewards as the environment gives them. What is learned
    is those values divided by :attr:`reward_scale`, see :meth:`learned_values`. The statistics
    change only while an algorithm learns.

    :param normalize_observations: Whether to normalise observations; None for all but images that
        an :class:`~dqn_plugins.policies.ImageExtractor` sees.
    :param normalize_rewards: What rewards are divided by, see :class:`RewardNormalizer`; False for
        nothing.
    :param local_values: Whether to have :class:`LocalValues` beside the perceptron; None where
        observations are vectors of real numbers, and they and rewards are normalised.
    :raises ValueError: If ``local_values`` is True and they cannot be.
    """

    def __init__(
        self,
        *args: Any,
        normalize_observations: bool | None = None,
        normalize_rewards: RewardScale | Literal[False] = "blend",
        local_values: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if normalize_observations is None:
            normalize_observations = not isinstance(self.features_extractor, ImageExtractor)
        self.normalize_observations = normalize_observations
        self.normalize_rewards = normalize_rewards
        self.observation_normalizer = (
            ObservationNormalizer(self.observation_space) if normalize_observations else None
        )
        self.reward_normalizer = RewardNormalizer(normalize_rewards) if normalize_rewards else None
        can_be_local = (
            isinstance(self.features_extractor, FlattenExtractor)
            and isinstance(self.observation_space, spaces.Box)
            and self.observation_normalizer is not None
            and len(self.observation_normalizer.statistics) > 0
            and self.reward_normalizer is not None
        )
        if local_values and not can_be_local:
            raise ValueError(
                "local_values: received True, it must be None or False unless observations are "
                "vectors, and they and rewards are normalised. Pass None."
            )
        self.local_values: LocalValues | None = None
        if can_be_local and local_values is not False:
            self.local_values = LocalValues(self.features_dim, int(self.action_space.n))

    @property
    def reward_scale(self) -> float:
        """What rewards are divided by before they are learned from; 1 if they are as they are."""
        return 1.0 if self.reward_normalizer is None else self.reward_normalizer.scale

    @property
    def cost_share(self) -> float:
        """c, see :attr:`RewardNormalizer.cost_share`; 0 where rewards are as they are."""
        return 0.0 if self.reward_normalizer is None else self.reward_normalizer.cost_share

    @override
    def learned_values(self, obs: PyTorchObs) -> th.Tensor:
        if self.local_values is None:
            return super().learned_values(obs)
        features = self.extract_features(obs, self.features_extractor)
        local: th.Tensor = self.local_values(features, self.cost_share)
        values: th.Tensor = self.q_net(features) + local
        return values

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        Compute action values in the units of the environment's rewards.

        :param obs: Observations, shape (n, ...).
        :return: Action values, shape (n, n_actions).
        """
        return self.learned_values(obs) * self.reward_scale

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        # Unscaled, so that the scale cannot make two values equal that are not.
        return self.learned_values(observation).argmax(dim=1).reshape(-1)

    @override
    def extract_features(
        self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor
    ) -> th.Tensor:
        if self.observation_normalizer is not None:
            obs = self.observation_normalizer(obs)
        return super().extract_features(obs, features_extractor)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "normalize_observations": self.normalize_observations,
            "normalize_rewards": self.normalize_rewards,
            "local_values": self.local_values is not None,
        }


class StreamQPolicy(QPolicy):
    """
    :class:`QPolicy` with the ingredients of Stream Q(λ), each of which can be taken out.

    The arguments that are not named here are those of :class:`QPolicy`.

    :param net_arch: Number of units of each hidden layer. By default ``[128, 128]``; on top of
        :class:`~dqn_plugins.policies.ImageExtractor` ``[128]``, or ``[256]`` for images with sides
        of 53 pixels or more; ``[]`` on top of ``NatureCNN``.
    :param optimizer_class: One of the optimisers with eligibility traces:
        :class:`~dqn_plugins.policies.TraceAdam`, :class:`~dqn_plugins.policies.ObGD`,
        :class:`~dqn_plugins.policies.AdaptiveObGD`,
        :class:`~dqn_plugins.policies.AdaptiveQOptimizer`,
        :class:`~dqn_plugins.policies.IntentionalOptimizer` or
        :class:`~dqn_plugins.policies.MaxScaledOptimizer`.
    :param normalize_observations: Whether to normalise observations by running statistics; None
        for all but the images that an ``ImageExtractor`` sees, whose pixels are mostly alike.
    :param normalize_rewards: What rewards are divided by: "return_deviation", "reward_rms" or
        "blend", see :class:`~dqn_plugins.policies.RewardNormalizer`; False for nothing. True is
        "blend".
    :param averaging_window: Largest number of transitions over which the weights are averaged for
        ``predict``, at least 1; None to predict with the newest weights. Early in a run it is the
        last fifth of them. See ``average_q_net``.
    :param local_values: Whether to have :class:`~dqn_plugins.policies.LocalValues` beside the
        perceptron, which count where every step costs the same; None for wherever they can be:
        where observations are vectors of real numbers, and they and rewards are normalised.
    :raises ValueError: If the optimiser keeps no traces, or the window is below 1.
    """

    q_net: NormalizingQNetwork
    average_q_net: NormalizingQNetwork | None
    """The network of the averaged weights, by which ``predict`` acts. With a constant step size
    the newest weights keep moving about the solution, and the greedy policy jumps with them; their
    average stands closer to it (Polyak and Juditsky, 1992, "Acceleration of Stochastic
    Approximation by Averaging"). It is no target network: nothing is learned from it."""
    n_averaged: th.Tensor
    td_errors: RecentMeanSquare
    """How large TD errors have been, in the units of normalised rewards."""
    optimizer: TraceOptimizer
    default_net_arch = (128, 128)

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.LeakyReLU,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = TraceAdam,
        optimizer_kwargs: dict[str, Any] | None = None,
        layer_norm: bool = True,
        weight_initializer: WeightInitializer | None = NINE_TENTHS_SPARSE,
        normalize_observations: bool | None = None,
        normalize_rewards: RewardScale | bool = "blend",
        averaging_window: int | None = 20_000,
        layer_norm_affine: bool = False,
        local_values: bool | None = None,
    ) -> None:
        arguments = arguments_in(locals())
        if averaging_window is not None and not averaging_window >= 1:
            raise ValueError(
                f"averaging_window: received {averaging_window}, it must be at least 1, or None to "
                "predict with the newest weights. Try 20_000."
            )
        self.normalize_observations = normalize_observations
        self.normalize_rewards = "blend" if normalize_rewards is True else normalize_rewards
        self.averaging_window = averaging_window
        self.local_values = local_values
        super().__init__(**{name: arguments[name] for name in arguments.keys() - vars(self).keys()})

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        optimizer: Any = self.optimizer
        if not isinstance(optimizer, TraceOptimizer):
            raise ValueError(
                f"optimizer_class: received {type(optimizer).__name__}, it must keep "
                "eligibility traces: TraceAdam, ObGD, AdaptiveObGD, AdaptiveQOptimizer, "
                "IntentionalOptimizer or MaxScaledOptimizer from dqn_plugins.policies."
            )
        self.td_errors = RecentMeanSquare()
        self.average_q_net = None
        if self.averaging_window is not None:
            self.average_q_net = deepcopy(self.q_net).requires_grad_(False)
            self.average_q_net.observation_normalizer = self.q_net.observation_normalizer
            self.average_q_net.reward_normalizer = self.q_net.reward_normalizer
            self.register_buffer("n_averaged", th.zeros(1, dtype=th.float64))
            self.q_net.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
                self._average_what_was_loaded
            )

    def _average_what_was_loaded(self, _q_net: nn.Module, _incompatible_keys: Any) -> None:
        """Act by weights that were loaded into ``q_net`` alone, too."""
        assert self.average_q_net is not None
        with th.no_grad():
            for average, param in zip(
                self.average_q_net.parameters(), self.q_net.parameters(), strict=True
            ):
                average.copy_(param)

    @property
    def reward_normalizer(self) -> RewardNormalizer | None:
        """What rewards are divided by before they are learned from; None if nothing."""
        return self.q_net.reward_normalizer

    @override
    def make_q_net(self) -> NormalizingQNetwork:
        return NormalizingQNetwork(
            **self._update_features_extractor(self.net_args),
            normalize_observations=self.normalize_observations,
            normalize_rewards=self.normalize_rewards,
            local_values=self.local_values,
        ).to(self.device)

    @th.no_grad()
    def update_average(self, n_transitions: int = 1) -> None:
        """
        Take the newest weights into their average.

        At update t the share of the newest weights is (η + 1) / (t + η) with η = 4: roughly the
        last fifth of all updates is averaged, so that the first weights are soon forgotten
        (polynomial-decay averaging, Shamir and Zhang, 2013, arXiv 1212.1824). Once that is more
        than ``averaging_window`` transitions, the share stays at that of one update's transitions
        in them.

        :param n_transitions: From how many transitions the weights were updated at once.
        """
        if self.average_q_net is None or self.averaging_window is None:
            return
        self.n_averaged += n_transitions
        t = self.n_averaged.item() / n_transitions
        share = min(max(5.0 / (t + 4.0), n_transitions / self.averaging_window), 1.0)
        for average, param in zip(
            self.average_q_net.parameters(), self.q_net.parameters(), strict=True
        ):
            average.lerp_(param, share)

    @property
    def greedy_q_net(self) -> NormalizingQNetwork:
        """The network by whose values ``predict`` chooses: the average one, if there is one."""
        return self.q_net if self.average_q_net is None else self.average_q_net

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "normalize_observations": self.normalize_observations,
            "normalize_rewards": self.normalize_rewards,
            "averaging_window": self.averaging_window,
            "local_values": self.local_values,
        }


StreamMlpPolicy = StreamQPolicy


class StreamCnnPolicy(StreamQPolicy):
    """:class:`StreamQPolicy` for images: the same arguments, by default with ``ImageExtractor``."""

    default_features_extractor_class = ImageExtractor


class StreamMultiInputPolicy(StreamQPolicy):
    """:class:`StreamQPolicy` for dictionaries: the same, with ``DictionaryExtractor``."""

    default_features_extractor_class = DictionaryExtractor

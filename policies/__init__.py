"""Q-networks and Stable-Baselines3 policies over them, normalisation, initialisers, optimisers."""

from dqn_plugins.policies.gradient_scaled_optimizers import AdaptiveQOptimizer, IntentionalOptimizer
from dqn_plugins.policies.image_extractor import Convolution, ImageExtractor
from dqn_plugins.policies.initializers import SparseInitializer, glorot_uniform, orthogonal
from dqn_plugins.policies.local_values import LocalValues
from dqn_plugins.policies.normalization import (
    ObservationNormalizer,
    RecentMeanSquare,
    RewardNormalizer,
    RewardScale,
    RunningStatistics,
)
from dqn_plugins.policies.optimizers import KerasAdam
from dqn_plugins.policies.pqn_policy import (
    PQNCnnPolicy,
    PQNMlpPolicy,
    PQNMultiInputPolicy,
    PQNPolicy,
)
from dqn_plugins.policies.q_policy import (
    CnnPolicy,
    MlpPolicy,
    MultiInputPolicy,
    QNetwork,
    QPolicy,
    WeightInitializer,
)
from dqn_plugins.policies.stream_policy import (
    NormalizingQNetwork,
    StreamCnnPolicy,
    StreamMlpPolicy,
    StreamMultiInputPolicy,
    StreamQPolicy,
)
from dqn_plugins.policies.trace_optimizers import (
    AdaptiveObGD,
    MaxScaledOptimizer,
    ObGD,
    TraceAdam,
    TraceOptimizer,
)

__all__ = [
    "AdaptiveObGD",
    "AdaptiveQOptimizer",
    "CnnPolicy",
    "Convolution",
    "ImageExtractor",
    "IntentionalOptimizer",
    "KerasAdam",
    "LocalValues",
    "MaxScaledOptimizer",
    "MlpPolicy",
    "MultiInputPolicy",
    "NormalizingQNetwork",
    "ObGD",
    "ObservationNormalizer",
    "PQNCnnPolicy",
    "PQNMlpPolicy",
    "PQNMultiInputPolicy",
    "PQNPolicy",
    "QNetwork",
    "QPolicy",
    "RecentMeanSquare",
    "RewardNormalizer",
    "RewardScale",
    "RunningStatistics",
    "SparseInitializer",
    "StreamCnnPolicy",
    "StreamMlpPolicy",
    "StreamMultiInputPolicy",
    "StreamQPolicy",
    "TraceAdam",
    "TraceOptimizer",
    "WeightInitializer",
    "glorot_uniform",
    "orthogonal",
]

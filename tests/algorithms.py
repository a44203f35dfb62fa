"""The algorithms, one row each. What all of them promise is tested over this table."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch as th
from torch import nn

from dqn_plugins import PQN, NaiveDQN, StreamQ
from dqn_plugins.policies import (
    AdaptiveObGD,
    AdaptiveQOptimizer,
    IntentionalOptimizer,
    KerasAdam,
    MaxScaledOptimizer,
    ObGD,
    SparseInitializer,
    TraceAdam,
    glorot_uniform,
)
from tests.environments import RecordingEnv

__all__ = ["ALGORITHMS", "Row", "each_algorithm", "each_online_algorithm", "each_optimizer"]

Model = Any
"""One of the algorithms' models."""


@dataclass(frozen=True)
class Row:
    """
    One algorithm.

    :param algorithm: Its class.
    :param changed: For every argument of its constructor another value than the default.
    :param optimizers: Its optimisers, the default first, and learning rates that suit them.
    :param quick: Keyword arguments with which it learns from a few steps.
    :param rollout: After how many steps of each environment it learns then.
    """

    algorithm: Any
    changed: dict[str, Any]
    optimizers: dict[type[th.optim.Optimizer], float]
    quick: dict[str, Any] = field(default_factory=dict)
    rollout: int = 1

    @property
    def is_online(self) -> bool:
        """Whether it learns from each transition as it arrives, also from one that it is handed."""
        return hasattr(self.algorithm, "learn_one")

    def make(self, env: Any = None, policy: Any = "MlpPolicy", **kwargs: Any) -> Model:
        """
        A small model with a seed.

        :param env: What it learns from; None for a :class:`RecordingEnv` of its own.
        :param policy: The policy.
        :param kwargs: Arguments to add or to replace; in ``policy_kwargs`` one by one.
        """
        policy_kwargs = {"net_arch": [8], **(kwargs.pop("policy_kwargs", None) or {})}
        env = RecordingEnv() if env is None else env
        given = {"seed": 0, **self.quick, **kwargs, "policy_kwargs": policy_kwargs}
        return self.algorithm(policy, env, **given)


SHARED: dict[str, Any] = {
    "learning_rate": 3e-3,
    "gamma": 0.8,
    "exploration_fraction": 0.7,
    "exploration_initial_eps": 0.9,
    "exploration_final_eps": 0.15,
    "stats_window_size": 17,
    "tensorboard_log": "logs",
    "verbose": 2,
    "seed": 11,
    "backend": "torch",
    "use_action_masks": False,
}
HELD: dict[str, Any] = {
    "exploration": "extended",
    "exploration_duration": 3,
    "exploration_stuck_eps": 0.5,
}
SHARED_POLICY: dict[str, Any] = {"net_arch": [7, 6], "activation_fn": nn.Tanh}

ALGORITHMS = [
    Row(
        NaiveDQN,
        changed={
            **SHARED,
            "max_grad_norm": 2.5,
            "q_step_size": 0.4,
            "bootstrap_at_terminal": True,
            "advantage_gap": 0.6,
            "update": "mean",
            "policy_kwargs": {
                **SHARED_POLICY,
                "optimizer_class": KerasAdam,
                "optimizer_kwargs": {"betas": (0.8, 0.99), "eps": 1e-3},
                "layer_norm": True,
                "weight_initializer": glorot_uniform,
                "layer_norm_affine": True,
            },
        },
        optimizers={th.optim.Adam: 1e-3, KerasAdam: 1e-3, th.optim.SGD: 1e-3},
    ),
    Row(
        StreamQ,
        changed={
            **SHARED,
            **HELD,
            "trace_decay": 0.35,
            "trace_cut": "watkins",
            "td_error_clip": 1.5,
            "td_error_clip_rms": 4.0,
            "target": "expected",
            "advantage_gap": 0.6,
            "update": "mean",
            "policy_kwargs": {
                **SHARED_POLICY,
                "optimizer_class": AdaptiveObGD,
                "optimizer_kwargs": {"overshoot_factor": 3.0, "beta2": 0.9, "eps": 1e-3},
                "layer_norm": False,
                "weight_initializer": SparseInitializer(0.5),
                "layer_norm_affine": True,
                "normalize_observations": False,
                "normalize_rewards": False,
                "averaging_window": 30,
                "local_values": False,
            },
        },
        optimizers={
            TraceAdam: 1e-3,
            ObGD: 1.0,
            AdaptiveObGD: 1.0,
            AdaptiveQOptimizer: 1e-3,
            IntentionalOptimizer: 0.25,
            MaxScaledOptimizer: 1e-3,
        },
    ),
    Row(
        PQN,
        changed={
            **SHARED,
            **HELD,
            "n_steps": 6,
            "batch_size": 5,
            "n_epochs": 3,
            "q_lambda": 0.4,
            "max_grad_norm": 2.0,
            "bootstrap_at_truncation": False,
            "policy_kwargs": {
                **SHARED_POLICY,
                "optimizer_class": th.optim.Adam,
                "optimizer_kwargs": {"betas": (0.8, 0.99), "eps": 1e-3},
                "layer_norm": False,
                "weight_initializer": glorot_uniform,
                "layer_norm_affine": False,
            },
        },
        optimizers={th.optim.RAdam: 2.5e-4, th.optim.Adam: 2.5e-4},
        quick={"n_steps": 4, "batch_size": 4, "n_epochs": 2},
        rollout=4,
    ),
]


def _name(value: Any) -> str:
    return value.algorithm.__name__ if isinstance(value, Row) else value.__name__


each_algorithm = pytest.mark.parametrize("row", ALGORITHMS, ids=_name)
each_online_algorithm = pytest.mark.parametrize(
    "row", [row for row in ALGORITHMS if row.is_online], ids=_name
)
each_optimizer = pytest.mark.parametrize(
    ("row", "optimizer"),
    [(row, optimizer) for row in ALGORITHMS for optimizer in row.optimizers],
    ids=_name,
)

"""What can be compiled, and why not: one question about a rule, a network and an optimiser."""

from typing import Any

import torch as th
from stable_baselines3.common.torch_layers import FlattenExtractor

from dqn_plugins.learning.compiled.network import products_of, reason_against_layers
from dqn_plugins.learning.compiled.optimizers import OPTIMIZERS
from dqn_plugins.learning.rules import NaiveRule, RolloutRule, Rule, StreamRule
from dqn_plugins.policies import ImageExtractor, NormalizingQNetwork, QNetwork, QPolicy
from dqn_plugins.policies.dictionary_extractor import DictionaryExtractor

__all__ = [
    "hooks_of",
    "is_faster_in_torch",
    "reason_against_compiling",
    "reason_against_optimizer",
]

MOST_PRODUCTS = 20_000_000
"""
Where convolutions multiply more often for one image, torch is faster, on one thread. Measured:
compiled code is 1.3 to 4 times as fast with 3 million products (84×84 pixels in the paper's
network; 20×20 in two layers of 32 filters of 3×3), twice with 13 million (210×160), 1.3 times with
14 million (40×40), and 0.7 times with 67 million (84×84 in those two layers).
"""

MOST_PRODUCTS_IN_BATCHES = 1_000_000
"""
The same for minibatches of images, on which torch spends less for each. Measured with 64 images:
compiled code is 2.2 times as fast with 0.04 million products (MinAtar's network), 1.5 times with
0.09, 0.8 to 1.4 times with 0.5 (36×36), 0.6 times with 2.6 (20×20 in two layers of 32 filters), and
0.4 times with 3 million (84×84).
"""

EXTRACTORS = (FlattenExtractor, ImageExtractor, DictionaryExtractor)


def reason_against_compiling(policy: QPolicy, rule: Rule) -> str | None:
    """
    Tell why compiled code cannot apply a rule to a policy, and what it would need; None if it can.

    An optimiser that is not compiled is no reason where the rule makes a gradient: torch then takes
    the steps. What is frozen, or has hooks, is left to torch, which knows what to do.
    """
    if type(rule) not in (NaiveRule, StreamRule, RolloutRule):
        return f"there is no compiled code for {type(rule).__name__}"
    if policy.device.type != "cpu":
        return f"the policy is on {policy.device}, it must be on the CPU"
    q_net, extractor = policy.q_net, policy.q_net.features_extractor
    if type(extractor) not in EXTRACTORS:
        known = ", ".join(kind.__name__ for kind in EXTRACTORS)
        return f"the features extractor is {type(extractor).__name__}, it must be one of {known}"
    if isinstance(extractor, DictionaryExtractor) and extractor.has_images:
        return "a part of the observations is an image"
    if type(q_net) not in (QNetwork, NormalizingQNetwork):
        return f"{type(q_net).__name__} computes its outputs in a way of its own"
    if any(param.dtype != th.float32 for param in q_net.parameters()):
        return "some weights are not float32"
    if not all(param.requires_grad for param in q_net.parameters()):
        return "some weights are frozen"
    if any(hooks_of(q_net)):
        return "a module has hooks"
    reason = reason_against_layers(q_net)
    if reason is None and isinstance(rule, StreamRule):
        reason = reason_against_optimizer(policy)
    return reason


def reason_against_optimizer(policy: QPolicy) -> str | None:
    """Tell why compiled code cannot take the steps of a policy's optimiser, likewise."""
    optimizer = policy.optimizer
    known = OPTIMIZERS.get(type(optimizer))
    if known is None:
        names = ", ".join(sorted(kind.__name__ for kind in OPTIMIZERS))
        return f"the optimiser is {type(optimizer).__name__}, it must be one of {names}"
    groups = optimizer.param_groups
    parameters = list(policy.q_net.parameters())
    if len(groups) != 1 or [id(p) for p in groups[0]["params"]] != [id(p) for p in parameters]:
        return "the optimiser does not hold the network's weights in one group"
    if isinstance(groups[0]["lr"], th.Tensor):
        return "the learning rate is a tensor, it must be a float"
    for name, value in known.required.items():
        if groups[0].get(name, value) != value:  # older torch has fewer options
            return f"the optimiser's {name} is {groups[0][name]!r}, it must be {value!r}"
    return None


def is_faster_in_torch(policy: QPolicy, rule: Rule) -> bool:
    """Tell whether the convolutions of a policy are so large that torch computes them faster."""
    most = MOST_PRODUCTS_IN_BATCHES if isinstance(rule, RolloutRule) else MOST_PRODUCTS
    return products_of(policy.q_net) > most


def hooks_of(q_net: QNetwork) -> list[dict[int, Any]]:
    """Collect where torch keeps the hooks of a network's modules, empty where there are none."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [getattr(module, name) for module in q_net.modules() for name in names]

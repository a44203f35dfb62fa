"""Q(λ) from rollouts in compiled code: for multilayer perceptrons on the CPU. The fast one."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from dqn_plugins.learning.autograd.descent import Descent
from dqn_plugins.learning.autograd.rollouts import RolloutLearner
from dqn_plugins.learning.compiled.batches import (
    N_COLUMNS,
    Perceptron,
    best_actions,
    gradient_of_error,
    values_of,
)
from dqn_plugins.learning.compiled.binding import reason_against_kinds
from dqn_plugins.learning.compiled.compilation import announce_compilation, by_reference
from dqn_plugins.learning.compiled.learner import as_rows
from dqn_plugins.learning.transition import Observation
from dqn_plugins.policies import QNetwork, QPolicy

__all__ = ["CompiledRolloutLearner", "reason_against_compiled_rollouts"]


class CompiledRolloutLearner(RolloutLearner):
    """
    The same as :class:`RolloutLearner`, for a policy that
    :func:`reason_against_compiled_rollouts` has nothing against.
    """

    def __init__(self, *args: Any) -> None:
        announce_compilation()
        super().__init__(*args)
        self._bind()

    def _bind(self) -> None:
        self._weights = self._descent.bind()
        self._network = by_reference(_perceptron(self.policy, self._weights.numpy()))

    def is_current(self, thorough: bool = True) -> bool:
        """
        Tell whether compiled code still works on the memory that the policy uses.

        :param thorough: Without effect.
        :return: False if somebody replaced it, or the network cannot be compiled any more.
        """
        return self._descent.is_bound_to(self._weights)

    def greedy_actions(self, obs: Observation) -> np.ndarray:
        """
        Find the actions of the highest values. See :meth:`Learner.greedy_actions`.

        :param obs: Observations, shape (n_envs, ...).
        :return: Actions, shape (n_envs,), int64.
        """
        rows = as_rows(obs)
        actions = np.empty(len(rows), np.int64)
        best_actions(self._network, rows, actions)
        return actions

    def _values(self, obs: dict[str, th.Tensor], rows: slice = slice(None)) -> th.Tensor:
        inputs = as_rows(obs[""][rows].numpy())
        values = np.empty((len(inputs), self.policy.q_net.action_space.n), np.float32)
        values_of(self._network, inputs, values)
        return th.from_numpy(values)

    def _descend(
        self,
        descent: Descent,
        obs: dict[str, th.Tensor],
        actions: th.Tensor,
        returns: th.Tensor,
        batches: tuple[th.Tensor, ...],
    ) -> bool:
        inputs, gradient = as_rows(obs[""].numpy()), descent.gradients.numpy()
        flat_actions, targets = actions.view(-1).numpy(), returns.view(-1).numpy()
        for batch in batches:
            gradient_of_error(self._network, inputs, flat_actions, targets, batch.numpy(), gradient)
            if not descent.step(self.rule.max_grad_norm):
                return False
        return True


def reason_against_compiled_rollouts(policy: QPolicy) -> str | None:
    """
    Tell why compiled code cannot learn from rollouts with a policy.

    :param policy: The policy.
    :return: The reason, with what would be needed instead; None if there is none.
    """
    space, q_net = policy.observation_space, policy.q_net
    if is_image_space(space):
        return f"observations are {space}, they must be a Box that is not an image"
    reason = reason_against_kinds(policy, (FlattenExtractor,), (QNetwork,))
    if reason is not None:
        return reason
    parameters = list(q_net.parameters())
    held = [each for group in policy.optimizer.param_groups for each in group["params"]]
    if [id(each) for each in held] != [id(each) for each in parameters]:
        return "the optimiser does not hold the network's weights in their order"
    if _blocks(q_net.q_net) is None:
        return (
            "the network is not made of Linear layers with biases, each but the last followed by "
            "ReLU or LeakyReLU, with or without LayerNorm between"
        )
    return None


def _blocks(
    network: nn.Sequential,
) -> list[tuple[nn.Linear, nn.LayerNorm | None, float]] | None:
    """Read a network as linear layers, each with its normalisation and its slope below 0."""
    blocks: list[tuple[nn.Linear, nn.LayerNorm | None, float]] = []
    modules: list[nn.Module | None] = [*network]
    while modules:
        linear = modules.pop(0)
        if type(linear) is not nn.Linear or linear.bias is None:
            return None
        if not modules:
            return [*blocks, (linear, None, 1.0)]
        activation = modules.pop(0)
        norm = None
        if type(activation) is nn.LayerNorm:
            norm, activation = activation, modules.pop(0) if modules else None
            if len(list(norm.parameters())) == 1:  # a scale without a shift
                return None
        if type(activation) is nn.ReLU:
            slope = 0.0
        elif type(activation) is nn.LeakyReLU:
            slope = activation.negative_slope
        else:
            return None
        blocks.append((linear, norm, slope))
    return None


def _perceptron(policy: QPolicy, weights: np.ndarray) -> Perceptron:
    blocks = _blocks(policy.q_net.q_net)
    assert blocks is not None
    layers = np.full((len(blocks), N_COLUMNS), -1, np.int64)
    place = 0
    for row, (linear, norm, _) in zip(layers, blocks, strict=True):
        n_in, n_out = linear.in_features, linear.out_features
        row[:5] = n_in, n_out, place, place + n_in * n_out, norm is not None
        place += (n_in + 1) * n_out
        if norm is not None and norm.elementwise_affine:
            row[5] = place
            place += 2 * n_out
    eps = [1.0 if norm is None else norm.eps for _, norm, _ in blocks]
    slopes = [slope for *_, slope in blocks]
    return Perceptron(weights, layers, np.array(eps, np.float32), np.array(slopes, np.float32))

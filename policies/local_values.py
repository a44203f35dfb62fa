"""Action values that are linear in bumps along each input: a part of a Q-network."""

import torch as th
from torch import nn

__all__ = ["LocalValues"]


class LocalValues(nn.Module):
    """
    Action values that are linear in the inputs and in bumps along each of them, zero at first.

    Of each input x there are the features c·κ·exp(−((x − m) / b)² / 2), with eight places m from −2
    to 2 that are b apart, and c·x. A weight of a bump concerns the states about one place alone, so
    that large values are learned there without moving those elsewhere. That this stands beside a
    perceptron, and c, are our own; radial basis functions under linear values are described by
    Sutton and Barto (2018), "Reinforcement Learning: An Introduction", section 9.5.5.

    :param n_inputs: Number of inputs, which are normalised.
    :param n_actions: Number of actions.
    """

    N_BUMPS = 8
    FARTHEST = 2.0
    SCALE = 2.0
    """κ."""

    def __init__(self, n_inputs: int, n_actions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(th.zeros(n_actions, (self.N_BUMPS + 1) * n_inputs))

    def forward(self, inputs: th.Tensor, share: float) -> th.Tensor:
        """
        Compute this part of the action values.

        :param inputs: Normalised observations, shape (n, n_inputs).
        :param share: c, in [0, 1], see :attr:`RewardNormalizer.cost_share`.
        :return: What to add to the action values, shape (n, n_actions).
        """
        width = 2.0 * self.FARTHEST / (self.N_BUMPS - 1)
        places = width * th.arange(self.N_BUMPS, device=inputs.device) - self.FARTHEST
        bumps = self.SCALE * th.exp(-0.5 * ((inputs.unsqueeze(-1) - places) / width) ** 2)
        features = share * th.cat([bumps.flatten(1), inputs], dim=1)
        return features @ self.weight.T

"""Ways to draw the first weights of a network, to be passed as ``weight_initializer``."""

from dataclasses import dataclass

import torch as th
from torch import nn

__all__ = ["SparseInitializer", "glorot_uniform", "orthogonal"]


def glorot_uniform(module: nn.Module) -> None:
    """
    Draw the weights of a layer from Glorot's uniform distribution and set its biases to zero.

    This is what a Keras ``Dense`` layer starts from, and so what the introductory notebook starts
    from. Pass it to a policy: ``policy_kwargs=dict(weight_initializer=glorot_uniform)``.

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward
    neural networks", equation 16.

    :param module: A linear or convolutional layer, changed in place. Any other module is left
        alone, so that the function can be given to ``torch.nn.Module.apply``.
    """
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def orthogonal(module: nn.Module) -> None:
    """
    Draw an orthogonal matrix, times the root of 2, as the weights of a layer, and set its biases
    to zero.

    Source: Saxe, McClelland and Ganguli (2014), "Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks", arXiv 1312.6120.

    :param module: A linear or convolutional layer, changed in place. Any other module is left
        alone.
    """
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        nn.init.orthogonal_(module.weight, 2**0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class SparseInitializer:
    """
    Draw the weights of a layer from LeCun's uniform distribution and set most of them to zero.

    Each unit keeps a few randomly chosen inputs, which keeps different inputs from interfering in
    the first updates. Biases are zero.

    Source: Elsayed, Vasan and Mahmood (2024), arXiv 2410.14606, algorithm 1.

    :param sparsity: Fraction of each unit's input weights that are zero, in [0, 1); rounded down
        to whole weights, so that every unit keeps at least one.
    :raises ValueError: If the fraction is out of its range.
    """

    sparsity: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.sparsity < 1.0:
            raise ValueError(f"sparsity: received {self.sparsity}, it must be in [0, 1). Try 0.9.")

    @th.no_grad()
    def __call__(self, module: nn.Module) -> None:
        """Draw the weights of a linear or convolutional layer; any other module is left alone."""
        if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return
        inputs = module.weight.view(len(module.weight), -1)
        fan_in = inputs.shape[1]
        bound = fan_in**-0.5
        inputs.uniform_(-bound, bound)
        n_zeros = int(self.sparsity * fan_in)
        for unit in inputs:
            unit[th.randperm(fan_in)[:n_zeros]] = 0.0
        if module.bias is not None:
            nn.init.zeros_(module.bias)

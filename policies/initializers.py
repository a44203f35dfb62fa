"""Ways to draw the first weights of a network, to be passed as ``weight_initializer``."""

from torch import nn

__all__ = ["glorot_uniform"]


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

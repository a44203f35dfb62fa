"""What can go wrong while learning, as exceptions that carry where it happened."""

__all__ = ["DivergenceError", "NonFiniteTransitionError"]


class NonFiniteTransitionError(ValueError):
    """
    An environment gave NaN or infinity. The weights are those of before the transition.

    :param quantity: Which part of the transition: "observation", "next observation" or "reward".
    :param env_index: Index of the environment it came from.
    :param value: What the environment gave.
    :param step: Environment steps done when it came, over all environments.
    """

    def __init__(self, quantity: str, env_index: int, value: object, step: int = 0) -> None:
        super().__init__(quantity, env_index, value, step)
        self.quantity = quantity
        self.env_index = env_index
        self.value = value
        self.step = step

    def __str__(self) -> str:
        return (
            f"The {self.quantity} of environment {self.env_index} at step {self.step} is not "
            f"finite: received {self.value}. Only finite numbers can be learned from, and the "
            "weights are as they were before this transition. Find where the environment divides "
            "by zero or overflows, or clip what it returns."
        )


class DivergenceError(FloatingPointError):
    """
    The Q-values grew until the TD error or the gradient overflowed. The weights are finite still.

    :param env_index: Index of the environment whose TD error overflowed or is the largest.
    :param td_error: The TD error.
    :param step: Environment steps done when it happened, over all environments.
    """

    def __init__(self, env_index: int, td_error: float, step: int = 0) -> None:
        super().__init__(env_index, td_error, step)
        self.env_index = env_index
        self.td_error = td_error
        self.step = step

    def __str__(self) -> str:
        return (
            f"Learning diverged: with the TD error {self.td_error} of environment "
            f"{self.env_index} at step {self.step} the update overflows. The weights are as they "
            "were before this transition. Lower the learning rate or scale the rewards down."
        )

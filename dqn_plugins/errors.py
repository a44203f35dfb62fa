"""What can go wrong while learning, as exceptions that carry where it happened."""

from typing import Any

__all__ = [
    "DivergenceError",
    "EnvironmentStepError",
    "MalformedTransitionError",
    "NonFiniteTransitionError",
    "SettingsError",
]


class SettingsError(ValueError):
    """
    What a user asked for cannot be done. The message says what was received and what to do
    instead, so the command line shows it alone; every other error keeps its traceback.
    """


class EnvironmentStepError(RuntimeError):
    """
    An environment raised an exception, or the process that it runs in died. The weights are as
    they were before the transition. ``__cause__`` is what was raised.

    :param env_index: Index of the environment; None if it is not known.
    :param action: The action it was to take; None at a reset before the first step, or if the
        environment is not known.
    :param problem: What happened, as the end of "environment 0 ...".
    :param step: Environment steps done with this one, over all environments.
    """

    def __init__(self, env_index: int | None, action: Any, problem: str, step: int) -> None:
        super().__init__(env_index, action, problem, step)
        self.env_index = env_index
        self.action = action
        self.problem = problem
        self.step = step

    def __str__(self) -> str:
        which = "One of the environments"
        if self.env_index is not None:
            which = f"Environment {self.env_index}"
        doing = "" if self.action is None else f", taking action {self.action}"
        return (
            f"{which} {self.problem} at step {self.step}{doing}. The weights are as they were "
            "before this transition, and the model can be saved. Correct the environment, or make "
            "it anew and pass it to `set_env`."
        )


class MalformedTransitionError(ValueError):
    """
    An environment gave something that is not of its observation space's form, or no number as
    reward. The weights are as they were before the transition.

    :param quantity: Which part of the transition: "observation", "last observation", "reward",
        "action mask" or "observation space".
    :param env_index: Index of the environment it came from.
    :param received: What the environment gave, in words.
    :param expected: What it must give, in words.
    :param step: Environment steps done when it came, over all environments.
    """

    def __init__(
        self, quantity: str, env_index: int, received: str, expected: str, step: int = 0
    ) -> None:
        super().__init__(quantity, env_index, received, expected, step)
        self.quantity = quantity
        self.env_index = env_index
        self.received = received
        self.expected = expected
        self.step = step

    def __str__(self) -> str:
        advice = (
            "Correct its `step` and `reset`; stable_baselines3.common.env_checker.check_env finds "
            "such mistakes."
        )
        if self.quantity == "action mask":
            advice = "Correct its masks, or pass use_action_masks=False to learn without them."
        return (
            f"The {self.quantity} of environment {self.env_index} at step {self.step} is "
            f"malformed: received {self.received}, it must be {self.expected}. The weights "
            f"are as they were before this transition. {advice}"
        )


class NonFiniteTransitionError(ValueError):
    """
    An environment gave NaN or infinity. The weights are as they were before the transition.

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
            f"finite: received {self.value}. Only numbers that are finite in float32, up to "
            "3.4e38, can be learned from, and the "
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

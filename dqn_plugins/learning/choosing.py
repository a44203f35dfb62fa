"""Which backend learns, and why it is not the fast one."""

from typing import Literal, TypeAlias

from dqn_plugins.learning.autograd.learner import AutogradLearner
from dqn_plugins.learning.compiled.learner import CompiledLearner
from dqn_plugins.learning.compiled.support import is_faster_in_torch, reason_against_compiling
from dqn_plugins.learning.rules import Rule
from dqn_plugins.policies import QPolicy

__all__ = ["Backend", "choose_backend"]

Backend: TypeAlias = Literal["auto", "torch", "compiled"]
"""Which backend to use: "auto" is "compiled" wherever it can be and is faster."""


def choose_backend(
    policy: QPolicy, rule: Rule, name: Backend
) -> tuple[type[AutogradLearner | CompiledLearner], str | None]:
    """
    Choose what applies a rule to a policy.

    :param policy: The policy.
    :param rule: The rule.
    :param name: What the user asked for.
    :return: The class of the learner; and, where "auto" came to torch, the reason.
    :raises ValueError: If "compiled" was asked for and cannot be.
    """
    if name == "torch":
        return AutogradLearner, None
    reason = reason_against_compiling(policy, rule)
    if name == "compiled" and reason is not None:
        raise ValueError(
            f"backend: received 'compiled', but {reason}. Pass backend='torch', or 'auto' to have "
            "the compiled learner wherever it can be."
        )
    if name == "auto" and reason is None and is_faster_in_torch(policy, rule):
        reason = "convolutions as large as these are faster there"
    return (CompiledLearner, None) if reason is None else (AutogradLearner, reason)

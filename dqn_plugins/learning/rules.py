"""The update rules: what an algorithm learns by, as numbers that two backends apply."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from dqn_plugins.arguments import (
    check_above_zero,
    check_in_unit_interval,
    check_is_bool,
    check_one_of,
    is_integer,
)

__all__ = [
    "GAP_OF_COSTS",
    "NaiveRule",
    "RolloutRule",
    "Rule",
    "StreamRule",
    "Target",
    "TraceCut",
    "Update",
]

GAP_OF_COSTS = 0.9
"""``StreamRule``'s α where every step costs the same, unless it is given."""

TraceCut: TypeAlias = Literal["after", "watkins", "never"]
"""When an exploratory action cuts the eligibility trace, see :class:`StreamRule`."""

Target: TypeAlias = Literal["max", "expected"]
"""Which value of the next state is learned, see :class:`StreamRule`."""

Update: TypeAlias = Literal["each", "mean"]
"""How several environments' transitions are learned from: "each" by itself, in the order of the
environments, or their "mean" in one update of which each is a part."""


@dataclass(frozen=True)
class NaiveRule:
    """
    One gradient step on the mean squared error to a target that moves only the taken action.

    The target of Q(s, a) is q + α·(r + γ·max q(s′) − q); those of the other actions are their own
    values. Source: the introductory notebook; of ``advantage_gap``: Bellemare, Ostrovski, Guez,
    Thomas and Munos (2016), "Increasing the Action Gap", arXiv 1512.04860, after Baird (1999).

    :param gamma: Discount factor γ, in [0, 1].
    :param q_step_size: Step size α of the target, in [0, 1].
    :param bootstrap_at_terminal: Whether to bootstrap from terminal states, as the notebook does.
    :param max_grad_norm: Largest norm of the gradient, above 0; None for any.
    :param update: "each" or "mean", see :data:`Update`.
    :param advantage_gap: How much of the advantage of the best action, max q(s) − q(s, a), is
        subtracted from the TD error, in [0, 1). It keeps the best action and widens its lead by
        1 / (1 − ``advantage_gap``).
    :raises ValueError: If a number is out of its range.
    """

    gamma: float
    q_step_size: float
    bootstrap_at_terminal: bool
    max_grad_norm: float | None
    update: Update
    advantage_gap: float = 0.0

    def __post_init__(self) -> None:
        check_in_unit_interval("advantage_gap", self.advantage_gap, includes_one=False)
        check_in_unit_interval("gamma", self.gamma)
        check_in_unit_interval("q_step_size", self.q_step_size)
        check_is_bool(
            "bootstrap_at_terminal", self.bootstrap_at_terminal, "True is what the notebook does."
        )
        check_above_zero("max_grad_norm", self.max_grad_norm)
        _check_update(self.update)


@dataclass(frozen=True)
class StreamRule:
    """
    Stream Q(λ): weights move along eligibility traces by the TD error.

    z ← γλ·z + ∇Q(s, a), δ = r + γ·V(s′) − Q(s, a) − α·(V(s) − Q(s, a)), and the optimiser goes
    along δ·z. V is the same function of the action values of s′ and of s, see ``target``. With
    α > 0 each action's value falls behind V by 1 / (1 − α) times as much as without, so that noise
    exchanges two actions less often; V itself is what it was.

    Source: Elsayed, Vasan and Mahmood (2024), arXiv 2410.14606, algorithm 2. Of the expected value:
    van Seijen, van Hasselt, Whiteson and Wiering (2009), "A Theoretical and Empirical Analysis of
    Expected Sarsa", equation 5. Of α: Bellemare, Ostrovski, Guez, Thomas and Munos (2016),
    "Increasing the Action Gap", arXiv 1512.04860, equation 5, after Baird (1999).

    :param gamma: Discount factor γ, in [0, 1].
    :param trace_decay: λ, in [0, 1].
    :param trace_cut: "after": an exploratory action still gives and gets credit, then the trace
        ends; "watkins": the trace ends before it; "never": the trace goes on.
    :param td_error_clip: Largest absolute TD error that is learned from, above 0, in the units of
        normalised rewards where rewards are normalised; None for any.
    :param td_error_clip_rms: The same in multiples of the root mean square of the TD errors, of
        which about the last 10,000 count, above 0; None for any.
    :param target: "max": V(s) is the value of the best action, as in Q-learning; "expected": the
        one expected of the ε-greedy choice by which actions are taken, as in expected Sarsa.
    :param update: "each" or "mean", see :data:`Update`.
    :param advantage_gap: α: how much of V(s) − Q(s, a) is subtracted from the TD error,
        in [0, 1), see above. None is 0.9·c with the cost share c of
        :class:`~dqn_plugins.policies.RewardNormalizer`, as it was before the transition.
    :raises ValueError: If a number is out of its range.
    """

    gamma: float
    trace_decay: float
    trace_cut: TraceCut
    td_error_clip: float | None
    td_error_clip_rms: float | None
    target: Target
    update: Update
    advantage_gap: float | None = 0.0

    def __post_init__(self) -> None:
        if self.advantage_gap is not None:
            check_in_unit_interval("advantage_gap", self.advantage_gap, includes_one=False)
        check_in_unit_interval("gamma", self.gamma)
        check_in_unit_interval("trace_decay", self.trace_decay)
        check_one_of("trace_cut", self.trace_cut, get_args(TraceCut), "'after' is the authors'.")
        check_above_zero("td_error_clip", self.td_error_clip)
        check_above_zero("td_error_clip_rms", self.td_error_clip_rms)
        check_one_of("target", self.target, get_args(Target), "'max' is Q-learning.")
        _check_update(self.update)


@dataclass(frozen=True)
class RolloutRule:
    """
    Q(λ) from rollouts: several passes over the last steps of all environments, in minibatches.

    The target of Q(s, a) is the λ-return, see
    :func:`~dqn_plugins.learning.lambda_returns.lambda_returns`; the loss is the mean squared error.

    Source: Gallici et al. (2024), arXiv 2407.04811, algorithm 1.

    :param gamma: Discount factor γ, in [0, 1].
    :param q_lambda: λ of the λ-returns, in [0, 1].
    :param n_steps: Steps of each environment in a rollout, at least 1.
    :param n_epochs: Passes over a rollout, at least 1.
    :param batch_size: Transitions in a minibatch, about: those of a rollout are divided evenly. At
        least 1.
    :param max_grad_norm: Largest norm of the gradient, above 0; None for any.
    :param bootstrap_at_truncation: Whether an episode that is cut short is worth something at its
        end; False takes its last observation for a terminal state.
    :raises ValueError: If a number is out of its range.
    """

    gamma: float
    q_lambda: float
    n_steps: int
    n_epochs: int
    batch_size: int
    max_grad_norm: float | None
    bootstrap_at_truncation: bool

    def __post_init__(self) -> None:
        check_in_unit_interval("gamma", self.gamma)
        check_in_unit_interval("q_lambda", self.q_lambda)
        for name, advice in (("n_steps", 128), ("n_epochs", 4), ("batch_size", 128)):
            value = getattr(self, name)
            if not (is_integer(value) and value >= 1):
                raise ValueError(
                    f"{name}: received {value!r}, it must be an integer of at least 1. "
                    f"Try {advice}."
                )
        check_above_zero("max_grad_norm", self.max_grad_norm)
        check_is_bool(
            "bootstrap_at_truncation",
            self.bootstrap_at_truncation,
            "False is what CleanRL does.",
        )


Rule: TypeAlias = NaiveRule | StreamRule | RolloutRule
"""Any of them."""


def _check_update(update: Update) -> None:
    check_one_of("update", update, get_args(Update), "'each' learns more from a transition.")

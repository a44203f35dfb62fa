"""What the page asks of a model and changes in it, all through public attributes."""

from __future__ import annotations

import inspect
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dqn_plugins.files import checked_folder
from dqn_plugins.values import value_kind, values_of
from dqn_plugins.wrappers.video.video_writer import reserve_path

__all__ = ["Agent", "rounded"]

Numbers: TypeAlias = npt.NDArray[np.float64]

NO_MODEL = "No model is attached: call view.attach(model), or pass callback=LiveCallback(view)."
SIMPLE = (bool, int, float, str, type(None))


class Agent:
    """
    A model as the page sees it. Works with Stable-Baselines3's and this package's algorithms; what
    an algorithm does not have, it says why.
    """

    def __init__(self, model: Any = None):
        self.model = model
        self.policy_is_known = hasattr(model, "policy")
        self.can_explore = hasattr(model, "exploration_schedule")
        #: Whether it could not be asked for its values once.
        self.has_failed = False
        self._schedule: Any = None
        self._rates: tuple[Any, list[float]] | None = None

    # What can be done

    def reasons(self) -> dict[str, str]:
        """Tell which controls cannot work with this model, each with the reason why."""
        model = self.model
        if model is None:
            return dict.fromkeys(("exploration", "learning", "look", "save"), NO_MODEL)
        name = type(model).__name__
        reasons = {}
        if not self.can_explore:
            reasons["exploration"] = f"{name} has no exploration rate: it does not act ε-greedily."
        if not (hasattr(model, "lr_schedule") and hasattr(model.policy, "optimizer")):
            reasons["learning"] = f"{name} has no learning rate that could be set to 0."
        if not hasattr(model, "predict"):
            reasons["look"] = f"{name} cannot be asked for greedy actions."
        if not hasattr(model, "save"):
            reasons["save"] = f"{name} cannot be saved."
        return reasons

    def settings(self) -> dict[str, str]:
        """Describe the model: the arguments it was made with, and its policy."""
        model = self.model
        if not self.policy_is_known:
            return {}
        described = {"algorithm": type(model).__name__, "policy": type(model.policy).__name__}
        for name in inspect.signature(type(model).__init__).parameters:
            value = getattr(model, name, self)
            if name not in described and (
                isinstance(value, SIMPLE) or (name == "policy_kwargs" and value)
            ):
                described[name] = str(value)
        described["parameters"] = f"{sum(each.numel() for each in model.policy.parameters()):,}"
        return described

    # What it thinks

    def values(self, observation: Any) -> tuple[str, Numbers] | None:
        """
        Ask what the model expects of its actions: ``"Q"`` and the Q-values, or ``"probability"``
        and the policy's, shape (n_actions,); None if it has neither. Nothing random is drawn.
        """
        model = self.model
        if model is None:
            return None
        seen = self._seen(observation)
        if value_kind(model) == "Q":
            # By the weights that learn it acts while it learns; `predict` may act by their average.
            found = values_of(model, seen, learning=True)
            return None if found is None else ("Q", found.numbers)
        policy: Any = getattr(model, "policy", None)
        if not hasattr(policy, "get_distribution"):
            return None
        import torch

        with torch.no_grad():
            tensor, _ = policy.obs_to_tensor(seen)
            distribution = policy.get_distribution(tensor).distribution
        if not hasattr(distribution, "probs"):
            return None
        return "probability", distribution.probs.cpu().numpy().astype(float).reshape(-1)

    def _seen(self, observation: Any) -> Any:
        normalize = self.model.get_vec_normalize_env() if self.policy_is_known else None
        return observation if normalize is None else normalize.normalize_obs(observation)

    def td_error(
        self, value: float, reward: float, next_observation: Any, terminated: bool
    ) -> float | None:
        """
        Compute the one-step TD error r + γ·max Q(s′, ·) − Q(s, a) of a transition, whose Q(s, a) is
        ``value``; None if the model does not tell its γ.
        """
        gamma = getattr(self.model, "gamma", None)
        if gamma is None:
            return None
        bootstrap = 0.0
        if not terminated:
            answer = self.values(next_observation)
            assert answer is not None
            bootstrap = gamma * float(answer[1].max())
        return reward + bootstrap - value

    def greedy_action(self, observation: Any) -> Any:
        """Choose an action greedily."""
        return self.model.predict(self._seen(observation), deterministic=True)[0]

    @property
    def exploration_rate(self) -> float | None:
        """The ε in force; None if the algorithm has none."""
        rate = getattr(self.model, "exploration_rate", None)
        return float(rate) if isinstance(rate, int | float) else None

    # What is changed in it

    def hold_exploration(self, rate: float | None) -> None:
        """Hold ε from the algorithm's next step on, whatever its schedule says."""
        from stable_baselines3.common.utils import ConstantSchedule

        if rate is not None:
            self._schedule = self._schedule or self.model.exploration_schedule
            self.model.exploration_schedule = ConstantSchedule(rate)
        elif self._schedule is not None:
            self.model.exploration_schedule, self._schedule = self._schedule, None

    def learn(self, is_learning: bool) -> None:
        """Set the learning rate to 0, so that no weight changes, or back to what it was."""
        from stable_baselines3.common.utils import ConstantSchedule

        if is_learning == (self._rates is None):
            return
        groups = self.model.policy.optimizer.param_groups
        if self._rates is None:
            self._rates = self.model.lr_schedule, [group["lr"] for group in groups]
            # Most algorithms set the rate from the schedule before each update, some never.
            self.model.lr_schedule = ConstantSchedule(0.0)
            rates = [0.0] * len(groups)
        else:
            (self.model.lr_schedule, rates), self._rates = self._rates, None
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def release(self) -> None:
        """Undo whatever was changed."""
        self.hold_exploration(None)
        self.learn(True)

    def save(self, folder: str | os.PathLike[str], steps: int) -> Path:
        """Save the model under a name of its own."""
        stem = f"{type(self.model).__name__}_{steps}_steps"
        path = reserve_path(checked_folder(folder, "folder") / f"{stem}.zip")
        try:
            self.model.save(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


def rounded(value: float | None) -> float | None:
    """Round to six digits, with None for NaN and infinity, which JSON lacks."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")

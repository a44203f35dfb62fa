"""What a training run has used of its budget, measured from inside its environment."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.core import ActType, ObsType

__all__ = ["BudgetSpent", "TrainingClock"]

CHECKS_PER_RUN = 100
MORE_STEPS_THAN_CAN_BE_DONE = 10**15


class BudgetSpent(BaseException):
    """
    The training has had all the CPU seconds that it was to have.

    It is no error, and what handles the errors of environments must not take it for one.
    """


class TrainingClock(gym.Wrapper[ObsType, ActType, ObsType, ActType]):
    """
    Counts steps and CPU seconds, and interrupts the training when something is due.

    What is due takes place in ``step``, before the step is done: then the model has learned from
    all steps before. Stable-Baselines3 would have a callback for this, which is called at every
    step; that costs an algorithm that learns in microseconds a third of its speed.

    :param env: The environment that is learned from.
    :param timesteps: Budget in environment steps, None if it is CPU seconds.
    :param cpu_seconds: Budget in CPU seconds of this process; None if it is steps.
    :param evaluations: Number of evaluations, evenly spread over the budget.
    :param evaluate: Called for each evaluation, off the clock.
    :param look: Called a hundred times during the training, to show and measure how it goes, off
        the clock too.
    """

    def __init__(
        self,
        env: gym.Env[ObsType, ActType],
        timesteps: int | None,
        cpu_seconds: float | None,
        evaluations: int,
        evaluate: Callable[[], None],
        look: Callable[[], None],
    ) -> None:
        super().__init__(env)
        self.timesteps = timesteps
        self.cpu_budget = cpu_seconds
        self.steps = 0
        self.cpu_seconds = 0.0
        self.wall_seconds = 0.0
        self.evaluation_cpu_seconds = 0.0
        if timesteps is not None:
            # Whole numbers: every run of a study is evaluated after the same steps.
            self._evaluate_every: float = max(timesteps // evaluations, 1)
            self._look_every: float = max(timesteps // CHECKS_PER_RUN, 1)
        else:
            assert cpu_seconds is not None
            self._evaluate_every = cpu_seconds / evaluations
            self._look_every = cpu_seconds / CHECKS_PER_RUN
        self._evaluate = evaluate
        self._look = look
        self._next_evaluation = self._evaluate_every
        self._next_look = self._look_every
        self._next_event = min(self._next_evaluation, self._next_look)

    @property
    def progress(self) -> float:
        """Fraction of the budget that is spent, from 0 to 1."""
        if self.timesteps is not None:
            return min(self.steps / self.timesteps, 1.0)
        assert self.cpu_budget is not None
        return min(self.cpu_seconds / self.cpu_budget, 1.0)

    def train(self, model: Any) -> None:
        """
        Let a model that learns from this environment spend the budget.

        If the budget is CPU seconds, the model's schedules follow these instead of its steps.

        :param model: The model.
        """
        self._resume()
        try:
            if self.timesteps is not None:
                model.learn(self.timesteps)
            else:
                model._update_current_progress_remaining = lambda *_: setattr(
                    model, "_current_progress_remaining", 1.0 - self.progress
                )
                model.learn(MORE_STEPS_THAN_CAN_BE_DONE)
        except BudgetSpent:
            pass
        finally:
            self._stop()
            # It belongs to this training, and cannot be saved.
            vars(model).pop("_update_current_progress_remaining", None)

    def _resume(self) -> None:
        self._cpu_start = time.process_time() - self.cpu_seconds
        self._wall_start = time.perf_counter() - self.wall_seconds

    def _stop(self) -> None:
        self.cpu_seconds = time.process_time() - self._cpu_start
        self.wall_seconds = time.perf_counter() - self._wall_start

    @contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        self._stop()
        yield
        self._resume()

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Do what is due, then take the step.

        :param action: The action.
        :return: What the environment returns.
        :raises BudgetSpent: If the CPU seconds are.
        """
        if self.cpu_budget is None:
            spent: float = self.steps
        else:
            spent = self.cpu_seconds = time.process_time() - self._cpu_start
            if spent >= self.cpu_budget:
                raise BudgetSpent
        if spent >= self._next_event:
            with self._off_the_clock():
                self._do_what_is_due(spent)
        self.steps += 1
        return self.env.step(action)

    def _do_what_is_due(self, spent: float) -> None:
        if spent >= self._next_evaluation:
            self.evaluate()
            self._next_evaluation = (spent // self._evaluate_every + 1) * self._evaluate_every
        if spent >= self._next_look:
            self._look()
            self._next_look = (spent // self._look_every + 1) * self._look_every
        self._next_event = min(self._next_evaluation, self._next_look)

    def evaluate(self) -> None:
        """Evaluate now. Only while the training stands still."""
        start = time.process_time()
        self._evaluate()
        self.evaluation_cpu_seconds += time.process_time() - start

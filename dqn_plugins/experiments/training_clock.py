"""What a training run has used of its budget, and what is due on the way."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dqn_plugins.experiments.algorithms import learning_arguments

__all__ = ["BudgetSpent", "TrainingClock"]

MORE_STEPS_THAN_CAN_BE_DONE = 10**15


class BudgetSpent(BaseException):
    """
    The training has had all its CPU seconds. What handles the errors of environments must not take
    that for one.
    """


@dataclass
class _Event:
    period: float
    action: Callable[[], object]
    times: float
    next_time: float


class TrainingClock:
    """
    Counts steps and CPU seconds, and interrupts the training when something is due.

    What is due takes place before the next step is done: then the model has learned from all steps
    before. Stable-Baselines3 would have a callback for this, which comes before the model learns.

    :param timesteps: Budget in environment steps, None if it is CPU seconds.
    :param cpu_seconds: Budget in CPU seconds of this process; None if it is steps.
    :param steps: Environment steps done already.
    """

    def __init__(
        self, timesteps: int | None, cpu_seconds: float | None = None, steps: int = 0
    ) -> None:
        self.timesteps, self.cpu_budget, self.steps = timesteps, cpu_seconds, steps
        self.cpu_seconds = self.wall_seconds = self.paused_cpu_seconds = 0.0
        self._events: list[_Event] = []
        self._next_time = float("inf")
        self._steps_at_once = 1

    @property
    def spent(self) -> float:
        """What is spent of the budget, in its unit."""
        return self.steps if self.cpu_budget is None else self.cpu_seconds

    @property
    def progress(self) -> float:
        """Fraction of the budget that is spent, from 0 to 1."""
        budget = self.cpu_budget if self.timesteps is None else self.timesteps
        assert budget is not None
        return min(self.spent / budget, 1.0)

    def every(
        self, period: float, action: Callable[[], object], times: float = float("inf")
    ) -> None:
        """
        Have something done now and then, off the clock.

        :param period: How much of the budget is spent between two times.
        :param action: What is done. If it returns False it could not be done, and is tried again
            before the next step.
        :param times: How often at most.
        """
        done = self.spent // period
        self._events.append(_Event(period, action, times - done, (done + 1) * period))
        self._next_time = min(self._next_time, self._events[-1].next_time)

    def attached_to(self, env: Any) -> Any:
        """
        Count the steps of an environment or a ``VecEnv`` that a model learns from, and return it.
        Its method is replaced, so that it cannot be pickled any more, which ``VecNormalize.save``
        does: take what is within that.
        """
        self._steps_at_once = getattr(env, "num_envs", 1)
        name = "step_async" if hasattr(env, "step_async") else "step"
        step, before_step = getattr(env, name), self.before_step

        def counted(actions: Any) -> Any:
            before_step()
            return step(actions)

        setattr(env, name, counted)
        return env

    def train(self, model: Any, **arguments: Any) -> None:
        """
        Let a model that learns from this environment spend what is left of the budget. If that is
        CPU seconds, the model's schedules follow these instead of its steps.
        """
        arguments |= learning_arguments(model)
        self._resume()
        try:
            if self.timesteps is not None:
                model.learn(self.timesteps - self.steps, **arguments)
            else:
                model._update_current_progress_remaining = lambda *_: setattr(
                    model, "_current_progress_remaining", 1.0 - self.progress
                )
                model.learn(MORE_STEPS_THAN_CAN_BE_DONE, **arguments)
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
    def paused(self) -> Iterator[None]:
        """Stop the clock for a while."""
        start = time.process_time()
        yield
        self.paused_cpu_seconds += time.process_time() - start

    def before_step(self) -> None:
        """
        Do what is due, and count the step that follows.

        :raises BudgetSpent: If the CPU seconds are.
        """
        spent: float = self.steps
        if self.cpu_budget is not None:
            spent = self.cpu_seconds = time.process_time() - self._cpu_start
            if spent >= self.cpu_budget:
                raise BudgetSpent
        if spent >= self._next_time:
            self._stop()
            with self.paused():
                self._do_what_is_due(spent)
            self._resume()
        self.steps += self._steps_at_once

    def _do_what_is_due(self, spent: float) -> None:
        for event in self._events:
            if spent >= event.next_time and event.times > 0 and event.action() is not False:
                event.times -= 1
                event.next_time = (spent // event.period + 1) * event.period
        times = [event.next_time for event in self._events if event.times > 0]
        self._next_time = min(times, default=float("inf"))

import time

import pytest

from dqn_plugins.experiments.training_clock import BudgetSpent, TrainingClock
from tests.environments import RecordingEnv


class Stepper:
    """Learns nothing; notes what it was asked."""

    def __init__(self, env):
        self.env = env
        self.asked = 0

    def learn(self, total_timesteps):
        self.asked = total_timesteps
        self.env.reset(seed=0)
        for _ in range(total_timesteps):
            _, _, terminated, truncated, _ = self.env.step(0)
            if terminated or truncated:
                self.env.reset()


def test_evaluations_are_evenly_spread_and_come_between_steps():
    env = RecordingEnv()
    evaluated_at, looked_at = [], []
    clock = TrainingClock(
        env,
        250,
        None,
        4,
        lambda: evaluated_at.append((clock.steps, len(env.transitions))),
        lambda: looked_at.append(clock.progress),
    )
    model = Stepper(clock)
    clock.train(model)
    assert model.asked == clock.steps == 250
    # 250 // 4 = 62; the one at the end is left to the caller, who knows when it has come.
    assert evaluated_at == [(62, 62), (124, 124), (186, 186), (248, 248)]
    assert len(looked_at) == 124
    assert looked_at == sorted(looked_at)


def test_evaluations_are_off_the_clock():
    def evaluate():
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    clock = TrainingClock(RecordingEnv(), 30, None, 3, evaluate, lambda: None)
    clock.train(Stepper(clock))
    # Evaluated after 10 and 20 steps; thirty steps of this environment take no tenth of a second.
    assert clock.evaluation_cpu_seconds >= 0.4
    assert clock.cpu_seconds < 0.1 < clock.evaluation_cpu_seconds


def test_cpu_seconds_end_the_training_and_move_the_schedules():
    class Scheduled(Stepper):
        seen = ()

        def _update_current_progress_remaining(self, num_timesteps, total_timesteps):
            raise AssertionError("the schedules must follow the CPU seconds")

        def learn(self, total_timesteps):
            self.seen = []
            self.env.reset(seed=0)
            while True:
                _, _, terminated, truncated, _ = self.env.step(0)
                self._update_current_progress_remaining(1, 2)
                self.seen.append(self._current_progress_remaining)
                if terminated or truncated:
                    self.env.reset()

    clock = TrainingClock(RecordingEnv(), None, 0.2, 2, lambda: None, lambda: None)
    model = Scheduled(clock)
    clock.train(model)
    assert clock.cpu_seconds >= 0.2
    assert clock.progress == 1.0
    assert model.seen == sorted(model.seen, reverse=True)
    assert model.seen[0] > 0.9
    assert model.seen[-1] < 0.1
    # Nothing is left in the model that could not be saved.
    assert "_update_current_progress_remaining" not in vars(model)


def test_what_handles_the_errors_of_environments_does_not_see_the_end_of_the_budget():
    assert not issubclass(BudgetSpent, Exception)
    clock = TrainingClock(RecordingEnv(), None, 1e-9, 1, lambda: None, lambda: None)
    clock._resume()
    clock.reset(seed=0)
    with pytest.raises(BudgetSpent):
        clock.step(0)

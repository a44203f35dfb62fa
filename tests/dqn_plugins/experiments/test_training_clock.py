import itertools
import time

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from dqn_plugins.experiments.training_clock import BudgetSpent, TrainingClock
from tests.environments import RecordingEnv


class Stepper:
    """Learns nothing; notes what it was asked."""

    def __init__(self, env):
        self.env = env

    def learn(self, total_timesteps):
        self.asked = total_timesteps
        self.env.reset(seed=0)
        for _ in range(total_timesteps):
            _, _, terminated, truncated, _ = self.env.step(0)
            self.after_step()
            if terminated or truncated:
                self.env.reset()

    def after_step(self):
        pass


def test_events_come_between_steps_as_often_as_they_may():
    env = RecordingEnv()
    every_62, looks = [], []
    clock = TrainingClock(250)
    clock.every(250 / 4, lambda: every_62.append((clock.steps, len(env.transitions))), times=3)
    clock.every(2, lambda: looks.append(clock.progress))
    model = Stepper(clock.attached_to(env))
    clock.train(model)
    assert model.asked == clock.steps == 250
    # 62.5, 125 and 187.5; the one at the end is left to the caller, who knows when it has come.
    assert every_62 == [(63, 63), (125, 125), (188, 188)]
    assert len(looks) == 124
    assert looks == sorted(looks)


def test_what_cannot_be_done_is_tried_again_before_the_next_step():
    clock, tried = TrainingClock(30), []
    clock.every(10, lambda: tried.append(clock.steps) or clock.steps % 2 == 1)
    clock.train(Stepper(clock.attached_to(RecordingEnv())))
    assert tried == [10, 11, 20, 21]


def test_a_clock_goes_on_from_where_a_run_was_stopped():
    clock, seen = TrainingClock(40, steps=25), []
    clock.every(10, lambda: seen.append(clock.steps))
    model = Stepper(clock.attached_to(RecordingEnv()))
    clock.train(model)
    assert (model.asked, clock.steps, seen) == (15, 40, [30])


def test_steps_of_several_environments_are_counted_together():
    clock, seen = TrainingClock(20), []
    clock.every(5, lambda: seen.append(clock.steps))
    venv = clock.attached_to(make_vec_env("CartPole-v1", 4, seed=0))
    venv.reset()
    clock._resume()
    for _ in range(5):
        venv.step(np.zeros(4, dtype=int))
    assert clock.steps == 20
    assert seen == [8, 12, 16]


def test_events_are_off_the_clock():
    def evaluate():
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    clock = TrainingClock(30)
    clock.every(10, evaluate)
    clock.train(Stepper(clock.attached_to(RecordingEnv())))
    # After 10 and 20 steps; thirty steps of this environment take no tenth of a second.
    assert clock.paused_cpu_seconds >= 0.4
    assert clock.cpu_seconds < 0.1


def test_cpu_seconds_end_the_training_and_move_the_schedules(monkeypatch):
    # Under load a process is booked many milliseconds at once, so CPU seconds are made up here.
    ticks = itertools.count()
    monkeypatch.setattr(time, "process_time", lambda: 0.01 * next(ticks))

    class Scheduled(Stepper):
        def _update_current_progress_remaining(self, num_timesteps, total_timesteps):
            raise AssertionError("the schedules must follow the CPU seconds")

        def after_step(self):
            self._update_current_progress_remaining(1, 2)
            seen.append(self._current_progress_remaining)

    seen = []
    clock = TrainingClock(None, 0.2)
    model = Scheduled(clock.attached_to(RecordingEnv()))
    clock.train(model)
    assert clock.cpu_seconds >= 0.2
    assert clock.progress == 1.0
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > 0.9
    assert seen[-1] < 0.1
    # Nothing is left in the model that could not be saved.
    assert "_update_current_progress_remaining" not in vars(model)


def test_what_handles_the_errors_of_environments_does_not_see_the_end_of_the_budget():
    assert not issubclass(BudgetSpent, Exception)
    clock = TrainingClock(None, 1e-9)
    env = clock.attached_to(RecordingEnv())
    clock._resume()
    env.reset(seed=0)
    with pytest.raises(BudgetSpent):
        env.step(0)

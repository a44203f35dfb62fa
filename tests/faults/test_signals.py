"""Ctrl-C and SIGTERM end learning between two transitions, and the model can go on."""

import json
import random
import signal
import threading
import time

import pytest

from dqn_plugins import NaiveDQN
from dqn_plugins.algorithms.interruption import Interruption
from tests.algorithms import each_algorithm
from tests.environments import RecordingEnv
from tests.faults.children import ROUNDS

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)


@each_algorithm
@BOTH
def test_a_signal_ends_learning_between_two_transitions(begin, tmp_path, row, number):
    child = begin(f"interrupted-{row.algorithm.__name__}", tmp_path)
    generator = random.Random(0)
    for _ in range(ROUNDS):
        assert child.answer() == "learning"
        time.sleep(generator.uniform(0.0, 0.05))
        child.send(number)
    report = json.loads(child.answer())
    assert report["ends"] == ROUNDS
    assert report["in_order"]
    assert report["as_twin"]
    assert report["resets"] == report["episodes"]
    assert report["restored"]


def test_a_second_signal_interrupts_an_environment_that_hangs(begin, tmp_path):
    child = begin("stuck", tmp_path)
    assert child.answer() == "stuck"
    child.send(signal.SIGINT)
    time.sleep(0.2)
    child.send(signal.SIGINT)
    assert child.answer() == "interrupted 10 10"


def test_a_handler_of_the_users_own_stays_in_force(begin, tmp_path):
    child = begin("handled", tmp_path)
    assert child.answer() == "learning"
    child.send(signal.SIGTERM)
    assert child.answer() == "stopped by the callback 1 True"


def test_ctrl_c_in_a_terminal_reaches_the_workers_too(begin, tmp_path):
    child = begin("workers", tmp_path)
    assert child.answer() == "learning"
    child.send_to_all(signal.SIGINT)
    assert child.answer() == "interrupted 1 True"


@BOTH
def test_what_nobody_catches_ends_the_program(begin, tmp_path, number):
    child = begin("uncaught", tmp_path)
    assert child.answer() == "learning"
    child.send(number)
    assert child.answer() == "raised KeyboardInterrupt"


def test_learning_in_a_thread_leaves_signals_alone():
    models = []
    thread = threading.Thread(
        target=lambda: models.append(NaiveDQN("MlpPolicy", RecordingEnv()).learn(20))
    )
    thread.start()
    thread.join()
    assert models[0].num_timesteps == 20


def test_a_signal_in_a_callback_interrupts_at_once():
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = []

    def ring(*_: object) -> bool:
        signal.raise_signal(signal.SIGINT)
        steps.append("not reached")
        return True

    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.learn(20, callback=ring)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert not steps
    # The transition had been learned from; learning goes on with the next one.
    assert model.num_timesteps == model._n_updates == 1
    model.learn(5, reset_num_timesteps=False)
    assert model._n_updates == 6
    assert model.env.envs[0].unwrapped.episode == 1  # the first episode has three steps


def test_learning_within_a_callback_is_interrupted_once_and_for_all():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    reached = []

    def nest() -> None:
        with Interruption() as outer:
            outer.at_once(learn)

    def learn() -> None:
        with Interruption() as inner:
            signal.raise_signal(signal.SIGTERM)
            reached.append(inner.requested)
        reached.append("never")

    try:
        with pytest.raises(KeyboardInterrupt):
            nest()
        assert reached == [True]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)

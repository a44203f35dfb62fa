"""Whatever an environment does wrong is named, and has not touched the model."""

import os
import signal
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from dqn_plugins import (
    EnvironmentStepError,
    MalformedTransitionError,
    NaiveDQN,
    NonFiniteTransitionError,
    StreamQ,
)
from dqn_plugins.environments.single_env import ConstantMemoryMonitor, SyncVecEnv
from tests.algorithms import each_algorithm
from tests.environments import (
    BadReset,
    FaultyEnv,
    RecordingEnv,
    Spoil,
    observing,
    raising,
    rewarding,
)
from tests.helpers import everything, follow, through_a_file

BAD_STEP = 6


def grows(env: FaultyEnv, result: tuple[Any, ...]) -> tuple[Any, ...]:
    env.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    return np.zeros(4, np.float32), *result[1:]


def ends(env: FaultyEnv, result: tuple[Any, ...]) -> tuple[Any, ...]:
    return np.zeros(2, np.float32), result[1], False, True, {}


def renames(env: FaultyEnv, result: tuple[Any, ...]) -> tuple[Any, ...]:
    env.observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    return result[0], result[1], False, True, {}


LONGER = observing(np.zeros(4, np.float32))
LOST = raising(ZeroDivisionError("no ground under the lander"))
ONE_BAD_NUMBER = np.array([0.0, np.inf, 0.0], np.float32)
FAULTS: dict[str, tuple[Spoil, type[Exception], str]] = {
    "exception": (LOST, EnvironmentStepError, "ZeroDivisionError: no ground under the lander"),
    "NaN reward": (rewarding(np.nan), NonFiniteTransitionError, "reward.*nan"),
    "infinite observation": (
        observing(ONE_BAD_NUMBER),
        NonFiniteTransitionError,
        "observation.*inf",
    ),
    "longer observation": (observing(np.zeros(4)), MalformedTransitionError, r"\(4,\).*\(3,\)"),
    "single number": (observing(0.5), MalformedTransitionError, r"shape \(\).*\(3,\)"),
    "one of one": (observing(np.zeros(1)), MalformedTransitionError, r"shape \(1,\).*\(3,\)"),
    "ragged observation": (observing([[0.0], [0.0, 1.0], 2.0]), MalformedTransitionError, "object"),
    "text": (observing(np.array(["a", "b", "c"])), MalformedTransitionError, "<U1"),
    "complex numbers": (observing(np.zeros(3, complex)), MalformedTransitionError, "complex"),
    "nothing": (observing(None), MalformedTransitionError, r"shape \(\)"),
    "no reward": (rewarding(None), MalformedTransitionError, "reward.*None"),
    "reward in words": (rewarding("much"), MalformedTransitionError, "reward.*much"),
    "last observation": (ends, MalformedTransitionError, r"observation.*\(2,\).*\(3,\)"),
    "another space": (grows, MalformedTransitionError, r"observation space.*\(4,\).*\(3,\)"),
    "other bounds": (renames, MalformedTransitionError, r"observation space.*Box\(-1\.0, 1\.0"),
}


@each_algorithm
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_leaves_no_trace(row, backend, fault):
    spoil, error_class, words = FAULTS[fault]
    model = row.make(FaultyEnv(spoil), backend=backend)
    states, remember = follow(model)
    with pytest.raises(error_class, match=f"(?s){words}") as error:
        model.learn(20, callback=remember)
    assert error.value.env_index == 0
    assert error.value.step == BAD_STEP
    assert f"nvironment 0 {'raised' if fault == 'exception' else 'at step'}" in str(error.value)
    assert f"at step {BAD_STEP}" in str(error.value)
    assert len(states) == BAD_STEP
    assert everything(model) == states[-1] != states[0]
    assert everything(through_a_file(model)) == states[-1]
    if fault not in ("another space", "other bounds"):
        model.learn(8, reset_num_timesteps=False)  # the environment has recovered
        assert everything(model) != states[-1]


def test_what_the_environment_raised_is_the_cause():
    error = KeyError("wind")
    model = NaiveDQN("MlpPolicy", FaultyEnv(raising(error)), seed=0, exploration_initial_eps=1.0)
    with pytest.raises(EnvironmentStepError, match="KeyError: 'wind'") as caught:
        model.learn(20)
    assert caught.value.__cause__ is error
    assert caught.value.action in range(3)
    assert f"taking action {caught.value.action}" in str(caught.value)


@each_algorithm
@pytest.mark.parametrize(
    ("vec_env", "spoil", "error_class", "words"),
    [
        (DummyVecEnv, LONGER, EnvironmentStepError, "Environment 2 raised"),
        (SubprocVecEnv, LONGER, EnvironmentStepError, "Environment 2 raised"),
        (SyncVecEnv, LOST, EnvironmentStepError, "Environment 2 raised"),
        (SyncVecEnv, LONGER, MalformedTransitionError, r"environment 2 .*\(4,\)"),
        (SyncVecEnv, rewarding(None), MalformedTransitionError, "environment 2 .*None"),
    ],
)
def test_the_one_of_several_is_named(row, vec_env, spoil, error_class, words):
    def make(index: int) -> Callable[[], gym.Env]:
        env = FaultyEnv(spoil) if index == 2 else RecordingEnv()
        return lambda: ConstantMemoryMonitor(env)

    kwargs = {"start_method": "fork"} if vec_env is SubprocVecEnv else {}
    env = vec_env([make(index) for index in range(4)], **kwargs)
    model = row.make(env)
    states, remember = follow(model)
    with pytest.raises(error_class, match=words) as error:
        model.learn(4 * 20, callback=remember)
    assert error.value.env_index == 2
    assert error.value.step == 4 * BAD_STEP
    assert len(states) == BAD_STEP
    assert everything(model) == states[-1]
    model.learn(4 * 5, reset_num_timesteps=False)
    env.close()


def test_all_workers_giving_another_shape_are_refused():
    # Nothing in SubprocVecEnv looks at shapes as long as they agree.
    env = SubprocVecEnv([lambda: FaultyEnv(observing(np.zeros(7)))] * 2, start_method="fork")
    model = NaiveDQN("MlpPolicy", env, seed=0, backend="compiled")
    states, remember = follow(model)
    with pytest.raises(MalformedTransitionError, match=r"shape \(7,\).*\(3,\)"):
        model.learn(2 * 20, callback=remember)
    assert everything(model) == states[-1]
    env.close()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda: os._exit(3), "exit code 3"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
        (lambda: np.zeros(1)[5], "exit code 1, as after an exception"),
    ],
    ids=["exit", "kill", "exception"],
)
def test_a_worker_that_dies_is_named(tmp_path, end, words):
    def die(env: FaultyEnv, result: tuple[Any, ...]) -> tuple[Any, ...]:
        end()
        return result

    makers = [RecordingEnv, lambda: FaultyEnv(die), RecordingEnv]
    # Forked workers hold each other's pipes open, so that no end of file tells of a death.
    env = SubprocVecEnv(makers, start_method="fork")
    model = StreamQ("MlpPolicy", env, seed=0)
    states, remember = follow(model)
    with pytest.raises(EnvironmentStepError, match=f"Environment 1 is gone.*{words}") as error:
        model.learn(3 * 20, callback=remember)
    assert isinstance(error.value.__cause__, (EOFError, ConnectionError))
    assert error.value.env_index == 1
    assert error.value.step == 3 * BAD_STEP
    assert everything(model) == states[-1]
    # The dead are not asked again: the model is saved, and learns on in new environments.
    model.save(tmp_path / "model")
    assert everything(StreamQ.load(tmp_path / "model")) == states[-1]
    with pytest.raises(EnvironmentStepError, match=f"Environment 1 is gone.*{words}"):
        model.learn(3 * 5, reset_num_timesteps=False)
    model.set_env(DummyVecEnv([RecordingEnv] * 3))
    model.learn(3 * 5, reset_num_timesteps=False)
    assert everything(model) != states[-1]
    for process in env.processes:
        process.kill()


@pytest.mark.parametrize(
    ("first", "error_class", "words"),
    [
        (OSError("no such robot"), EnvironmentStepError, "Environment 0 raised OSError: no such"),
        (np.zeros(2), MalformedTransitionError, r"environment 0 at step 0.*\(2,\)"),
        (np.full(3, np.nan), NonFiniteTransitionError, "environment 0 at step 0.*nan"),
    ],
    ids=["exception", "shape", "NaN"],
)
def test_a_first_reset_that_goes_wrong_is_named(first, error_class, words):
    model = StreamQ("MlpPolicy", BadReset(first), seed=0)
    before = everything(model)
    with pytest.raises(error_class, match=f"(?s){words}"):
        model.learn(20)
    assert everything(model) == before
    # What it gave is not kept as the observation to go on from.
    model.learn(20, reset_num_timesteps=False)
    assert everything(model) != before


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (spaces.Discrete(5), [3, np.int32(3), np.array(3), 3.0], [2.5, np.nan, "3", 5, -1]),
        (spaces.MultiDiscrete([2, 3]), [[1, 2], np.array([0, 2])], [np.array([2, 0]), [0, -1]]),
        (spaces.MultiBinary(2), [[0, 1], np.array([True, False])], [[0.5, 0.0], [0]]),
        (spaces.Box(0, 255, (2,), np.uint8), [[0, 255], [7.0, 8.0]], [[0, 256], [-1, 0], [0.5, 0]]),
        (spaces.Box(-1.0, 1.0, (2,), np.float32), [[0, 1], np.zeros(2)], [["a", "b"], [[0, 1]]]),
    ],
    ids=lambda value: str(value) if isinstance(value, spaces.Space) else "",
)
def test_numbers_that_their_space_can_hold_are_taken(space, good, bad):
    class Observed(gym.Env):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, **_: Any) -> Any:
            return space.sample(), {}

        def step(self, action: Any) -> Any:
            return self.given, 0.0, False, False, {}

    env = Observed()
    model = NaiveDQN("MlpPolicy", env, seed=0)
    for env.given in good:
        model.learn(2)
        assert np.array_equal(model._last_obs[0], np.asarray(env.given))
    for env.given in bad:
        with pytest.raises(MalformedTransitionError, match="environment 0 at step 1"):
            model.learn(2)


@pytest.mark.parametrize("ends", [False, True], ids=["", "last observation"])
def test_categories_that_a_space_does_not_have_are_refused_of_any_vec_env(ends):
    class Counted(gym.Env):
        observation_space = spaces.Dict(floor=spaces.Discrete(3), seen=spaces.MultiDiscrete([2, 2]))
        action_space = spaces.Discrete(2)

        def __init__(self, last: int) -> None:
            self.last = last

        def reset(self, **_: Any) -> Any:
            return {"floor": 0, "seen": np.zeros(2, np.int64)}, {}

        def step(self, action: Any) -> Any:
            return {"floor": self.last, "seen": np.ones(2, np.int64)}, 0.0, ends, False, {}

    env = DummyVecEnv([lambda: Counted(2), lambda: Counted(3)])
    model = StreamQ("MultiInputPolicy", env, seed=0)
    before = everything(model)
    words = r"'floor' of environment 1 at step 2 .*received 3.*Discrete\(3\)"
    with pytest.raises(MalformedTransitionError, match=words):
        model.learn(4)
    assert everything(model) == before


def test_a_dictionary_without_one_of_its_parts_is_refused():
    class Half(gym.Env):
        observation_space = spaces.Dict({"near": spaces.Discrete(2), "far": spaces.Discrete(3)})
        action_space = spaces.Discrete(2)

        def reset(self, **_: Any) -> Any:
            return {"near": 0, "far": 0}, {}

        def step(self, action: Any) -> Any:
            return {"near": 1}, 0.0, False, False, {}

    with pytest.raises(MalformedTransitionError, match="without 'far'"):
        NaiveDQN("MultiInputPolicy", Half()).learn(5)

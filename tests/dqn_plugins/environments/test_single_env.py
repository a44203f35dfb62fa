"""SingleVecEnv and SyncVecEnv are DummyVecEnv, ConstantMemoryMonitor is Monitor."""

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from dqn_plugins import NaiveDQN
from dqn_plugins.environments.single_env import ConstantMemoryMonitor, SingleVecEnv, SyncVecEnv
from tests.environments import RecordingEnv, ScriptedEnv

SPACES: dict[str, spaces.Space[Any]] = {
    "vector": spaces.Box(-1.0, 1.0, (3,), np.float32),
    "scalar": spaces.Box(-1.0, 1.0, (), np.float32),
    "matrix": spaces.Box(-1.0, 1.0, (2, 3), np.float64),
    "image": spaces.Box(0, 255, (4, 5, 3), np.uint8),
    "number": spaces.Discrete(7),
    "numbers": spaces.MultiDiscrete([3, 4]),
    "bits": spaces.MultiBinary(4),
    "dictionary": spaces.Dict(
        {"a": spaces.Box(-1.0, 1.0, (2,), np.float32), "b": spaces.Discrete(3)}
    ),
    "tuple": spaces.Tuple((spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3))),
}


class Talkative(gym.Env[Any, np.int64]):
    """Draws everything from its seed, tells much in ``info``, ends in every way."""

    action_space = spaces.Discrete(2)
    ends = ((3, True, False), (4, False, True), (1, True, False), (1, False, True), (2, True, True))

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        self.observation_space = observation_space
        self.episode = -1
        self.options: list[Any] = []

    def observe(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.options.append(options)
        self.episode, self.n_steps = self.episode + 1, 0
        return self.observe(), {"episode_number": self.episode, "options": options}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        length, terminates, truncates = self.ends[self.episode % len(self.ends)]
        done = self.n_steps == length
        info: dict[str, Any] = {}
        if self.n_steps != 2:
            info = {"action": int(action), "nested": {"draw": self.np_random.normal(size=2)}}
        reward = float(self.np_random.normal())
        return self.observe(), reward, done and terminates, done and truncates, info


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            if key != "t":  # the time at which a monitor saw an episode end
                assert_equal(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert np.array_equal(one, other)
    else:
        assert one == other


# SingleVecEnv


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_every_step_is_that_of_dummy_vec_env(space, n_envs):
    makers = [lambda: Talkative(SPACES[space])] * n_envs
    ours = SingleVecEnv(makers[0]()) if n_envs == 1 else SyncVecEnv(makers)
    pair = [ours, DummyVecEnv(makers)]
    for env in pair:
        env.seed(5)
    assert_equal(*(env.reset() for env in pair))
    assert_equal(*(env.reset_infos for env in pair))
    rng = np.random.default_rng(0)
    endings = []
    for _ in range(30):
        actions = rng.integers(2, size=n_envs)
        results = [env.step(actions) for env in pair]
        assert_equal(*results)
        assert_equal(*(env.reset_infos for env in pair))
        _, _, dones, (info, *_) = results[0]
        assert ("terminal_observation" in info) == dones[0]
        if dones[0]:
            endings.append(info["TimeLimit.truncated"])
    # terminated, truncated, both at once (which is not the time limit's doing)
    assert endings[:5] == [False, True, False, True, False]


def test_a_single_environment_gets_it_and_a_vec_env_is_taken_as_it_is():
    own = NaiveDQN("MlpPolicy", RecordingEnv()).get_env()
    assert type(own) is SingleVecEnv
    given = DummyVecEnv([RecordingEnv])
    assert NaiveDQN("MlpPolicy", given).get_env() is given


def test_it_is_copied_with_its_state():
    env = SingleVecEnv(ConstantMemoryMonitor(Talkative(SPACES["vector"])))
    env.seed(0)
    env.reset()
    for _ in range(5):
        env.step(np.zeros(1, int))
    copies = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    for _ in range(10):
        expected = env.step(np.ones(1, int))
        for one in copies:
            assert_equal(one.step(np.ones(1, int)), expected)


class Reusing(gym.Env[Any, np.int64]):
    """Writes every observation and every information into the same memory."""

    action_space = spaces.Discrete(2)

    def __init__(self, dictionary: bool) -> None:
        box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.observation_space = spaces.Dict({"part": box}) if dictionary else box
        self.buffer = np.zeros(2, np.float32)
        self.info: dict[str, Any] = {"list": [0]}
        self.n_steps = 0

    def observe(self) -> Any:
        self.buffer += 1.0
        return (
            {"part": self.buffer}
            if isinstance(self.observation_space, spaces.Dict)
            else (self.buffer)
        )

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**kwargs)
        return self.observe(), {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        self.info["list"][0] += 1
        return self.observe(), float(self.n_steps), self.n_steps % 4 == 0, False, self.info


@pytest.mark.parametrize("dictionary", [False, True])
def test_what_was_handed_out_does_not_change_later(dictionary):
    env: VecEnv = SingleVecEnv(Reusing(dictionary))
    handed_out: list[Any] = [env.reset()]
    remembered = [copy.deepcopy(handed_out[0])]
    for _ in range(12):
        handed_out.append(env.step(np.zeros(1, int)))
        remembered.append(copy.deepcopy(handed_out[-1]))
    env.reset()
    assert_equal(handed_out, remembered)
    values = [obs["part"][0, 0] if dictionary else obs[0, 0] for obs, *_ in handed_out[1:]]
    # One observation a step, and one more where an episode ended
    assert values == [2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16]
    last = [info["terminal_observation"] for *_, (info,) in handed_out[1:] if len(info) > 2]
    assert [(obs["part"] if dictionary else obs)[0] for obs in last] == [5, 10, 15]
    assert [info["list"] for *_, (info,) in handed_out[1:]] == [[i] for i in range(1, 13)]


# ConstantMemoryMonitor


def run(env: gym.Env[Any, Any], n_steps: int) -> list[dict[str, Any]]:
    env.reset(seed=0)
    infos = []
    for _ in range(n_steps):
        *_, terminated, truncated, info = env.step(np.int64(0))
        if terminated or truncated:
            infos.append(info["episode"])
            env.reset()
        else:
            assert "episode" not in info
    return infos


def test_episodes_are_told_of_as_monitor_tells():
    monitors = [kind(Talkative(SPACES["vector"])) for kind in (ConstantMemoryMonitor, Monitor)]
    infos = [run(monitor, 50) for monitor in monitors]
    assert len(infos[0]) > 20
    for one, other in zip(*infos, strict=True):
        assert list(one) == list(other) == ["r", "l", "t"]
        assert one["l"] == other["l"]
        assert one["r"] == other["r"]
        assert one["t"] >= 0.0
    assert [info["t"] for info in infos[0]] == sorted(info["t"] for info in infos[0])
    returns, sums = (monitor.get_episode_rewards() for monitor in monitors)
    assert returns == pytest.approx(sums, rel=1e-12)  # Python 3.12 sums more exactly
    for name in ("get_episode_lengths", "get_total_steps"):
        assert getattr(monitors[0], name)() == getattr(monitors[1], name)(), name
    assert [round(t, 6) for t in monitors[0].get_episode_times()] == [i["t"] for i in infos[0]]


def test_an_episode_cut_short_by_a_reset_is_forgotten():
    monitor = ConstantMemoryMonitor(ScriptedEnv([([1.0, 2.0, 4.0], "terminated")]))
    monitor.reset()
    monitor.step(0)
    monitor.reset()
    for _ in range(3):
        *_, info = monitor.step(0)
    assert info["episode"]["r"] == 7.0
    assert info["episode"]["l"] == 3
    assert monitor.get_episode_rewards() == [7.0]
    assert monitor.get_total_steps() == 4


def test_stepping_after_the_end_is_refused_as_monitor_refuses_it():
    monitor = ConstantMemoryMonitor(ScriptedEnv([([1.0], "terminated")]))
    with pytest.raises(RuntimeError, match="needs reset"):
        monitor.step(0)
    monitor.reset()
    monitor.step(0)
    with pytest.raises(RuntimeError, match="needs reset"):
        monitor.step(0)


def containers(monitor: Monitor[Any, Any]) -> int:
    """Numbers that the monitor itself remembers."""
    return sum(len(value) for value in vars(monitor).values() if hasattr(value, "__len__"))


@pytest.mark.filterwarnings("ignore:Only the last 4")
def test_its_memory_does_not_grow_with_steps_or_episodes():
    monitor = ConstantMemoryMonitor(ScriptedEnv([([1.0] * 5, "terminated")]), history=4)
    sizes = []
    for n_steps in (20, 200):
        run(monitor, n_steps)
        sizes.append((containers(monitor), len(pickle.dumps(monitor.get_episode_rewards()))))
    assert sizes[0] == sizes[1]
    assert monitor.get_episode_rewards() == [5.0] * 4
    assert monitor.get_episode_lengths() == [5] * 4
    assert len(monitor.get_episode_times()) == 4
    # Nor within an episode, where Monitor keeps every reward
    long = [kind(ScriptedEnv([([1.0] * 500, "terminated")])) for kind in (type(monitor), Monitor)]
    growth = []
    for one in long:
        one.reset()
        before = containers(one)
        for _ in range(400):
            one.step(0)
        growth.append(containers(one) - before)
    assert growth == [0, 400]

"""Every wrapper of Gymnasium's below and above ours: episodes are told, frames are there."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import vector

from dqn_plugins.wrappers import (
    EpisodeReward,
    RecordVideo,
    VectorEpisodeReward,
    VectorRecordVideo,
    read_frames,
)

LENGTH = 6


class Moving(gym.Env[Any, Any]):
    """A point in two dimensions that is moved by numbers; its picture has the step's brightness."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, observed: str = "numbers", actions: str = "numbers"):
        self.render_mode = "rgb_array"
        self.observed = observed
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        if actions == "discrete":
            self.action_space = gym.spaces.Discrete(3)
        box = gym.spaces.Box(-10, 10, (2,), np.float32)
        spaces: dict[str, Any] = {
            "numbers": box,
            "parts": gym.spaces.Dict({"where": box, "other": gym.spaces.Discrete(2)}),
            "picture": gym.spaces.Box(0, 255, (32, 32, 3), np.uint8),
        }
        self.observation_space = spaces[observed]

    def _observation(self) -> Any:
        place = np.array([self.t, -self.t], np.float32)
        return {
            "numbers": place,
            "parts": {"where": place, "other": 1},
            "picture": np.full((32, 32, 3), 10 * self.t, np.uint8),
        }[self.observed]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._observation(), 0.5, self.t == LENGTH, False, {}

    def render(self) -> Any:
        return np.full((32, 32, 3), 30 * self.t + 20, np.uint8)


def same(value: Any) -> Any:
    return value


# How each wrapper is made, and of which environment.
SCALAR: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "AddRenderObservation": ({}, {}),
    "AddWhiteNoise": ({}, {"probability_of_noise_per_pixel": 0.0}),
    "ArrayConversion": ({}, {"env_xp": np, "target_xp": np}),
    "AtariPreprocessing": ({}, {}),
    "Autoreset": ({}, {}),
    "ClipAction": ({}, {}),
    "ClipReward": ({}, {"max_reward": 1.0}),
    "DelayObservation": ({}, {"delay": 1}),
    "DiscretizeAction": ({}, {"bins": 3}),
    "DiscretizeObservation": ({}, {"bins": 3}),
    "DtypeObservation": ({}, {"dtype": np.float64}),
    "FilterObservation": ({"observed": "parts"}, {"filter_keys": ["where"]}),
    "FlattenObservation": ({"observed": "parts"}, {}),
    "FrameStackObservation": ({}, {"stack_size": 2}),
    "GrayscaleObservation": ({"observed": "picture"}, {}),
    "HumanRendering": ({}, {}),
    "MaxAndSkipObservation": ({"observed": "picture"}, {"skip": 2}),
    "NormalizeObservation": ({}, {}),
    "NormalizeReward": ({}, {}),
    "NumpyToTorch": ({}, {}),
    "ObstructView": ({}, {"obstructed_pixels_ratio": 0.0, "obstruction_width": 1}),
    "OrderEnforcing": ({}, {}),
    "PassiveEnvChecker": ({}, {}),
    "RecordEpisodeStatistics": ({}, {}),
    "RecordVideo": ({}, {"video_folder": "theirs", "episode_trigger": lambda episode: False}),
    "RenderCollection": ({}, {}),
    "RepeatAction": ({}, {"num_repeats": 2}),
    "RescaleAction": ({}, {"min_action": np.float32(0), "max_action": np.float32(1)}),
    "RescaleObservation": ({}, {"min_obs": np.float32(0), "max_obs": np.float32(1)}),
    "ReshapeObservation": ({}, {"shape": (2, 1)}),
    "ResizeObservation": ({"observed": "picture"}, {"shape": (16, 16)}),
    "StickyAction": ({}, {"repeat_action_probability": 0.1}),
    "TimeAwareObservation": ({}, {}),
    "TimeLimit": ({}, {"max_episode_steps": 100}),
    "TransformAction": ({}, {"func": same, "action_space": None}),
    "TransformObservation": ({}, {"func": same, "observation_space": None}),
    "TransformReward": ({}, {"func": same}),
}
VECTOR: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        name: SCALAR[name]
        for name in (
            "ArrayConversion", "ClipAction", "ClipReward", "DtypeObservation", "FilterObservation",
            "FlattenObservation", "GrayscaleObservation", "HumanRendering", "NormalizeObservation",
            "NormalizeReward", "NumpyToTorch", "RecordEpisodeStatistics", "RecordVideo",
            "RescaleAction", "RescaleObservation", "ReshapeObservation", "ResizeObservation",
            "TransformReward",
        )
    },
    "DictInfoToList": ({}, {}),
    "TransformAction": ({}, {"func": same}),
    "TransformObservation": ({}, {"func": same}),
    "VectorizeTransformAction": (
        {}, {"wrapper": wrappers.TransformAction, "func": same, "action_space": None},
    ),
    "VectorizeTransformObservation": (
        {}, {"wrapper": wrappers.TransformObservation, "func": same, "observation_space": None},
    ),
    "VectorizeTransformReward": ({}, {"wrapper": wrappers.TransformReward, "func": same}),
}  # fmt: skip
# Wrappers that only others are made from, and those of libraries that no extra brings.
LEFT_OUT = {"vector", "JaxToNumpy", "JaxToTorch"}
# With these, several steps below are one above, or the last of an episode comes a step later.
COUNTS_OTHERWISE = {"MaxAndSkipObservation", "RepeatAction"}
# They show what they draw themselves: below a recorder there is nothing left to record.
SHOWS_ITSELF = {"HumanRendering"}


def made(name: str, module: Any, table: Any, env: Any) -> Any:
    if name == "AtariPreprocessing":
        return wrappers.AtariPreprocessing(env, noop_max=0, frame_skip=1, screen_size=16)
    if name in {"ArrayConversion", "NumpyToTorch"}:
        pytest.importorskip("array_api_compat")
    if name == "ResizeObservation" or (name == "HumanRendering" and module is vector):
        pytest.importorskip("cv2")
    return getattr(module, name)(env, **table[name][1])


def base(name: str, table: Any) -> Any:
    if name == "AtariPreprocessing":
        pytest.importorskip("ale_py")
        gym.register_envs(importlib.import_module("ale_py"))
        atari = gym.make("ALE/Pong-v5", frameskip=1, render_mode="rgb_array")
        return wrappers.TimeLimit(atari, LENGTH)
    env = Moving(**table[name][0])
    return wrappers.TimeLimit(env, 100) if name == "TimeAwareObservation" else env


def test_the_table_is_complete() -> None:
    assert set(SCALAR) == set(wrappers.__all__) - LEFT_OUT
    assert set(VECTOR) == set(vector.__all__) - LEFT_OUT


@pytest.fixture(params=["below", "above"])
def stacked(
    request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, Any, bool]]:
    """Puts theirs below or above ours; tells the stack, our statistics and whether it records."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def stack(name: str, theirs: Any, env: Any, count: Any, record: Any) -> tuple[Any, Any, bool]:
        ours = [count]
        if not (name in SHOWS_ITSELF and request.param == "below"):
            recording = {"video_folder": "videos", "episode_trigger": lambda episode: True}
            ours.append(partial(record, **recording))
        for wrapper in [theirs, *ours] if request.param == "below" else [*ours, theirs]:
            env = wrapper(env)
        found = env
        while not isinstance(found, count):
            found = found.env
        return env, found, len(ours) > 1

    return stack


@pytest.mark.parametrize("name", sorted(SCALAR))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_wrapper_of_gymnasiums(name: str, stacked: Any) -> None:
    theirs = partial(made, name, wrappers, SCALAR)
    env, ours, records = stacked(name, theirs, base(name, SCALAR), EpisodeReward, RecordVideo)
    env.reset(seed=1)
    steps, over = 0, False
    while not over:
        *_, terminated, truncated, info = env.step(env.action_space.sample())
        steps, over = steps + 1, terminated or truncated
    env.close()
    assert ours.episode_count == 1
    assert info["episode"]["l"] == ours.lengths[0]
    if name not in COUNTS_OTHERWISE | {"AtariPreprocessing"}:
        assert ours.lengths == [LENGTH]
        assert steps == LENGTH
        if name != "NormalizeReward":
            assert ours.returns == [0.5 * LENGTH]
    if records:
        # AddRenderObservation itself resets what it wraps once.
        last = max(Path("videos").glob("*.mp4"))
        frames = [frame.mean() for frame in read_frames(last)]
        assert len(frames) == ours.lengths[0] + 1
        if name not in COUNTS_OTHERWISE | {"AtariPreprocessing"}:
            np.testing.assert_allclose(frames, 30 * np.arange(LENGTH + 1) + 20, atol=4)


@pytest.mark.parametrize("name", sorted(VECTOR))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_vector_wrapper_of_gymnasiums(name: str, stacked: Any) -> None:
    theirs = partial(made, name, vector, VECTOR)
    several: Any = SyncVectorEnv([partial(base, name, VECTOR)] * 2)
    env, ours, records = stacked(name, theirs, several, VectorEpisodeReward, VectorRecordVideo)
    env.reset(seed=1)
    for _ in range(LENGTH):
        *_, infos = env.step(env.action_space.sample())
    env.close()
    assert ours.lengths == [LENGTH] * 2
    is_list = isinstance(infos, list)
    told = [info["episode"]["l"] for info in infos] if is_list else infos["episode"]["l"]
    assert list(told) == [LENGTH] * 2
    if name != "NormalizeReward":
        np.testing.assert_allclose(ours.returns, [0.5 * LENGTH] * 2)
    if records:
        frames = [frame.mean() for frame in read_frames("videos/rl-video-episode-0.mp4")]
        np.testing.assert_allclose(frames[1:], 30 * np.arange(1, LENGTH + 1) + 20, atol=30)
        assert len(frames) == LENGTH + 1

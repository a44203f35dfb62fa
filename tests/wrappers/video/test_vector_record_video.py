"""VectorRecordVideo: Gymnasium's vector environments, whichever way they reset themselves."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as vector_wrappers

from dqn_plugins.wrappers import VectorRecordVideo, read_frames
from tests.wrappers.scripted import Scripted, close_colours, colour_of, colours, videos

# Lengths 3, 2, 4: the states of the first two episodes and the third's beginning.
STATES = [
    *[colour_of(0, t) for t in range(4)],
    *[colour_of(1, t) for t in range(3)],
    *[colour_of(2, t) for t in range(2)],
]
MODES = list(AutoresetMode)


def always(episode: int) -> bool:
    return True


def run(env: Any, steps: int) -> None:
    """Step, and reset where nobody else does."""
    env.reset(seed=5)
    for _ in range(steps):
        _, _, terminated, truncated, infos = env.step(np.zeros(env.num_envs, int))
        assert "dqn_plugins.terminal_frame" not in infos.get("final_info", {})
        over = terminated | truncated
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and over.any():
            env.reset(options={"reset_mask": over})


def test_arguments_begin_as_gymnasiums_do() -> None:
    theirs = list(inspect.signature(vector_wrappers.RecordVideo.__init__).parameters.values())
    ours = list(inspect.signature(VectorRecordVideo.__init__).parameters.values())
    for their, our in zip(theirs, ours, strict=False):
        assert (our.name, our.kind) == (their.name, their.kind)
        if their.name != "gc_trigger":  # a collection per video is not needed here
            assert our.default == their.default
    assert all(extra.kind is extra.KEYWORD_ONLY for extra in ours[len(theirs) :])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("several", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_environment_shows_every_state(tmp_path: Path, several: Any, mode: Any) -> None:
    env = VectorRecordVideo(
        several([Scripted] * 2, autoreset_mode=mode),
        str(tmp_path),
        episode_trigger=lambda episode: episode == 0,
        video_length=9,
        env_index=1,
    )
    run(env, 12)
    env.close()
    expected = STATES
    if several is AsyncVectorEnv and mode is AutoresetMode.SAME_STEP:
        # Nobody can look into the other process before it resets.
        expected = [each for each in STATES if each not in (colour_of(0, 3), colour_of(1, 2))]
        expected += [colour_of(2, t) for t in (2, 3)]
    assert close_colours(colours(env.video_path), expected)
    sidecar = json.loads(Path(str(env.video_path)).with_suffix(".json").read_text())
    assert [each["environment"] for each in sidecar["episodes"]] == [1, 1, 1]
    assert [each["return"] for each in sidecar["episodes"]][:2] == [-0.5, 8.25] or (
        several is AsyncVectorEnv
    )
    assert sidecar["seed"] == 6  # that of the second


@pytest.mark.parametrize("mode", MODES)
def test_whole_episodes_of_a_grid(tmp_path: Path, mode: Any) -> None:
    env = VectorRecordVideo(
        SyncVectorEnv([Scripted] * 4, autoreset_mode=mode), str(tmp_path), episode_trigger=always
    )
    run(env, 8 if mode is AutoresetMode.NEXT_STEP else 6)
    env.close()
    assert videos(tmp_path) == [f"rl-video-episode-{number}.mp4" for number in range(3)]
    for episode, length in ((0, 3), (1, 2)):
        frames = list(read_frames(tmp_path / f"rl-video-episode-{episode}.mp4"))
        assert frames[0].shape == (96, 128, 3)
        assert len(frames) == length + 1
        for t, frame in enumerate(frames):
            for tile in (frame[:48, :64], frame[:48, 64:], frame[48:, :64], frame[48:, 64:]):
                seen = tile[8:-8, 8:-8].mean(axis=(0, 1))
                assert np.abs(seen - colour_of(episode, t)).max() <= 6


@pytest.mark.parametrize(
    "arguments",
    [
        {"episode_trigger": always},
        {"step_trigger": lambda step: step == 4, "name_prefix": "x"},
        {},
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_and_frames_are_those_of_gymnasium(tmp_path: Path, arguments: Any) -> None:
    seen = []
    for recorder in (vector_wrappers.RecordVideo, VectorRecordVideo):
        folder = tmp_path / recorder.__module__
        env = recorder(SyncVectorEnv([Scripted] * 2), str(folder), (1, 1), True, **arguments)
        run(env, 10)
        env.close()
        seen.append({name: colours(folder / name) for name in videos(folder)})
    theirs, ours = seen
    assert ours.keys() == theirs.keys()
    assert ours
    for name in ours:
        assert close_colours(ours[name], theirs[name], 8)


@pytest.mark.parametrize(
    ("aspect", "size"), [((1, 1), (128, 144)), ((16, 9), (192, 96)), ((9, 1), (384, 48))]
)
def test_the_grid_has_the_shape_that_was_asked_for(
    tmp_path: Path, aspect: tuple[int, int], size: tuple[int, int]
) -> None:
    env = VectorRecordVideo(SyncVectorEnv([Scripted] * 6), str(tmp_path), aspect, video_length=1)
    env.reset()
    env.close()
    assert next(read_frames(str(env.video_path))).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("index", [None, 1])
def test_environments_of_one_piece_with_captions(tmp_path: Path, index: int | None) -> None:
    envs = gym.make_vec("CartPole-v1", 2, "vector_entry_point", render_mode="rgb_array")
    env = VectorRecordVideo(
        envs, str(tmp_path), env_index=index, caption=True, model=lambda seen: seen[:2]
    )
    run(env, 3)
    env.close()
    frames = list(read_frames(str(env.video_path)))
    assert len(frames) == 4
    assert frames[0].shape[0] > 400 * (2 if index is None else 1)
    sidecar = json.loads(Path(str(env.video_path)).with_suffix(".json").read_text())
    assert sidecar["environment_id"] == "CartPole-v1"


def test_below_a_list_of_infos_terminal_states_are_there(tmp_path: Path) -> None:
    inner = SyncVectorEnv([Scripted], autoreset_mode=AutoresetMode.SAME_STEP)
    listed: Any = vector_wrappers.DictInfoToList(inner)
    env = VectorRecordVideo(
        listed, str(tmp_path), episode_trigger=lambda each: each == 0, video_length=6
    )
    env.reset()
    for _ in range(6):
        *_, infos = env.step(np.zeros(1, int))
        assert "dqn_plugins.terminal_frame" not in infos[0].get("final_info", {})
    env.close()
    assert close_colours(colours(env.video_path), STATES[:6])


def test_what_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"render_mode=None.*such as rgb_array"):
        VectorRecordVideo(SyncVectorEnv([lambda: Scripted(render_mode=None)]), str(tmp_path))
    with pytest.raises(ValueError, match=r"env_index: received 2.*0 to 1"):
        VectorRecordVideo(SyncVectorEnv([Scripted] * 2), str(tmp_path), env_index=2)

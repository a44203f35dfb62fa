"""
Recorders: what is promised of all forms, of one environment and of several, from one table; and
what each shares with the recorder of Gymnasium or Stable-Baselines3 whose place it takes.
"""

from __future__ import annotations

import copy
import gc
import inspect
import itertools
import json
import os
import pickle
import time
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordVideo as GymnasiumRecordVideo
from gymnasium.wrappers import RenderCollection
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
)

from dqn_plugins.environments import wrap_env
from dqn_plugins.wrappers import (
    EpisodeReward,
    FrameDetails,
    RecordVideo,
    VecEpisodeReward,
    VecRecordVideo,
    VectorRecordVideo,
    read_frames,
)
from dqn_plugins.wrappers.drawing.panel import Panel
from dqn_plugins.wrappers.environment_id import id_of
from dqn_plugins.wrappers.rewards.episode import RunningEpisode
from dqn_plugins.wrappers.video.recording import Video
from tests.wrappers.scripted import (
    BareVecEnv,
    Scripted,
    TellsByMethod,
    TellsInInfo,
    ThreeActions,
    close_colours,
    colour_of,
    colours,
    describe,
    mask_of,
    play,
    videos,
)

# Lengths 3, 2, 4: the states of the first two episodes and the third's beginning.
STATES = [
    *[colour_of(0, t) for t in range(4)],
    *[colour_of(1, t) for t in range(3)],
    *[colour_of(2, t) for t in range(2)],
]


def always(episode: int) -> bool:
    return True


def at_start(number: int) -> bool:
    return number == 0


# --- the forms ---

Make = Callable[[], Any]


def one(make: Make, folder: Path, n_envs: int = 1, **arguments: Any) -> Any:
    return RecordVideo(make(), str(folder), at_start, **arguments)


def vec(several: Any, **kwargs: Any) -> Any:
    def record(make: Make, folder: Path, n_envs: int = 1, **arguments: Any) -> Any:
        venv = several([lambda: Monitor(make())] * n_envs, **kwargs)
        return VecRecordVideo(venv, str(folder), at_start, **arguments)

    return record


def vector(several: Any, mode: AutoresetMode) -> Any:
    def record(make: Make, folder: Path, n_envs: int = 1, **arguments: Any) -> Any:
        envs = several([make] * n_envs, autoreset_mode=mode)
        return VectorRecordVideo(envs, str(folder), episode_trigger=at_start, **arguments)

    return record


FORMS: dict[str, Any] = {
    "env": one,
    "dummy": vec(DummyVecEnv),
    "subproc": vec(SubprocVecEnv, start_method="fork"),
    **{
        f"{name}, {mode.value}": vector(several, mode)
        for name, several in (("sync", SyncVectorEnv), ("async", AsyncVectorEnv))
        for mode in AutoresetMode
    },
}
SAME_STEP = f"sync, {AutoresetMode.SAME_STEP.value}"
GRIDS = [("dummy", None), ("subproc", None), (SAME_STEP, None)]
forms = pytest.mark.parametrize("form", FORMS)
three_forms = pytest.mark.parametrize("form", ["env", "dummy", SAME_STEP])


def run(recorder: Any, steps: int) -> list[Any]:
    """Step, and reset where nobody else does; return the infos of all steps."""
    told = []
    if isinstance(recorder, VecEnv):
        recorder.seed(5)
        recorder.reset()
        for _ in range(steps):
            told += recorder.step(np.zeros(recorder.num_envs, int))[3]
    elif isinstance(recorder, gym.Env):
        recorder.reset(seed=5)
        for _ in range(steps):
            *_, terminated, truncated, info = recorder.step(0)
            told.append(info)
            if terminated or truncated:
                recorder.reset()
    else:
        recorder.reset(seed=5)
        for _ in range(steps):
            _, _, terminated, truncated, infos = recorder.step(np.zeros(recorder.num_envs, int))
            told += [infos, infos.get("final_info", {})]
            over = terminated | truncated
            if recorder.metadata["autoreset_mode"] is AutoresetMode.DISABLED and over.any():
                recorder.reset(options={"reset_mask": over})
    return told


def sidecar_of(recorder: Any) -> dict[str, Any]:
    text = Path(str(recorder.video_path)).with_suffix(".json").read_text()
    return json.loads(text)  # type: ignore[no-any-return]


@forms
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_state_of_one_environment_is_one_frame(tmp_path: Path, form: str) -> None:
    """Terminal states among them, over several episodes, up to the length that was asked for."""
    several: dict[str, Any] = {} if form == "env" else {"n_envs": 2, "env_index": 1}
    recorder = FORMS[form](Scripted, tmp_path, video_length=9, **several)
    told = run(recorder, 12)
    assert not recorder.recording
    recorder.close()
    assert not any("dqn_plugins.terminal_frame" in info for info in told)
    sidecar = sidecar_of(recorder)
    assert sidecar["seed"] == 5 + len(several) // 2
    assert {each["environment"] for each in sidecar["episodes"]} == {len(several) // 2}
    frames = colours(recorder.video_path)
    if form == f"async, {AutoresetMode.SAME_STEP.value}":
        # Nobody can look into the other process before it resets.
        seen = [each for each in STATES if each not in (colour_of(0, 3), colour_of(1, 2))]
        assert close_colours(frames, [*seen, *[colour_of(2, t) for t in (2, 3)]])
        return
    assert close_colours(frames, STATES)
    assert [
        (each["episode"], each["return"], each["length"], each["terminated"], each["truncated"])
        for each in sidecar["episodes"]
    ] == [(0, -0.5, 3, True, False), (1, 8.25, 2, False, True), (2, -1.0, 1, False, False)]


def tiles_are(frame: Any, count: int, colour: tuple[int, int, int]) -> bool:
    """Whether the first pictures of a two by two grid have a colour, and the others none."""
    tiles = [frame[:48, :64], frame[:48, 64:], frame[48:, :64], frame[48:, 64:]]
    seen = [tile[8:-8, 8:-8].mean(axis=(0, 1)) for tile in tiles]
    wanted = [colour] * count + [(0, 0, 0)] * (4 - count)
    return frame.shape == (96, 128, 3) and bool(np.abs(np.subtract(seen, wanted)).max() <= 10)


@pytest.mark.parametrize("form", ["dummy", "subproc", SAME_STEP])
def test_a_grid_shows_terminal_states(tmp_path: Path, form: str) -> None:
    recorder = FORMS[form](Scripted, tmp_path, 3, video_length=7)
    run(recorder, 8)
    recorder.close()
    # One frame per step: a terminal state takes the place of the state after the reset.
    states = [*[(0, t) for t in range(4)], (1, 1), (1, 2), (2, 1)]
    for frame, state in zip(read_frames(recorder.video_path), states, strict=True):
        assert tiles_are(frame, 3, colour_of(*state))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_whole_episodes_of_a_grid(tmp_path: Path, mode: AutoresetMode) -> None:
    envs: Any = SyncVectorEnv([Scripted] * 4, autoreset_mode=mode)
    recorder = VectorRecordVideo(envs, str(tmp_path), episode_trigger=always)
    run(recorder, 8 if mode is AutoresetMode.NEXT_STEP else 6)
    recorder.close()
    assert videos(tmp_path) == [f"rl-video-episode-{number}.mp4" for number in range(3)]
    for episode, length in ((0, 3), (1, 2)):
        frames = list(read_frames(tmp_path / f"rl-video-episode-{episode}.mp4"))
        assert len(frames) == length + 1
        for t, frame in enumerate(frames):
            assert tiles_are(frame, 4, colour_of(episode, t))


@three_forms
def test_existing_videos_stay(tmp_path: Path, form: str) -> None:
    for _ in range(3):
        recorder = FORMS[form](Scripted, tmp_path, video_length=5)
        run(recorder, 6)
        recorder.close()
    stem = videos(tmp_path)[0].removesuffix(".mp4")
    assert videos(tmp_path) == [f"{stem}.mp4", f"{stem}_1.mp4", f"{stem}_2.mp4"]
    assert len(list(tmp_path.glob("*.json"))) == 3
    for name in videos(tmp_path):
        assert close_colours(colours(tmp_path / name), STATES[:5])


@three_forms
def test_a_recorder_that_is_forgotten_finishes_its_video(tmp_path: Path, form: str) -> None:
    recorder = FORMS[form](Scripted, tmp_path, video_length=500)
    run(recorder, 4)
    path = recorder.video_path
    del recorder
    gc.collect()
    assert close_colours(colours(path), STATES[:6])


@pytest.mark.parametrize("form", ["dummy", SAME_STEP])
def test_a_recording_that_ends_the_one_before_has_terminal_states(
    tmp_path: Path, form: str
) -> None:
    recorder = FORMS[form](Scripted, tmp_path, video_length=20)
    recorder.reset()
    recorder.start_recording(*([] if form == "dummy" else ["second"]))
    for _ in range(4):
        recorder.step(np.zeros(1, int))
    recorder.close()
    assert close_colours(colours(recorder.video_path), STATES[1:6])


class Imaginary(Scripted):
    def render(self) -> Any:
        return super().render() * 1j if self.t else super().render()


@three_forms
def test_frames_that_are_refused_end_the_recording_only(tmp_path: Path, form: str) -> None:
    recorder = FORMS[form](Imaginary, tmp_path, video_length=20)
    recorder.reset()
    action = 0 if form == "env" else np.zeros(1, int)
    with pytest.raises(TypeError, match="complex128"):
        recorder.step(action)
    assert not recorder.recording
    if form != "env":  # the environments are as they were
        assert not any("step" in vars(each) for each in recorder.unwrapped.envs)
    recorder.step(action)
    recorder.close()
    assert len(colours(recorder.video_path)) == 1


@three_forms
@pytest.mark.parametrize(
    ("arguments", "error", "fix"),
    [
        ({"video_length": -1}, ValueError, r"video_length: received -1.*at least [01]"),
        ({"video_length": "9"}, ValueError, r"video_length: received '9'.*at least [01]"),
        ({"fps": float("nan")}, ValueError, r"fps: received nan.*above 0"),
        ({"caption": "yes"}, TypeError, r"caption: received 'yes'.*caption=True"),
        ({"model": 3}, TypeError, r"model: received int.*q_net"),
        ({"size": (8, 480)}, ValueError, r"size: received \(8, 480\).*at least 16"),
    ],
)
def test_arguments_out_of_range(
    tmp_path: Path, form: str, arguments: dict[str, Any], error: type[Exception], fix: str
) -> None:
    with pytest.raises(error, match=fix):
        FORMS[form](Scripted, tmp_path, **arguments)
    gc.collect()  # a half-built wrapper goes without a sound


@pytest.mark.parametrize("form", ["dummy", SAME_STEP])
@pytest.mark.parametrize("index", [2, -1])
def test_an_environment_that_is_not_there(tmp_path: Path, form: str, index: int) -> None:
    with pytest.raises(ValueError, match=f"env_index: received {index}, it must be from 0 to 1"):
        FORMS[form](Scripted, tmp_path, 2, env_index=index)


@three_forms
@pytest.mark.parametrize("mode", [None, "ansi"])
def test_render_modes_without_pictures(tmp_path: Path, form: str, mode: str | None) -> None:
    with pytest.raises(ValueError, match=rf"received render_mode={mode!r}.*such as rgb_array"):
        FORMS[form](lambda: Scripted(render_mode=mode), tmp_path)


# --- a drop-in for Gymnasium's and Stable-Baselines3's ---


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (GymnasiumRecordVideo, RecordVideo),
        (vector_wrappers.RecordVideo, VectorRecordVideo),
        (VecVideoRecorder, VecRecordVideo),
    ],
)
def test_arguments_begin_as_theirs_do(theirs: Any, ours: Any) -> None:
    their, own = (
        list(inspect.signature(kind.__init__).parameters.values()) for kind in (theirs, ours)
    )
    for first, second in zip(their, own, strict=False):
        assert (first.name, first.kind) == (second.name, second.kind)
        if first.name != "gc_trigger":  # a collection per video is not needed here
            assert first.default == second.default
    extras = [each for each in own[len(their) :] if each.name != "gc_trigger"]  # new in 1.2
    assert all(extra.kind is extra.KEYWORD_ONLY for extra in extras)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"episode_trigger": lambda episode: episode % 2 == 1, "name_prefix": "x"},
        {"step_trigger": lambda step: step == 2},
        {"step_trigger": lambda step: step == 4, "episode_trigger": always},
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_and_frames_are_those_of_gymnasium(
    tmp_path: Path, arguments: dict[str, Any], several: bool
) -> None:
    kinds: list[Any] = [GymnasiumRecordVideo, RecordVideo]
    if several:
        kinds = [vector_wrappers.RecordVideo, VectorRecordVideo]
        arguments = {**arguments, "record_first_only": True}
    seen = []
    for kind in kinds:
        folder = tmp_path / kind.__module__
        base: Any = SyncVectorEnv([Scripted] * 2) if several else Scripted()
        recorder = kind(base, str(folder), **arguments)
        run(recorder, 8)
        names = ["step_id", "episode_id", "recording", "name_prefix", "video_length"]
        states = [getattr(recorder, name) for name in names if not several]
        states += [] if several else [recorder.frames_per_sec, len(recorder.recorded_frames)]
        recorder.close()
        seen.append((states, {name: colours(folder / name) for name in videos(folder)}))
    (their_states, theirs), (our_states, ours) = seen
    assert our_states == their_states
    assert ours.keys() == theirs.keys()
    assert ours
    for name in ours:
        assert close_colours(ours[name], theirs[name], 8)


@pytest.mark.parametrize(
    ("episodes", "n_videos", "arguments"),
    [
        (50, 5, {"episode_trigger": lambda t: t % 10 == 0}),
        (5, 2, {"step_trigger": lambda t: t % 200 == 0, "video_length": 100}),
        (3, 2, {"video_length": 1000}),
    ],
    ids=["every tenth episode", "every 200th step", "chunks of 1,000 frames"],
)
def test_documented_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, episodes: int, n_videos: int, arguments: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    env: Any = gym.make("LunarLander-v3", render_mode="rgb_array")
    env = RecordVideo(env, video_folder="./save_videos", disable_logger=True, **arguments)
    for _i in range(episodes):
        termination, truncation = False, False
        _ = env.reset(seed=123)
        _ = env.action_space.seed(123)
        while not (termination or truncation):
            _obs, _rew, termination, truncation, _info = env.step(env.action_space.sample())
    env.close()
    folder = tmp_path / "save_videos"
    assert len(videos(folder)) == n_videos
    if "step_trigger" in arguments:
        assert sum(1 for _ in read_frames(folder / "rl-video-step-0.mp4")) == 100


def test_spec_rebuilds_the_same_recorder(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=10)
    trigger = int
    arguments: dict[str, Any] = {
        "video_folder": str(tmp_path),
        "episode_trigger": trigger,
        "step_trigger": trigger,
        "video_length": 7,
        "name_prefix": "p",
        "fps": 9,
        "disable_logger": False,
        "gc_trigger": trigger,
        "caption": True,
        "model": model,
        "action_names": ("left", "right"),
        "size": (60, 40),
    }
    assert set(arguments) == set(inspect.signature(RecordVideo.__init__).parameters) - {
        "self",
        "env",
    }
    env = RecordVideo(gym.make("CartPole-v1", render_mode="rgb_array"), **arguments)
    assert env.spec is not None
    rebuilt = gym.make(env.spec)
    while not isinstance(rebuilt, RecordVideo):
        rebuilt = rebuilt.env
    for name, value in arguments.items():
        kept = rebuilt._saved_kwargs[name]
        assert (kept.value if name == "model" else kept) is value or kept == value, name
    assert rebuilt.episode_trigger is trigger
    assert rebuilt._saved_kwargs["model"].value is model  # the model itself, not a copy
    assert rebuilt.video_length == 7


# --- what scripts do with theirs: both recorders must leave the same videos ---


class Drawing(Scripted):
    """Has the recorder take a picture between two decisions, as highway-env's environments do."""

    recorder: Any = None

    def step(self, action: int) -> Any:
        results = super().step(action)
        if self.recorder is not None:
            self.recorder._capture_frame()
        return results


def set_attributes(env: Any, folder: Path) -> None:
    (folder / "other").mkdir()
    env.video_folder = str(folder / "other")
    env.name_prefix, env.episode_id, env.step_id = "best", 6, 10
    env.frames_per_sec = np.int64(20)
    play(env, 1)


def capture_from_within(env: Any, folder: Path) -> None:
    env.unwrapped.recorder = env
    play(env, 1)


def take_frames_back(env: Any, folder: Path) -> None:
    env.recorded_frames = []
    env.reset()
    env.step(0)
    env.recorded_frames = []
    env.step(0)
    assert len(env.recorded_frames) == 1
    env.step(0)
    env.recorded_frames.clear()
    env.recorded_frames.append(np.full((48, 64, 3), 200, np.uint8))
    env.recorded_frames += [np.full((48, 64, 3), 100, np.uint8)]
    env.recorded_frames.extend([np.full((48, 64, 3), 50, np.uint8)])


def pause_by_hand(env: Any, folder: Path) -> None:
    env.reset()
    env.stop_recording()
    env.recording = True
    env._video_name = "mine"
    env.step(0)
    assert (env.recording, env._video_name) == (True, "mine")


@pytest.mark.parametrize(
    "script", [set_attributes, capture_from_within, take_frames_back, pause_by_hand]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_scripts_do_the_same_with_gymnasiums(tmp_path: Path, script: Any) -> None:
    seen = []
    for recorder in (GymnasiumRecordVideo, RecordVideo):
        folder = tmp_path / recorder.__module__
        env = recorder(Drawing(), str(folder), episode_trigger=lambda episode: True)
        script(env, folder)
        env.close()
        found = {path.name: path for path in sorted(folder.rglob("*.mp4"))}
        seen.append({name: (describe(path)["fps"], colours(path)) for name, path in found.items()})
    theirs, ours = seen
    assert ours.keys() == theirs.keys()
    assert ours
    for name, (fps, frames) in ours.items():
        assert fps == theirs[name][0]
        assert close_colours(frames, theirs[name][1], 8)


class Halved:
    """A subclass that takes its own pictures and names its own files."""

    saved: list[Any]

    def _capture_frame(self: Any) -> None:
        self.recorded_frames.append(self.env.render() // 2)

    def start_recording(self: Any, video_name: str) -> None:
        super().start_recording(f"half-{video_name}")  # type: ignore[misc]

    def stop_recording(self: Any) -> None:
        self.saved.append(self._video_name)
        super().stop_recording()  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_subclass_does_the_same_with_gymnasiums(tmp_path: Path) -> None:
    seen = []
    for recorder in (GymnasiumRecordVideo, RecordVideo):
        kind = type("Own", (Halved, recorder), {"saved": []})
        folder = tmp_path / recorder.__module__
        env = kind(Scripted(), str(folder), episode_trigger=lambda episode: episode != 1)
        play(env, 3)
        env.close()
        seen.append((kind.saved, {name: colours(folder / name) for name in videos(folder)}))
    assert seen[1][0] == seen[0][0] == ["half-rl-video-episode-0", "half-rl-video-episode-2"]
    for name, frames in seen[1][1].items():
        assert close_colours(frames, seen[0][1][name], 8)


def test_triggers_and_names_are_those_of_stable_baselines3(tmp_path: Path) -> None:
    names = []
    for recorder in (VecVideoRecorder, VecRecordVideo):
        folder = tmp_path / recorder.__name__
        venv = recorder(
            DummyVecEnv([Scripted] * 2), str(folder), lambda step: step % 8 == 2, video_length=4
        )
        run(venv, 20)
        venv.close()
        names.append(videos(folder))
    assert names[1] == names[0]
    assert names[1]


class EverySecondHalved:
    """A subclass of a recorder that takes its own pictures, whenever it likes, and is told so."""

    saved: list[Any]

    def _video_enabled(self: Any) -> bool:
        return self.step_id % 6 == 3

    def _start_video_recorder(self: Any) -> None:
        self.video_name = f"half-{self.step_id}.mp4"
        self.video_path = os.path.join(self.video_folder, self.video_name)
        self._start_recording()
        self._capture_frame()

    def _capture_frame(self: Any) -> None:
        self.recorded_frames.append(self.env.render() // 2)

    def _stop_recording(self: Any) -> None:
        self.saved.append(self.step_id)
        super()._stop_recording()  # type: ignore[misc]


@pytest.mark.parametrize("kind", [BareVecEnv, lambda: DummyVecEnv([Scripted] * 2)])
def test_a_subclass_does_the_same_with_stable_baselines3s(tmp_path: Path, kind: Any) -> None:
    seen = []
    for extra, recorder in ((0, VecVideoRecorder), (1, VecRecordVideo)):
        own = type("Own", (EverySecondHalved, recorder), {"saved": []})
        folder = tmp_path / recorder.__name__
        venv = own(kind(), str(folder), lambda step: False, video_length=3 + extra)
        venv.frames_per_sec = 12
        run(venv, 14)
        venv.close()
        seen.append((own.saved, {name: colours(folder / name) for name in videos(folder)}))
    assert seen[1][0] == seen[0][0] == [6, 12]
    assert list(seen[1][1]) == list(seen[0][1]) == ["half-3.mp4", "half-9.mp4"]
    assert describe(venv.video_path)["fps"] == 12
    for name, frames in seen[1][1].items():
        assert len(frames) == len(seen[0][1][name]) == 4
        assert close_colours(frames[1:2], seen[0][1][name][1:2])


def test_a_rate_that_is_set_is_checked(tmp_path: Path) -> None:
    env = RecordVideo(Scripted(), str(tmp_path))
    with pytest.raises(ValueError, match=r"fps: received -1"):
        env.frames_per_sec = -1
    assert env.frames_per_sec == 25


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.int64(12), 12),
        (np.float32(12.5), 12.5),
        (Fraction(30000, 1001), 30000 / 1001),
        (Decimal("7.5"), 7.5),
        (np.array(8), 8),
    ],
)
@pytest.mark.parametrize("by_metadata", [True, False])
def test_rates_of_any_type_are_numbers_in_the_sidecar(
    tmp_path: Path, given: Any, kept: float, by_metadata: bool
) -> None:
    class TakesAnySeed(Scripted):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return super().reset(seed=None if seed is None else int(seed))

    env = TakesAnySeed()
    if by_metadata:
        env.metadata = {**env.metadata, "render_fps": given}
    recorder = RecordVideo(env, str(tmp_path), fps=None if by_metadata else given)
    recorder.reset(seed=np.int64(5))  # type: ignore[arg-type]
    recorder.close()
    sidecar = json.loads((tmp_path / "rl-video-episode-0.json").read_text())
    assert (sidecar["fps"], sidecar["seed"]) == (kept, 5)
    assert describe(recorder.video_path)["fps"] == pytest.approx(kept, abs=0.01)


def test_start_and_stop_by_hand(tmp_path: Path) -> None:
    env = RecordVideo(Scripted(), str(tmp_path), episode_trigger=lambda episode: False)
    with pytest.raises(RuntimeError, match="no recording is running"):
        env.stop_recording()
    env.reset()
    env.start_recording("by-hand")
    env.step(0)
    assert env.recording
    assert len(env.recorded_frames) == 1
    with pytest.raises(LookupError, match="streamed"):
        env.recorded_frames[0]
    env.stop_recording()
    assert not env.recording
    env.step(0)
    env.close()
    assert close_colours(colours(tmp_path / "by-hand.mp4"), [colour_of(0, 1)])


def test_a_recording_without_frames_leaves_nothing_but_a_warning(tmp_path: Path) -> None:
    env = RecordVideo(Scripted(), str(tmp_path), episode_trigger=lambda episode: False)
    env.reset()
    env.start_recording("nothing")
    with pytest.warns(UserWarning, match="has no frame"):
        env.close()
    assert list(tmp_path.iterdir()) == []


def test_render_mode_that_collects(tmp_path: Path) -> None:
    env = RecordVideo(RenderCollection(Scripted()), str(tmp_path))
    env.reset()
    for _ in range(3):
        env.step(0)
    assert [tuple(frame[0, 0]) for frame in env.render()] == [colour_of(0, t) for t in range(4)]
    env.close()
    expected = [colour_of(0, t) for t in range(4)]
    assert close_colours(colours(tmp_path / "rl-video-episode-0.mp4"), expected)


# --- nothing is lost, and nothing grows ---


def test_memory_does_not_grow_with_frames(tmp_path: Path) -> None:
    env = RecordVideo(Scripted(size=(400, 600), episodes=[((0.0,) * 90, "terminated")]), tmp_path)
    env.reset()
    env.step(0)
    tracemalloc.start()
    for _ in range(88):
        env.step(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    env.close()
    assert peak < 5e6  # 88 frames are 63 MB


def test_the_sidecar_of_an_endless_recording_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqn_plugins.wrappers.video.recording.MOST_EPISODES", 3)
    episode = RunningEpisode()
    video = Video("long", test_the_sidecar_of_an_endless_recording_does_not_grow)
    for _ in range(10):
        episode.begin()
        video.write(np.zeros((16, 16, 3), np.uint8), [episode], tmp_path, 10, None)
    path = video.finish()
    assert path is not None
    episodes = json.loads(path.with_suffix(".json").read_text())["episodes"]
    assert [episode["episode"] for episode in episodes] == [0, 1, 2]


def test_closing_an_environment_that_fails_to_close(tmp_path: Path) -> None:
    class Fails(Scripted):
        def close(self) -> None:
            raise RuntimeError("cannot close")

    env = RecordVideo(Fails(), str(tmp_path))
    play(env, 1)
    with pytest.raises(RuntimeError, match="cannot close"):
        env.close()
    assert len(colours(env.video_path)) == 4


def test_sidecar_of_a_whole_episode(tmp_path: Path) -> None:
    env = RecordVideo(Scripted(), str(tmp_path), episode_trigger=lambda episode: True)
    play(env, 2, seed=11)
    env.close()
    sidecar = json.loads((tmp_path / "rl-video-episode-1.json").read_text())
    assert sidecar["video"] == "rl-video-episode-1.mp4"
    assert sidecar["complete"] is True
    assert (sidecar["seed"], sidecar["episodes_since_seed"]) == (11, 1)
    assert sidecar["return"] == 8.25
    assert sidecar["length"] == 2
    assert (sidecar["terminated"], sidecar["truncated"]) == (False, True)
    assert (sidecar["fps"], sidecar["frames"]) == (25, 3)
    assert (sidecar["width"], sidecar["height"]) == (64, 48)
    assert {"python", "gymnasium", "numpy", "stable-baselines3"} <= sidecar["versions"].keys()
    assert not list(tmp_path.glob(".*"))


def test_sidecar_of_several_episodes_and_the_id(tmp_path: Path) -> None:
    env = RecordVideo(
        gym.make("CartPole-v1", render_mode="rgb_array"), str(tmp_path), video_length=50
    )
    env.episode_trigger = lambda episode: episode == 0
    play(env, 10, seed=3)
    assert not env.recording
    env.close()
    sidecar = json.loads((tmp_path / "rl-video-episode-0.json").read_text())
    assert sidecar["environment_id"] == "CartPole-v1"
    lengths = [episode["length"] for episode in sidecar["episodes"]]
    assert len(lengths) > 1
    assert sum(lengths) + len(lengths) == sidecar["frames"] == 50
    assert sidecar["episodes"][0]["terminated"] is True


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"video_folder: received .*must be a folder.*Pass"):
        RecordVideo(Scripted(), str(tmp_path / "file"))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # may write everywhere
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match=r"video_folder: .*permissions"):
            RecordVideo(Scripted(), str(tmp_path))
    finally:
        os.seteuid(user)


def test_a_model_without_q_values(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8)
    with pytest.raises(TypeError, match="model: received PPO"):
        RecordVideo(Scripted(), str(tmp_path), model=model)


def test_an_encoder_that_dies_is_named_and_the_environment_goes_on(tmp_path: Path) -> None:
    env = RecordVideo(Scripted(episodes=[((0.0,) * 900, "terminated")]), str(tmp_path))
    env.reset()
    for _ in range(60):
        env.step(0)
    time.sleep(0.5)
    env._video.writer._encoder.process.kill()
    with pytest.raises(OSError, match="The video encoder stopped"):  # noqa: PT012
        for _ in range(500):
            env.step(0)
    assert not env.recording
    env.step(0)
    env.close()
    assert len(colours(env.video_path)) >= 60 - 2 * 25
    sidecar = json.loads((tmp_path / "rl-video-episode-0.json").read_text())
    assert sidecar["complete"] is False


def test_a_frame_that_is_none_ends_the_recording(tmp_path: Path) -> None:
    class Blinks(Scripted):
        def render(self) -> Any:
            return None if self.t == 2 else super().render()

    env = RecordVideo(Blinks(), str(tmp_path))
    with pytest.warns(UserWarning, match="NoneType instead of a NumPy array"):
        play(env, 1)
    env.close()
    assert len(colours(env.video_path)) == 2


# --- captions and Q-values ---


def test_caption_and_q_values_under_the_frame(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", Scripted(), buffer_size=10)
    env = RecordVideo(
        Scripted(size=(400, 600)), str(tmp_path), caption=True, model=model, action_names=["a", "b"]
    )
    play(env, 1)
    env.close()
    frames = list(read_frames(env.video_path))
    assert frames[0].shape[1] == 600
    assert frames[0].shape[0] > 460
    for t, frame in enumerate(frames):
        assert np.abs(frame[:399].mean(axis=(0, 1)) - colour_of(0, t)).max() < 6
    panels = [frame[402:].astype(int) for frame in frames]
    for first, second in itertools.pairwise(panels):
        assert np.abs(first - second).max() > 100


def test_between_other_wrappers_with_captions_and_a_model(tmp_path: Path) -> None:
    inner = VecNormalize(VecMonitor(DummyVecEnv([Scripted] * 2)))
    model = DQN("MlpPolicy", inner, buffer_size=10)
    seen: list[Any] = []

    def q_values(observation: Any) -> Any:
        seen.append(observation)
        return [0.0, 1.0]

    for asked in (model, q_values):
        venv = VecRecordVideo(
            inner, str(tmp_path), at_start, video_length=6, caption=True, model=asked
        )
        run(venv, 8)
    venv.close()
    assert len(seen) == 12
    assert all(np.shape(observation) == (2,) for observation in seen)
    sidecar = json.loads(Path(str(venv.video_path)).with_suffix(".json").read_text())
    assert sidecar["complete"] is True
    assert sidecar["episodes"][0]["environment"] == 0
    assert sidecar["episodes"][0]["length"] == 3
    assert sidecar["episodes"][0]["seed"] == 5
    assert next(read_frames(venv.video_path)).shape[1] == 2 * 448  # enlarged, to be legible


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


@pytest.mark.parametrize("make", [TellsByMethod, TellsInInfo])
@pytest.mark.parametrize(("form", "index"), [*((form, 1) for form in FORMS), *GRIDS])
def test_each_frame_has_the_mask_of_its_observation(
    tmp_path: Path, make: Any, form: str, index: int | None
) -> None:
    drawn: list[FrameDetails] = []
    several: dict[str, Any] = {} if form == "env" else {"n_envs": 2, "env_index": index}
    recorder = FORMS[form](
        make, tmp_path, caption=lambda details: drawn.append(details) or {"": ""},
        model=lambda observation: observation[[0, 1, 1]], video_length=9, **several,
    )  # fmt: skip
    run(recorder, 12)
    recorder.close()
    assert len(drawn) == (9 if index else 18)
    for details in drawn:
        assert np.array_equal(details.action_mask, mask_of(details.observation)), details


class TellsSomethingElse(ThreeActions):
    """Uses the same key, and a method of the same name, for something of its own."""

    told: Any

    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0], {"action_mask": self.told}

    def step(self, action: int) -> Any:
        return *super().step(action)[:4], {"action_mask": self.told}

    def action_masks(self) -> Any:
        raise RuntimeError("not now")


@pytest.mark.parametrize(
    "told",
    ["all", {"left": 1}, [[1], [1, 0]], 1, None, [0, 1, 2], [0.5, 1, 1], [[1, 1, 1]], [0, 1]],
)
@pytest.mark.parametrize("form", ["env", "dummy", SAME_STEP])
def test_what_is_no_mask_is_left_out(
    tmp_path: Path, monkeypatch: Any, form: str, told: Any
) -> None:
    drawn = []
    draw = Panel.draw

    def draw_panel(panel: Any, texts: Any, values: Any, possible: Any, axis: Any) -> Any:
        drawn.append(possible)
        return draw(panel, texts, values, possible, axis)

    monkeypatch.setattr(Panel, "draw", draw_panel)
    monkeypatch.setattr(TellsSomethingElse, "told", told, raising=False)
    model: Any = lambda observation: [1.0, 2.0, 3.0]  # noqa: E731
    recorder = FORMS[form](TellsSomethingElse, tmp_path, model=model, video_length=6)
    run(recorder, 6)
    recorder.close()
    assert len(drawn) == 6
    assert all(np.array_equal(possible, [True] * 3) for possible in drawn)


# --- what else programs do with a recorder ---


def test_recording_changes_nothing_for_the_agent(tmp_path: Path) -> None:
    def trajectory(env: Any) -> list[Any]:
        env.action_space.seed(0)
        observation, _ = env.reset(seed=5)
        steps = [observation.tolist()]
        for _ in range(40):
            observation, *rest, _ = env.step(env.action_space.sample())
            steps.append([observation.tolist(), *rest])
            if rest[1] or rest[2]:
                env.reset()
        env.close()
        return steps

    bare = gym.make("LunarLander-v3", render_mode="rgb_array")
    wrapped = gym.make("LunarLander-v3", render_mode="rgb_array")
    wrapped = RecordVideo(EpisodeReward(wrapped), str(tmp_path), caption=True)
    assert trajectory(bare) == trajectory(wrapped)


def test_two_observers_on_one_environment(tmp_path: Path) -> None:
    """Side by side or one above the other, each has its own recording and its own sums."""
    base = Scripted()
    below = RecordVideo(EpisodeReward(base), str(tmp_path / "below"))
    above = EpisodeReward(RecordVideo(below, str(tmp_path / "above")))
    infos = play(above, 2)
    assert [info["episode"]["r"] for info in infos] == [-0.5, 8.25]
    other = RecordVideo(base, str(tmp_path / "other"))  # beside them, on the same environment
    other.reset()
    other.step(0)
    above.close()
    other.close()
    for folder in ("below", "above"):
        assert videos(tmp_path / folder) == [f"rl-video-episode-{number}.mp4" for number in (0, 1)]
        first = colours(tmp_path / folder / "rl-video-episode-0.mp4")
        assert close_colours(first, [colour_of(0, t) for t in range(4)])
    assert close_colours(colours(other.video_path), [colour_of(2, 0), colour_of(2, 1)])


def test_an_environment_closed_under_a_recorder(tmp_path: Path) -> None:
    class Closes(Scripted):
        closed = False

        def close(self) -> None:
            self.closed = True

        def render(self) -> Any:
            if self.closed:
                raise RuntimeError("the window is gone")
            return super().render()

    base = Closes()
    env = RecordVideo(EpisodeReward(base), str(tmp_path))
    env.reset()
    env.step(0)
    base.close()
    with pytest.raises(RuntimeError, match="the window is gone"):
        env.step(0)
    assert not env.recording  # finished at once
    assert len(colours(env.video_path)) == 2
    env.step(0)
    env.close()
    assert json.loads((tmp_path / "rl-video-episode-0.json").read_text())["complete"] is True


def test_a_copy_records_nothing_until_it_is_told_to(tmp_path: Path) -> None:
    env = RecordVideo(Scripted(), str(tmp_path), episode_trigger=is_even, caption=True)
    env.reset()
    env.step(0)
    for copied_by in (copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))):
        copied = copied_by(env)
        assert env.recording
        assert not copied.recording
        copied.step(0)
        play(copied, 2)  # the second of them is the third of the copy, and is recorded
        path = copied.video_path
        del copied
        gc.collect()
        assert sum(1 for _ in read_frames(path)) == 5
        assert json.loads(Path(path).with_suffix(".json").read_text())["complete"] is True
    env.step(0)
    env.close()
    assert sum(1 for _ in read_frames(tmp_path / "rl-video-episode-0.mp4")) == 3


def is_even(episode: int) -> bool:
    return episode % 2 == 0


class Bare(gym.Env[Any, Any]):
    """As short as an environment can be: without metadata, spec or id of its own."""

    observation_space = gym.spaces.Discrete(9)
    action_space = gym.spaces.Discrete(2)
    render_mode = "rgb_array"

    def reset(self, **_: Any) -> Any:
        self.t = 0
        return 0, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.t, 1, self.t == 3, False, {}

    def render(self) -> Any:
        return np.full((32, 32), 60 * self.t, np.uint8)


@pytest.mark.parametrize("metadata", [{}, None, {"render_fps": None}])
def test_environments_without_id_spec_or_frame_rate(tmp_path: Path, metadata: Any) -> None:
    """Made of a class; in a VecEnv and in Gymnasium's VectorEnv as well."""
    kind = type("Own", (Bare,), {"metadata": metadata})
    scalar = RecordVideo(EpisodeReward(kind(), log_file=tmp_path / "log"), str(tmp_path / "env"))
    play(scalar, 1)
    recorders: list[Any] = [scalar]
    recorders.append(
        VecRecordVideo(DummyVecEnv([kind]), str(tmp_path), lambda step: step == 0, video_length=4)
    )
    if metadata is not None:  # Gymnasium's own refuses None
        several: Any = SyncVectorEnv([kind])
        recorders.append(VectorRecordVideo(several, str(tmp_path / "envs")))
    for recorder in recorders[1:]:
        recorder.reset()
        for _ in range(3):
            recorder.step(np.zeros(1, int))
    for recorder in recorders:
        recorder.close()
        assert describe(recorder.video_path)["fps"] == 30
        frames = [frame.mean() for frame in read_frames(recorder.video_path)]
        np.testing.assert_allclose(frames, [0, 60, 120, 180], atol=4)
        sidecar = json.loads(Path(recorder.video_path).with_suffix(".json").read_text())
        assert sidecar["environment_id"] is None


# --- several environments ---


class DrawsAllAtOnce(BareVecEnv):
    get_images = VecEnv.get_images

    def render(self, mode: str | None = None) -> Any:
        return self.env.render()


@pytest.mark.parametrize("kind", [BareVecEnv, DrawsAllAtOnce])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_vec_env_with_nothing_that_sb3_does_not_call(tmp_path: Path, kind: Any) -> None:
    venv = VecRecordVideo(
        VecEpisodeReward(kind()), str(tmp_path), at_start, video_length=7, caption=True
    )
    run(venv, 9)
    assert venv.venv.returns == [-0.5, 8.25, 1.0]
    venv.close()
    assert sum(1 for _ in read_frames(venv.video_path)) == 7


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasiums_environments_of_one_piece(tmp_path: Path, n_envs: int) -> None:
    env = gym.make_vec("CartPole-v1", n_envs, render_mode="rgb_array")
    venv = VecRecordVideo(wrap_env(env), str(tmp_path), at_start, video_length=5, env_index=0)
    venv.seed(3)
    run(venv, 6)
    venv.close()
    assert sum(1 for _ in read_frames(venv.video_path)) == 5


def test_an_environments_own_numbers_are_no_pictures(tmp_path: Path) -> None:
    class Numbers(Scripted):
        def step(self, action: int) -> Any:
            own = {"terminal_frame": 3, "episode": 1, "r": 2.5, "interventions": 4}
            return *super().step(action)[:4], own

    venv = VecRecordVideo(DummyVecEnv([Numbers]), str(tmp_path), at_start, video_length=7)
    infos = run(venv, 7)
    venv.close()
    assert all((info["terminal_frame"], info["episode"]) == (3, 1) for info in infos)
    assert len(colours(venv.video_path)) == 7


def test_environments_are_as_before_when_the_recording_ends(tmp_path: Path) -> None:
    base = DummyVecEnv([lambda: Monitor(Scripted()), Scripted])
    venv = VecRecordVideo(base, str(tmp_path), at_start, video_length=3)
    venv.reset()
    assert all("step" in vars(env) for env in base.envs)
    venv.step(np.zeros(2, dtype=int))
    venv.step(np.zeros(2, dtype=int))
    assert not venv.recording
    assert not any("step" in vars(env) for env in base.envs)
    venv.close()


def test_bare_environments_in_other_processes_are_named(tmp_path: Path) -> None:
    venv = VecRecordVideo(
        SubprocVecEnv([Scripted], start_method="fork"), str(tmp_path), at_start, video_length=7
    )
    with pytest.warns(UserWarning, match=r"\[0\] cannot be recorded.*Monitor"):
        run(venv, 8)
    venv.close()
    assert len(colours(venv.video_path)) == 7
    # Without the picture of its end, but with its numbers
    first = json.loads(Path(venv.video_path).with_suffix(".json").read_text())["episodes"][0]
    assert (first["return"], first["length"], first["terminated"]) == (-0.5, 3, True)


def test_recording_while_a_model_learns(tmp_path: Path) -> None:
    venv = VecRecordVideo(DummyVecEnv([Scripted] * 2), str(tmp_path), at_start, video_length=30)
    DQN("MlpPolicy", venv, learning_starts=10, buffer_size=100).learn(100)
    venv.close()
    assert len(colours(venv.video_path)) == 30


def test_a_worker_whose_spec_cannot_be_pickled_survives(tmp_path: Path) -> None:
    def make() -> Any:
        env = gym.make("CartPole-v1", render_mode="rgb_array")
        return gym.wrappers.TransformReward(env, lambda reward: reward)

    venv = VecEpisodeReward(SubprocVecEnv([make], start_method="fork"), log_file=tmp_path / "log")
    venv = VecRecordVideo(venv, str(tmp_path), at_start, video_length=3)
    run(venv, 3)
    venv.close()
    sidecar = json.loads(Path(str(venv.video_path)).with_suffix(".json").read_text())
    assert sidecar["environment_id"] == "CartPole-v1"
    assert '"env_id": "CartPole-v1"' in (tmp_path / "log.0.monitor.csv").read_text()
    assert id_of(DummyVecEnv([Scripted])) is None


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

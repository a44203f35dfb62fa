"""RecordVideo: Gymnasium's wrapper with the promises it lacks."""

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
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import RecordVideo as GymnasiumRecordVideo
from gymnasium.wrappers import RenderCollection
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins.wrappers import (
    EpisodeReward,
    RecordVideo,
    VecRecordVideo,
    VectorRecordVideo,
    read_frames,
)
from dqn_plugins.wrappers.rewards.episode import RunningEpisode
from dqn_plugins.wrappers.video.recording import Video
from tests.wrappers.scripted import (
    Scripted,
    close_colours,
    colour_of,
    colours,
    describe,
    play,
    videos,
)

# --- a drop-in ---


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


def test_arguments_begin_as_gymnasiums_do() -> None:
    theirs = list(inspect.signature(GymnasiumRecordVideo.__init__).parameters.values())
    ours = list(inspect.signature(RecordVideo.__init__).parameters.values())
    for their, our in zip(theirs, ours, strict=False):
        assert (our.name, our.kind) == (their.name, their.kind)
        if their.name != "gc_trigger":  # a collection per video is not needed here
            assert our.default == their.default
    extras = [our for our in ours[len(theirs) :] if our.name != "gc_trigger"]  # new in 1.2
    assert all(extra.kind is extra.KEYWORD_ONLY for extra in extras)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"episode_trigger": lambda episode: episode % 2 == 1, "name_prefix": "x"},
        {"step_trigger": lambda step: step == 2},
        {"step_trigger": lambda step: step == 4, "episode_trigger": lambda episode: True},
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_and_frames_are_those_of_gymnasium(tmp_path: Path, arguments: dict[str, Any]) -> None:
    seen = []
    for recorder in (GymnasiumRecordVideo, RecordVideo):
        folder = tmp_path / recorder.__module__
        env = recorder(Scripted(), str(folder), **arguments)
        play(env, 3)
        states = [
            (name, getattr(env, name))
            for name in ("step_id", "episode_id", "recording", "name_prefix", "frames_per_sec")
        ]
        states.append(("video_length", env.video_length))
        states.append(("frames", len(env.recorded_frames)))
        env.close()
        seen.append((states, {name: colours(folder / name) for name in videos(folder)}))
    (their_states, theirs), (our_states, ours) = seen
    assert our_states == their_states
    assert ours.keys() == theirs.keys()
    assert ours
    for name in ours:
        assert close_colours(ours[name], theirs[name], 8)


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


# --- what scripts do with Gymnasium's: both recorders must leave the same videos ---


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


# --- what is on the frames ---


def test_every_state_of_an_episode_is_one_frame(tmp_path: Path) -> None:
    env = RecordVideo(Scripted(), str(tmp_path), episode_trigger=lambda episode: episode != 1)
    play(env, 3)
    env.close()
    assert videos(tmp_path) == ["rl-video-episode-0.mp4", "rl-video-episode-2.mp4"]
    for episode, states in ((0, 4), (2, 5)):
        path = tmp_path / f"rl-video-episode-{episode}.mp4"
        assert close_colours(colours(path), [colour_of(episode, t) for t in range(states)])
        assert describe(path)["fps"] == 25


def test_fixed_length_spans_episodes_and_is_exact(tmp_path: Path) -> None:
    env = RecordVideo(
        Scripted(), str(tmp_path), episode_trigger=lambda episode: episode == 0, video_length=6
    )
    play(env, 3)
    env.close()
    expected = [colour_of(0, t) for t in range(4)] + [colour_of(1, t) for t in range(2)]
    assert close_colours(colours(tmp_path / "rl-video-episode-0.mp4"), expected)


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


# --- nothing is lost ---


def test_existing_videos_stay(tmp_path: Path) -> None:
    for _ in range(3):
        env = RecordVideo(Scripted(), str(tmp_path))
        play(env, 1)
        env.close()
    assert videos(tmp_path) == [
        "rl-video-episode-0.mp4",
        "rl-video-episode-0_1.mp4",
        "rl-video-episode-0_2.mp4",
    ]
    assert len(list(tmp_path.glob("*.json"))) == 3


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


# --- refused at once, with the fix ---


@pytest.mark.parametrize("mode", [None, "ansi"])
def test_render_modes_without_pictures(tmp_path: Path, mode: str | None) -> None:
    with pytest.raises(ValueError, match=r'render_mode="rgb_array"'):
        RecordVideo(Scripted(render_mode=mode), str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "error", "fix"),
    [
        ({"video_length": -1}, ValueError, r"video_length: received -1.*at least 0"),
        ({"fps": 0}, ValueError, r"fps: received 0.*above 0"),
        ({"caption": "yes"}, TypeError, r"caption: received 'yes'.*caption=True"),
        ({"model": 3}, TypeError, r"model: received int.*q_net"),
    ],
)
def test_arguments_out_of_range(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], fix: str
) -> None:
    with pytest.raises(error, match=fix):
        RecordVideo(Scripted(), str(tmp_path), **arguments)
    gc.collect()  # a half-built wrapper goes without a sound


def test_a_model_without_q_values(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8)
    with pytest.raises(TypeError, match="model: received PPO"):
        RecordVideo(Scripted(), str(tmp_path), model=model)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"video_folder: received .*no folder.*Pass"):
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


def test_frames_that_are_refused_end_the_recording_only(tmp_path: Path) -> None:
    class Imaginary(Scripted):
        def render(self) -> Any:
            return super().render() * 1j

    env = RecordVideo(Imaginary(), str(tmp_path))
    with pytest.warns(UserWarning, match="no frame"), pytest.raises(TypeError, match="complex128"):
        env.reset()
    assert not env.recording
    env.step(0)
    env.close()


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


# --- what else programs do with a recorder ---


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

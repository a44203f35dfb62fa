"""VecRecordVideo: Stable-Baselines3's recorder with terminal frames, streamed."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN
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
from dqn_plugins.wrappers import RecordVideo, VecEpisodeReward, VecRecordVideo, read_frames
from dqn_plugins.wrappers.environment_id import id_of
from tests.wrappers.scripted import (
    BareVecEnv,
    Scripted,
    close_colours,
    colour_of,
    colours,
    describe,
    play,
    videos,
)

# Lengths 3, 2, 4, then again; the states of the first two episodes and the third's beginning.
ALONE = [
    *[colour_of(0, t) for t in range(4)],
    *[colour_of(1, t) for t in range(3)],
    *[colour_of(2, t) for t in range(2)],
]


def dummy(makers: list[Callable[[], Any]]) -> VecEnv:
    return DummyVecEnv(makers)


def subproc(makers: list[Callable[[], Any]]) -> VecEnv:
    return SubprocVecEnv(makers, start_method="fork")


def monitored() -> Monitor[Any, Any]:
    return Monitor(Scripted())


def run(venv: VecEnv, steps: int) -> list[Any]:
    venv.reset()
    return [venv.step(np.zeros(venv.num_envs, dtype=int)) for _ in range(steps)]


def at_start(step: int) -> bool:
    return step == 0


def test_arguments_begin_as_those_of_stable_baselines3() -> None:
    theirs = list(inspect.signature(VecVideoRecorder.__init__).parameters.values())
    ours = list(inspect.signature(VecRecordVideo.__init__).parameters.values())
    for their, our in zip(theirs, ours, strict=False):
        assert (our.name, our.kind, our.default) == (their.name, their.kind, their.default)
    assert all(extra.kind is extra.KEYWORD_ONLY for extra in ours[len(theirs) :])


@pytest.mark.parametrize("kind", [dummy, subproc])
def test_one_sub_environment_shows_every_state(tmp_path: Path, kind: Any) -> None:
    venv = VecRecordVideo(
        kind([monitored, monitored]), str(tmp_path), at_start, video_length=9, env_index=1
    )
    results = run(venv, 9)
    venv.close()
    assert videos(tmp_path) == ["rl-video-step-0-to-step-9.mp4"]
    assert close_colours(colours(venv.video_path), ALONE)
    assert not any("dqn_plugins.terminal_frame" in info for *_, infos in results for info in infos)


@pytest.mark.parametrize("kind", [dummy, subproc])
def test_grid_shows_terminal_states(tmp_path: Path, kind: Any) -> None:
    venv = VecRecordVideo(kind([monitored] * 3), str(tmp_path), at_start, video_length=7)
    run(venv, 8)
    venv.close()
    frames = list(read_frames(venv.video_path))
    # One frame per step: a terminal state takes the place of the state after the reset.
    expected = [colour_of(0, t) for t in range(4)]
    expected += [colour_of(1, t) for t in (1, 2)]
    expected += [colour_of(2, 1)]
    assert frames[0].shape == (96, 128, 3)
    for frame, colour in zip(frames, expected, strict=True):
        for tile in (frame[:48, :64], frame[:48, 64:], frame[48:, :64]):
            assert np.abs(tile[8:-8, 8:-8].mean(axis=(0, 1)) - colour).max() <= 6
        assert frame[56:, 72:].max() < 10


def test_the_twins_show_the_same(tmp_path: Path) -> None:
    env = RecordVideo(
        Scripted(), str(tmp_path), lambda episode: episode == 0, video_length=9, name_prefix="one"
    )
    play(env, 3)
    env.close()
    venv = VecRecordVideo(DummyVecEnv([monitored]), str(tmp_path), at_start, video_length=9)
    run(venv, 9)
    venv.close()
    assert colours(venv.video_path) == colours(env.video_path)
    ours, theirs = (
        json.loads(Path(str(recorder.video_path)).with_suffix(".json").read_text())["episodes"]
        for recorder in (venv, env)
    )
    assert ours == theirs


def test_triggers_and_names_are_those_of_stable_baselines3(tmp_path: Path) -> None:
    names = []
    for recorder in (VecVideoRecorder, VecRecordVideo):
        folder = tmp_path / recorder.__name__
        venv = recorder(
            DummyVecEnv([monitored] * 2), str(folder), lambda step: step % 8 == 2, video_length=4
        )
        run(venv, 20)
        venv.close()
        names.append(videos(folder))
    assert names[1] == names[0]
    assert names[1]


# --- what scripts do with Stable-Baselines3's: its videos have one frame more ---


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


@pytest.mark.parametrize("kind", [BareVecEnv, lambda: DummyVecEnv([monitored] * 2)])
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
    assert seen[0][0] == [6, 12]
    assert list(seen[1][1]) == list(seen[0][1]) == ["half-3.mp4", "half-9.mp4"]
    assert describe(venv.video_path)["fps"] == 12
    for name, frames in seen[1][1].items():
        assert len(frames) == len(seen[0][1][name]) == 4
        assert close_colours(frames[1:2], seen[0][1][name][1:2])


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
    infos = [info for *_, infos in run(venv, 7) for info in infos]
    venv.close()
    assert all((info["terminal_frame"], info["episode"]) == (3, 1) for info in infos)
    assert len(colours(venv.video_path)) == 7


def test_exactly_video_length_frames_and_no_file_overwritten(tmp_path: Path) -> None:
    for _ in range(2):
        venv = VecRecordVideo(DummyVecEnv([monitored]), str(tmp_path), at_start, video_length=5)
        run(venv, 12)
        assert not venv.recording
        venv.close()
    assert videos(tmp_path) == ["rl-video-step-0-to-step-5.mp4", "rl-video-step-0-to-step-5_1.mp4"]
    for name in videos(tmp_path):
        assert len(colours(tmp_path / name)) == 5


def test_environments_are_as_before_when_the_recording_ends(tmp_path: Path) -> None:
    base = DummyVecEnv([monitored, Scripted])
    venv = VecRecordVideo(base, str(tmp_path), at_start, video_length=3)
    venv.reset()
    assert all("step" in vars(env) for env in base.envs)
    venv.step(np.zeros(2, dtype=int))
    venv.step(np.zeros(2, dtype=int))
    assert not venv.recording
    assert not any("step" in vars(env) for env in base.envs)
    venv.close()


def test_bare_environments_in_other_processes_are_named(tmp_path: Path) -> None:
    venv = VecRecordVideo(subproc([Scripted]), str(tmp_path), at_start, video_length=7)
    with pytest.warns(UserWarning, match=r"\[0\] cannot be recorded.*Monitor"):
        run(venv, 8)
    venv.close()
    assert len(colours(venv.video_path)) == 7


def test_between_other_wrappers_with_captions_and_a_model(tmp_path: Path) -> None:
    inner = VecNormalize(VecMonitor(dummy([monitored] * 2)))
    model = DQN("MlpPolicy", inner, buffer_size=10)
    seen: list[Any] = []

    def q_values(observation: Any) -> Any:
        seen.append(observation)
        return [0.0, 1.0]

    for asked in (model, q_values):
        inner.seed(4)
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
    assert sidecar["episodes"][0]["seed"] == 4
    assert next(read_frames(venv.video_path)).shape[1] == 2 * 448  # enlarged, to be legible


def test_recording_while_a_model_learns(tmp_path: Path) -> None:
    venv = VecRecordVideo(dummy([monitored] * 2), str(tmp_path), at_start, video_length=30)
    DQN("MlpPolicy", venv, learning_starts=10, buffer_size=100).learn(100)
    venv.close()
    assert len(colours(venv.video_path)) == 30


def test_an_unclosed_recorder_finishes_its_video(tmp_path: Path) -> None:
    venv = VecRecordVideo(dummy([monitored]), str(tmp_path), at_start, video_length=500)
    run(venv, 4)
    path = venv.video_path
    del venv
    assert close_colours(colours(path), ALONE[:6])


def test_a_worker_whose_spec_cannot_be_pickled_survives(tmp_path: Path) -> None:
    def make() -> Any:
        env = gym.make("CartPole-v1", render_mode="rgb_array")
        return gym.wrappers.TransformReward(env, lambda reward: reward)

    venv = VecEpisodeReward(subproc([make]), log_file=tmp_path / "log")
    venv = VecRecordVideo(venv, str(tmp_path), at_start, video_length=3)
    run(venv, 3)
    venv.close()
    sidecar = json.loads(Path(str(venv.video_path)).with_suffix(".json").read_text())
    assert sidecar["environment_id"] == "CartPole-v1"
    assert '"env_id": "CartPole-v1"' in (tmp_path / "log.0.monitor.csv").read_text()
    assert id_of(dummy([Scripted])) is None


def test_frames_that_are_refused_end_the_recording_only(tmp_path: Path) -> None:
    class Imaginary(Scripted):
        def render(self) -> Any:
            return super().render() * 1j if self.t else super().render()

    base = DummyVecEnv([Imaginary] * 2)
    venv = VecRecordVideo(base, str(tmp_path), at_start)
    venv.reset()
    with pytest.raises(TypeError, match="complex128"):
        venv.step(np.zeros(2, dtype=int))
    assert not venv.recording
    assert not any("step" in vars(env) for env in base.envs)
    venv.step(np.zeros(2, dtype=int))
    venv.close()
    assert len(colours(venv.video_path)) == 1


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"video_length": 0}, "video_length: received 0.*at least 1"),
        ({"env_index": 2}, "env_index: received 2.*0 to 1"),
        ({"env_index": -1}, "env_index: received -1"),
        ({"fps": float("nan")}, "fps: received nan"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, Any], fix: str) -> None:
    with pytest.raises(ValueError, match=fix):
        VecRecordVideo(dummy([monitored] * 2), str(tmp_path), at_start, **arguments)


def test_render_mode_without_pictures(tmp_path: Path) -> None:
    venv = DummyVecEnv([lambda: Scripted(render_mode=None)])
    with pytest.raises(ValueError, match=r'render_mode="rgb_array"'):
        VecRecordVideo(venv, str(tmp_path), at_start)

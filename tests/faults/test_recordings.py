"""When the environment fails, what was recorded until then is finished and plays."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from dqn_plugins import EnvironmentStepError, NaiveDQN
from dqn_plugins.wrappers import EpisodeReward, RecordVideo, VecRecordVideo
from tests.wrappers.scripted import EPISODES, Scripted, close_colours, colour_of, colours

LENGTHS = [len(rewards) for rewards, _ in EPISODES]
BAD_STEP = LENGTHS[0] + LENGTHS[1] + 2


class Failing(Scripted):
    """A :class:`Scripted` environment that fails in the middle of its third episode."""

    def __init__(self, fail: Any) -> None:
        super().__init__()
        self.fail = fail

    def step(self, action: int) -> Any:
        if self.episode == 2 and self.t == 1:
            self.fail()
        return super().step(action)


def crash() -> None:
    raise RuntimeError("the simulator crashed")


def sidecar(video: Path) -> dict[str, Any]:
    return json.loads(video.with_suffix(".json").read_text())


def test_a_video_and_a_log_are_finished_when_a_step_raises(tmp_path):
    env = EpisodeReward(Failing(crash), log_file=tmp_path / "log")
    env = RecordVideo(env, str(tmp_path), episode_trigger=lambda episode: True)
    model = NaiveDQN("MlpPolicy", env, seed=0)
    with pytest.raises(EnvironmentStepError, match="the simulator crashed") as error:
        model.learn(100)
    assert error.value.step == BAD_STEP
    # Nobody has closed the environment.
    video = tmp_path / "rl-video-episode-2.mp4"
    assert close_colours(colours(video), [colour_of(2, 0), colour_of(2, 1)])
    assert sidecar(video)["complete"]
    assert load_results(str(tmp_path))["l"].tolist() == LENGTHS[:2]


@pytest.mark.parametrize("fail", [crash, lambda: os._exit(1)], ids=["raises", "dies"])
def test_the_video_of_several_environments_is_finished(tmp_path, fail):
    vec_env = DummyVecEnv if fail is crash else SubprocVecEnv
    kwargs = {"start_method": "fork"} if vec_env is SubprocVecEnv else {}
    # In another process, terminal frames are drawn by the monitor around the environment.
    env = vec_env([lambda: Monitor(Failing(fail)), lambda: Monitor(Scripted())], **kwargs)
    recorder = VecRecordVideo(
        env, str(tmp_path), lambda step: step == 0, video_length=100, env_index=0
    )
    model = NaiveDQN("MlpPolicy", recorder, seed=0)
    with pytest.raises(EnvironmentStepError, match="Environment 0") as error:
        model.learn(100)
    assert error.value.step == 2 * BAD_STEP
    video = Path(recorder.video_path)
    assert sidecar(video)["complete"]
    states = [(0, t) for t in range(4)] + [(1, t) for t in range(3)] + [(2, t) for t in range(2)]
    assert close_colours(colours(video), [colour_of(*state) for state in states])
    for process in getattr(env, "processes", []):
        process.kill()

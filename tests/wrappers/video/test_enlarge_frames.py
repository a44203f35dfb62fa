"""Small pictures become large enough to be seen, and keep their edges."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest

from dqn_plugins.wrappers import EnlargeFrames, RecordVideo, read_frames
from dqn_plugins.wrappers.video.enlarge_frames import enlarged


class TinyEnv(gym.Env):
    """Renders two by three pixels with numbers from 0 to 1, as MinAtar does."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    observation_space = gym.spaces.Box(0, 1, (2, 3, 1), bool)
    action_space = gym.spaces.Discrete(2)
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 3, 1), bool), {}

    def step(self, action):
        return np.zeros((2, 3, 1), bool), 0.0, False, False, {}

    def render(self):
        frame = np.zeros((2, 3, 3))
        frame[1, 2] = 1.0, 0.5, 0.0
        return frame


def test_each_pixel_becomes_a_square_and_numbers_from_0_to_1_become_bytes():
    frame = EnlargeFrames(TinyEnv(), side=10).render()
    assert frame.dtype == np.uint8
    assert frame.shape == (8, 12, 3)
    assert (frame[4:, 8:] == (255, 128, 0)).all()
    frame[4:, 8:] = 0
    assert not frame.any()


@pytest.mark.parametrize("shape", [(300, 20, 3), (400, 600, 3)])
def test_large_pictures_stay_what_they_are(shape):
    frame = np.zeros(shape, np.uint8)
    assert enlarged(frame, 300) is frame


def test_a_side_below_one_is_refused():
    with pytest.raises(ValueError, match="side: received 0, it must be at least 1"):
        EnlargeFrames(TinyEnv(), side=0)


def test_a_tiny_environment_is_recorded(tmp_path):
    env = RecordVideo(EnlargeFrames(TinyEnv(), side=60), tmp_path, episode_trigger=lambda _: True)
    env.reset(seed=0)
    for _ in range(4):
        env.step(0)
    env.close()
    (video,) = tmp_path.glob("*.mp4")
    frames = list(read_frames(video))
    assert max(frames[0].shape[:2]) >= 60
    assert frames[0].any()

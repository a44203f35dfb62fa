"""An environment whose every reward, ending and picture is known beforehand, and video decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv

from dqn_plugins.wrappers import read_frames

EPISODES = (
    ((1.0, -2.0, 0.5), "terminated"),
    ((0.25, 8.0), "truncated"),
    ((-1.0, -1.0, -1.0, 4.0), "terminated"),
)


def colour_of(episode: int, step: int) -> tuple[int, int, int]:
    """The flat colour of one state's picture."""
    return 60 * (episode % 4) + 20, 30 * step + 20, 128


class Scripted(gym.Env[npt.NDArray[np.float32], int]):
    """Plays EPISODES over and over; its picture is one flat colour per episode and step."""

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 25}  # noqa: RUF012

    def __init__(
        self,
        episodes: Any = EPISODES,
        size: tuple[int, int] = (48, 64),
        render_mode: str | None = "rgb_array",
    ):
        self.episodes = episodes
        self.size = size
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(-1e6, 1e6, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.episode = -1
        self.t = 0

    def _observation(self) -> npt.NDArray[np.float32]:
        return np.array([self.episode, self.t], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode += 1
        self.t = 0
        return self._observation(), {}

    def step(self, action: int) -> Any:
        rewards, ending = self.episodes[self.episode % len(self.episodes)]
        reward = rewards[self.t]
        self.t += 1
        done = self.t == len(rewards)
        return (
            self._observation(),
            reward,
            done and ending == "terminated",
            done and ending == "truncated",
            {},
        )

    def render(self) -> Any:
        return np.full((*self.size, 3), colour_of(self.episode, self.t), dtype=np.uint8)


def mask_of(observation: Any) -> npt.NDArray[np.bool_]:
    """Which of three actions are possible: in each state another one is not."""
    return np.arange(3) != observation.sum() % 3


class ThreeActions(Scripted):
    """Begins with another episode for each seed."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.episode = self.episode if seed is None else seed
        return super().reset(seed=seed)


class TellsByMethod(ThreeActions):
    """Tells masks of possible actions as sb3-contrib asks for them."""

    def action_masks(self) -> Any:
        return mask_of(self._observation())


class TellsInInfo(ThreeActions):
    """Tells them as Gymnasium's environments do."""

    def reset(self, **kwargs: Any) -> Any:
        observation, _ = super().reset(**kwargs)
        return observation, {"action_mask": mask_of(observation).astype(np.int8)}

    def step(self, action: int) -> Any:
        observation, *rest, _ = super().step(action)
        return observation, *rest, {"action_mask": mask_of(observation).astype(np.int8)}


class BareVecEnv(VecEnv):
    """One Scripted environment with no more than what Stable-Baselines3 itself asks a VecEnv."""

    def __init__(self, render_mode: str = "rgb_array") -> None:
        self.env = Scripted(render_mode=render_mode)
        # Its own, and nothing that ours may take for something else
        self.envs, self.valid, self.begun, self.processes = [object()], 1, 2, 3
        super().__init__(1, self.env.observation_space, self.env.action_space)

    def reset(self) -> Any:
        return self.env.reset()[0][None]

    def step_async(self, actions: Any) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(self.actions[0])
        done = terminated or truncated
        if done:
            info = {"terminal_observation": observation, "TimeLimit.truncated": truncated}
            observation = self.env.reset()[0]
        return observation[None], [reward], [done], (info,)

    def get_images(self) -> Any:
        return [self.env.render()]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        if attr_name != "render_mode":
            raise NotImplementedError
        return [self.env.render_mode]

    def close(self) -> None:
        pass

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    set_attr = env_method = env_is_wrapped = _refuse


def play(env: gym.Env[Any, Any], episodes: int, seed: int | None = None) -> list[dict[str, Any]]:
    """Play whole episodes; return the info of each one's last step."""
    infos = []
    for _ in range(episodes):
        env.reset(seed=seed)
        seed = None
        done = False
        while not done:
            _, _, terminated, truncated, info = env.step(0)
            done = terminated or truncated
        infos.append(info)
    return infos


def colours(path: Any) -> list[tuple[int, int, int]]:
    """The mean colour of each frame of a video."""
    return [tuple(frame.mean(axis=(0, 1)).round().astype(int)) for frame in read_frames(path)]


def describe(path: Any) -> dict[str, Any]:
    """What ffmpeg says about a video: size, fps, codec, pixel format."""
    reader = imageio_ffmpeg.read_frames(str(path))
    description: dict[str, Any] = next(reader)
    reader.close()
    return description


def videos(folder: Path) -> list[str]:
    """The names of the videos in a folder."""
    return sorted(path.name for path in folder.glob("*.mp4"))


def close_colours(
    seen: list[tuple[int, int, int]], wanted: list[tuple[int, int, int]], tolerance: int = 6
) -> bool:
    """Whether two lists of colours agree up to what the encoding loses."""
    return len(seen) == len(wanted) and bool(
        np.all(np.abs(np.array(seen, dtype=int) - np.array(wanted, dtype=int)) <= tolerance)
    )

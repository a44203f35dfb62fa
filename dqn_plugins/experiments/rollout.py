"""Greedy episodes on seeds of their own: played, kept in files, recorded."""

import csv
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.core import ActType, ObsType

from dqn_plugins.experiments.algorithms import is_masked
from dqn_plugins.experiments.environments import (
    EnvironmentSettings,
    MasksFromInfo,
    make_environment,
    preprocessed,
)
from dqn_plugins.files import written_whole

__all__ = ["Episode", "Player", "save_episodes", "save_evaluations"]

# Side by side, so that the model is asked once per step for all of them: what it costs to ask a
# torch model is mostly the asking.
MOST_ENVIRONMENTS = 8
DEFAULT_FPS = 30.0


@dataclass
class Episode:
    """
    A greedy episode, as far as it has been played.

    :param seed: Of the environment's reset.
    :param episode_return: Sum of the rewards.
    :param length: Number of steps.
    :param is_cut: Whether it was stopped at the limit, not by the environment.
    :param reward: Of the last step.
    """

    seed: int
    episode_return: float = 0.0
    length: int = 0
    is_cut: bool = False
    reward: float = 0.0


class _SeededEpisodes(MasksFromInfo[ObsType, ActType]):
    """
    Plays the episodes of a queue of seeds, one after the other, and stands still when it is empty.
    The queue and the list of finished episodes are shared by all that play side by side.
    """

    def __init__(
        self,
        env: gym.Env[ObsType, ActType],
        seeds: deque[int],
        finished: list[Episode],
        most_steps: int,
    ) -> None:
        super().__init__(env)
        self.seeds, self.finished, self.most_steps = seeds, finished, most_steps
        self.episode: Episode | None = None
        self.observation: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """Begin the next episode, if there is one."""
        self.episode = Episode(self.seeds.popleft()) if self.seeds else None
        if self.episode is not None or self.observation is None:
            seed = 0 if self.episode is None else self.episode.seed
            self.observation, _ = super().reset(seed=seed)
        return self.observation, {}

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step in the running episode, if there is one."""
        episode = self.episode
        if episode is None:
            return self.observation, 0.0, False, False, {}
        self.observation, reward, terminated, truncated, _ = super().step(action)
        episode.reward = float(reward)
        episode.episode_return += episode.reward
        episode.length += 1
        if not (terminated or truncated) and episode.length >= self.most_steps:
            episode.is_cut = truncated = True
        if terminated or truncated:
            self.finished.append(episode)
        return self.observation, reward, bool(terminated), bool(truncated), {}


class Player:
    """
    Environments for greedy episodes, made once and used for all evaluations of a run.

    :param env_id: Id in Gymnasium.
    :param settings: How the environment is made for training; statistics of normalised
        observations are only read.
    :param most_steps: Where an episode is cut that does not end.
    :param n_envs: Episodes at the same time, at most.
    :param render_mode: As for ``gymnasium.make``.
    """

    def __init__(
        self,
        env_id: str,
        settings: EnvironmentSettings,
        most_steps: int,
        n_envs: int = 1,
        render_mode: str | None = None,
    ) -> None:
        self._seeds: deque[int] = deque()
        self._finished: list[Episode] = []

        def make() -> gym.Env[Any, Any]:
            env = make_environment(env_id, settings, render_mode)
            return _SeededEpisodes(env, self._seeds, self._finished, most_steps)

        from stable_baselines3.common.vec_env import DummyVecEnv

        n_envs = min(n_envs, MOST_ENVIRONMENTS)
        venv = DummyVecEnv([make] * n_envs)
        self.venv, self.normalization = preprocessed(venv, settings, evaluating=True)
        self.envs: list[_SeededEpisodes[Any, Any]] = self.venv.unwrapped.envs

    def play(
        self,
        model: Any,
        seeds: Sequence[int],
        watch: Callable[[Any], object] = lambda observations: None,
    ) -> list[Episode]:
        """
        Play greedy episodes.

        :param model: Has Stable-Baselines3's ``predict``.
        :param seeds: Of the environments' resets, one per episode.
        :param watch: Called with what the model sees, after the reset and after each step.
        :return: The episodes, in the order of the seeds.
        """
        self._seeds.extend(seeds)
        self._finished.clear()
        observations = self.venv.reset()
        watch(observations)
        masks = self.venv.env_method if is_masked(model, self.venv) else None
        while len(self._finished) < len(seeds):
            known = {} if masks is None else {"action_masks": np.stack(masks("action_masks"))}
            actions, _ = model.predict(observations, deterministic=True, **known)
            observations, *_ = self.venv.step(actions)
            watch(observations)
        return sorted(self._finished, key=lambda episode: seeds.index(episode.seed))

    def record(
        self,
        model: Any,
        seed: int,
        path: Path,
        with_q_values: bool,
        most_frames: float = float("inf"),
    ) -> tuple[Path, Episode]:
        """
        Record one greedy episode, with a caption. The first environment must render frames.

        :param model: Has Stable-Baselines3's ``predict``.
        :param seed: Of the environment's reset.
        :param path: The video; if the name is taken, the next number is used.
        :param with_q_values: Whether to draw its values of the actions under the frames.
        :param most_frames: Where the video stops, not the episode.
        :return: The file, and the episode.
        """
        from dqn_plugins.wrappers import FrameDetails, VideoWriter
        from dqn_plugins.wrappers.drawing.action_names import action_names_of
        from dqn_plugins.wrappers.drawing.lettering import signed
        from dqn_plugins.wrappers.drawing.overlay import Overlay
        from dqn_plugins.wrappers.observing.infos import possible_actions

        env = self.envs[0]

        def caption(details: FrameDetails) -> dict[str, str]:
            return {"step": f"{details.step:,}", "return": signed(details.episode_return, 1)}

        def write(writer: VideoWriter, overlay: Overlay, observations: Any) -> None:
            if writer.frame_count >= most_frames:
                return
            # The last frame is that of the terminal state: nothing is reset without a seed.
            now = env.episode or self._finished[-1]
            is_named = isinstance(observations, dict)
            seen = {k: v[0] for k, v in observations.items()} if is_named else observations[0]
            (mask,) = possible_actions([{}], env)
            details = FrameDetails(0, now.length, now.reward, now.episode_return, seen, mask)
            frame: Any = env.render()
            writer.write(overlay.draw(frame, details))

        overlay = Overlay(caption, model if with_q_values else None, action_names_of(env))
        fps = float(env.metadata.get("render_fps") or DEFAULT_FPS)
        with VideoWriter(path, fps) as writer:
            (episode,) = self.play(model, [seed], partial(write, writer, overlay))
        return writer.path, episode

    def close(self) -> None:
        """Close the environments."""
        self.venv.close()


def save_episodes(episodes: Sequence[Episode], path: Path) -> None:
    """Write a CSV file with one row per episode."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["episode", "seed", "return", "length", "cut"])
        for number, each in enumerate(episodes):
            writer.writerow([number, each.seed, each.episode_return, each.length, each.is_cut])


def save_evaluations(
    evaluations: Sequence[tuple[int, float, Sequence[Episode]]], path: Path
) -> None:
    """
    Write after how many steps and CPU seconds of a run what was played, whole, in the ``.npz``
    format of Stable-Baselines3's ``EvalCallback``.
    """
    steps, seconds, played = zip(*evaluations, strict=True)
    with written_whole(path) as unfinished:
        np.savez(
            unfinished,
            timesteps=steps,
            cpu_seconds=seconds,
            results=[[each.episode_return for each in episodes] for episodes in played],
            ep_lengths=[[each.length for each in episodes] for episodes in played],
        )

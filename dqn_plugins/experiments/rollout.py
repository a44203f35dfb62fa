"""Greedy episodes on seeds of their own, side by side, and the files they are kept in."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

__all__ = ["Episode", "EvaluationLog", "play_episodes", "rollout", "save_episodes"]


@dataclass
class Episode:
    """
    A greedy episode, as far as it has been played.

    :param seed: Of the environment's reset.
    :param observation: The newest.
    :param reward: Of the last step.
    :param episode_return: Sum of the rewards.
    :param length: Number of steps.
    :param is_over: Whether the last step ended it.
    """

    seed: int
    observation: Any
    reward: float = 0.0
    episode_return: float = 0.0
    length: int = 0
    is_over: bool = False


def rollout(
    model: Any, envs: Sequence[gym.Env[Any, Any]], seeds: Sequence[int]
) -> Iterator[list[Episode]]:
    """
    Play one greedy episode in each environment, and stop after each step to let others look.

    The episodes run side by side, so that the model is asked once per step for all of them: what
    it costs to ask a torch model is mostly the asking.

    :param model: Has Stable-Baselines3's ``predict``.
    :param envs: The environments.
    :param seeds: Seed of each one's reset.
    :return: Iterator over the episodes, the same objects each time: after the resets, then after
        each step of those that are not over.
    """
    episodes = [
        Episode(seed, env.reset(seed=seed)[0]) for env, seed in zip(envs, seeds, strict=True)
    ]
    yield episodes
    while running := [pair for pair in zip(episodes, envs, strict=True) if not pair[0].is_over]:
        observations = _stack([episode.observation for episode, _ in running])
        actions, _ = model.predict(observations, deterministic=True)
        for (episode, env), action in zip(running, actions, strict=True):
            episode.observation, reward, terminated, truncated, _ = env.step(action)
            episode.reward = float(reward)
            episode.episode_return += episode.reward
            episode.length += 1
            episode.is_over = bool(terminated or truncated)
        yield episodes


def play_episodes(
    model: Any, envs: Sequence[gym.Env[Any, Any]], seeds: Sequence[int]
) -> list[Episode]:
    """
    Play one greedy episode in each environment to its end.

    :param model: Has Stable-Baselines3's ``predict``.
    :param envs: The environments.
    :param seeds: Seed of each one's reset.
    :return: The episodes.
    """
    episodes: list[Episode] = []
    for episodes in rollout(model, envs, seeds):  # noqa: B007 - the last is kept
        pass
    return episodes


def save_episodes(episodes: Sequence[Episode], path: Path) -> None:
    """
    Write one row per episode.

    :param episodes: The episodes.
    :param path: A CSV file.
    """
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["episode", "seed", "return", "length"])
        for number, episode in enumerate(episodes):
            writer.writerow([number, episode.seed, episode.episode_return, episode.length])


def _stack(observations: list[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)


@dataclass
class EvaluationLog:
    """
    The evaluations of one training run, in the file format of Stable-Baselines3's
    ``EvalCallback``, with the training's CPU seconds beside its steps.
    """

    timesteps: list[int] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    results: list[list[float]] = field(default_factory=list)
    ep_lengths: list[list[int]] = field(default_factory=list)

    def add(self, timesteps: int, cpu_seconds: float, episodes: Sequence[Episode]) -> None:
        """
        Take in an evaluation.

        :param timesteps: Environment steps that the model was trained for.
        :param cpu_seconds: CPU seconds that it was trained for.
        :param episodes: What was played.
        """
        self.timesteps.append(timesteps)
        self.cpu_seconds.append(cpu_seconds)
        self.results.append([episode.episode_return for episode in episodes])
        self.ep_lengths.append([episode.length for episode in episodes])

    def save(self, path: Path) -> None:
        """
        Write the file.

        :param path: It ends in ``.npz``.
        """
        np.savez(
            path,
            timesteps=np.array(self.timesteps, dtype=np.int64),
            results=np.array(self.results, dtype=np.float64),
            ep_lengths=np.array(self.ep_lengths, dtype=np.int64),
            cpu_seconds=np.array(self.cpu_seconds, dtype=np.float64),
        )

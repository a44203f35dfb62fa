"""Greedy episodes on seeds of their own, side by side, and the files they are kept in."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dqn_plugins.experiments.environments import make_environment

__all__ = ["Episodes", "Evaluations", "GreedyEvaluation"]


@dataclass(frozen=True)
class Episodes:
    """
    Episodes that were played.

    :param seeds: The seed of each episode's reset.
    :param returns: Sum of the rewards of each.
    :param lengths: Number of steps of each.
    """

    seeds: list[int]
    returns: list[float]
    lengths: list[int]

    def save(self, path: Path) -> None:
        """
        Write one row per episode.

        :param path: A CSV file.
        """
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["episode", "seed", "return", "length"])
            for episode, row in enumerate(zip(self.seeds, self.returns, self.lengths, strict=True)):
                writer.writerow([episode, *row])


class GreedyEvaluation:
    """
    Plays the same episodes with whatever model it is given.

    The episodes run side by side, so that the model is asked once per step for all of them: what
    it costs to ask a torch model is mostly the asking.

    :param env_id: Id of the environment.
    :param seeds: Seed of each episode.
    """

    def __init__(self, env_id: str, seeds: Sequence[int]) -> None:
        self.seeds = list(seeds)
        self.envs = [make_environment(env_id) for _ in seeds]

    def play(self, model: Any) -> Episodes:
        """
        Play all episodes.

        :param model: Has Stable-Baselines3's ``predict``.
        :return: The episodes.
        """
        returns = [0.0] * len(self.envs)
        lengths = [0] * len(self.envs)
        running = {
            index: env.reset(seed=seed)[0]
            for index, (env, seed) in enumerate(zip(self.envs, self.seeds, strict=True))
        }
        while running:
            actions, _ = model.predict(_stack(list(running.values())), deterministic=True)
            for index, action in zip(list(running), actions, strict=True):
                observation, reward, terminated, truncated, _ = self.envs[index].step(action)
                running[index] = observation
                returns[index] += float(reward)
                lengths[index] += 1
                if terminated or truncated:
                    del running[index]
        return Episodes(self.seeds, returns, lengths)

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()


def _stack(observations: list[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)


@dataclass
class Evaluations:
    """
    The evaluations of one training run, in the file format of Stable-Baselines3's
    ``EvalCallback``, with the training's CPU seconds beside its steps.
    """

    timesteps: list[int] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    results: list[list[float]] = field(default_factory=list)
    ep_lengths: list[list[int]] = field(default_factory=list)

    def add(self, timesteps: int, cpu_seconds: float, episodes: Episodes) -> None:
        """
        Take in an evaluation.

        :param timesteps: Environment steps that the model was trained for.
        :param cpu_seconds: CPU seconds that it was trained for.
        :param episodes: What was played.
        """
        self.timesteps.append(timesteps)
        self.cpu_seconds.append(cpu_seconds)
        self.results.append(episodes.returns)
        self.ep_lengths.append(episodes.lengths)

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

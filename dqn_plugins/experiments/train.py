"""Train one model: with a progress bar, checkpoints, and an exact way to go on after a stop."""

import csv
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.core import ActType, ObsType
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dqn_plugins.experiments.algorithms import (
    ALGORITHMS,
    Variant,
    load_model,
    make_model,
    resolve,
)
from dqn_plugins.experiments.environments import make_environment
from dqn_plugins.experiments.names import folder_name
from dqn_plugins.experiments.running import installed_versions, one_torch_thread
from dqn_plugins.experiments.settings import settings_from_file
from dqn_plugins.files import write_json, written_whole

__all__ = ["TrainSettings", "train"]

LOOKS_PER_RUN = 200


@dataclass(frozen=True)
class TrainSettings:
    """
    Train one model.

    :param algo: Algorithm or variant from --config, by name.
    :param env: Environment, by its Gymnasium id.
    :param timesteps: Environment steps, as in learn(total_timesteps=...).
    :param seed: Seed of everything random.
    :param config: YAML file with variants; see docs/comparison.md.
    :param out: Folder of the run: model.zip, monitor.csv, settings, checkpoints. By default
        runs/<env>_<algo>_seed_<seed>.
    :param checkpoint_every: Environment steps between two checkpoints. At a checkpoint the running
        episode is cut and a new one begins, so that a run can go on from there exactly.
    :param resume: Go on from the newest checkpoint in the folder.
    """

    algo: str
    env: str
    timesteps: int
    seed: int = 0
    config: Path | None = None
    out: Path | None = None
    checkpoint_every: int | None = None
    resume: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        name = f"{folder_name(self.env)}_{self.algo}_seed_{self.seed}"
        return Path("runs") / name if self.out is None else self.out

    def check(self) -> None:
        """
        Check the numbers.

        :raises ValueError: If one is out of its range.
        """
        for name, least in (("timesteps", 1), ("checkpoint_every", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(
                    f"{name}: received {value}, it must be a whole number of at least {least}."
                )


def train(settings: TrainSettings, console: Console | None = None) -> Path:
    """
    Train one model and save it.

    A run that was stopped, in whatever way, and resumed gives the same model as one that was not:
    at each checkpoint everything random is seeded anew, whether the run is stopped there or not.

    :param settings: What to train.
    :param console: Where progress is shown; standard error by default.
    :return: The saved model.
    :raises ValueError: If a setting is wrong, or the folder holds another run.
    """
    settings.check()
    console = console or Console(stderr=True, highlight=False)
    variants = {} if settings.config is None else settings_from_file(settings.config).variants
    variant = resolve(settings.algo, variants)
    if variant.algorithm == "random":
        raise ValueError("algo: received 'random', which learns nothing that could be saved.")
    folder = settings.folder
    env = make_environment(settings.env)
    _claim_folder(settings, variant.class_name, variant.described(env))
    finished = folder / "model.zip"
    if finished.exists():
        console.print(f"{finished} is finished already.", markup=False, soft_wrap=True)
        return finished
    with one_torch_thread():
        run = _Run(settings, variant, env, console)
        run.go_on()
        run.save(finished)
    console.print(f"Saved {finished}", markup=False, soft_wrap=True)
    return finished


class _CheckpointDue(BaseException):
    """The model is to be saved now. It is no error, so nothing may take it for one."""


class _Pace(gym.Wrapper[ObsType, ActType, ObsType, ActType]):
    """
    Calls a function now and then, before a step: then the model has learned from all before.

    :param env: The environment.
    :param look: Is given the steps done, and returns the number of steps at which to call it next.
    """

    def __init__(self, env: gym.Env[ObsType, ActType], look: Callable[[int], int]) -> None:
        super().__init__(env)
        self.steps = 0
        self.next_look = 0
        self._look = look

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Call the function if it is time, then take the step.

        :param action: The action.
        :return: What the environment returns.
        """
        if self.steps >= self.next_look:
            self.next_look = self._look(self.steps)
        self.steps += 1
        return self.env.step(action)


class _Run:
    """
    A training run between its checkpoints.

    :param settings: What to train.
    :param variant: The algorithm and its hyperparameters.
    :param env: The environment.
    :param console: Where progress is shown.
    """

    def __init__(
        self,
        settings: TrainSettings,
        variant: Variant,
        env: gym.Env[Any, Any],
        console: Console,
    ) -> None:
        from dqn_plugins.wrappers import EpisodeReward

        self.settings = settings
        self.checkpoints = settings.folder / "checkpoints"
        has_buffer = hasattr(ALGORITHMS[variant.algorithm].load_class(), "load_replay_buffer")
        newest = None
        if settings.resume:
            newest = _newest_checkpoint(self.checkpoints, has_buffer, console)
        steps = 0 if newest is None else _steps_of(newest)
        log = settings.folder / "monitor.csv"
        _forget_episodes_after(steps, log)
        self.rewards = EpisodeReward(env, window=100, log_file=log)
        self.env = _Pace(self.rewards, self._look)
        self.env.steps = steps
        if newest is None:
            self.model = make_model(variant, self.env, settings.seed)
        else:
            console.print(f"Going on from {newest}", markup=False, soft_wrap=True)
            self.model = load_model(newest, variant.algorithm, self.env)
            if has_buffer:
                self.model.load_replay_buffer(_buffer_beside(newest))
            self._seed_anew()
        self.console = console
        self.next_checkpoint = self._checkpoint_after(steps)

    def go_on(self) -> None:
        """Train to the end, with checkpoints on the way."""
        settings = self.settings
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} / {task.total:,.0f} steps{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task(settings.algo, total=settings.timesteps, note="")
        with self.bar:
            while True:
                try:
                    self.model.learn(
                        settings.timesteps - self.model.num_timesteps, reset_num_timesteps=False
                    )
                    break
                except _CheckpointDue:
                    self._write_checkpoint()
            self._show(self.env.steps)
        self.env.close()

    def _look(self, steps: int) -> int:
        self._show(steps)
        if steps >= self.next_checkpoint:
            if self._has_learned_from_all():
                raise _CheckpointDue
            return steps + 1
        pace = max(self.settings.timesteps // LOOKS_PER_RUN, 1)
        return min(steps + pace, self.next_checkpoint)

    def _show(self, steps: int) -> None:
        mean = self.rewards.mean_return
        note = "" if np.isnan(mean) else f", return {mean:.1f}"
        self.bar.update(self.task, completed=steps, note=note)

    def _has_learned_from_all(self) -> bool:
        """Whether the model keeps nothing back: PPO and A2C learn at the end of a rollout."""
        rollout = getattr(self.model, "rollout_buffer", None)
        return rollout is None or rollout.pos == 0

    def _write_checkpoint(self) -> None:
        steps = self.env.steps
        path = self.checkpoints / f"model_{steps}_steps.zip"
        self.checkpoints.mkdir(exist_ok=True)
        if getattr(self.model, "replay_buffer", None) is not None:
            with written_whole(_buffer_beside(path)) as unfinished:
                self.model.save_replay_buffer(unfinished)
        self.save(path)
        # The buffer is large, and only the newest is needed.
        for buffer in self.checkpoints.glob("*.pkl"):
            if buffer != _buffer_beside(path):
                buffer.unlink()
        self._seed_anew()
        self.next_checkpoint = self._checkpoint_after(steps)

    def _seed_anew(self) -> None:
        """Begin an episode, and everything random, as a run does that is resumed here."""
        self.model.set_env(self.model.get_env(), force_reset=True)
        sequence = np.random.SeedSequence([self.settings.seed, self.env.steps])
        self.model.set_random_seed(int(sequence.generate_state(1)[0]))

    def _checkpoint_after(self, steps: int) -> int:
        every = self.settings.checkpoint_every
        return self.settings.timesteps + 1 if every is None else (steps // every + 1) * every

    def save(self, path: Path) -> None:
        """
        Save the model so that the file is either whole or not there.

        :param path: The file.
        """
        with written_whole(path) as unfinished:
            self.model.save(unfinished)


def _claim_folder(
    settings: TrainSettings, algorithm_class: str, hyperparameters: dict[str, Any]
) -> None:
    """
    Make a folder this run's, or see that it is.

    :param settings: The run.
    :param algorithm_class: Name of the algorithm's class.
    :param hyperparameters: Readable.
    :raises ValueError: If it holds another run, or this one without ``resume``.
    """
    folder = settings.folder
    file = folder / "settings.json"
    described = {
        "algorithm": settings.algo,
        "algorithm_class": algorithm_class,
        "environment": settings.env,
        "seed": settings.seed,
        "timesteps": settings.timesteps,
        "checkpoint_every": settings.checkpoint_every,
        "hyperparameters": hyperparameters,
    }
    if file.exists():
        if not settings.resume:
            raise ValueError(
                f"out: {folder} holds a run already. Pass --resume to go on with it, or another "
                "--out."
            )
        present = json.loads(file.read_text())
        different = [key for key in described if present.get(key) != described[key]]
        if different:
            raise ValueError(
                f"out: {folder} holds another run, with another {', '.join(different)}. Pass the "
                "settings of that run to resume it, or another --out."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"out: {folder} is not empty and holds no run. Pass another --out.")
    write_json(folder / "versions.json", installed_versions())
    write_json(file, described)


def _newest_checkpoint(folder: Path, has_buffer: bool, console: Console) -> Path | None:
    """
    Find the checkpoint to go on from.

    :param folder: Folder of the checkpoints.
    :param has_buffer: Whether a replay buffer belongs to each.
    :param console: Is told of damaged ones.
    :return: The newest that is whole; None if there is none.
    """
    for path in sorted(folder.glob("model_*_steps.zip"), key=_steps_of, reverse=True):
        if not zipfile.is_zipfile(path) or zipfile.ZipFile(path).testzip() is not None:
            problem = "is damaged"
        elif has_buffer and not _buffer_beside(path).exists():
            problem = "has no replay buffer beside it"
        else:
            return path
        console.print(f"{path} {problem} and is left aside.", markup=False, soft_wrap=True)
    return None


def _steps_of(checkpoint: Path) -> int:
    found = re.search(r"model_(\d+)_steps", checkpoint.name)
    assert found is not None
    return int(found[1])


def _buffer_beside(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"model_replay_buffer_{_steps_of(checkpoint)}_steps.pkl")


def _forget_episodes_after(steps: int, log: Path) -> None:
    """
    Remove from a log what was played after the checkpoint that a run goes on from.

    :param steps: Environment steps of the checkpoint.
    :param log: The log.
    """
    if not log.exists():
        return
    header, columns, *rows = log.read_text().splitlines(keepends=True)
    length = columns.strip().split(",").index("l")
    kept, done = [header, columns], 0
    for row in rows:
        fields = next(csv.reader([row]))
        done += int(fields[length])
        if done > steps:
            break
        kept.append(row)
    with written_whole(log) as unfinished:
        unfinished.write_text("".join(kept))

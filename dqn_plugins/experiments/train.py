"""Train one model: with a progress bar, checkpoints, and a way to go on after a stop."""

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.algorithms import Variant, check_flags, load_model, make_model, resolve
from dqn_plugins.experiments.environments import (
    TrainingEnvironment,
    save_normalization,
    say_imports,
)
from dqn_plugins.experiments.names import folder_name
from dqn_plugins.experiments.running import (
    check_at_least,
    check_tensorboard,
    installed_versions,
    one_torch_thread,
)
from dqn_plugins.experiments.settings import RunSettings, variants_in
from dqn_plugins.files import output_folder, read_json, write_json, written_whole

__all__ = ["TrainSettings", "train"]

LOOKS_PER_RUN = 200
LOG = "monitor.csv"


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """
    Train one model.

    :param timesteps: Environment steps, as in learn(total_timesteps=...).
    :param seed: Seed of everything random.
    :param config: YAML file with variants; see docs/comparison.md.
    :param out: Folder of the run: model.zip, monitor.csv, settings, checkpoints. By default
        runs/<env>_<algo>_seed_<seed>.
    :param checkpoint_every: Environment steps between two checkpoints; none by default. They change
        nothing about the run.
    :param resume: Go on from the newest checkpoint in the folder, with a new episode; without one,
        begin anew.
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


def train(settings: TrainSettings, console: Console | None = None) -> Path:
    """
    Train one model and save it.

    A run that was stopped goes on from its newest checkpoint with all that the model knows. No
    environment can be put back into the middle of an episode, so it begins a new one there.

    :param settings: What to train.
    :param console: Where progress is shown; standard error by default.
    :return: The saved model.
    :raises SettingsError: If a setting is wrong, or the folder holds another run.
    """
    check_at_least(settings, timesteps=1, checkpoint_every=1, seed=0)
    if settings.tensorboard:
        check_tensorboard()
    console = console or Console(stderr=True, highlight=False)
    variants, hp = variants_in(settings.config), settings.hyperparameters
    variant = resolve(settings.algo, settings.env, variants, settings.environment, settings.zoo, hp)
    check_flags(hp, settings.zoo, [variant])
    say_imports([(settings.env, variant.environment)], console)
    is_claimed = _claim_folder(settings, variant)
    finished = settings.folder / "model.zip"
    if finished.exists():
        console.print(f"{finished} is finished already.", markup=False, soft_wrap=True)
        return finished
    with one_torch_thread():
        try:
            run = _Run(settings, variant, console)
        except BaseException:
            if is_claimed:  # nothing is in it but what was written since
                shutil.rmtree(settings.folder, ignore_errors=True)
            raise
        run.go_on()
    console.print(f"Saved {finished}", markup=False, soft_wrap=True)
    return finished


class _Run:
    """A training run from its beginning, or its newest checkpoint, to its end."""

    def __init__(self, settings: TrainSettings, variant: Variant, console: Console) -> None:
        from dqn_plugins.experiments.training_clock import TrainingClock

        self.settings, self.console = settings, console
        self.checkpoints = settings.folder / "checkpoints"
        has_buffer = hasattr(variant.kind.load_class(), "load_replay_buffer")
        newest = None
        if settings.resume:
            newest = _newest_checkpoint(self.checkpoints, has_buffer, console)
            if newest is None:
                line = f"{settings.folder} has no checkpoint, so the run begins anew."
                console.print(line, markup=False, soft_wrap=True)
        steps = 0 if newest is None else _steps_of(newest)
        self._forget_episodes_after(newest)
        self.environment = TrainingEnvironment(settings.env, variant, settings.folder / LOG)
        self.clock = TrainingClock(settings.timesteps, steps=steps)
        self.clock.attached_to(self.environment.rewards)
        log = str(settings.folder / "tensorboard") if settings.tensorboard else None
        if newest is None:
            self.model = make_model(variant, self.environment.env, settings.seed, log)
        else:
            console.print(f"Going on from {newest}", markup=False, soft_wrap=True)
            self.model = load_model(newest, variant.algorithm, self.environment.env)
            if has_buffer:
                self.model.load_replay_buffer(_beside(newest, "replay_buffer"))
            if self.environment.normalization is not None:
                mine = self.environment.normalization
                kept = type(mine).load(str(_beside(newest, "vecnormalize")), mine.venv)
                mine.obs_rms, mine.ret_rms = kept.obs_rms, kept.ret_rms
            sequence = np.random.SeedSequence([settings.seed, steps])
            self.model.set_random_seed(int(sequence.generate_state(1)[0]))
        self.is_new = newest is None

    def go_on(self) -> None:
        """Train to the end, with checkpoints on the way, and save the model."""
        settings, clock = self.settings, self.clock
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} / {task.total:,.0f} steps{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task(settings.algo, total=settings.timesteps, note="")
        clock.every(max(settings.timesteps // LOOKS_PER_RUN, 1), self._show)
        if settings.checkpoint_every is not None:
            clock.every(settings.checkpoint_every, self._write_checkpoint)
        with self.bar:
            clock.train(self.model, reset_num_timesteps=self.is_new)
            self._show()
        self._save_normalization(settings.folder / "vecnormalize.pkl")
        self._save_model(settings.folder / "model.zip")
        self.environment.env.close()

    def _show(self) -> None:
        mean = self.environment.rewards.mean_return
        note = "" if np.isnan(mean) else f", return {mean:.1f}"
        self.bar.update(self.task, completed=self.clock.steps, note=note)

    def _write_checkpoint(self) -> bool:
        # PPO and A2C learn at the end of a rollout, and forget it when they are saved.
        rollout = getattr(self.model, "rollout_buffer", None)
        if rollout is not None and rollout.pos != 0:
            return False
        path = self.checkpoints / f"model_{self.clock.steps}_steps.zip"
        self.checkpoints.mkdir(exist_ok=True)
        buffer = _beside(path, "replay_buffer")
        if getattr(self.model, "replay_buffer", None) is not None:
            with written_whole(buffer) as unfinished:
                self.model.save_replay_buffer(unfinished)
        self._save_normalization(_beside(path, "vecnormalize"))
        logs = {log.name: log.stat().st_size for log in self.settings.folder.glob(f"*{LOG}")}
        write_json(path.with_suffix(".json"), {"log_bytes": logs})
        self._save_model(path)
        # The buffer is large, and only the newest is needed.
        for older in self.checkpoints.glob("*replay_buffer*"):
            if older != buffer:
                older.unlink()
        return True

    def _save_model(self, path: Path) -> None:
        with written_whole(path) as unfinished:
            self.model.save(unfinished)

    def _save_normalization(self, path: Path) -> None:
        normalization = self.environment.normalization
        if normalization is None:
            return
        with written_whole(path) as unfinished:
            normalization.save(unfinished)
        with written_whole(path.with_suffix(".npz")) as unfinished:
            save_normalization(normalization, unfinished)

    def _forget_episodes_after(self, checkpoint: Path | None) -> None:
        """Cut from the logs what was played after the checkpoint, also half a row."""
        sizes = {} if checkpoint is None else read_json(checkpoint.with_suffix(".json"))
        for log in self.settings.folder.glob(f"*{LOG}"):
            size = sizes.get("log_bytes", {}).get(log.name, 0)
            with log.open("r+b") as file:
                file.truncate(size)


def _claim_folder(settings: TrainSettings, variant: Variant) -> bool:
    """Make a folder this run's, and return True, or see that it was before."""
    folder = settings.folder
    file = folder / "settings.json"
    described = {
        "algorithm": settings.algo,
        "algorithm_class": variant.kind.class_name,
        "environment": settings.env,
        "seed": settings.seed,
        "timesteps": settings.timesteps,
        "hyperparameters": variant.described(settings.env),
    }
    if file.exists():
        if not settings.resume:
            raise SettingsError(
                f"out: {folder} holds a run already. Pass --resume to go on with it, or another "
                "--out."
            )
        present = read_json(file)
        if not present:
            raise SettingsError(
                f"out: {file} is damaged, so it cannot be told which run this is. Pass another "
                "--out."
            )
        different = [key for key in described if present.get(key) != described[key]]
        if different:
            raise SettingsError(
                f"out: {folder} holds another run, with another {', '.join(different)}. Pass the "
                "settings of that run to resume it, or another --out."
            )
        return False
    output_folder(folder)
    if any(folder.iterdir()):
        raise SettingsError(f"out: {folder} is not empty and holds no run. Pass another --out.")
    write_json(folder / "versions.json", installed_versions())
    write_json(file, described)
    return True


def _newest_checkpoint(folder: Path, has_buffer: bool, console: Console) -> Path | None:
    """Find the newest checkpoint that is whole."""
    for path in sorted(folder.glob("model_*_steps.zip"), key=_steps_of, reverse=True):
        if not zipfile.is_zipfile(path) or zipfile.ZipFile(path).testzip() is not None:
            problem = "is damaged"
        elif has_buffer and not _beside(path, "replay_buffer").exists():
            problem = "has no replay buffer beside it"
        else:
            return path
        console.print(f"{path} {problem} and is skipped.", markup=False, soft_wrap=True)
    return None


def _steps_of(checkpoint: Path) -> int:
    found = re.search(r"model_(\d+)_steps", checkpoint.name)
    assert found is not None
    return int(found[1])


def _beside(checkpoint: Path, what: str) -> Path:
    # As Stable-Baselines3's CheckpointCallback names them.
    return checkpoint.with_name(f"model_{what}_{_steps_of(checkpoint)}_steps.pkl")

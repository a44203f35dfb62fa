"""
Programs that are killed, or sent signals, while they learn or save.

Run as a script, it imports everything once and then forks a process for each line it reads:
``scenario-algorithm folder``. The child answers with ``ready`` and its process id, and then with
what it has to tell.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.vec_env import SubprocVecEnv

from tests.algorithms import ALGORITHMS
from tests.environments import RecordingEnv
from tests.helpers import everything

ROUNDS = 4
FOREVER = 10**9


class Watcher(BaseCallback):
    """Says when learning runs, and whether it ended in order."""

    def __init__(self) -> None:
        super().__init__()
        self.n_ends = 0

    def _on_step(self) -> bool:
        if self.n_calls == 10:
            tell("learning")
        return True

    def _on_training_end(self) -> None:
        self.n_ends += 1


class Stuck(RecordingEnv):
    """Does not come back from its 10th step for a long time."""

    def step(self, action: np.int64) -> Any:
        if len(self.transitions) == 10:
            tell("stuck")
            time.sleep(60)
        return super().step(action)


row = ALGORITHMS[0]
# The progress bar takes the standard output.
answers = os.dup(1)


def tell(*words: object) -> None:
    os.write(answers, " ".join(map(str, words)).encode() + b"\n")


def model_for(env: Any) -> Any:
    # torch, and wide: most of the time is spent in the middle of an update. The number of steps to
    # come has no influence.
    return row.make(
        env,
        backend="torch",
        policy_kwargs={"net_arch": [64, 64]},
        learning_rate=1e-3,
        exploration_initial_eps=0.5,
        exploration_final_eps=0.5,
    )


def interrupted(_folder: Path) -> None:
    """Be interrupted several times, go on learning, and end with what a twin has learned."""
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    env = RecordingEnv()
    model = model_for(env)
    report: dict[str, Any] = {"ends": 0, "in_order": True}
    # A second progress bar could not be opened before the first is closed.
    for round_number in range(ROUNDS):
        watcher = Watcher()
        try:
            model.learn(FOREVER, watcher, reset_num_timesteps=round_number == 0, progress_bar=True)
        except KeyboardInterrupt:
            report["ends"] += watcher.n_ends
            report["in_order"] &= model.num_timesteps == len(env.transitions)
            report["in_order"] &= model._n_updates == model.num_timesteps or row.rollout > 1
    # Learning went on within the episodes: the environment was reset at their ends only.
    report["resets"], report["episodes"] = len(env.seeds), env.episode + 1
    report["restored"] = handlers == (
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )
    twin = model_for(RecordingEnv())
    twin.learn(FOREVER, lambda *_: twin.num_timesteps < model.num_timesteps)
    report["as_twin"] = everything(model) == everything(twin)
    tell(json.dumps(report))


def stuck(_folder: Path) -> None:
    """Be interrupted in an environment that does not answer."""
    model = model_for(Stuck())
    try:
        model.learn(FOREVER)
    except KeyboardInterrupt:
        tell("interrupted", model.num_timesteps, model._n_updates)


def handled(_folder: Path) -> None:
    """Have a handler of one's own."""
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    model = model_for(RecordingEnv())

    def stop_if_signalled(*_: Any) -> bool:
        if model.num_timesteps == 10:
            tell("learning")
        return not signals

    model.learn(FOREVER, stop_if_signalled)
    tell("stopped by the callback", len(signals), model.num_timesteps == model._n_updates)


def workers(_folder: Path) -> None:
    """Be interrupted together with the processes of the environments, as in a terminal."""
    model = model_for(SubprocVecEnv([RecordingEnv] * 2, start_method="fork"))
    watcher = Watcher()
    try:
        model.learn(FOREVER, watcher)
    except KeyboardInterrupt:
        tell("interrupted", watcher.n_ends, model.num_timesteps == model._n_updates)
    for process in model.env.processes:
        process.kill()


def uncaught(_folder: Path) -> None:
    """Catch nothing."""
    model_for(RecordingEnv()).learn(FOREVER, Watcher())


def saving(folder: Path) -> None:
    """Save all the time."""
    model = model_for(RecordingEnv()).learn(5)
    model.save(folder / "model")
    tell("saving")
    while True:
        model.num_timesteps += 1
        model.save(folder / "model")


def checkpoints(folder: Path) -> None:
    """Save at every step."""
    callback = CheckpointCallback(1, str(folder), name_prefix="checkpoint")
    tell("saving")
    model_for(RecordingEnv()).learn(FOREVER, callback)


SCENARIOS = {
    function.__name__: function
    for function in (interrupted, stuck, handled, workers, uncaught, saving, checkpoints)
}


def main() -> None:
    """Fork one child per line."""
    global row
    th.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        scenario, folder = line.split(maxsplit=1)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(0, 1)
            signal.alarm(120)  # whatever becomes of the tester, no child lives on
            tell("ready", os.getpid())
            try:
                scenario, _, algorithm = scenario.partition("-")
                row = next(each for each in ALGORITHMS if algorithm in each.algorithm.__name__)
                SCENARIOS[scenario](Path(folder.strip()))
            except BaseException as error:
                tell("raised", type(error).__name__)
            return


if __name__ == "__main__":
    main()

"""Steps a ``VecEnv``, and finds out which of its environments failed, and how."""

import signal
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from traceback import walk_tb
from types import FrameType
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from dqn_plugins.environments.gymnasium_vec_env import GymnasiumVecEnv
from dqn_plugins.errors import EnvironmentStepError

__all__ = ["environment_failure", "raise_if_dead", "step_watched", "was_raised_in"]

PATIENCE_SECONDS = 5.0
"""How long a process whose pipe broke may take to end."""


def step_watched(env: VecEnv, actions: np.ndarray) -> VecEnvStepReturn:
    """
    Step environments, and raise EOFError if the process of one of them dies.

    The pipe of a forked worker stays open when it dies, because its siblings have inherited it:
    ``SubprocVecEnv`` would wait for an answer for ever.
    """
    venv = env.unwrapped
    if not isinstance(venv, SubprocVecEnv) or type(env).step is not VecEnv.step:
        return env.step(actions)
    env.step_async(actions)
    workers = zip(venv.processes, venv.remotes, strict=True)
    sentinels = {process.sentinel: remote for process, remote in workers}
    silent = set(venv.remotes)
    while silent:
        ready = wait([*silent, *sentinels])
        silent.difference_update(ready)
        for sentinel, remote in sentinels.items():
            if sentinel in ready and remote in silent and not remote.poll():
                _fail_step_wait(env, remote)
    return env.step_wait()


def _fail_step_wait(env: VecEnv, remote: Any) -> NoReturn:
    """Let the wrappers around environments see that a process died, as an error of a step."""
    remote.close()  # reading from it fails at once, instead of waiting for ever
    with suppress(OSError):
        env.step_wait()
    raise EOFError("a worker process died")


def raise_if_dead(env: VecEnv) -> None:
    """
    Refuse environments whose process is dead: they would never answer.

    :param env: The vectorised environment.
    :raises EOFError: If one is.
    """
    for process in _processes(env.unwrapped):
        if not process.is_alive():
            raise EOFError("a worker process is dead")


def _processes(venv: VecEnv) -> list[BaseProcess]:
    return list(venv.processes) if isinstance(venv, SubprocVecEnv | GymnasiumVecEnv) else []


def environment_failure(
    env: VecEnv, error: Exception, actions: np.ndarray | None, step: int
) -> EnvironmentStepError:
    """
    Say which environment failed.

    :param env: The vectorised environment whose ``step`` or ``reset`` raised.
    :param error: What it raised.
    :param actions: Actions that were to be taken, shape (n_envs,); None at a reset.
    :param step: Environment steps done with this one, over all environments.
    :return: The exception to raise from ``error``.
    """
    problem = f"raised {type(error).__name__}: {error}" if str(error) else f"raised {error!r}"
    venv = env.unwrapped
    env_index = 0 if env.num_envs == 1 else _index_in_traceback(venv, error)
    processes = _processes(venv)
    if processes and isinstance(error, (EOFError, ConnectionError)):
        ended = wait([process.sentinel for process in processes], PATIENCE_SECONDS)
        for index, process in enumerate(processes):
            if process.sentinel in ended:
                process.join(PATIENCE_SECONDS)
                env_index, problem = index, _death_of(process)
                break
    action = None
    if actions is not None and env_index is not None:
        action = actions[env_index].item()
    return EnvironmentStepError(env_index, action, problem, step)


def was_raised_in(env: VecEnv, error: BaseException) -> bool:
    """
    Tell whether an exception came out of a vectorised environment.

    :param env: The vectorised environment.
    :param error: The exception.
    :return: Whether one of its methods is in the traceback.
    """
    return any(frame.f_locals.get("self") is env for frame in _frames(error))


def _index_in_traceback(venv: VecEnv, error: BaseException) -> int | None:
    """Look up which environment a ``VecEnv`` was busy with; None if that is not to be seen."""
    if isinstance(venv, GymnasiumVecEnv):
        return _index_in_vector_env(venv.env.unwrapped, error)
    for frame in _frames(error):
        local = frame.f_locals
        if local.get("self") is not venv:
            continue
        if "env_idx" in local:  # DummyVecEnv goes through its environments one after another
            return int(local["env_idx"])
        if "obs" in local:  # SubprocVecEnv has all their answers
            return _index_of_misshapen(local["obs"], venv.observation_space.shape)
    return None


def _index_in_vector_env(venv: Any, error: BaseException) -> int | None:
    """Look up which environment a Gymnasium ``VectorEnv`` was busy with."""
    frames = _frames(error)
    utilities = gym.vector.utils.__name__
    if any(frame.f_globals["__name__"].startswith(utilities) for frame in frames):
        # It could not put their answers together.
        return _index_of_misshapen(venv._env_obs, venv.single_observation_space.shape)
    for frame in frames:
        if frame.f_locals.get("self") is venv:
            # AsyncVectorEnv looks through what its processes report, SyncVectorEnv goes through its
            # environments.
            for name in ("index", "i"):
                if name in frame.f_locals:
                    return int(frame.f_locals[name])
    return None


def _index_of_misshapen(observations: Iterable[Any], shape: tuple[int, ...] | None) -> int | None:
    return next((i for i, obs in enumerate(observations) if np.shape(obs) != shape), None)


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in walk_tb(error.__traceback__)]


def _death_of(process: Any) -> str:
    code = process.exitcode
    if code < 0:
        return f"is gone: its worker process was killed by {signal.Signals(-code).name}"
    why = ", as after an exception, whose traceback the worker printed" if code == 1 else ""
    return f"is gone: its worker process ended with exit code {code}{why}"

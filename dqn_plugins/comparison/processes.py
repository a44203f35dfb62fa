"""Tasks in processes of their own, on this machine or on a cluster, each with an end."""

import multiprocessing
import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from joblib import cpu_count

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.running import end_with_parent

__all__ = ["run_tasks"]

SECONDS_BETWEEN_LOOKS = 0.5
# What takes seconds to import: torch's compiler comes with the first optimiser. Not this package: a
# server may look for it in the working directory, whatever the path is here (Python before 3.13).
PRELOADED = ["torch._dynamo", "stable_baselines3", "numba"]
Ends = Iterator[tuple[int, str | None] | None]


def run_tasks(
    tasks: Sequence[Callable[[], None]],
    jobs: int,
    backend: str = "local",
    dask_address: str | None = None,
    timeout: float | None = None,
) -> Ends:
    """
    Run each task in a process of its own. Whatever ends the process ends nothing else.

    :param tasks: What is called, without arguments.
    :param jobs: How many at the same time; -1 for one per core, or what a cluster has.
    :param backend: Where: "local" or "dask".
    :param dask_address: Address of a Dask scheduler; None starts a cluster on this machine.
    :param timeout: Seconds after which a task is killed; None for no limit.
    :return: Iterator over the number of each task that is over, with None if its process ended by
        itself or how it did not; and None now and then, so that others can be looked at.
    :raises SettingsError: If the backend is not installed.
    """
    payloads = [cloudpickle.dumps(task) for task in tasks]
    if backend == "dask":
        return _run_with_dask(payloads, jobs, dask_address, timeout)
    return _run_here(payloads, cpu_count() if jobs == -1 else jobs, timeout)


def _run_here(payloads: Sequence[bytes], jobs: int, timeout: float | None) -> Ends:
    has_server = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if has_server else "spawn")
    if has_server:
        context.set_forkserver_preload(PRELOADED)
    waiting = deque(enumerate(payloads))
    running: dict[int, tuple[int, Any, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, payload = waiting.popleft()
                process = context.Process(target=_run_payload, args=(payload,))
                process.start()
                running[process.sentinel] = (number, process, time.monotonic())
            ended = wait(list(running), SECONDS_BETWEEN_LOOKS)
            for sentinel, (number, process, start) in list(running.items()):
                if sentinel in ended:
                    process.join()
                    problem = _in_words(process.exitcode)
                elif timeout is not None and time.monotonic() > start + timeout:
                    process.kill()
                    process.join()
                    problem = f"it was killed after {timeout:g} seconds, see --cell-timeout"
                else:
                    continue
                del running[sentinel]
                yield number, problem
            yield None
    finally:
        for _, process, _ in running.values():
            process.kill()
            process.join()


def _run_payload(payload: bytes) -> None:
    # Ctrl-C reaches every process of a terminal; what becomes of this one its parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(lambda: os._exit(1))
    pickle.loads(payload)()  # noqa: S301 - made by the parent


def _in_words(exit_code: int) -> str | None:
    if exit_code >= 0:
        return f"its process ended with exit code {exit_code}" if exit_code else None
    name = signal.Signals(-exit_code).name
    hint = ". If memory ran out, pass fewer --jobs" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


def _run_one(payload: bytes, timeout: float | None) -> str | None:
    """Run one task from a worker of a cluster, in a process of its own there too."""
    # Dask's workers are daemons, which multiprocessing lets have no children. Ours end with them.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    ends = [end for end in _run_here([payload], 1, timeout) if end is not None]
    return ends[0][1]


def _run_with_dask(
    payloads: Sequence[bytes], jobs: int, address: str | None, timeout: float | None
) -> Ends:
    try:
        from distributed import Client, wait
        from distributed import TimeoutError as NotYet
    except ImportError as error:
        raise SettingsError(
            "backend: received 'dask', which is not installed. Run `pip install "
            "'dqn-plugins[cluster]'`, or leave --backend out for the cores of this machine."
        ) from error
    # One thread per worker: a cell has a core to itself.
    here: dict[str, Any] = {
        "n_workers": None if jobs == -1 else jobs,
        "threads_per_worker": 1,
        "dashboard_address": None,
    }
    client: Any = Client(address) if address else Client(**here)  # type: ignore[no-untyped-call]
    with client:
        # No other references: what is over must not run again when its worker dies later.
        waiting = {
            client.submit(_run_one, payload, timeout, pure=False): number
            for number, payload in enumerate(payloads)
        }
        while waiting:
            try:
                look: Any = wait  # untyped
                ended = look(list(waiting), SECONDS_BETWEEN_LOOKS, "FIRST_COMPLETED").done
            except NotYet:
                ended = set()
            for future in ended:
                lost = future.exception()
                yield waiting.pop(future), str(lost) if lost else future.result()
            yield None

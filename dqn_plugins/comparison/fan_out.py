"""Many independent calls in many processes, on this machine or on a cluster, through joblib."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config

__all__ = ["number_of_workers", "run_in_parallel"]

Result = TypeVar("Result")


def number_of_workers(jobs: int, backend: str) -> int:
    """
    Count the processes that may be used at the same time.

    :param jobs: What the user asked for; -1 for as many as there are.
    :param backend: Where: "loky", "dask" or "ray".
    :return: The number; -1 on a cluster for as many as it has.
    """
    if jobs != -1 or backend != "loky":
        return jobs
    if hasattr(os, "sched_getaffinity"):  # a container may have fewer than the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_in_parallel(
    function: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    n_workers: int,
    backend: str,
    dask_address: str | None = None,
) -> list[Result]:
    """
    Call a function with each of many arguments.

    :param function: The function, importable in other processes.
    :param calls: The arguments of each call.
    :param n_workers: Calls at the same time.
    :param backend: Where: "loky", "dask" or "ray".
    :param dask_address: Address of a Dask scheduler; None starts a local cluster.
    :return: The results in the order of the calls.
    :raises RuntimeError: If a worker process died.
    :raises ValueError: If the backend is not installed.
    """
    with _configured(n_workers, backend, dask_address):
        try:
            # One at a time: a worker that has several in stock would keep them from the others.
            results: list[Result] = Parallel(pre_dispatch="n_jobs", batch_size=1)(
                delayed(function)(*arguments) for arguments in calls
            )
        except Exception as error:
            if "Worker" not in type(error).__name__:
                raise
            raise RuntimeError(
                f"A worker process died: {str(error).rstrip('.')}. What it was working on is lost; "
                "the same command does what is missing. If memory ran out, pass fewer --jobs."
            ) from error
    return results


@contextlib.contextmanager
def _configured(n_workers: int, backend: str, dask_address: str | None) -> Iterator[None]:
    if backend == "loky":
        with parallel_config(backend="loky", n_jobs=n_workers, inner_max_num_threads=1):
            yield
    elif backend == "dask":
        with _dask_client(n_workers, dask_address), parallel_config(backend="dask", n_jobs=-1):
            yield
    else:
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise _not_installed("ray", "pip install ray") from error
        register_ray()
        with parallel_config(backend="ray", n_jobs=n_workers):
            yield


def _dask_client(n_workers: int, address: str | None) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise _not_installed("dask", "pip install 'dqn-plugins[cluster]'") from error
    if address is not None:
        return Client(address)  # type: ignore[no-untyped-call]
    # One thread per worker: a cell has a process to itself.
    return Client(  # type: ignore[no-untyped-call]
        n_workers=None if n_workers == -1 else n_workers,
        threads_per_worker=1,
        dashboard_address=None,
    )


def _not_installed(backend: str, command: str) -> ValueError:
    return ValueError(
        f"backend: received {backend!r}, which is not installed. Run `{command}`, or pass "
        "--backend loky for the cores of this machine."
    )

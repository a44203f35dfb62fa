"""What every run does alike: torch's threads, the versions it notes down."""

import contextlib
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_versions", "one_torch_thread"]

PACKAGES = (
    "dqn_plugins",
    "stable_baselines3",
    "sb3_contrib",
    "gymnasium",
    "numpy",
    "torch",
    "numba",
)


def installed_versions() -> dict[str, str]:
    """
    List the versions that results may depend on.

    :return: Versions by name, and the platform.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {**versions, "platform": platform.platform(), "processor": platform.machine()}


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Give torch one thread for a while: networks this small are slower on several."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)

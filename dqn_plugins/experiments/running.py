"""What every run does alike: seeds of evaluations, torch's threads, the versions it notes down."""

import contextlib
import multiprocessing
import platform
import subprocess
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from dqn_plugins.arguments import is_integer
from dqn_plugins.errors import SettingsError

__all__ = [
    "FIRST_EVALUATION_SEED",
    "FIRST_FINAL_EVALUATION_SEED",
    "check_at_least",
    "check_tensorboard",
    "end_with_parent",
    "installed_versions",
    "one_torch_thread",
]

# What is learned from and what is judged never share a seed.
FIRST_EVALUATION_SEED = 1_000_000
FIRST_FINAL_EVALUATION_SEED = 2_000_000

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
    """List the versions that results may depend on, by name, and the machine."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    if commit := _commit():
        versions["commit"] = commit
    machine = {"platform": platform.platform(), "processor": platform.machine(), "cpu": _cpu()}
    return {**versions, **machine}


def _commit() -> str:
    """The commit of this package's sources, with "-dirty" if they differ; empty outside git."""
    folder = Path(__file__).parent

    def ask(*question: str) -> str:
        asked = subprocess.run(
            ["git", "-C", folder, *question], capture_output=True, text=True, check=True
        )
        return asked.stdout.strip()

    try:
        # Installed inside somebody's repository, it is none of its files.
        ask("ls-files", "--error-unmatch", Path(__file__).name)
        return ask("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")


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


def end_with_parent(end: Callable[[], object]) -> None:
    """See that this process does not outlive the one that started it: ``end`` ends it then."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        end()

    threading.Thread(target=wait, daemon=True).start()


def check_at_least(settings: object, **least: int) -> None:
    """Check settings that are whole numbers, or None: by name, the least that is allowed."""
    for name, smallest in least.items():
        value = getattr(settings, name)
        if value is None:
            continue
        if not is_integer(value) or value < smallest:
            raise SettingsError(
                f"{name}: received {value!r}, it must be a whole number of at least {smallest}."
            )


def check_tensorboard() -> None:
    """Refuse to write TensorBoard's files without its package."""
    if find_spec("tensorboard") is None:
        raise SettingsError(
            "tensorboard: received True, but TensorBoard is not installed. Run "
            "`pip install 'dqn-plugins[tensorboard]'`."
        )

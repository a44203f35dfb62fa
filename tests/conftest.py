import multiprocessing
import os
import tempfile
from collections.abc import Iterator

# Before torch is imported: several test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch as th
from hypothesis import HealthCheck, Phase, settings

from dqn_plugins.comparison.processes import PRELOADED

th.set_num_threads(1)
# Whichever test is the first to fork from a server, no other has to wait for imports.
multiprocessing.set_forkserver_preload(PRELOADED)

# The first example of a process compiles, and a machine may be busy: time is no property.
settings.register_profile(
    "default",
    max_examples=100,
    derandomize=True,  # the same examples for everybody
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "long", parent=settings.get_profile("default"), max_examples=5_000, derandomize=False
)
# Whether there is a failing example, not which one is the simplest
settings.register_profile(
    "mutations", parent=settings.get_profile("default"), phases=(Phase.explicit, Phase.generate)
)
settings.register_profile("few", parent=settings.get_profile("default"), max_examples=15)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have what tests leave in the temporary folder (SB3 makes one for each run) cleared away."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("temporary"))
        patch.setenv("TMPDIR", folder)  # for child processes
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(params=["torch", "compiled"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param

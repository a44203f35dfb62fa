import os

# Before torch is imported: several test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch as th

th.set_num_threads(1)


@pytest.fixture(params=["torch", "compiled"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param

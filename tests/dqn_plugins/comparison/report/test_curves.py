"""Curves of several seeds on one grid: nothing extrapolated, fewer seeds marked."""

import numpy as np
import pytest

from dqn_plugins.comparison.report.charts import aggregate_curve, needs_log_axis
from dqn_plugins.comparison.results import read_study
from dqn_plugins.comparison.summary import summarise
from tests.dqn_plugins.comparison.synthetic_study import finish_cell, write_study

ENVIRONMENT = "CartPole-v1"


@pytest.fixture
def curve_of(tmp_path):
    """Aggregate finished cells of evaluations, one dictionary of keyword arguments per seed."""

    def make(*runs, **arguments):
        write_study(tmp_path, algorithms=["dqn"], seeds=len(runs))
        for seed, run in enumerate(runs):
            finish_cell(tmp_path, ENVIRONMENT, "dqn", seed, 0.0, **run)
        cells = read_study(tmp_path).finished(ENVIRONMENT, "dqn")
        return aggregate_curve(cells, **{"axis": "steps", **arguments})

    return make


SHORT, LONG = {"curve": [1, 2, 3]}, {"curve": [1, 2, 3, 10, 20]}
BETWEEN = {"curve": [0.5, 1.5, 2.5, 4], "steps": [500, 1_500, 2_500, 4_000]}
SLOW = {"curve": [1, 2, 3], "cpu_seconds": [1.1, 2.2, 3.3]}
FROM_ZERO = {"curve": [9, 1, 5], "cpu_seconds": [0.0, 1.0, 2.0]}


@pytest.mark.parametrize(
    ("runs", "arguments", "progress", "middle"),
    [
        # The same evaluation steps are the grid.
        ([{"curve": [first, first + 10, last]} for first, last in ((0, 20), (2, 22), (4, 60))],
         {}, [1_000, 2_000, 3_000], [2, 12, 34]),
        # A curve ends where the first seed ends.
        ([SHORT, LONG, LONG], {}, [1_000, 2_000, 3_000], [1, 2, 3]),
        # Between evaluations returns are interpolated.
        ([{"curve": [1, 2, 3, 4]}, BETWEEN], {}, [1_000, 1_750, 2_750, 4_000],
         [1, 1.75, 2.75, 4]),
        # CPU seconds differ between seeds.
        ([{**SLOW, "cpu_seconds": [1.0, 2.0, 3.0]}, SLOW], {"axis": "cpu_seconds"},
         [1.1, 2.1, 3.0], [1.05, (2.1 + 2.1 / 1.1) / 2, (3 + 3 / 1.1) / 2]),
        # A log axis begins after zero.
        ([FROM_ZERO], {"axis": "cpu_seconds"}, [0.0, 1.0, 2.0], [9, 1, 5]),
        ([FROM_ZERO], {"axis": "cpu_seconds", "log": True}, [1.0, 2.0], [1, 5]),
    ],
)  # fmt: skip
def test_seeds_are_brought_to_one_grid(curve_of, runs, arguments, progress, middle):
    grid, means, low, high = curve_of(*runs, **arguments)
    assert grid == pytest.approx(progress)
    assert means == pytest.approx(middle)
    if len(runs) == 1:  # no band
        assert low is high is None
    else:
        assert np.all((low <= means) & (means <= high))


@pytest.mark.parametrize(("cost", "expected"), [(9.9e-4, False), (1.1e-3, True)])
def test_the_axis_is_logarithmic_from_tenfold_on(tmp_path, cost, expected):
    study = write_study(tmp_path, algorithms=["stream_q", "dqn"], seeds=1)
    finish_cell(study, ENVIRONMENT, "stream_q", 0, 1.0, cpu_seconds_per_step=1e-4)
    finish_cell(study, ENVIRONMENT, "dqn", 0, 1.0, cpu_seconds_per_step=cost)
    assert needs_log_axis(summarise(read_study(study)), ENVIRONMENT) is expected

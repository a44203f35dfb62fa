"""Curves of several seeds on one grid: nothing extrapolated, fewer seeds marked."""

import numpy as np
import pytest

from dqn_plugins.comparison.report.curves import aggregate_curve, needs_log_axis
from dqn_plugins.comparison.results import read_study
from tests.dqn_plugins.comparison.synthetic_study import finish_cell, write_study

ENVIRONMENT = "CartPole-v1"


@pytest.fixture
def cells_of(tmp_path):
    """Make finished cells of evaluations given as keyword arguments, one dictionary per seed."""

    def make(*runs):
        write_study(tmp_path, algorithms=["dqn"], seeds=len(runs))
        for seed, run in enumerate(runs):
            finish_cell(tmp_path, ENVIRONMENT, "dqn", seed, 0.0, **run)
        return read_study(tmp_path).finished(ENVIRONMENT, "dqn")

    return make


def test_the_same_evaluation_steps_are_the_grid(cells_of):
    curves = [[0, 10, 20], [2, 12, 22], [4, 14, 60]]
    curve = aggregate_curve(cells_of(*({"curve": curve} for curve in curves)), "steps")
    assert list(curve.progress) == [1_000, 2_000, 3_000]
    assert curve.middle == pytest.approx(np.mean(curves, axis=0))
    assert np.all(curve.low <= curve.middle)
    assert np.all(curve.middle <= curve.high)


def test_a_curve_ends_where_the_first_seed_ends(cells_of):
    short, long = {"curve": [1, 2, 3]}, {"curve": [1, 2, 3, 10, 20]}
    curve = aggregate_curve(cells_of(short, long, long), "steps")
    assert list(curve.progress) == [1_000, 2_000, 3_000]
    assert list(curve.middle) == [1, 2, 3]


def test_between_evaluations_returns_are_interpolated(cells_of):
    straight = {"curve": [1, 2, 3, 4]}
    between = {"curve": [0.5, 1.5, 2.5, 4], "steps": [500, 1_500, 2_500, 4_000]}
    curve = aggregate_curve(cells_of(straight, between), "steps")
    assert curve.progress[0] == 1_000
    assert curve.progress[-1] == 4_000
    assert curve.middle == pytest.approx(curve.progress / 1_000)


def test_cpu_seconds_differ_between_seeds(cells_of):
    fast = {"curve": [1, 2, 3], "cpu_seconds": [1.0, 2.0, 3.0]}
    slow = {"curve": [1, 2, 3], "cpu_seconds": [1.1, 2.2, 3.3]}
    curve = aggregate_curve(cells_of(fast, slow), "cpu_seconds")
    assert curve.progress == pytest.approx([1.1, 2.1, 3.0])
    assert curve.middle[1] == pytest.approx((2.1 + 2.1 / 1.1) / 2)


def test_one_seed_has_a_curve_without_a_band(cells_of):
    curve = aggregate_curve(cells_of({"curve": [1, 5]}), "steps")
    assert list(curve.middle) == [1, 5]
    assert curve.low is None


def test_a_log_axis_begins_after_zero(cells_of):
    cells = cells_of({"curve": [9, 1, 5], "cpu_seconds": [0.0, 1.0, 2.0]})
    assert list(aggregate_curve(cells, "cpu_seconds", log=True).progress) == [1.0, 2.0]
    assert list(aggregate_curve(cells, "cpu_seconds").progress) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(("cost", "expected"), [(9.9e-4, False), (1.1e-3, True)])
def test_the_axis_is_logarithmic_from_tenfold_on(tmp_path, cost, expected):
    study = write_study(tmp_path, algorithms=["stream_q", "dqn"], seeds=1)
    finish_cell(study, ENVIRONMENT, "stream_q", 0, 1.0, cpu_seconds_per_step=1e-4)
    finish_cell(study, ENVIRONMENT, "dqn", 0, 1.0, cpu_seconds_per_step=cost)
    assert needs_log_axis(read_study(study), ENVIRONMENT) is expected

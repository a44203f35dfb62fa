"""The statistics, against numbers worked out by hand, brute force and simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from dqn_plugins.comparison import statistics
from dqn_plugins.comparison.statistics import (
    clearly_below,
    interquartile_mean,
    iqm_band,
    iqm_estimate,
    performance_profile,
    probability_of_improvement,
    seeds_to_tell,
)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),  # too few to leave any out
        ([1.0, 2.0, 4.0, 100.0], 3.0),
        ([-1000.0, 1.0, 2.0, 3.0, 9.0], 2.0),
        ([8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0], 4.5),
    ],
)
def test_the_interquartile_mean_averages_the_middle_half(scores, expected):
    assert interquartile_mean(scores) == pytest.approx(expected)
    assert iqm_estimate(scores).value == pytest.approx(expected)


def test_one_seed_has_no_interval():
    assert iqm_estimate([3.0]) == (3.0, None, None)
    assert probability_of_improvement([[3.0]], [[1.0, 2.0]]) == (1.0, None, None)
    middle, low, high = iqm_band([[1.0, 2.0, 3.0]])
    assert list(middle) == [1.0, 2.0, 3.0]
    assert low is high is None
    assert performance_profile([[1.0]], [0.0])[1:] == (None, None)
    # Nor have several environments, one of which has one seed.
    assert iqm_estimate([0.0, 0.0], [1.0]) == (pytest.approx(1 / 3), None, None)


def test_the_interval_of_three_seeds_is_that_of_all_their_resamples():
    scores = [0.0, 1.0, 5.0]
    means = [np.mean(draw) for draw in itertools.product(scores, repeat=3)]
    estimate = iqm_estimate(scores)
    assert estimate.low == pytest.approx(np.quantile(means, 0.025, method="inverted_cdf"))
    assert estimate.high == pytest.approx(np.quantile(means, 0.975, method="inverted_cdf"))
    assert iqm_estimate(scores) == estimate  # whatever was asked before


def test_a_band_is_the_estimate_at_each_point():
    curves = np.random.default_rng(3).normal(size=(6, 40)).cumsum(axis=1)
    middle, low, high = iqm_band(curves)
    for point in (0, 17, 39):
        estimate = iqm_estimate(curves[:, point])
        assert middle[point] == pytest.approx(estimate.value)
        spread = estimate.high - estimate.low
        assert low[point] == pytest.approx(estimate.low, abs=0.1 * spread)
        assert high[point] == pytest.approx(estimate.high, abs=0.1 * spread)


def test_the_probability_of_improvement_by_hand():
    # Pairs: 3>1, 3>2, 3=3 (half), 5>1, 5>2, 5>3: 5.5 of 6.
    assert probability_of_improvement([[3, 5]], [[1, 2, 3]]).value == pytest.approx(5.5 / 6)
    # Environments weigh the same, however many seeds they have.
    estimate = probability_of_improvement([[3, 5], [0.0]], [[1, 2, 3], [1.0, 2.0, 3.0, 4.0]])
    assert estimate.value == pytest.approx((5.5 / 6 + 0) / 2)
    # On one environment it is the Mann-Whitney statistic.
    first, second = np.random.default_rng(1).normal([[0.4], [0]], 1, (2, 9))
    statistic = stats.mannwhitneyu(first, second).statistic
    assert probability_of_improvement([first], [second]).value == pytest.approx(statistic / 81)


def test_the_bootstrap_of_two_environments_is_stratified():
    # All the spread lies between the environments. Draws within each leave none of it.
    scores, others = [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]
    assert probability_of_improvement(scores, others) == (0.5, 0.5, 0.5)
    assert iqm_estimate([0.0, 0.0], [1.0, 1.0]) == (0.5, 0.5, 0.5)


NULLS = {
    "normal": lambda generator, size: generator.normal(size=size),
    "skewed": lambda generator, size: -generator.lognormal(size=size),
    # Most seeds land, some crash.
    "bimodal": lambda generator, size: np.where(generator.random(size) < 0.8, 200.0, -100.0),
}


@pytest.mark.parametrize("distribution", NULLS)
@pytest.mark.parametrize("n_seeds", [5, 10])
@pytest.mark.parametrize("n_algorithms", [2, 6, 12])
def test_of_equal_algorithms_none_is_clearly_ahead(distribution, n_algorithms, n_seeds):
    generator = np.random.default_rng(n_algorithms)
    studies = NULLS[distribution](generator, (1_000, n_algorithms, n_seeds))
    # A statistic below the smallest critical value there is claims nothing: no need to look it up.
    critical = stats.studentized_range.isf(0.035, n_algorithms, 2 * n_seeds - 2)
    false_claims = 0
    for study in studies:
        index = int(np.argmax(interquartile_mean(study, axis=1)))
        best, others = study[index], np.delete(study, index, axis=0)
        squared_errors = (best.var(ddof=1) + others.var(axis=1, ddof=1)) / n_seeds
        differences = best.mean() - others.mean(axis=1)
        if np.any(differences > critical * np.sqrt(squared_errors / 2)):
            false_claims += any(clearly_below(best, list(others)))
    assert false_claims <= 50
    if distribution == "normal":
        assert false_claims > 10  # a test that never claims would be honest too


def test_the_claim_is_that_of_scipys_games_howell_test():
    pytest.importorskip("scipy", "1.16")
    samples = np.random.default_rng(3).normal(
        [[2.2], [0.0], [1.0], [-1.0]], [[1], [2], [1], [1]], (4, 6)
    )
    ours = [statistics._games_howell(samples[0], other, 4) for other in samples[1:]]
    theirs = stats.tukey_hsd(*samples, equal_var=False).pvalue[0, 1:]
    assert ours == pytest.approx(theirs)
    claims = clearly_below(samples[0], list(samples[1:]))
    assert claims == [p < 0.035 for p in theirs]
    assert any(claims)
    assert not all(claims)
    # Claims on several environments share their errors.
    largest = max(p for p in theirs if p < 0.035)
    n_claims = int(0.035 / largest) + 1
    assert clearly_below(samples[0], list(samples[1:]), n_claims) == [
        p < 0.035 / n_claims for p in theirs
    ]


def test_few_seeds_claim_nothing_and_seeds_without_spread_do():
    assert clearly_below([9.0, 9.1, 9.2], [[1.0, 1.1, 1.2]]) == [False]
    assert clearly_below([500.0] * 5, [[9.0] * 5]) == [True]
    assert clearly_below([500.0] * 5, [[500.0] * 5]) == [False]


def test_the_figures_are_those_of_rliable():
    """Recorded from rliable 1.2.0, whose 20,000 and 5,000 resamples are others than ours."""
    first = [
        [-0.3, 0.92, -0.05, 2.13, -0.46, -1.0, -0.13],
        [-0.52, 1.94, 0.02, 1.07, 2.4, 0.72, 0.31],
        [0.85, 1.21, 1.85, -0.13, 1.3, -0.06, 0.39],
    ]
    second = [
        [-0.3, 1.31, 0.64, -0.39, 0.6, -0.19, -0.21],
        [1.14, 2.03, 0.22, 0.02, 0.15, -0.16, 2.37],
        [0.91, -0.14, 1.33, 1.46, 1.1, 1.72, 2.22],
    ]
    for scores, iqm, interval in (
        (first, 0.4772727272727273, (0.0655, 1.0255)),
        (second, 0.6618181818181817, (0.2327, 1.1373)),
    ):
        value, *ends = iqm_estimate(*scores)
        assert value == pytest.approx(iqm, abs=1e-12)
        assert ends == pytest.approx(interval, abs=0.03)
    value, *ends = probability_of_improvement(first, second)
    assert value == pytest.approx(0.43537414965986393, abs=1e-12)
    assert ends == pytest.approx((0.2585, 0.6190), abs=0.02)
    shares, low, high = performance_profile(first, np.linspace(-1, 3, 5))
    assert 21 * shares == pytest.approx([20, 13, 7, 2, 0])
    assert 21 * low == pytest.approx([18, 9, 3, 0, 0])
    assert 21 * high == pytest.approx([21, 17, 11, 5, 0])


@pytest.mark.parametrize(("difference", "spreads"), [(2.0, (1.0, 1.0)), (1.0, (0.3, 1.7))])
def test_as_many_seeds_as_are_said_tell_four_times_in_five(difference, spreads):
    """By drawing studies of so many seeds, of normal returns with these means and spreads."""
    samples = [
        mean + spread * np.array([-1.0, 1.0, 0.0])
        for mean, spread in zip((difference, 0.0), spreads, strict=True)
    ]
    seeds = seeds_to_tell(*samples, n_others=1)
    assert 4 <= seeds <= 60
    rng = np.random.default_rng(0)
    told = []
    for _ in range(400):
        best = rng.normal(difference, spreads[0], seeds)
        other = rng.normal(0.0, spreads[1], seeds)
        told += clearly_below(best, [other])
    assert 0.74 <= np.mean(told) <= 0.9


def test_how_many_seeds_where_there_is_no_spread_or_no_difference():
    assert seeds_to_tell([2.0, 2.0], [1.0, 1.0], 3) == 4
    assert seeds_to_tell([1.0, 1.0], [1.0, 1.0], 3) is None
    assert seeds_to_tell([0.0, 10.0], [0.1, 9.8], 3) is None
    few, many = (seeds_to_tell([9.0, 11.0], [6.0, 8.0], n) for n in (1, 11))
    assert few < many

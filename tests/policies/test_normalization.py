from typing import get_args

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from dqn_plugins import StreamQ
from dqn_plugins.policies import (
    ObservationNormalizer,
    RecentMeanSquare,
    RewardNormalizer,
    RewardScale,
    RunningStatistics,
)

BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32)


def stream(n: int, offset: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return offset + scale * np.random.default_rng(0).normal(size=(n, 3))


# RunningStatistics


@pytest.mark.parametrize(
    ("offset", "scale", "tolerance"),
    [
        (0.0, 1.0, 1e-12),
        (-3.0, 1e-3, 1e-9),
        # float64 holds a million and its millionths to 10 digits; the naive sum of squares, 1e15,
        # would leave two digits of the variance, and float32 none.
        (1e6, 1.0, 1e-8),
        (1e6, 1e3, 1e-10),
    ],
)
def test_mean_and_variance_are_numpys_at_every_moment(offset, scale, tolerance):
    elements = stream(200, offset, scale)
    statistics = RunningStatistics((3,))
    for n, element in enumerate(elements, start=1):
        statistics.update(th.as_tensor(element)[None])
        assert statistics.count.item() == n
        if n in (2, 3, 50, 200):
            so_far = elements[:n]
            assert statistics.mean.numpy() == pytest.approx(so_far.mean(axis=0), rel=1e-12)
            variance = so_far.var(axis=0, ddof=1)
            assert statistics.variance.numpy() == pytest.approx(variance, rel=tolerance)
            deviation = np.sqrt(variance + 1e-8)
            assert statistics.standard_deviation.numpy() == pytest.approx(deviation, rel=tolerance)


def test_the_variance_is_1_before_the_second_element():
    statistics = RunningStatistics((2,))
    assert statistics.variance.tolist() == [1.0, 1.0]
    statistics.update(th.tensor([[5.0, -5.0]]))
    assert statistics.mean.tolist() == [5.0, -5.0]
    assert statistics.variance.tolist() == [1.0, 1.0]
    statistics.update(th.tensor([[7.0, -5.0]]))
    assert statistics.variance.tolist() == [2.0, 0.0]
    assert (statistics.standard_deviation > 0.0).all()


# ObservationNormalizer


def test_vectors_get_mean_0_and_variance_1():
    normalizer = ObservationNormalizer(BOX)
    obs = th.as_tensor(stream(500, 1e6, 10.0).astype(np.float32))
    normalizer.update(obs)
    normalized = normalizer(obs)
    assert normalized.dtype == th.float32
    assert normalized.shape == obs.shape
    exact = obs.numpy().astype(np.float64)
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0, ddof=1)
    # float32 results of float64 arithmetic, in spite of an offset that leaves float32 no digits
    assert normalized.numpy() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_normalising_leaves_the_statistics_and_the_observations_alone():
    normalizer = ObservationNormalizer(BOX)
    normalizer.update(th.as_tensor(stream(10)))
    before = {name: value.clone() for name, value in normalizer.state_dict().items()}
    obs = th.full((4, 3), 100.0)
    normalizer.train()
    normalizer(obs)
    assert th.equal(obs, th.full((4, 3), 100.0))
    assert all(th.equal(value, before[name]) for name, value in normalizer.state_dict().items())


def test_a_number_that_hardly_varied_stays_within_10():
    normalizer = ObservationNormalizer(BOX)
    normalizer.update(th.tensor([[0.0, 0.0, 0.0]] * 8))
    # Its deviation is the root of 1e-8
    obs = th.tensor([[0.002, -1.0, 0.0005]])
    assert normalizer(obs)[0].tolist() == pytest.approx([10.0, -10.0, 5.0], rel=1e-6)
    assert normalizer.frozen()(obs)[0].tolist() == normalizer(obs)[0].tolist()


def test_without_any_observation_nothing_is_shifted_or_scaled():
    obs = th.tensor([[1.0, -2.0, 3.0]])
    assert ObservationNormalizer(BOX)(obs).numpy() == pytest.approx(obs.numpy(), rel=1e-7)


def test_each_vector_in_a_dictionary_has_statistics_of_its_own():
    space = spaces.Dict(
        {
            "position.x": BOX,  # a name that torch takes for no module
            "speed": spaces.Box(-1.0, 1.0, (), np.float64),
            "camera": spaces.Box(0, 255, (3, 8, 8), np.uint8),
            "gear": spaces.Discrete(4),
        }
    )
    normalizer = ObservationNormalizer(space)
    raw = {
        "position.x": th.as_tensor(stream(20, 7.0)),
        "speed": th.arange(20.0),
        "camera": th.zeros(20, 3, 8, 8, dtype=th.uint8),
        "gear": th.zeros(20, dtype=th.int64),
    }
    normalizer.update(raw)
    assert len(normalizer.statistics) == 2
    seen = {**raw, "gear": th.eye(4).repeat(5, 1)}
    normalized = normalizer(seen)
    assert normalized.keys() == raw.keys()
    assert normalized["camera"] is seen["camera"]
    assert normalized["gear"] is seen["gear"]
    for key in ("position.x", "speed"):
        values = raw[key].double()
        expected = (values - values.mean(dim=0)) / values.std(dim=0)
        assert normalized[key].numpy() == pytest.approx(expected.numpy(), rel=1e-5, abs=1e-6)
        assert normalized[key].dtype == th.float32


# RewardNormalizer


def test_rewards_are_divided_by_the_deviation_of_the_return_as_worked_out_by_hand():
    normalizer = RewardNormalizer()
    # u = 1; one return has no variance: 1
    assert normalizer(th.tensor([1.0]), 0.5).item() == pytest.approx(1.0)
    # u = 0.5·1 + 2 = 2.5; the sample variance of (1, 2.5) is 1.125
    assert normalizer(th.tensor([2.0]), 0.5).item() == pytest.approx(2 / 1.125**0.5)
    # u = 0.5·2.5 − 4 = −2.75; mean of (1, 2.5, −2.75) 0.25, squares 0.5625 + 5.0625 + 9 over 2
    assert normalizer(th.tensor([-4.0]), 0.5).item() == pytest.approx(-4 / 7.3125**0.5)
    assert normalizer.returns.tolist() == [-2.75]
    # A new episode: u = 8
    normalizer.returns[0] = 0.0
    deviation = np.std([1.0, 2.5, -2.75, 8.0], ddof=1)
    assert normalizer(th.tensor([8.0]), 0.5).item() == pytest.approx(8 / deviation)


def test_keys_with_dots_and_underscores_keep_statistics_of_their_own():
    part = spaces.Box(-1.0, 1.0, (1,), np.float32)
    normalizer = ObservationNormalizer(spaces.Dict({"a.b": part, "a_b": part}))
    normalizer.update({"a.b": th.tensor([[1.0], [3.0]]), "a_b": th.tensor([[10.0], [30.0]])})
    normalized = normalizer({"a.b": th.tensor([[2.0]]), "a_b": th.tensor([[20.0]])})
    assert normalized["a.b"].item() == 0.0
    assert normalized["a_b"].item() == 0.0


def test_scales_of_rewards_as_worked_out_by_hand():
    def scales(*rewards: float) -> dict[str, float]:
        normalizers = {kind: RewardNormalizer(kind) for kind in get_args(RewardScale)}
        for normalizer in normalizers.values():
            for reward in rewards:
                normalizer(th.tensor([reward]), 0.5)
        return {kind: normalizer.scale for kind, normalizer in normalizers.items()}

    # A constant cost: u = −2, −3, of sample variance 0.5; q = 2; c = 1
    cost = scales(-2.0, -2.0)
    assert cost["return_deviation"] == pytest.approx(0.5**0.5)
    assert cost["reward_rms"] == pytest.approx(2.0)
    assert cost["blend"] == pytest.approx(2.0)
    # A constant gain: c = 0
    gain = scales(2.0, 2.0)
    assert gain["blend"] == pytest.approx(0.5**0.5)
    # u = −4, −1, of variance 4.5; q² = (16 + 1) / 2; mean −1.5; c = 2.25 / 8.5
    both = scales(-4.0, 1.0)
    share = 2.25 / 8.5
    assert both["reward_rms"] == pytest.approx(8.5**0.5)
    assert both["blend"] == pytest.approx(4.5 ** ((1 - share) / 2) * 8.5 ** (share / 2))


@pytest.mark.parametrize("kind", get_args(RewardScale))
def test_before_the_first_reward_the_scale_is_one(kind):
    assert RewardNormalizer(kind).scale == pytest.approx(1.0)


def test_a_scale_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"normalize_rewards: received 'median'.*'blend'"):
        StreamQ("MlpPolicy", "CartPole-v1", policy_kwargs={"normalize_rewards": "median"})


# RecentMeanSquare


def test_the_newest_numbers_weigh_most():
    numbers = np.random.default_rng(0).normal(size=500)
    mean_square = RecentMeanSquare()
    assert mean_square.root == 0.0
    for number in numbers:
        mean_square.update(number)
    weights = 0.9999 ** np.arange(500)[::-1]
    assert mean_square.root == pytest.approx(np.sqrt(np.average(numbers**2, weights=weights)))

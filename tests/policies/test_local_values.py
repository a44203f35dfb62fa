import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from dqn_plugins import StreamQ
from dqn_plugins.policies import ImageExtractor, LocalValues
from tests.environments import RecordingEnv
from tests.helpers import through_a_file


def test_they_are_zero_at_first():
    values = LocalValues(2, 3)(th.tensor([[0.5, -9.0], [1.0, 2.0]]), share=1.0)
    assert values.tolist() == [[0.0] * 3] * 2


def test_they_are_linear_in_bumps_and_inputs():
    local = LocalValues(n_inputs=2, n_actions=1)
    places = [-2 + 4 / 7 * j for j in range(8)]
    with th.no_grad():
        # the second input's bumps come after the first one's, and the inputs last
        local.weight[0, 8 + 3] = 5.0
        local.weight[0, 17] = 0.25
    # One width beside its place a bump is exp(-1/2) high, at most 2
    inputs = th.tensor([[7.0, places[3]], [7.0, places[4]], [-1.0, -10.0]])
    expected = [
        0.5 * (5 * 2 + 0.25 * places[3]),
        0.5 * (5 * 2 * np.exp(-0.5) + 0.25 * places[4]),
        0.5 * 0.25 * -10,
    ]
    assert local(inputs, share=0.5)[:, 0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("rewards", "share"),
    [([], 0.0), ([-1.0] * 9, 1.0), ([1.0] * 9, 0.0), ([-3.0, 1.0], 0.2), ([0.0, 0.0], 0.0)],
)
def test_they_count_as_much_as_every_step_costs_the_same(rewards, share):
    model = StreamQ("MlpPolicy", RecordingEnv(), seed=0)
    network = model.q_net
    with th.no_grad():
        network.local_values.weight.fill_(1.0)
    if rewards:
        network.reward_normalizer(th.tensor(rewards), 0.9, np.zeros(len(rewards), np.int64))
    assert network.cost_share == pytest.approx(share, abs=1e-6)  # 1² / 5 for -3 and 1
    obs = th.zeros(1, 3)
    without = network.q_net(network.extract_features(obs, network.features_extractor))
    bumps = 2 * sum(np.exp(-(((-2 + 4 / 7 * j) / (4 / 7)) ** 2) / 2) for j in range(8))
    added = (network.learned_values(obs) - without)[0].tolist()
    assert added == pytest.approx([share * 3 * bumps] * len(added), abs=1e-4)


def test_a_model_keeps_them(backend):
    model = StreamQ("MlpPolicy", RecordingEnv(), seed=0, backend=backend).learn(50)
    assert th.count_nonzero(model.q_net.local_values.weight)
    loaded = through_a_file(model)
    for name in ("q_net", "average_q_net"):
        one, other = (getattr(m.policy, name).local_values.weight for m in (model, loaded))
        assert th.equal(one, other)


@pytest.mark.parametrize(
    "policy_kwargs",
    [
        {"normalize_observations": False},
        {"normalize_rewards": False},
        {"local_values": False},
    ],
)
def test_they_are_left_out(policy_kwargs):
    model = StreamQ("MlpPolicy", RecordingEnv(), policy_kwargs=policy_kwargs)
    assert model.q_net.local_values is None
    if "local_values" not in policy_kwargs:
        with pytest.raises(ValueError, match=r"local_values: received True, it must be .*\. Pass"):
            StreamQ(
                "MlpPolicy", RecordingEnv(), policy_kwargs={**policy_kwargs, "local_values": True}
            )


def test_images_have_none():
    image = spaces.Box(0, 255, (5, 5, 1), np.uint8)
    for kwargs in ({}, {"features_extractor_class": ImageExtractor}):
        policy = StreamQ.policy_aliases["MlpPolicy"](
            image, spaces.Discrete(2), lambda _: 1e-3, **kwargs
        )
        assert policy.q_net.local_values is None

import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from dqn_plugins.policies import (
    CnnPolicy,
    ImageExtractor,
    MlpPolicy,
    MultiInputPolicy,
    QNetwork,
    QPolicy,
    TraceAdam,
    glorot_uniform,
)
from dqn_plugins.policies.dictionary_extractor import DictionaryExtractor
from dqn_plugins.policies.stream_policy import StreamQPolicy

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "vector": VECTOR, "number": spaces.Discrete(4)})
ACTIONS = spaces.Discrete(4)


def make(policy_class: type[QPolicy] = QPolicy, space: spaces.Space = VECTOR, **kwargs: Any):
    th.manual_seed(0)
    return policy_class(space, ACTIONS, lambda _: 0.01, **kwargs)


def flat(policy: QPolicy) -> th.Tensor:
    return th.cat([param.detach().flatten() for param in policy.parameters()])


def one(space: spaces.Space) -> Any:
    space.seed(0)
    return space.sample()


# The network


def test_the_network_computes_what_sb3s_computes():
    theirs = DQNPolicy(VECTOR, ACTIONS, lambda _: 0.01, net_arch=[16, 8])
    ours = make(net_arch=[16, 8])
    ours.q_net.load_state_dict(theirs.q_net.state_dict())
    obs = th.randn(20, 3)
    assert th.equal(ours.q_net(obs), theirs.q_net(obs))
    assert th.equal(ours(obs), theirs(obs))


def test_layer_normalisation_goes_before_the_activation_and_has_no_weights():
    policy = make(net_arch=[5], layer_norm=True)
    assert [type(layer) for layer in policy.q_net.q_net] == [
        nn.Linear,
        nn.LayerNorm,
        nn.ReLU,
        nn.Linear,
    ]
    norm = policy.q_net.q_net[1]
    assert not norm.elementwise_affine
    assert list(norm.parameters()) == []
    weights = list(policy.parameters())
    assert len(weights) == 4
    obs = th.randn(1, 3)
    z = (obs @ weights[0].T + weights[1])[0]
    z = (z - z.mean()) / th.sqrt(((z - z.mean()) ** 2).mean() + norm.eps)
    expected = th.relu(z) @ weights[2].T + weights[3]
    th.testing.assert_close(policy.q_net(obs)[0], expected)


def test_the_weight_initializer_draws_every_layer():
    def constant(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 0.5)
            nn.init.zeros_(module.bias)

    policy = make(net_arch=[2], weight_initializer=constant)
    # 3 inputs of 1 → 2 hidden units of 1.5 → outputs of 2·0.5·1.5
    assert policy.q_net(th.ones(1, 3)).tolist() == [[1.5] * 4]


def test_the_weight_initializer_also_draws_the_features_extractor():
    policy = make(
        CnnPolicy,
        IMAGE,
        features_extractor_class=NatureCNN,
        weight_initializer=glorot_uniform,
    )
    assert policy.q_net.net_arch == []  # NatureCNN has a layer of its own
    convolutions = [layer for layer in policy.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 3
    assert not any(layer.bias.any() for layer in convolutions)


# The policy


def test_the_optimiser_has_the_first_learning_rate_and_every_weight():
    policy = make(optimizer_class=th.optim.SGD, optimizer_kwargs={"momentum": 0.5})
    (group,) = policy.optimizer.param_groups
    assert type(policy.optimizer) is th.optim.SGD
    assert (group["lr"], group["momentum"]) == (0.01, 0.5)
    assert [id(p) for p in group["params"]] == [id(p) for p in policy.parameters()]


@pytest.mark.parametrize(
    ("policy_class", "space", "extractor", "net_arch"),
    [
        (MlpPolicy, VECTOR, FlattenExtractor, [16, 8]),
        (MlpPolicy, spaces.Discrete(5), FlattenExtractor, [16, 8]),
        (CnnPolicy, IMAGE, ImageExtractor, [128]),
        (MultiInputPolicy, DICT, DictionaryExtractor, [16, 8]),
    ],
)
def test_each_policy_has_the_features_extractor_of_its_space(
    policy_class, space, extractor, net_arch
):
    policy = make(policy_class, space)
    assert type(policy.q_net.features_extractor) is extractor
    assert policy.q_net.net_arch == net_arch
    action, _ = policy.predict(one(space))
    assert ACTIONS.contains(int(action))


@pytest.mark.parametrize(
    ("policy_class", "optimizer"), [(QPolicy, th.optim.SGD), (StreamQPolicy, TraceAdam)]
)
def test_functions_that_make_parts_may_stand_for_classes(policy_class, optimizer):
    chosen = {"features_extractor_class": FlattenExtractor, "optimizer_class": optimizer}
    policy = make(policy_class, **{name: partial(part) for name, part in chosen.items()})
    assert type(policy.optimizer) is optimizer
    th.testing.assert_close(flat(policy), flat(make(policy_class, **chosen)))


def test_what_is_read_of_dqns_policy_can_be_read():
    policy = make(activation_fn=nn.Tanh)
    assert (policy.net_arch, policy.activation_fn) == ([16, 8], nn.Tanh)


def test_images_of_floats_are_taken_as_nature_cnn_is_told_to():
    space = spaces.Box(0.0, 1.0, (3, 36, 36))
    kwargs = {"normalize_images": False, "features_extractor_kwargs": {"normalized_image": True}}
    policy = make(CnnPolicy, space, **kwargs)
    th.testing.assert_close(flat(policy), flat(make(CnnPolicy, space)))


def test_images_are_divided_by_255_unless_told_otherwise():
    image = th.full((1, 1, 36, 36), 255, dtype=th.uint8)
    scaled = make(CnnPolicy, IMAGE)
    unscaled = make(CnnPolicy, IMAGE, normalize_images=False)
    unscaled.load_state_dict(scaled.state_dict())
    th.testing.assert_close(scaled.q_net(image), unscaled.q_net(th.ones(1, 1, 36, 36)))
    assert not th.allclose(scaled.q_net(image), unscaled.q_net(image.float()))


@pytest.mark.parametrize("policy_class", [MlpPolicy, CnnPolicy, MultiInputPolicy])
def test_the_policies_take_the_arguments_of_dqns(policy_class):
    theirs = list(inspect.signature(DQNPolicy.__init__).parameters)
    ours = list(inspect.signature(QPolicy.__init__).parameters)
    assert ours[: len(theirs)] == theirs
    own = [name for name in inspect.signature(policy_class.__init__).parameters if name != "kwargs"]
    assert own == ours[: len(own)]


# Weights as one vector


def test_a_vector_of_weights_makes_a_round_trip():
    source, goal = make(net_arch=[5]), make(net_arch=[5], weight_initializer=glorot_uniform)
    assert not th.equal(flat(source), flat(goal))
    goal.load_from_vector(source.parameters_to_vector())
    assert th.equal(flat(source), flat(goal))


def test_a_vector_is_copied_into_the_weights_where_they_are():
    # SB3's own method puts new tensors in place; whoever holds the old ones would not notice.
    policy = make()
    before = [param.data_ptr() for param in policy.parameters()]
    vector = np.arange(policy.parameters_to_vector().size, dtype=np.float32)
    policy.load_from_vector(vector)
    assert [param.data_ptr() for param in policy.parameters()] == before
    assert np.array_equal(flat(policy).numpy(), vector)
    vector[:] = -1.0
    assert flat(policy).min() >= 0.0, "the caller's vector is the caller's"


def test_loading_a_vector_does_not_become_part_of_the_gradient():
    policy = make()
    policy.load_from_vector(policy.parameters_to_vector())
    assert all(p.requires_grad and p.is_leaf and p.grad is None for p in policy.parameters())


@pytest.mark.parametrize("change", [-1, 1])
def test_a_vector_of_another_length_is_refused_and_changes_nothing(change):
    policy = make()
    before = flat(policy)
    size = before.numel()
    with pytest.raises(ValueError, match=rf"vector: received shape \({size + change},\).*{size}"):
        policy.load_from_vector(np.zeros(size + change, np.float32))
    assert th.equal(flat(policy), before)


def test_a_network_with_an_extractor_and_first_weights_of_its_own_is_saved_and_loaded(tmp_path):
    """Drawing first weights while loading must not reach the weights that are loaded."""
    network = make(CnnPolicy, IMAGE, weight_initializer=glorot_uniform).q_net
    network.save(tmp_path / "network")
    loaded = QNetwork.load(tmp_path / "network")
    for name, values in network.state_dict().items():
        assert th.equal(loaded.state_dict()[name], values), name


def test_layer_normalisation_learns_a_scale_and_a_shift_if_asked_to():
    modules = make(layer_norm=True, layer_norm_affine=True).modules()
    norms = [each for each in modules if isinstance(each, nn.LayerNorm)]
    assert [tuple(each.weight.shape) for each in norms] == [(16,), (8,)]

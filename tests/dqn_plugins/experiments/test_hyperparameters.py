from functools import partial

import numpy as np
import pytest
import torch as th

from dqn_plugins import STREAM_Q_PAPER_HYPERPARAMETERS
from dqn_plugins.experiments.hyperparameters import build, describe, read_yaml
from dqn_plugins.policies import ObGD, SparseInitializer, glorot_uniform


def from_text(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("1.0e-3", 1e-3), ("-2E5", -2e5), ("3", 3), ("0.5", 0.5), (".5", 0.5)],
)
def test_numbers_are_numbers(tmp_path, text, number):
    value = from_text(tmp_path, f"a: {text}")["a"]
    assert value == number
    assert type(value) is type(number)


def test_dotted_names_and_classes_become_objects():
    built = build(
        {
            "activation_fn": "torch.nn.LeakyReLU",
            "optimizer_class": "dqn_plugins.policies.ObGD",
            "weight_initializer": {
                "class": "dqn_plugins.policies.SparseInitializer",
                "sparsity": 0.8,
            },
            "nested": [{"fn": "dqn_plugins.policies.glorot_uniform"}],
            "policy": "MlpPolicy",
            "net_arch": [64, 64],
        }
    )
    assert built == {
        "activation_fn": th.nn.LeakyReLU,
        "optimizer_class": ObGD,
        "weight_initializer": SparseInitializer(0.8),
        "nested": [{"fn": glorot_uniform}],
        "policy": "MlpPolicy",
        "net_arch": [64, 64],
    }


def test_describing_is_the_reverse_of_building():
    described = describe(STREAM_Q_PAPER_HYPERPARAMETERS)
    assert described["policy_kwargs"]["activation_fn"] == "torch.nn.LeakyReLU"
    assert build(described) == STREAM_Q_PAPER_HYPERPARAMETERS
    assert describe({"a": np.float64(0.5), "b": (1, None)}) == {"a": 0.5, "b": [1, None]}
    assert describe(np.int64(3)) == 3
    assert describe(partial(ObGD, lr=0.5)) == {
        "partial": "dqn_plugins.policies.ObGD",
        "lr": 0.5,
    }
    assert describe(slice(1, 2)) == "slice(1, 2, None)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("torch.nn.RelU", "leads nowhere"),
        ("torch.nn.nothing.here", "leads nowhere"),
        ({"class": "torch.nn.functional.relu"}, "dotted name of a class"),
        ({"class": "subprocess.Popen", "args": "ls"}, "dotted name of a class"),
        ({"class": "dqn_plugins.policies.SparseInitializer", "sparseness": 1}, "cannot be made"),
        ({"class": "dqn_plugins.policies.SparseInitializer", "sparsity": 2.0}, "sparsity"),
    ],
)
def test_names_that_lead_nowhere_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        build(value)


def test_nothing_outside_the_listed_packages_is_imported():
    assert build("os.system") == "os.system"
    assert build("subprocess.Popen") == "subprocess.Popen"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "cannot be read"),
        ("- a\n- b", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: 1\na: 2", "there twice: a"),
        ("a: !!python/object/apply:os.system ['true']", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"config\.yaml.*(?s:.*){message}"):
        from_text(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.yaml cannot be read"):
        read_yaml(tmp_path / "nothing.yaml")


def test_anchors_can_be_repeated_and_changed(tmp_path):
    text = "x-a: &a {p: 1, q: {r: 2}}\nb:\n  <<: *a\n  p: 3\nc:\n  <<: *a\n"
    content = from_text(tmp_path, text)
    assert content["b"] == {"p": 3, "q": {"r": 2}}
    assert content["c"] == {"p": 1, "q": {"r": 2}}

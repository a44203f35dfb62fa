"""Exported policies are run in onnxruntime, which shares nothing with torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled

from dqn_plugins import PQN, NaiveDQN, StreamQ
from dqn_plugins.cli import main

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")

VECTOR = spaces.Box(-50.0, 200.0, (6,), np.float64)
IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
DICTIONARY = spaces.Dict(
    {
        "picture": spaces.Box(0, 255, (36, 36, 1), np.uint8),
        "speed": spaces.Box(-5.0, 100.0, (3,), np.float32),
        "gear": spaces.Discrete(5),
        "doors": spaces.MultiBinary(3),
    }
)


class Noise(gym.Env[Any, Any]):
    """Gives any observations, and rewards of another size than 1."""

    def __init__(self, observation_space: spaces.Space[Any]):
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        reward, draw = self.np_random.normal(30.0, 50.0), self.np_random.random()
        return self.observation_space.sample(), float(reward), draw < 0.1, False, {}


def trained(algorithm: Any, space: spaces.Space[Any], steps: int = 150) -> Any:
    policy = "MlpPolicy"
    if space is IMAGE:
        policy = "CnnPolicy"
    elif space is DICTIONARY:
        policy = "MultiInputPolicy"
    return algorithm(policy, Noise(space), learning_rate=1e-3, seed=0).learn(steps)


def observations(model: Any, count: int) -> Any:
    """Draw a batch."""
    space = model.observation_space
    space.seed(7)
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in space.spaces}
    return np.stack(samples)


def run(path: Path, batch: Any) -> tuple[Any, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = batch if isinstance(batch, dict) else {"observation": batch}
    q_values, actions = session.run(["q_values", "action"], feed)
    return q_values, actions


@pytest.mark.parametrize(
    ("algorithm", "space"),
    [
        (StreamQ, VECTOR),
        (PQN, VECTOR),
        (StreamQ, IMAGE),
        (StreamQ, DICTIONARY),
        (NaiveDQN, spaces.Discrete(9)),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_is_exported_says_what_the_model_says(
    algorithm: Any, space: Any, tmp_path: Path
) -> None:
    model = trained(algorithm, space)
    path = model.export_onnx(tmp_path / "new folder/policy")
    assert path == tmp_path / "new folder/policy.onnx"
    parameters = model.policy.greedy_q_net.parameters()
    assert path.stat().st_size < 1.1 * sum(each.nbytes for each in parameters) + (1 << 18)
    batch = observations(model, 1_000)
    q_values, actions = run(path, batch)
    with th.no_grad():
        expected = model.policy.greedy_q_net(model.policy.obs_to_tensor(batch)[0]).numpy()
    assert q_values.dtype == np.float32
    # Sums of float32 come in another order: an error goes with the largest values, here near 200.
    size = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(q_values / size, expected / size, rtol=0.0, atol=1e-5)
    # Two actions whose values agree up to rounding are no other choice.
    best, second = -np.sort(-expected, axis=1)[:, :2].T
    is_clear = best - second > 2e-5 * size
    assert is_clear.mean() > 0.99
    predicted, _ = model.predict(batch, deterministic=True)
    np.testing.assert_array_equal(actions[is_clear], predicted[is_clear])


def test_a_single_observation_is_a_batch_too(tmp_path: Path) -> None:
    model = trained(NaiveDQN, VECTOR, steps=1)
    path = model.export_onnx(tmp_path / "policy.onnx")
    q_values, actions = run(path, observations(model, 1))
    assert (q_values.shape, actions.shape) == ((1, 4), (1,))


def test_the_statistics_of_the_moment_are_inside_and_the_model_goes_on(tmp_path: Path) -> None:
    model = trained(StreamQ, VECTOR)
    batch = observations(model, 10)
    before, _ = run(model.export_onnx(tmp_path / "before"), batch)
    model.learn(50, reset_num_timesteps=False)
    after, _ = run(model.export_onnx(tmp_path / "after"), batch)
    assert not np.allclose(before, after)
    again, _ = run(tmp_path / "before.onnx", batch)
    np.testing.assert_array_equal(before, again)


def test_the_command_exports_a_saved_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = NaiveDQN("MlpPolicy", "CartPole-v1", seed=0)
    model.save(tmp_path / "model")
    for arguments, path in (
        ([], tmp_path / "model.onnx"),
        (["--output", str(tmp_path / "other.onnx")], tmp_path / "other.onnx"),
    ):
        with pytest.raises(SystemExit) as ending:
            main(["export", str(tmp_path / "model.zip"), *arguments])
        assert not ending.value.code
        assert f"Exported: {path}" in capsys.readouterr().err
        batch = observations(model, 5)
        predicted, _ = model.predict(batch, deterministic=True)
        np.testing.assert_array_equal(run(path, batch)[1], predicted)


def test_the_extra_to_install_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = NaiveDQN("MlpPolicy", "CartPole-v1")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    with pytest.raises(DependencyNotInstalled, match=r"pip install 'dqn-plugins\[export\]'"):
        model.export_onnx(tmp_path / "policy")


# Dictionaries and spaces


@pytest.mark.parametrize("algorithm", [NaiveDQN, StreamQ, PQN])
@pytest.mark.parametrize(
    "space",
    [
        spaces.Dict({"observation": VECTOR}),
        spaces.Dict({"0": VECTOR, "a b": spaces.Discrete(3), "x/y": spaces.MultiBinary(2)}),
        spaces.MultiDiscrete([3, 4]),
        spaces.MultiBinary(5),
        spaces.Box(-1.0, 1.0, (2, 3), np.float32),
        spaces.Box(-4, 90, (3,), np.int16),
        spaces.Box(0, 200, (3,), np.uint16),
        spaces.Box(0, 255, (3,), np.uint8),
        spaces.Box(-1.0, 1.0, (3,), np.float16),
    ],
    ids=lambda space: str(space)[:40],
)
def test_every_space_that_learns_is_exported(algorithm: Any, space: Any, tmp_path: Path) -> None:
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    kwargs = {"n_steps": 16} if algorithm is PQN else {}
    model = algorithm(policy, Noise(space), seed=0, **kwargs).learn(32)
    batch = observations(model, 20)
    q_values, actions = run(model.export_onnx(tmp_path / "policy"), batch)
    with th.no_grad():
        expected = model.policy.greedy_q_net(model.policy.obs_to_tensor(batch)[0]).numpy()
    size = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(q_values / size, expected / size, rtol=0.0, atol=1e-5)
    np.testing.assert_array_equal(actions, q_values.argmax(axis=1))


@pytest.mark.parametrize("key", ["action", "q_values"])
def test_a_key_that_is_an_output_is_refused_before_there_is_a_file(
    key: str, tmp_path: Path
) -> None:
    space = spaces.Dict({"position": VECTOR, key: spaces.Discrete(3)})
    model = NaiveDQN("MultiInputPolicy", Noise(space), seed=0)
    with pytest.raises(ValueError, match=rf"observation_space: received the keys .*\['{key}'\]"):
        model.export_onnx(tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_is_no_onnx_is_refused_before_there_is_a_file(tmp_path: Path) -> None:
    class Branching(th.nn.Module):
        def forward(self, x: th.Tensor) -> th.Tensor:
            return x if x.sum().item() > 0 else -x

    kwargs = {"net_arch": [4], "activation_fn": Branching}
    model = NaiveDQN("MlpPolicy", Noise(VECTOR), seed=0, policy_kwargs=kwargs)
    with pytest.raises(ValueError, match=r"policy: received a network .* cannot write as ONNX"):
        model.export_onnx(tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []

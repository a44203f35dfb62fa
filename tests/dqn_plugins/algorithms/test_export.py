"""Exported policies are run in onnxruntime, which shares nothing with torch."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.cli import main
from tests.algorithms import ALGORITHMS, Row, each_algorithm
from tests.environments import SampledEnv
from tests.helpers import through_a_file

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")

N_ACTIONS = 4
VECTOR = spaces.Box(-50.0, 200.0, (6,), np.float64)
IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
DICTIONARY = spaces.Dict(
    {
        "observation": spaces.Box(0, 255, (36, 36, 1), np.uint8),
        "action": spaces.Discrete(5),
        "q_values": VECTOR,
        "action_mask": spaces.MultiBinary(N_ACTIONS),
        # Names that torch gives to what is computed inside
        "linear": spaces.Box(-1.0, 1.0, (3,), np.float16),
        "cat": spaces.Box(0, 200, (3,), np.uint16),
        "val_4": spaces.Box(0, 255, (3,), np.uint8),
        "a b": spaces.MultiDiscrete([3, 4]),
        "x/y": spaces.Box(-1.0, 1.0, (2, 3), np.float32),
        "0": spaces.Discrete(3),
        # Names that torch does not give to modules
        "agent.pos": spaces.Box(-1.0, 1.0, (2,), np.float32),
        "agent_pos": spaces.Box(-1.0, 1.0, (3,), np.float32),
        "part_agent_pos": spaces.Discrete(2),
        "type": spaces.Discrete(2),
        "network.q_net.q_net.0.weight": spaces.Discrete(2),
    }
)


def trained(row: Row, space: spaces.Space[Any], is_masked: bool = False, steps: int = 40) -> Any:
    policy = "MlpPolicy"
    if space is IMAGE:
        policy = "CnnPolicy"
    elif space is DICTIONARY:
        policy = "MultiInputPolicy"
    info = {"action_mask": np.array([1, 0, 1, 1])} if is_masked else {}
    return row.make(SampledEnv(space, N_ACTIONS, info), policy).learn(steps)


def observations(model: Any, count: int) -> Any:
    """Draw a batch."""
    space = model.observation_space
    space.seed(7)
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in space.spaces}
    return np.stack(samples)


def run(path: Path, batch: Any, masks: np.ndarray | None = None) -> tuple[Any, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = dict(batch) if isinstance(batch, dict) else {"observation": batch}
    if masks is not None:
        feed[session.get_inputs()[-1].name] = masks
    q_values, actions = session.run(None, feed)
    return q_values, actions


@each_algorithm
@pytest.mark.parametrize(
    ("space", "is_masked"),
    [
        (VECTOR, False),
        (VECTOR, True),
        (IMAGE, False),
        (DICTIONARY, True),
        (spaces.Discrete(9), False),
        (spaces.MultiBinary(5), False),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else type(value).__name__,
)
def test_what_is_exported_says_what_the_model_says(
    row: Row, space: Any, is_masked: bool, tmp_path: Path
) -> None:
    model = through_a_file(trained(row, space, is_masked))
    path = model.export_onnx(tmp_path / "ünï code/policy")
    assert path == tmp_path / "ünï code/policy.onnx"
    parameters = model.policy.greedy_q_net.parameters()
    assert path.stat().st_size < 1.1 * sum(each.nbytes for each in parameters) + (1 << 18)
    batch, masks = observations(model, 1_000), None
    if is_masked:
        masks = np.random.default_rng(0).random((1_000, N_ACTIONS)) < 0.5
        masks[np.arange(1_000), np.arange(1_000) % N_ACTIONS] = True
    q_values, actions = run(path, batch, masks)
    with th.no_grad():
        expected = model.policy.greedy_q_net(model.policy.obs_to_tensor(batch)[0]).numpy()
    assert q_values.dtype == np.float32
    # Sums of float32 come in another order: an error goes with the largest values, here near 200.
    size = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(q_values / size, expected / size, rtol=0.0, atol=1e-5)
    # Two actions whose values agree up to rounding are no other choice.
    best, second = -np.sort(-expected, axis=1)[:, :2].T
    is_clear = best - second > 2e-5 * size
    assert is_clear.mean() > 0.9
    predicted, _ = model.predict(batch, deterministic=True, action_masks=masks)
    np.testing.assert_array_equal(actions[is_clear], predicted[is_clear])
    if masks is not None:
        assert masks[np.arange(1_000), actions].all()
    one = {key: part[:1] for key, part in batch.items()} if space is DICTIONARY else batch[:1]
    assert run(path, one, None if masks is None else masks[:1])[0].shape == (1, N_ACTIONS)


def test_inputs_and_outputs_have_names_of_their_own(tmp_path: Path) -> None:
    outputs = ["q_values", "action"]
    for space, is_masked, kwargs, expected in (
        (VECTOR, False, {}, ["observation", *outputs]),
        (VECTOR, True, {}, ["observation", "action_mask", *outputs]),
        (VECTOR, True, {"action_masks": False}, ["observation", *outputs]),
        (VECTOR, False, {"action_masks": True}, ["observation", "action_mask", *outputs]),
        (DICTIONARY, True, {}, [*DICTIONARY, "action_mask_", "q_values_", "action_"]),
    ):
        model = trained(ALGORITHMS[0], space, is_masked, steps=1)
        session = onnxruntime.InferenceSession(str(model.export_onnx(tmp_path / "p", **kwargs)))
        names = [each.name for each in (*session.get_inputs(), *session.get_outputs())]
        assert names == expected


def test_the_statistics_of_the_moment_are_inside_and_the_model_goes_on(tmp_path: Path) -> None:
    model = StreamQ("MlpPolicy", SampledEnv(VECTOR, N_ACTIONS), seed=0).learn(100)
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


def test_a_network_that_is_no_onnx_is_refused_before_there_is_a_file(tmp_path: Path) -> None:
    class Branching(th.nn.Module):
        def forward(self, x: th.Tensor) -> th.Tensor:
            return x if x.sum().item() > 0 else -x

    kwargs = {"net_arch": [4], "activation_fn": Branching}
    model = NaiveDQN("MlpPolicy", SampledEnv(VECTOR, N_ACTIONS), seed=0, policy_kwargs=kwargs)
    with pytest.raises(ValueError, match=r"policy: received a network .* cannot write as ONNX"):
        model.export_onnx(tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []

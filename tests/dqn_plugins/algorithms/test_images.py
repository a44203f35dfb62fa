"""Images of every type and layout are learned from, as vectors are."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecTransposeImage
from torch import nn

from dqn_plugins import NonFiniteTransitionError, StreamQ
from dqn_plugins.environments import make_env
from dqn_plugins.learning import CompiledLearner
from dqn_plugins.policies import ImageExtractor
from tests.algorithms import each_algorithm
from tests.helpers import through_a_file, weights


class Catch(gym.Env):
    """A dot falls in a random column; the paddle below is to be where it lands."""

    action_space = spaces.Discrete(3)

    def __init__(self, dtype: Any = np.bool_, channels_last: bool = True, bad_step: int = -1):
        self.dtype, self.channels_last, self.bad_step = dtype, channels_last, bad_step
        shape = (5, 5, 2) if channels_last else (2, 5, 5)
        high = 255 if dtype is np.uint8 else 1
        self.observation_space = spaces.Box(0, high, shape, dtype)
        self.steps = 0

    def observation(self) -> np.ndarray:
        image = np.zeros((5, 5, 2), self.dtype)
        value = 255 if self.dtype is np.uint8 else 1
        image[self.row, self.column, 0] = image[4, self.paddle, 1] = value
        if self.steps == self.bad_step:
            image[0, 0, 0] = np.nan
        return image if self.channels_last else np.moveaxis(image, -1, 0).copy()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.row, self.column, self.paddle = 0, int(self.np_random.integers(5)), 2
        return self.observation(), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        self.row += 1
        self.paddle = min(4, max(0, self.paddle + int(action) - 1))
        landed = self.row == 4
        reward = float(landed and self.paddle == self.column)
        return self.observation(), reward, landed, False, {}


FORMS = [
    (np.bool_, True),
    (np.bool_, False),
    (np.uint8, True),
    (np.uint8, False),
    (np.float32, True),
    (np.float64, False),
]
each_form = pytest.mark.parametrize(("dtype", "channels_last"), FORMS)


@each_algorithm
@each_form
def test_every_form_of_image_is_learned_from(row, dtype, channels_last):
    model = row.make(Catch(dtype, channels_last), "CnnPolicy")
    assert model._is_compiled()
    # Stable-Baselines3 puts the channels of bytes first, and no others.
    is_transposed = dtype is np.uint8 and channels_last
    assert isinstance(model.get_env(), VecTransposeImage) is is_transposed
    before = weights(model)
    model.learn(20)
    assert not np.array_equal(weights(model), before)
    obs, _ = Catch(dtype, channels_last).reset(seed=0)
    assert 0 <= int(model.predict(obs)[0]) < 3
    actions, _ = model.predict(np.stack([obs, obs]))
    assert actions[0] == actions[1]


@pytest.mark.numerics
@each_algorithm
@pytest.mark.parametrize("activation_fn", [nn.ReLU, nn.SiLU])
def test_the_backends_learn_the_same(row, activation_fn):
    # Some gradients are nothing but rounding, which a smaller eps would divide by itself.
    policy_kwargs = {"activation_fn": activation_fn, "optimizer_kwargs": {"eps": 1e-3}}
    learned = [
        weights(
            row.make(Catch(), "CnnPolicy", backend=each, policy_kwargs=policy_kwargs).learn(100)
        )
        for each in ("torch", "compiled")
    ]
    np.testing.assert_allclose(*learned, rtol=1e-3, atol=1e-4)


@pytest.mark.numerics
def test_to_catch_is_learned_from_images():
    model = StreamQ("CnnPolicy", Catch(), seed=0).learn(3_000)
    env, total = Catch(), 0.0
    for seed in range(20):
        obs, _ = env.reset(seed=1_000 + seed)
        done = False
        while not done:
            obs, reward, done, _, _ = env.step(int(model.predict(obs, deterministic=True)[0]))
        total += reward
    # Every ball can be caught; a paddle that stays where it is catches a fifth.
    assert total >= 15


def numbers(model: StreamQ) -> list[float | None]:
    """The learning rate in use, the schedule's ends, the last ε, λ, and the gap."""
    in_use = model.policy.optimizer.param_groups[0]["lr"]
    rates = [in_use, *map(model.lr_schedule, (1.0, 0.0))]
    return [*rates, model.exploration_schedule(0.0), model.trace_decay, model.advantage_gap]


FOR_VECTORS = [1e-3, 1e-3, 1e-4, 0.01, 0.8, None]
FOR_IMAGES = [1.5e-4, 1.5e-4, 1.5e-5, 0.05, 0.6, 0.9]


@pytest.mark.parametrize(
    ("policy", "given", "expected"),
    [
        ("MlpPolicy", {}, FOR_VECTORS),
        ("CnnPolicy", {}, FOR_IMAGES),
        (
            "MlpPolicy",
            {"policy_kwargs": {"features_extractor_class": ImageExtractor}},
            FOR_IMAGES,
        ),
        ("CnnPolicy", {"learning_rate": 1e-3}, [1e-3, 1e-3, 1e-3, *FOR_IMAGES[3:]]),
        ("CnnPolicy", {"exploration_final_eps": 0.01}, [*FOR_IMAGES[:3], 0.01, *FOR_IMAGES[4:]]),
        ("CnnPolicy", {"trace_decay": 0.0}, [*FOR_IMAGES[:4], 0.0, 0.9]),
        ("CnnPolicy", {"advantage_gap": 0.0}, [*FOR_IMAGES[:-1], 0.0]),
        ("MlpPolicy", {"exploration_final_eps": 0.05}, [1e-3, 1e-3, 1e-4, 0.05, 0.8, None]),
    ],
)
def test_defaults_go_by_what_the_policy_is(policy, given, expected):
    model = StreamQ(policy, Catch(), **given)
    assert numbers(model) == pytest.approx(expected)
    assert numbers(through_a_file(model, env=Catch())) == pytest.approx(expected)


def test_a_bad_pixel_is_refused_before_it_does_harm(backend):
    model = StreamQ("CnnPolicy", Catch(np.float32, bad_step=6), seed=0, backend=backend)
    with pytest.raises(NonFiniteTransitionError, match="step 6"):
        model.learn(20)
    assert np.isfinite(weights(model)).all()
    model.set_env(Catch(np.float32))
    model.learn(10)
    assert np.isfinite(weights(model)).all()


@pytest.mark.parametrize("game", ["Breakout", "Seaquest"])
def test_minatar_is_learned_from_by_its_name(game):
    pytest.importorskip("minatar")
    model = StreamQ("CnnPolicy", f"MinAtar/{game}-v1", seed=0)
    assert type(model._learner) is CompiledLearner
    assert model.q_net.features_extractor.channels_last
    model.learn(50)
    frame = model.get_env().render()
    assert frame.dtype == np.uint8
    assert frame.shape == (100, 100, 3)


def test_an_atari_game_is_learned_from_by_its_name_and_goes_on_bit_for_bit(tmp_path):
    pytest.importorskip("ale_py")
    model = StreamQ("CnnPolicy", "ALE/Pong-v5", seed=0).learn(10)
    assert type(model._learner) is CompiledLearner
    model.save(tmp_path / "pong")
    loaded = StreamQ.load(tmp_path / "pong", env=make_env("ALE/Pong-v5"))
    for each in (model, loaded):
        each.set_random_seed(1)
        each.get_env().seed(1)
        each.learn(10)
    assert np.array_equal(weights(loaded), weights(model))

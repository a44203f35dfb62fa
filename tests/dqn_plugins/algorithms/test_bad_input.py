"""Bad input is refused with what was wrong and what to do, and nothing is changed by it."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import DivergenceError, NaiveDQN, NonFiniteTransitionError
from tests.environments import BadNumberEnv, RecordingEnv, Transition
from tests.helpers import learn_all, optimizer_numbers, weights

NAN, INF = float("nan"), float("inf")


def state(model: NaiveDQN) -> list[bytes]:
    """All that learning changes, bit for bit."""
    counts = np.array([model.num_timesteps, model._n_updates])
    rng = repr(model._explorer.rng.bit_generator.state).encode()
    numbers = [weights(model), *optimizer_numbers(model), counts]
    return [*(array.tobytes() for array in numbers), rng]


@contextmanager
def unchanged(model: NaiveDQN):
    before = state(model)
    yield
    assert state(model) == before


def good_transition() -> Transition:
    return Transition(np.ones(3, np.float32), 1, 0.5, np.zeros(3, np.float32), False)


def trained_model(**kwargs: Any) -> NaiveDQN:
    """A model whose optimiser has a state already, so that touching it shows."""
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, **kwargs)
    return model.learn(20)


def learns_on(model: NaiveDQN) -> bool:
    before = weights(model)
    model.learn_one(*good_transition())
    return bool(np.isfinite(weights(model)).all() and not np.array_equal(weights(model), before))


# Arguments of the constructor


RATES = (
    "gamma",
    "q_step_size",
    "exploration_fraction",
    "exploration_initial_eps",
    "exploration_final_eps",
)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, 1.01) for name in RATES]
    + [("gamma", value) for value in (-0.01, NAN, INF, -INF, "0.5", None)],
)
def test_a_rate_outside_its_range_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name}: received .*\[0, 1\]") as error:
        NaiveDQN("MlpPolicy", RecordingEnv(), **{name: value})
    assert f"received {value!r}" in str(error.value)
    assert f"Pass {name}=" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in RATES for value in (0, 1)]
    + [("gamma", value) for value in (0.0, 1.0, np.float32(0.5))],
)
def test_the_ends_of_a_range_belong_to_it(name, value):
    model = NaiveDQN("MlpPolicy", RecordingEnv(), **{name: value})
    model.learn(3)
    assert getattr(model, name) == value


@pytest.mark.parametrize("value", [-1e-9, NAN, INF], ids=repr)
def test_a_learning_rate_outside_its_range_is_refused(value):
    with pytest.raises(ValueError, match=r"learning_rate: received .* \[0, 1e\+15\].*Try 1e-3"):
        NaiveDQN("MlpPolicy", RecordingEnv(), learning_rate=value)


@pytest.mark.parametrize("value", ["fast", [1e-3]], ids=repr)
def test_a_learning_rate_that_is_no_number_is_refused(value):
    with pytest.raises((ValueError, TypeError), match="learning_rate: received"):
        NaiveDQN("MlpPolicy", RecordingEnv(), learning_rate=value)


@pytest.mark.parametrize("value", [0.0, -1.0, NAN, "a"], ids=repr)
def test_a_gradient_norm_outside_its_range_is_refused(value):
    with pytest.raises(ValueError, match=r"max_grad_norm: received .* above 0.*None"):
        NaiveDQN("MlpPolicy", RecordingEnv(), max_grad_norm=value)


@pytest.mark.parametrize("value", ["no", None, 2], ids=repr)
def test_bootstrap_at_terminal_is_true_or_false(value):
    with pytest.raises(ValueError, match=r"bootstrap_at_terminal: received .*True or False"):
        NaiveDQN("MlpPolicy", RecordingEnv(), bootstrap_at_terminal=value)


def test_a_backend_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"backend: received 'jax'.*'auto', 'torch', 'compiled'"):
        NaiveDQN("MlpPolicy", RecordingEnv(), backend="jax")


@pytest.mark.parametrize(
    ("policy", "make_env", "policy_kwargs"),
    [
        (
            "CnnPolicy",
            lambda: FakeImageEnv(3, screen_height=36, screen_width=36),
            {"features_extractor_class": NatureCNN},
        ),
        ("MultiInputPolicy", SimpleMultiObsEnv, None),
    ],
)
def test_the_compiled_backend_is_refused_where_it_cannot_work(policy, make_env, policy_kwargs):
    with pytest.raises(ValueError, match=r"backend: received 'compiled', but .*backend='torch'"):
        NaiveDQN(policy, make_env(), policy_kwargs=policy_kwargs, backend="compiled")


def test_a_policy_name_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"policy: .*unknown") as error:
        NaiveDQN("LstmPolicy", RecordingEnv())
    for word in ("'LstmPolicy'", "MlpPolicy", "CnnPolicy", "MultiInputPolicy"):
        assert word in str(error.value)


class Shaped(gym.Env[Any, Any]):
    """An environment of the given spaces; nothing steps it."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space


BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)


@pytest.mark.parametrize(
    "action_space",
    [BOX, spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2)],
    ids=lambda space: type(space).__name__,
)
def test_actions_that_are_not_discrete_are_refused_as_sb3_refuses_them(action_space):
    # Stable-Baselines3's base class asserts; scripts that catch its exception keep working.
    with pytest.raises(AssertionError, match=r"only supports .*Discrete.* as action spaces") as e:
        NaiveDQN("MlpPolicy", Shaped(BOX, action_space))
    assert type(action_space).__name__ in str(e.value)


def test_actions_that_do_not_start_at_zero_are_refused():
    with pytest.raises(ValueError, match=r"action_space: received Discrete\(3, start=2\).*at 0"):
        NaiveDQN("MlpPolicy", Shaped(BOX, spaces.Discrete(3, start=2)))


@pytest.mark.parametrize("n_envs", [0, -1, 2.5, "many"])
def test_numbers_of_environments_that_are_none_are_refused(n_envs):
    with pytest.raises(ValueError, match=rf"n_envs: received {n_envs!r}, it must be an integer"):
        NaiveDQN("MlpPolicy", "CartPole-v1", n_envs=n_envs)


def test_an_unknown_vectorization_is_refused():
    with pytest.raises(ValueError, match=r"vectorization: received 'threads'.*'sync', 'async'"):
        NaiveDQN("MlpPolicy", "CartPole-v1", n_envs=2, vectorization="threads")


def test_a_number_of_environments_is_refused_beside_one_that_is_made():
    with pytest.raises(ValueError, match=r"n_envs: received 2, .*made already.*Pass an id"):
        NaiveDQN("MlpPolicy", gym.make("CartPole-v1"), n_envs=2)


# Environments that do not fit


@pytest.mark.parametrize(
    "make_env",
    [lambda: RecordingEnv(n_features=4), lambda: RecordingEnv(n_actions=2)],
    ids=["observations", "actions"],
)
def test_set_env_refuses_other_spaces(make_env):
    model = trained_model()
    env = model.get_env()
    with unchanged(model):
        with pytest.raises(ValueError, match=r"env: .* spaces do not match.*Pass an environment"):
            model.set_env(make_env())
        assert model.get_env() is env
    assert model.learn(5, reset_num_timesteps=False).num_timesteps == 25


def test_set_env_refuses_another_number_of_environments():
    model = trained_model()
    with (
        unchanged(model),
        pytest.raises(AssertionError, match=r"\(3 != 1\).*NaiveDQN\.load\(path, env\)"),
    ):
        model.set_env(make_vec_env(RecordingEnv, n_envs=3))
    assert learns_on(model)


def test_set_env_names_both_spaces():
    with pytest.raises(ValueError, match="env: ") as error:
        trained_model().set_env(RecordingEnv(n_features=4))
    assert "(3,)" in str(error.value)
    assert "(4,)" in str(error.value)


@pytest.mark.parametrize(
    "make_env",
    [lambda: RecordingEnv(n_features=4), lambda: RecordingEnv(n_actions=2)],
    ids=["observations", "actions"],
)
def test_load_refuses_other_spaces(tmp_path, make_env):
    model = trained_model()
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"env: .* spaces do not match.*Pass an environment"):
        NaiveDQN.load(tmp_path / "model", env=make_env())
    assert np.array_equal(weights(NaiveDQN.load(tmp_path / "model")), weights(model))


def test_load_refuses_hyperparameters_out_of_range(tmp_path):
    trained_model().save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"gamma: received 2, .*\[0, 1\]"):
        NaiveDQN.load(tmp_path / "model", gamma=2)


def test_load_says_when_there_is_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        NaiveDQN.load(tmp_path / "nowhere")


# Arguments of learn_one


@pytest.mark.parametrize("name", ["obs", "next_obs"])
@pytest.mark.parametrize(
    "value",
    [np.zeros(4), np.zeros((1, 3)), np.zeros(()), np.zeros((3, 1)), [0.0, 0.0], None],
    ids=lambda value: str(np.shape(value)),
)
def test_learn_one_refuses_an_observation_of_another_shape(name, value):
    model = trained_model()
    transition = good_transition()._replace(**{name: value})
    with unchanged(model), pytest.raises(ValueError, match=f"^{name}: received shape") as error:
        model.learn_one(*transition)
    assert str(np.shape(value)) in str(error.value)
    assert "(3,)" in str(error.value)
    assert learns_on(model)


@pytest.mark.parametrize("value", [-1, 3, 1.0, "1", None, True, np.array([1])], ids=repr)
def test_learn_one_refuses_an_action_out_of_range(value):
    model = trained_model()
    with (
        unchanged(model),
        pytest.raises(ValueError, match=r"^action: received .* integer from 0 to 2"),
    ):
        model.learn_one(*good_transition()._replace(action=value))
    assert learns_on(model)


@pytest.mark.parametrize("value", [np.array(1), np.int32(1), np.uint8(1), 1], ids=repr)
def test_learn_one_takes_every_kind_of_integer(backend, value):
    models = [trained_model(backend=backend) for _ in range(2)]
    models[0].learn_one(*good_transition())
    models[1].learn_one(*good_transition()._replace(action=value))
    assert np.array_equal(weights(models[0]), weights(models[1]))


@pytest.mark.parametrize("value", [np.zeros(1), [0.5], "much"], ids=repr)
def test_learn_one_refuses_a_reward_that_is_not_one_number(value):
    model = trained_model()
    with unchanged(model), pytest.raises(ValueError, match=r"^reward: received .* one number"):
        model.learn_one(*good_transition()._replace(reward=value))
    assert learns_on(model)


@pytest.mark.parametrize("value", [0, 1.0, "no", None, np.array([True])], ids=repr)
def test_learn_one_refuses_a_terminated_that_is_no_boolean(value):
    model = trained_model()
    with (
        unchanged(model),
        pytest.raises(ValueError, match=r"^terminated: received .*True or False"),
    ):
        model.learn_one(*good_transition()._replace(terminated=value))
    assert learns_on(model)


def dict_model() -> tuple[NaiveDQN, dict[str, np.ndarray]]:
    env = SimpleMultiObsEnv(random_start=False, channel_last=False)
    model = NaiveDQN("MultiInputPolicy", env, seed=0).learn(5)
    return model, env.reset()[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda obs: np.zeros(3),
        lambda obs: {"vec": obs["vec"]},
        lambda obs: {**obs, "extra": obs["vec"]},
    ],
    ids=["array", "missing key", "extra key"],
)
def test_learn_one_refuses_a_dictionary_with_other_keys(spoil):
    model, obs = dict_model()
    with unchanged(model), pytest.raises(ValueError, match=r"^next_obs: received .*'img', 'vec'"):
        model.learn_one(obs, 0, 0.0, spoil(obs), False)
    model.learn_one(obs, 0, 0.0, obs, False)


def test_learn_one_refuses_a_dictionary_with_a_part_of_another_shape():
    model, obs = dict_model()
    with (
        unchanged(model),
        pytest.raises(ValueError, match=r"^obs\['vec'\]: received shape \(2,\)"),
    ):
        model.learn_one({**obs, "vec": np.zeros(2)}, 0, 0.0, obs, False)


def test_learn_one_takes_images_as_the_environment_returns_them():
    # As `predict` does: (height, width, channels), or channels first as the network sees them.
    def make() -> FakeImageEnv:
        return FakeImageEnv(3, screen_height=36, screen_width=40, n_channels=2)

    space = make().observation_space
    space.seed(0)
    obs, next_obs = space.sample(), space.sample()
    first, last = (NaiveDQN("CnnPolicy", make(), seed=0) for _ in range(2))
    first.learn_one(obs.transpose(2, 0, 1), 1, 1.0, next_obs.transpose(2, 0, 1), False)
    last.learn_one(obs, 1, 1.0, next_obs, False)
    assert np.array_equal(weights(first), weights(last))


def test_learn_one_takes_dictionaries_as_the_environment_returns_them():
    env = SimpleMultiObsEnv(random_start=False)
    model = NaiveDQN("MultiInputPolicy", env, seed=0)
    obs, _ = env.reset()
    action, _ = model.predict(obs)
    next_obs, reward, terminated, _, _ = env.step(int(action))
    assert np.isfinite(model.learn_one(obs, action, reward, next_obs, terminated))


# Numbers that are not finite


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("name", "quantity"),
    [("obs", "observation"), ("reward", "reward"), ("next_obs", "next observation")],
)
def test_learn_one_refuses_numbers_that_are_not_finite(backend, name, quantity, value):
    model = trained_model(backend=backend)
    bad = value if name == "reward" else np.array([0.0, value, 0.0], np.float32)
    with (
        unchanged(model),
        pytest.raises(NonFiniteTransitionError, match="weights are as they were") as error,
    ):
        model.learn_one(*good_transition()._replace(**{name: bad}))
    assert isinstance(error.value, ValueError)
    assert error.value.quantity == quantity
    assert error.value.env_index == 0
    assert str(value) in str(error.value)
    assert quantity in str(error.value)
    assert learns_on(model)


def test_a_terminal_observation_that_is_not_finite_is_refused_too(backend):
    # It would not be bootstrapped from, but an environment that gives it is broken.
    model = trained_model(backend=backend)
    bad = np.array([NAN, 0.0, 0.0], np.float32)
    with unchanged(model), pytest.raises(NonFiniteTransitionError, match="next observation"):
        model.learn_one(*good_transition()._replace(next_obs=bad, terminated=True))


def test_a_reward_too_large_for_float32_is_refused(backend):
    model = trained_model(backend=backend)
    with unchanged(model), pytest.raises(NonFiniteTransitionError, match="reward"):
        model.learn_one(*good_transition()._replace(reward=1e300))
    assert learns_on(model)


@pytest.mark.parametrize("name", ["obs", "next_obs"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_learn_one_refuses_images_that_are_not_finite(name, value):
    # Cast to the bytes of an image, NaN would be some number.
    model = NaiveDQN("CnnPolicy", FakeImageEnv(3, screen_height=36, screen_width=36), seed=0)
    good, bad = np.zeros((36, 36, 1)), np.full((36, 36, 1), value)
    transition = Transition(good, 1, 0.0, good, False)._replace(**{name: bad})
    with unchanged(model), pytest.raises(NonFiniteTransitionError, match="observation"):
        model.learn_one(*transition)


@pytest.mark.parametrize("name", ["obs", "next_obs"])
@pytest.mark.parametrize("value", [5, -1, 1.7, NAN], ids=repr)
def test_learn_one_refuses_discrete_observations_outside_their_space(name, value):
    model = NaiveDQN("MlpPolicy", IdentityEnv(5), seed=0)
    transition = Transition(0, 1, 0.0, 0, False)._replace(**{name: value})
    with unchanged(model), pytest.raises(ValueError, match=rf"{name}: received .*0 to 4|finite"):
        model.learn_one(*transition)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("where", ["reward", "observation"])
@pytest.mark.parametrize("bad_env", [0, 2])
def test_learn_refuses_numbers_that_are_not_finite(backend, where, value, bad_env):
    # Step 6 is the second of an episode: neither its first observation nor its last one.
    envs = [RecordingEnv() for _ in range(3)]
    envs[bad_env] = BadNumberEnv(6, where, value)
    model = NaiveDQN(
        "MlpPolicy", DummyVecEnv([lambda env=env: env for env in envs]), seed=0, backend=backend
    )
    before: list[list[bytes]] = []

    def remember(*_: Any) -> bool:
        before.append([array.tobytes() for array in (weights(model), *optimizer_numbers(model))])
        return True

    with pytest.raises(NonFiniteTransitionError, match="is not finite") as error:
        model.learn(3 * 20, callback=remember)
    assert len(before) == 5
    after = [array.tobytes() for array in (weights(model), *optimizer_numbers(model))]
    assert after == before[-1]
    assert error.value.env_index == bad_env
    assert f"environment {bad_env}" in str(error.value)
    assert where in str(error.value)
    assert str(value) in str(error.value)
    # The step in the message is the one that the user finds the transition at.
    assert error.value.step == 3 * 6
    assert f"step {3 * 6}" in str(error.value)
    # The environment recovers, and so does the model.
    model.learn(3 * 5)
    assert np.isfinite(weights(model)).all()
    assert weights(model).tobytes() != after[0]


@pytest.mark.parametrize("where", ["reward", "observation"])
def test_going_on_after_a_bad_number_learns_from_what_happened_only(backend, where):
    # The environment has moved on since the last observation that was acted on.
    env = BadNumberEnv(6, where, NAN)
    model = NaiveDQN("MlpPolicy", env, seed=3, backend=backend)
    with pytest.raises(NonFiniteTransitionError, match=where):
        model.learn(20)
    model.learn(20, reset_num_timesteps=False)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3, backend=backend)
    learn_all(twin, env.transitions[:5] + env.transitions[6:])
    assert np.array_equal(weights(model), weights(twin))


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=repr)
def test_going_on_after_an_interruption_learns_from_what_happened_only(backend, error):
    class Interrupted(RecordingEnv):
        def step(self, action):
            result = super().step(action)
            if len(self.transitions) == 6:
                raise error
            return result

    env = Interrupted()
    model = NaiveDQN("MlpPolicy", env, seed=3, backend=backend)
    with pytest.raises(type(error)):
        model.learn(20)
    model.learn(20, reset_num_timesteps=False)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3, backend=backend)
    learn_all(twin, env.transitions[:5] + env.transitions[6:])
    assert np.array_equal(weights(model), weights(twin))


class BadReset(RecordingEnv):
    """Its third episode starts with NaN."""

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed, options=options)
        if self.episode == 2:
            obs[0] = NAN
        return obs, info


def test_learn_refuses_a_first_observation_that_is_not_finite(backend):
    # The transition before it, the end of the second episode, is as good as any other.
    env = BadReset()
    model = NaiveDQN("MlpPolicy", env, seed=0, backend=backend)
    with pytest.raises(NonFiniteTransitionError, match="observation"):
        model.learn(100)
    assert np.isfinite(weights(model)).all()
    model.learn(20)
    assert np.isfinite(weights(model)).all()


def test_learn_names_the_part_of_a_dictionary():
    class Broken(SimpleMultiObsEnv):
        def step(self, action):
            obs, *rest = super().step(action)
            return {**obs, "vec": np.full_like(obs["vec"], NAN)}, *rest

    model = NaiveDQN("MultiInputPolicy", Broken(), seed=0)
    with pytest.raises(NonFiniteTransitionError, match="'vec'"):
        model.learn(5)
    assert model._n_updates == 0


def test_divergence_is_reported_before_it_reaches_the_weights(backend):
    model = trained_model(backend=backend)
    for param in model.q_net.parameters():
        param.data.fill_(1e20)
    before = state(model)
    with pytest.raises(DivergenceError, match=r"Learning diverged.*Lower the learning rate") as e:
        model.learn_one(*good_transition())
    assert state(model) == before
    assert isinstance(e.value, FloatingPointError)
    assert e.value.env_index == 0


@pytest.mark.parametrize("optimizer_class", [th.optim.SGD, th.optim.Adam])
@pytest.mark.parametrize(
    ("size", "reward"),
    # Gradients of about 1e39, beyond float32, and of 1e21, whose squares are.
    [(1e20, 1e20), (1e10, 1e12)],
)
def test_a_gradient_that_overflows_is_reported_before_it_reaches_the_weights(
    backend, optimizer_class, size, reward
):
    policy_kwargs = {"net_arch": [], "optimizer_class": optimizer_class}
    model = NaiveDQN(
        "MlpPolicy", RecordingEnv(), policy_kwargs=policy_kwargs, seed=0, backend=backend
    )
    learn_all(model, [good_transition()])
    with th.no_grad():
        for param in model.q_net.parameters():
            param.zero_()
    obs = np.full(3, size, np.float32)
    with unchanged(model), pytest.raises(DivergenceError, match="Learning diverged") as error:
        model.learn_one(obs, 1, reward, np.zeros(3, np.float32), False)
    # Nothing is wrong with the TD error itself.
    assert error.value.td_error == pytest.approx(reward)
    assert learns_on(model)


def test_a_real_divergence_ends_with_finite_weights(backend):
    model = NaiveDQN(
        "MlpPolicy",
        RecordingEnv(),
        learning_rate=1e3,
        q_step_size=1.0,
        policy_kwargs={"optimizer_class": th.optim.SGD},
        seed=0,
        backend=backend,
    )
    with pytest.raises(DivergenceError, match="Learning diverged"):
        model.learn(2_000)
    assert np.isfinite(weights(model)).all()


# What the environment does wrong


def test_a_missing_last_observation_at_a_time_limit_is_reported():
    class Forgetful(DummyVecEnv):
        def step_wait(self):
            obs, rewards, dones, infos = super().step_wait()
            for info in infos:
                info.pop("terminal_observation", None)
            return obs, rewards, dones, infos

    model = NaiveDQN("MlpPolicy", Forgetful([RecordingEnv]), seed=0)
    with pytest.raises(ValueError, match=r"infos\[0\]: .*'terminal_observation' is missing"):
        model.learn(20)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: model.learn_one(np.zeros(5), 0, 0.0, np.zeros(3), False),
        lambda model: model.learn_one(np.zeros(3), 9, 0.0, np.zeros(3), False),
        lambda model: model.learn_one(np.zeros(3), 0, NAN, np.zeros(3), False),
        lambda model: model.set_env(RecordingEnv(n_features=9)),
    ],
    ids=["obs", "action", "reward", "env"],
)
def test_learning_after_an_error_is_as_if_there_had_been_none(
    backend, spoil: Callable[[NaiveDQN], None], request
):
    models = [trained_model(backend=backend) for _ in range(2)]
    name = request.node.callspec.id.rpartition("-")[2]
    with pytest.raises(ValueError, match=name):
        spoil(models[0])
    for model in models:
        model.learn(20, reset_num_timesteps=False)
        learn_all(model, [good_transition()])
    assert state(models[0]) == state(models[1])

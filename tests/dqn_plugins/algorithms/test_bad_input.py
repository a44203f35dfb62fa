"""Bad input is refused with what was wrong and what to do, and nothing is changed by it."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import DivergenceError, NaiveDQN, NonFiniteTransitionError, StreamQ
from dqn_plugins.policies import ObGD
from tests.algorithms import ALGORITHMS, each_algorithm, each_online_algorithm
from tests.environments import (
    BadReset,
    FaultyEnv,
    NumberedEnv,
    RecordingEnv,
    SpacesEnv,
    Transition,
    observing,
    raising,
    rewarding,
)
from tests.helpers import (
    everything,
    follow,
    learn_all,
    statistics,
    through_a_file,
    unchanged,
    weights,
)

NAN, INF = float("nan"), float("inf")


def good_transition() -> Transition:
    return Transition(np.ones(3, np.float32), 1, 0.5, np.zeros(3, np.float32), False)


def trained_model(**kwargs: Any) -> StreamQ:
    """A model of the algorithm that remembers most, so that touching anything shows."""
    (row,) = (row for row in ALGORITHMS if row.algorithm is StreamQ)
    return row.make(**kwargs).learn(20)


def learns_on(model: Any) -> bool:
    before = weights(model)
    model.learn_one(*good_transition())
    return bool(np.isfinite(weights(model)).all() and not np.array_equal(weights(model), before))


# Arguments of the constructor


RATES = (
    "gamma",
    "q_step_size",
    "trace_decay",
    "q_lambda",
    "exploration_fraction",
    "exploration_initial_eps",
    "exploration_final_eps",
    "exploration_stuck_eps",
)
UNIT, POSITIVE, INTEGER = r"\[0, 1\]", r"above 0\. Pass None", "an integer of at least 1"
BAD_VALUES: dict[str, tuple[tuple[Any, ...], str]] = {
    **dict.fromkeys(RATES, ((1.01, -0.01), UNIT)),
    "gamma": ((1.01, -0.01, NAN, INF, -INF, "0.5", None, True), UNIT),
    "learning_rate": ((-1e-9, NAN, INF, "fast", [1e-3]), r"\[0, 1e\+15\].*Try 1e-3"),
    "max_grad_norm": ((0.0, -1.0, NAN, "a"), POSITIVE),
    "advantage_gap": ((1, -0.1, NAN, "a"), r"\[0, 1\)"),
    "td_error_clip": ((0.0, NAN, True), POSITIVE),
    "td_error_clip_rms": ((-1.0, "much"), POSITIVE),
    "n_steps": ((0, 1.5), INTEGER),
    "n_epochs": ((0, 1.5), INTEGER),
    "batch_size": ((-1, "8"), INTEGER),
    "bootstrap_at_terminal": (("no", None, 2), "True or False"),
    "bootstrap_at_truncation": ((1, None), "True or False"),
    "use_action_masks": ((1, None), "True or False"),
    "trace_cut": (("before", None), "'after', 'watkins', 'never'"),
    "target": (("min",), "'max', 'expected'"),
    "update": (("sum",), "'each', 'mean'"),
    "exploration": (("greedy",), "'epsilon_greedy', 'extended', 'extended_when_stuck'"),
    "exploration_duration": ((0, 1.5), INTEGER),
    "backend": (("jax",), "'auto', 'torch', 'compiled'"),
}
# Anything goes, or torch and Stable-Baselines3 say what is wrong.
UNCHECKED = {"policy_kwargs", "seed", "stats_window_size", "tensorboard_log", "verbose"}


@each_algorithm
def test_an_argument_outside_its_range_is_refused_by_name(row):
    assert row.changed.keys() <= BAD_VALUES.keys() | UNCHECKED
    for name in row.changed.keys() - UNCHECKED:
        values, allowed = BAD_VALUES[name]
        for value in values:
            words = rf"(?s)^{name}: received {re.escape(repr(value))}.* must be .*{allowed}"
            with pytest.raises(ValueError, match=words) as error:
                row.algorithm("MlpPolicy", RecordingEnv(), **{name: value})
            # and then what to do
            assert re.search(r"\. \S", str(error.value))


@each_algorithm
def test_the_ends_of_a_range_belong_to_it(backend, row):
    for name in row.changed.keys() & {*RATES}:
        for value in (0, 1, np.float32(0.5)):
            model = row.make(backend=backend, **{name: value}).learn(4)
            assert getattr(model, name) == value
            assert np.isfinite(weights(model)).all()


@each_algorithm
def test_an_optimiser_of_another_kind_is_refused(row):
    has_traces = row.algorithm is StreamQ
    wrong = th.optim.Adam if has_traces else ObGD
    words = "TraceAdam, ObGD, AdaptiveObGD" if has_traces else "Use StreamQ"
    with pytest.raises(ValueError, match=rf"optimizer_class: received {wrong.__name__}.*{words}"):
        row.make(policy_kwargs={"optimizer_class": wrong})


@each_algorithm
def test_the_compiled_backend_is_refused_where_it_cannot_work(row):
    image = FakeImageEnv(3, screen_height=36, screen_width=36)
    nature = {"features_extractor_class": NatureCNN}
    for env, policy, policy_kwargs, reason in (
        (RecordingEnv(), "MlpPolicy", {"activation_fn": th.nn.GELU}, "layer GELU, it must be"),
        (
            image,
            "CnnPolicy",
            nature,
            "is NatureCNN, it must be one of FlattenExtractor, ImageExtractor",
        ),
        (SimpleMultiObsEnv(), "MultiInputPolicy", {}, "a part of the observations is an image"),
    ):
        words = rf"backend: received 'compiled', but .*{reason}.*backend='torch'"
        with pytest.raises(ValueError, match=words):
            row.make(env, policy, policy_kwargs=policy_kwargs, backend="compiled")
        model = row.make(env, policy, policy_kwargs=policy_kwargs, backend="auto")
        before = weights(model)
        assert not np.array_equal(weights(model.learn(8)), before)


BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)


@pytest.mark.parametrize(
    "action_space",
    [BOX, spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2)],
    ids=lambda space: type(space).__name__,
)
def test_actions_that_are_not_discrete_are_refused_as_sb3_refuses_them(action_space):
    # Stable-Baselines3's base class asserts; scripts that catch its exception keep working.
    with pytest.raises(AssertionError, match=r"only supports .*Discrete.* as action spaces") as e:
        NaiveDQN("MlpPolicy", SpacesEnv(BOX, action_space))
    assert type(action_space).__name__ in str(e.value)


def test_actions_that_do_not_start_at_zero_are_refused():
    with pytest.raises(ValueError, match=r"action_space: received Discrete\(3, start=2\).*at 0"):
        NaiveDQN("MlpPolicy", SpacesEnv(BOX, spaces.Discrete(3, start=2)))


@pytest.mark.parametrize(
    ("env", "kwargs", "words"),
    [
        *[("CartPole-v1", {"n_envs": n}, f"n_envs: received {n!r}, .* int") for n in (0, 2.5, "a")],
        ("CartPole-v1", {"n_envs": 2, "vectorization": "threads"}, r"'threads'.*'sync', 'async'"),
        (RecordingEnv(), {"n_envs": 2}, r"n_envs: received 2, .*made already.*Pass an id"),
    ],
)
def test_numbers_of_environments_that_are_none_are_refused(env, kwargs, words):
    with pytest.raises(ValueError, match=words):
        NaiveDQN("MlpPolicy", env, **kwargs)


# Environments that do not fit


@each_algorithm
@pytest.mark.parametrize(
    "make_env",
    [lambda: RecordingEnv(n_features=4), lambda: RecordingEnv(n_actions=2)],
    ids=["observations", "actions"],
)
def test_other_spaces_are_refused(row, make_env):
    model = row.make().learn(20)
    env = model.get_env()
    words = r"env: .* spaces do not match.*Pass an environment"
    with unchanged(model):
        with pytest.raises(ValueError, match=words) as error:
            model.set_env(make_env())
        assert model.get_env() is env
        with pytest.raises(ValueError, match=words):
            through_a_file(model, env=make_env())
        with pytest.raises(AssertionError, match=rf"\(3 != 1\).*{row.algorithm.__name__}\.load"):
            model.set_env(make_vec_env(RecordingEnv, n_envs=3))
    assert "(3,)" in str(error.value) or "Discrete(3)" in str(error.value)
    assert model.learn(4, reset_num_timesteps=False).num_timesteps == 24


def test_load_says_when_there_is_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        NaiveDQN.load(tmp_path / "nowhere")


# Arguments of learn_one


OTHER_SHAPES = [np.zeros(4), np.zeros((1, 3)), np.zeros(()), np.zeros((3, 1)), [0.0, 0.0], None]
BAD_ARGUMENTS: dict[str, tuple[list[Any], str]] = {
    "obs": (OTHER_SHAPES, r"received shape .*\(3,\)"),
    "next_obs": (OTHER_SHAPES, r"received shape .*\(3,\)"),
    "action": ([-1, 3, 1.0, "1", None, True, np.array([1])], "received .* integer from 0 to 2"),
    "reward": ([np.zeros(1), [0.5], "much"], "received .* one number"),
    "terminated": ([0, 1.0, "no", None, np.array([True])], "received .*True or False"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_learn_one_refuses_what_is_of_another_kind(name):
    model = trained_model()
    values, words = BAD_ARGUMENTS[name]
    with unchanged(model):
        for value in values:
            with pytest.raises(ValueError, match=rf"(?s)^{name}: {words}"):
                model.learn_one(*good_transition()._replace(**{name: value}))
    assert learns_on(model)


def test_learn_one_takes_every_kind_of_integer(backend):
    learned = []
    for value in (1, np.array(1), np.int32(1), np.uint8(1)):
        model = trained_model(backend=backend)
        model.learn_one(*good_transition()._replace(action=value))
        learned.append(everything(model))
    assert all(each == learned[0] for each in learned)


DICTIONARY, _ = SimpleMultiObsEnv(random_start=False, channel_last=False).reset()
SPACES: dict[str, tuple[Callable[[], Any], Any]] = {
    "MultiInputPolicy": (partial(SimpleMultiObsEnv, channel_last=False), DICTIONARY),
    "CnnPolicy": (partial(FakeImageEnv, 3, 36, 36), np.zeros((36, 36, 1))),
    "MlpPolicy": (partial(IdentityEnv, 5), 0),
}


@pytest.mark.parametrize("name", ["obs", "next_obs"])
@pytest.mark.parametrize(
    ("policy", "bad", "words"),
    [
        ("MultiInputPolicy", np.zeros(3), "received .*'img', 'vec'"),
        ("MultiInputPolicy", {"vec": DICTIONARY["vec"]}, "received .*'img', 'vec'"),
        ("MultiInputPolicy", {**DICTIONARY, "extra": np.zeros(5)}, "received .*'img', 'vec'"),
        ("MultiInputPolicy", {**DICTIONARY, "vec": np.zeros(2)}, r"received shape \(2,\)"),
        # Cast to the bytes of an image, NaN would be some number.
        *[("CnnPolicy", np.full((36, 36, 1), value), "observation") for value in (NAN, INF)],
        *[("MlpPolicy", value, "received .*0 to 4|finite") for value in (5, -1, 1.7, NAN)],
    ],
)
def test_learn_one_refuses_what_its_space_does_not_hold(name, policy, bad, words):
    make_env, good = SPACES[policy]
    model = NaiveDQN(policy, make_env(), seed=0).learn(5)
    transition = Transition(good, 1, 0.0, good, False)
    with unchanged(model), pytest.raises(ValueError, match=words) as error:
        model.learn_one(*transition._replace(**{name: bad}))
    if not isinstance(error.value, NonFiniteTransitionError):
        assert str(error.value).startswith(name)
    model.learn_one(*transition)


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


@each_online_algorithm
@pytest.mark.parametrize(
    ("name", "quantity"),
    [("obs", "observation"), ("reward", "reward"), ("next_obs", "next observation")],
)
def test_learn_one_refuses_numbers_that_are_not_finite(backend, row, name, quantity):
    model = row.make(backend=backend).learn(20)
    with unchanged(model):
        # A terminal observation would not be bootstrapped from, but who gives NaN is broken.
        for terminated, value in ((False, NAN), (False, INF), (True, -INF), (False, 1e300)):
            bad = value
            if name != "reward":
                bad = np.array([0.0, value if abs(value) != 1e300 else INF, 0.0], np.float32)
            with pytest.raises(NonFiniteTransitionError, match="weights are as they were") as error:
                model.learn_one(*good_transition()._replace(**{name: bad}, terminated=terminated))
            assert isinstance(error.value, ValueError)
            assert (error.value.quantity, error.value.env_index) == (quantity, 0)
            assert quantity in str(error.value)
            assert str(INF if value == 1e300 else value) in str(error.value)
    assert learns_on(model)


@each_algorithm
@pytest.mark.parametrize(
    ("where", "value"),
    [("reward", NAN), ("reward", -INF), ("observation", NAN), ("observation", INF)],
)
def test_learn_refuses_numbers_that_are_not_finite(backend, row, where, value):
    # Step 6 is the second of an episode: neither its first observation nor its last one.
    spoil = rewarding(value) if where == "reward" else observing(np.full(3, value, np.float32))
    makers = [RecordingEnv, RecordingEnv, lambda: FaultyEnv(spoil)]
    model = row.make(DummyVecEnv(makers), backend=backend)
    states, remember = follow(model)
    with pytest.raises(NonFiniteTransitionError, match="is not finite") as error:
        model.learn(3 * 20, callback=remember)
    assert len(states) == 6
    assert everything(model) == states[-1]
    # The step in the message is the one that the user finds the transition at.
    assert (error.value.env_index, error.value.step) == (2, 3 * 6)
    for words in ("environment 2", f"step {3 * 6}", where, str(value)):
        assert words in str(error.value)
    # The environment recovers, and so does the model.
    model.learn(3 * 8, reset_num_timesteps=False)
    assert np.isfinite(weights(model)).all()
    assert everything(model)[0] != states[-1][0]


@each_algorithm
@pytest.mark.parametrize("where", ["last", "first"])
def test_a_bad_observation_where_episodes_meet_leaves_everything_as_it_was(backend, row, where):
    bad = np.full(3, NAN, np.float32)
    env = BadReset(bad, 1) if where == "first" else FaultyEnv(observing(bad), 3)
    model = row.make(env, backend=backend)
    states, remember = follow(model)
    with pytest.raises(NonFiniteTransitionError, match="environment 0 at step 3"):
        model.learn(8, callback=remember)
    assert len(states) == 3
    assert everything(model) == states[-1]
    model.learn(20)
    assert np.isfinite(weights(model)).all()


@pytest.mark.parametrize("spoil", [rewarding(NAN), raising(KeyboardInterrupt())], ids=["NaN", "^C"])
def test_going_on_learns_from_what_happened_only(spoil):
    # The environment has moved on since the last observation that was acted on.
    model = NaiveDQN("MlpPolicy", (env := FaultyEnv(spoil)), seed=3)
    with pytest.raises((NonFiniteTransitionError, KeyboardInterrupt)):
        model.learn(20)
    model.learn(20, reset_num_timesteps=False)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3)
    learn_all(twin, env.transitions[:5] + env.transitions[6:])
    assert np.array_equal(weights(model), weights(twin))


def test_learn_names_the_part_of_a_dictionary():
    class Broken(SimpleMultiObsEnv):
        def step(self, action):
            obs, *rest = super().step(action)
            return {**obs, "vec": np.full_like(obs["vec"], NAN)}, *rest

    model = NaiveDQN("MultiInputPolicy", Broken(), seed=0)
    with pytest.raises(NonFiniteTransitionError, match="'vec'"):
        model.learn(5)
    assert model._n_updates == 0


class Sentinel(NumberedEnv):
    """Gives a number once that float64 holds and float32 does not."""

    def __init__(self, at_reset: bool) -> None:
        super().__init__(np.float64)
        self.at_reset = at_reset

    def reset(self, **kwargs: Any) -> Any:
        obs, info = super().reset(**kwargs)
        return np.array([1e300]) if self.at_reset and self.number == 3_000 else obs, info

    def step(self, action: Any) -> Any:
        obs, *rest = super().step(action)
        return np.array([1e300]) if not self.at_reset and self.number == 2_003 else obs, *rest


@each_algorithm
@pytest.mark.parametrize("at_reset", [False, True])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_what_float32_cannot_hold_is_refused(backend, row, at_reset, n_envs):
    model = row.make(DummyVecEnv([lambda: Sentinel(at_reset)] * n_envs), backend=backend)
    with pytest.raises(
        NonFiniteTransitionError, match=r"received \[1.e\+300\].*in float32"
    ) as error:
        model.learn(60)
    assert error.value.env_index == 0
    assert np.isfinite(weights(model)).all()
    assert all(np.isfinite(numbers).all() for numbers in statistics(model).values())
    assert all(numbers.max() < 1e10 for numbers in statistics(model).values())


@each_online_algorithm
@pytest.mark.parametrize("value", [NAN, INF, 1e30])
def test_divergence_is_reported_before_it_reaches_the_weights(backend, row, value):
    model = row.make(backend=backend).learn(20)
    model.learn_one(*good_transition())
    with th.no_grad():
        for param in model.q_net.parameters():
            param.fill_(value)
    before, steps = everything(model), model.num_timesteps
    words = r"Learning diverged.*Lower the learning rate"
    with pytest.raises(DivergenceError, match=words) as error:
        model.learn_one(*good_transition())
    assert (everything(model), model.num_timesteps) == (before, steps)
    assert isinstance(error.value, FloatingPointError)
    assert error.value.env_index == 0


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

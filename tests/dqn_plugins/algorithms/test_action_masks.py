"""Masks of possible actions, from the environment to the action that is taken."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper, VecNormalize

import dqn_plugins
from dqn_plugins import EnvironmentStepError, MalformedTransitionError, TellLastActionMask
from dqn_plugins.environments import making
from tests.algorithms import each_algorithm, each_online_algorithm
from tests.helpers import everything, through_a_file, unchanged, weights
from tests.properties.tagged_env import MaskingEnv, TaggedEnv, mask_of

SPACE = spaces.Box(0.0, np.inf, (2,), np.float32)
ENDS = ["", "", "terminated", "", "", "", "truncated", "", "both"]


def informing(ends: list[Any] = ENDS) -> TaggedEnv:
    """Tells masks as Gymnasium's environments do; raises where an impossible action is taken."""
    return TaggedEnv(SPACE, ends, tells_masks=True)


def masking(ends: list[Any] = ENDS) -> MaskingEnv:
    """Tells them as sb3-contrib's do."""
    return MaskingEnv(SPACE, ends)


def telling_last() -> TellLastActionMask[Any, Any]:
    return TellLastActionMask(masking())


VECTORS: dict[str, Callable[[list[Callable[[], Any]]], Any]] = {
    "dummy": DummyVecEnv,
    "wrapped": lambda makers: VecNormalize(DummyVecEnv(makers)),
    "processes": partial(SubprocVecEnv, start_method="fork"),
    "next step": SyncVectorEnv,
    "same step": partial(SyncVectorEnv, autoreset_mode=AutoresetMode.SAME_STEP),
    "disabled": partial(SyncVectorEnv, autoreset_mode=AutoresetMode.DISABLED),
    "async": AsyncVectorEnv,
    "async, same step": partial(AsyncVectorEnv, autoreset_mode=AutoresetMode.SAME_STEP),
}


@each_algorithm
@pytest.mark.parametrize("make", [informing, telling_last])
@pytest.mark.parametrize("vector", VECTORS)
def test_no_impossible_action_is_taken_in_any_vector_of_environments(row, vector, make):
    env = VECTORS[vector]([make] * 8)
    kwargs: dict[str, Any] = {"policy_kwargs": {"net_arch": [3]}, "exploration_final_eps": 0.5}
    if "exploration" in row.changed:
        kwargs |= {"exploration": "extended", "exploration_duration": 3}
    model = row.make(env, **kwargs)
    model.learn(480)
    assert model.num_timesteps >= 480
    assert model.action_masks.shape == (8, 3)
    env.close()


def test_environments_made_from_an_id_tell_their_last_mask_from_worker_processes():
    gym.register("tests/Masking-v0", masking)
    try:
        makers = [partial(making._make_monitored, "tests/Masking-v0")] * 2
        env = SubprocVecEnv(makers, start_method="fork")
        dqn_plugins.NaiveDQN("MlpPolicy", env, seed=0).learn(60)
        env.close()
    finally:
        del gym.registry["tests/Masking-v0"]


# What is learned


class Chain(gym.Env[np.ndarray, np.int64]):
    """
    Five places in a row, one-hot, and a goal behind the last one. Left is impossible in the first
    place, and a jump of two everywhere but in two places; a step costs 0.1, the goal pays 1.
    """

    observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)
    action_space = spaces.Discrete(3)
    moves = (-1, 1, 2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.n_steps = int(self.np_random.integers(5)), 0
        return np.eye(5, dtype=np.float32)[self.place], {}

    @staticmethod
    def possible(place: int) -> np.ndarray:
        return np.array([place > 0, True, place in (0, 2)]) & (place < 5)

    def action_masks(self) -> np.ndarray:
        return self.possible(self.place)

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.possible(self.place)[action]
        self.place, self.n_steps = min(self.place + self.moves[action], 5), self.n_steps + 1
        obs = np.eye(6, 5, dtype=np.float32)[self.place]
        return obs, 1.0 if self.place == 5 else -0.1, self.place == 5, self.n_steps == 4, {}


def values_of_the_chain(gamma: float) -> np.ndarray:
    """Value iteration over what is possible, shape (5, 3); NaN for what is not."""
    values = np.full((6, 3), np.nan)
    best = np.zeros(6)
    for _ in range(200):
        for place in range(5):
            for action in np.flatnonzero(Chain.possible(place)):
                after = min(place + Chain.moves[action], 5)
                values[place, action] = (1.0 if after == 5 else -0.1) + gamma * best[after]
            best[place] = np.nanmax(values[place])
    return values[:5]


def start_high(module: th.nn.Module) -> None:
    """Have everything be worth 6 at first: what is never taken stays tempting."""
    if isinstance(module, th.nn.Linear):
        th.nn.init.constant_(module.weight, 3.0)
        th.nn.init.constant_(module.bias, 3.0)


EXACTLY: dict[str, dict[str, Any]] = {
    "NaiveDQN": {"learning_rate": 0.4, "optimizer_class": th.optim.SGD},
    "StreamQ": {
        "learning_rate": 0.2,
        "trace_decay": 0.0,
        "optimizer_class": dqn_plugins.policies.ObGD,
        "normalize_observations": False,
        "normalize_rewards": False,
        "layer_norm": False,
        "averaging_window": None,
    },
    "PQN": {
        "learning_rate": 0.3,
        "q_lambda": 0.0,
        "n_epochs": 1,
        "optimizer_class": th.optim.SGD,
        "layer_norm": False,
        "max_grad_norm": None,
    },
}


@pytest.mark.numerics
@each_algorithm
def test_values_are_those_of_value_iteration_over_possible_actions(row, backend):
    given = EXACTLY[row.algorithm.__name__]
    names = ("optimizer_class", "normalize_observations", "normalize_rewards", "layer_norm")
    ours = {name: given[name] for name in (*names, "averaging_window") if name in given}
    model = row.make(
        Chain(),
        gamma=0.9,
        backend=backend,
        exploration_initial_eps=1.0,
        exploration_final_eps=1.0,
        policy_kwargs={"net_arch": [], "weight_initializer": start_high, **ours},
        **{name: value for name, value in given.items() if name not in ours},
    )
    model.learn(6_000)
    expected = values_of_the_chain(0.9)
    with th.no_grad():
        learned = model.q_net(th.eye(5)).numpy()
    possible = ~np.isnan(expected)
    np.testing.assert_allclose(learned[possible], expected[possible], atol=1e-3)
    assert learned[~possible].min() > 1.0  # never learned from, and never believed
    masks = np.array([Chain.possible(place) for place in range(5)])
    greedy, _ = model.predict(np.eye(5, dtype=np.float32), deterministic=True, action_masks=masks)
    assert greedy.tolist() == np.nanargmax(expected, axis=1).tolist()


# Choosing


@each_algorithm
def test_predict_chooses_what_is_possible_and_else_what_is_best(row):
    model = row.make()
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(500, 3)).astype(np.float32)
    masks = np.array([mask_of(n) for n in range(500)])
    with th.no_grad():
        values = model.policy.greedy_q_net(th.from_numpy(obs)).numpy()
    best = [max(np.flatnonzero(m), key=lambda a: q[a]) for m, q in zip(masks, values, strict=True)]
    for given in (masks, masks.astype(np.int8), masks.astype(float), masks.tolist()):
        assert model.predict(obs, deterministic=True, action_masks=given)[0].tolist() == best
    for given in (masks[0], masks[:1]):
        action, _ = model.predict(obs[0], deterministic=True, action_masks=given)
        assert action.shape == ()
        assert action == best[0]
    every = np.ones((500, 3), bool)
    unmasked = model.predict(obs, deterministic=True)[0]
    assert (model.predict(obs, deterministic=True, action_masks=every)[0] == unmasked).all()
    assert (unmasked != best).any()
    model.exploration_rate = 0.5
    drawn = model.predict(obs, action_masks=masks)[0]
    assert masks[range(500), drawn].all()
    assert (drawn != best).any()
    assert masks[0][model.predict(obs[0], action_masks=masks[0])[0]]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([True, True], r"action_masks: received \[True, True\], .* shape \(3,\)"),
        ([[True] * 3] * 2, r"it must be an array of shape \(3,\)"),
        ([1, 2, 0], "True and False, or 1 and 0"),
        ([1, np.nan, 0], "True and False, or 1 and 0"),
        ("yes", "it must be an array"),
        ([0, 0, 0], "no possible action"),
    ],
)
@each_online_algorithm
def test_masks_of_another_form_are_refused_and_change_nothing(row, masks, message):
    model, obs = row.make(), np.zeros(3, np.float32)
    model.learn(5)
    rest: Any = {"reward": 0.0, "next_obs": obs, "terminated": False}
    with unchanged(model):
        for call in (
            partial(model.predict, obs),
            partial(model.act, obs),
            partial(model.learn_one, obs, 0, **rest, next_action_masks=[1, 1, 1]),
        ):
            with pytest.raises(ValueError, match=message):
                call(action_masks=masks)
        with pytest.raises(ValueError, match=message.replace("action_masks:", "next_.*:")):
            model.learn_one(obs, 0, **rest, action_masks=[1, 1, 1], next_action_masks=masks)


@each_online_algorithm
def test_what_does_not_go_together_in_a_loop_of_ones_own_is_refused(row):
    model, obs = row.make(), np.zeros(3, np.float32)
    model.learn(5)
    rest: Any = {"reward": 0.0, "next_obs": obs}
    with unchanged(model):
        with pytest.raises(ValueError, match=r"action: received 1, it must be possible by .*0"):
            model.learn_one(obs, 1, **rest, terminated=True, action_masks=[1, 0, 1])
        with pytest.raises(ValueError, match="next_action_masks: received None beside"):
            model.learn_one(obs, 0, **rest, terminated=False, action_masks=[1, 0, 1])
        with pytest.raises(ValueError, match="action_masks: received None beside next_action"):
            model.learn_one(obs, 0, **rest, terminated=False, next_action_masks=[1, 0, 1])
    # Where the episode is over, nothing need be possible.
    model.learn_one(obs, 0, **rest, terminated=True, action_masks=[1, 0, 1])
    model.learn_one(
        obs,
        0,
        **rest,
        terminated=False,
        truncated=True,
        action_masks=[1, 0, 1],
        next_action_masks=[0, 0, 0],
    )


@each_algorithm
def test_an_overridden_predict_is_told_the_masks_and_held_to_them(row):
    class Lazy(row.algorithm):
        """Takes the first possible action, or the first one."""

        obeys = True

        def predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
            masks = kwargs.get("action_masks")
            actions = np.zeros(len(observation), np.int64)
            return (masks.argmax(axis=1) if self.obeys else actions), None

    row = type(row)(Lazy, row.changed, row.optimizers, row.quick, row.rollout)
    model = row.make(informing())
    model.learn(40)
    model.obeys = False
    with pytest.raises(ValueError, match=r"predict: returned the actions \[0\], .* possible by"):
        model.learn(40)


# Turned off, saved, told


@each_algorithm
def test_masks_can_be_turned_off_and_the_model_file_says_so(row):
    model = row.make(informing(), use_action_masks=False)
    with pytest.raises(EnvironmentStepError, match="AssertionError"):
        model.learn(200)
    assert model.action_masks is None
    loaded = through_a_file(model, env=informing())
    assert loaded.use_action_masks is False
    with pytest.raises(EnvironmentStepError, match="AssertionError"):
        loaded.learn(200)
    loaded.use_action_masks = True
    loaded.learn(200)
    with pytest.raises(ValueError, match="use_action_masks: received 1, it must be True or False"):
        row.make(use_action_masks=1)


@each_algorithm
@pytest.mark.parametrize("make", [informing, masking])
def test_learning_goes_on_with_the_masks_of_where_it_stopped(row, make):
    whole, halves = row.make(make(), learning_rate=1e-3), row.make(make(), learning_rate=1e-3)
    for model in (whole, halves):
        model.exploration_schedule = lambda _: 0.4
    whole.learn(48)
    halves.learn(20)
    assert np.array_equal(halves.action_masks, [mask_of(halves.get_env().envs[0].unwrapped.number)])
    halves.learn(28, reset_num_timesteps=False)
    assert np.array_equal(weights(whole), weights(halves))


def test_the_log_says_once_which_convention_it_found(capsys):
    model = dqn_plugins.NaiveDQN("MlpPolicy", informing(), verbose=1, seed=0)
    for _ in range(2):
        model.learn(10, log_interval=None)
    assert capsys.readouterr().out.count("action masks, found in info['action_mask']") == 1
    model = dqn_plugins.NaiveDQN("MlpPolicy", masking(), verbose=1, seed=0)
    model.learn(10, log_interval=None)
    assert "found in the method action_masks()" in capsys.readouterr().out


# Environments that tell something else


class Wrong(TaggedEnv):
    """Tells another mask from a step on."""

    def __init__(self, at_step: int, mask: Any, ends: list[Any] = ENDS) -> None:
        super().__init__(SPACE, ends, tells_masks=True)
        self.at_step, self.mask = at_step, mask
        self.is_masked = False

    @property
    def info(self) -> dict[str, Any]:
        if len(self.transitions) < self.at_step:
            return super().info
        return {} if self.mask is None else {"action_mask": self.mask}


class LateStarter(TaggedEnv):
    """Tells masks at steps and not at the reset, or from the second episode on."""

    begins = 1

    @property
    def info(self) -> dict[str, Any]:
        late = len(self.transitions) >= self.begins
        return {"action_mask": np.ones(3, bool)} if late else {}


class VeryLateStarter(LateStarter):
    begins = 3


class Disagreeing(MaskingEnv):
    """Tells one thing by the method and another one in ``info``, after some steps."""

    @property
    def info(self) -> dict[str, Any]:
        mask = mask_of(self.number)
        return {"action_mask": ~mask if len(self.transitions) == 4 else mask}


BAD = {
    "shape": (lambda: Wrong(3, np.ones(4, bool)), r"of shape \(4,\).*shape \(3,\).*1 and 0", 3),
    "values": (lambda: Wrong(3, np.array([0, 2, 1])), r"array\(\[0, 2, 1\]\)", 3),
    "text": (lambda: Wrong(3, np.array(["a", "b", "c"])), "True and False", 3),
    "nothing possible": (lambda: Wrong(4, np.zeros(3)), "without a possible action", 4),
    "missing": (lambda: Wrong(4, None), "received none, .* at every reset and step", 4),
    "missing at the reset": (lambda: Wrong(0, np.zeros(3)), "without a possible action", 0),
    "appears": (lambda: LateStarter(SPACE, ENDS), "at first it was not there", 1),
    "appears later": (lambda: VeryLateStarter(SPACE, ENDS), "at first it was not there", 3),
    "two that differ": (lambda: Disagreeing(SPACE, ENDS), r"which action_masks\(\) returned", 4),
}


@each_algorithm
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_an_environment_that_tells_something_else_is_refused_by_name(row, kind, n_envs):
    make, message, step = BAD[kind]
    other = masking if kind == "two that differ" else informing
    if kind.startswith("appears"):
        other = partial(TaggedEnv, SPACE, ENDS)
    # The last of the environments is the wrong one.
    makers = [other] * (n_envs - 1) + [make]
    model = row.make(make() if n_envs == 1 else DummyVecEnv(makers))
    states = [everything(model)]
    with pytest.raises(MalformedTransitionError, match=message) as error:
        model.learn(100, lambda *_: states.append(everything(model)) or True)
    assert error.value.env_index == n_envs - 1
    assert error.value.step == step * n_envs
    assert error.value.quantity == "action mask"
    if len(states) > 1:
        assert everything(model) == states[-1]
    else:  # the first observations have been seen
        assert weights(model).tobytes() == states[0][0]


def test_environments_of_which_only_some_have_the_method_are_refused():
    env = DummyVecEnv([masking, lambda: TaggedEnv(SPACE, ENDS)])
    with pytest.raises(MalformedTransitionError, match=r"environment 1 .* no method action_masks"):
        dqn_plugins.NaiveDQN("MlpPolicy", env, seed=0).learn(10)


class Attribute(TaggedEnv):
    action_masks: Any = np.ones(3, np.bool_)


class OfAnAgent(TaggedEnv):
    def action_masks(self, agent: str) -> Any:
        return np.ones(3, np.bool_)


@pytest.mark.parametrize("kind", [Attribute, OfAnAgent])
def test_what_is_no_method_is_refused_with_a_way_out(kind):
    env = kind(SPACE, ENDS)
    with pytest.raises(MalformedTransitionError, match=r"environment 0 .* without arguments.*use_"):
        dqn_plugins.NaiveDQN("MlpPolicy", env, seed=0).learn(10)
    dqn_plugins.NaiveDQN("MlpPolicy", env, seed=0, use_action_masks=False).learn(10)


def test_where_nothing_is_told_there_are_no_masks():
    class LeftToOthers(TaggedEnv):
        def action_masks(self) -> Any:
            raise NotImplementedError

    class Wrapped:
        def reset(self, seed: Any = None) -> None:
            pass

    class NotAVecEnv(VecEnvWrapper):
        """As SuperSuit's: what is wrapped has no infos of resets, and takes seeds."""

        wrapped = Wrapped()
        unwrapped = property(lambda self: self.wrapped)  # type: ignore[assignment]

        def reset(self) -> Any:
            self.wrapped.reset(seed=1)
            return self.venv.reset()

        def step_wait(self) -> Any:
            return self.venv.step_wait()

    for env in (
        LeftToOthers(SPACE, ENDS),
        NotAVecEnv(DummyVecEnv([lambda: TaggedEnv(SPACE, ENDS)])),
    ):
        model = dqn_plugins.NaiveDQN("MlpPolicy", env, seed=0).learn(10)
        assert model.action_masks is None


def test_a_time_limit_in_a_process_without_its_last_mask_says_what_to_do():
    env = SubprocVecEnv([partial(masking, ["", "truncated"])] * 2, start_method="fork")
    with pytest.raises(MalformedTransitionError, match=r"at step 4 .*dqn_plugins.TellLastAction"):
        dqn_plugins.NaiveDQN("MlpPolicy", env, seed=0).learn(10)
    env.close()
    env = SubprocVecEnv([partial(masking, ["", "terminated"])] * 2, start_method="fork")
    dqn_plugins.NaiveDQN("MlpPolicy", env, seed=0).learn(10)  # of no use at a terminal state
    env.close()


@each_algorithm
@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_nothing_need_be_possible_when_the_episode_is_over(row, end):
    class Exhausted(TaggedEnv):
        @property
        def info(self) -> dict[str, Any]:
            over = self.number % 4 == 3
            return {"action_mask": np.full(3, not over)}

    row.make(Exhausted(SPACE, ["", "", end], tells_masks=False)).learn(30)

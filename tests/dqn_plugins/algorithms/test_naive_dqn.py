"""What NaiveDQN learns, held against the equations written out in float64 NumPy."""

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from dqn_plugins import NaiveDQN
from dqn_plugins.policies import KerasAdam
from tests.environments import RecordingEnv, ScriptedEnv, Transition
from tests.helpers import learn_all, optimizer_numbers, weights


class Oracle:
    """
    The update rule, slowly: a ReLU network and its gradient by hand, in float64.

    :param model: The model whose weights it starts from.
    :param optimizer: "sgd", "torch_adam" or "keras_adam".
    :param eps: ε of Adam.
    """

    def __init__(self, model: NaiveDQN, optimizer: str = "sgd", eps: float = 1e-8) -> None:
        self.lr = float(model.learning_rate)
        self.gamma, self.alpha = model.gamma, model.q_step_size
        self.bootstrap_at_terminal = model.bootstrap_at_terminal
        self.optimizer, self.eps = optimizer, eps
        self.params = [p.detach().numpy().astype(np.float64) for p in model.q_net.parameters()]
        self.m = [np.zeros_like(p) for p in self.params]
        self.v = [np.zeros_like(p) for p in self.params]
        self.t = 0

    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(self.params[0::2], self.params[1::2], strict=True))

    def activations(self, obs: np.ndarray) -> list[np.ndarray]:
        outputs = [np.asarray(obs, np.float64)]
        for i, (weight, bias) in enumerate(self.layers()):
            z = weight @ outputs[-1] + bias
            outputs.append(z if i == len(self.layers()) - 1 else np.maximum(z, 0))
        return outputs

    def q(self, obs: np.ndarray) -> np.ndarray:
        return self.activations(obs)[-1]

    def gradient(self, step: Transition) -> tuple[float, list[np.ndarray]]:
        """The TD error, and the gradient of the mean squared error over the actions."""
        outputs = self.activations(step.obs)
        q = outputs[-1]
        bootstrap = self.bootstrap_at_terminal or not step.terminated
        td_error = (
            step.reward + self.gamma * bootstrap * self.q(step.next_obs).max() - q[step.action]
        )
        target = q.copy()
        target[step.action] = q[step.action] + self.alpha * td_error
        delta = 2 * (q - target) / len(q)
        gradient: list[np.ndarray] = []
        for (weight, _), below in zip(self.layers()[::-1], outputs[-2::-1], strict=True):
            gradient = [np.outer(delta, below), delta, *gradient]
            delta = (weight.T @ delta) * (below > 0)
        return td_error, gradient

    def learn(self, *batch: Transition) -> list[float]:
        """One gradient step on the mean over a batch; the TD errors."""
        parts = [self.gradient(step) for step in batch]
        self.t += 1
        for i in range(len(self.params)):
            g = sum(gradient[i] for _, gradient in parts) / len(parts)
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g**2
            correction1, correction2 = 1 - 0.9**self.t, 1 - 0.999**self.t
            if self.optimizer == "sgd":
                change = g
            elif self.optimizer == "torch_adam":
                change = self.m[i] / correction1 / (np.sqrt(self.v[i] / correction2) + self.eps)
            else:
                change = np.sqrt(correction2) / correction1 * self.m[i]
                change = change / (np.sqrt(self.v[i]) + self.eps)
            self.params[i] = self.params[i] - self.lr * change
        return [td_error for td_error, _ in parts]

    def weights(self) -> np.ndarray:
        return np.concatenate([p.ravel() for p in self.params])


# Rounding to float32 costs about 1e-7 of the weights' size at each update, which is up to 1e-5 of
# the little that a few updates change; a wrong number costs 1e-2 and more.
ROUNDING = 1e-4


def relative_error(model: NaiveDQN, oracle: Oracle, initial: np.ndarray) -> float:
    goal = oracle.weights()
    return float(np.linalg.norm(weights(model) - goal) / np.linalg.norm(goal - initial))


def sgd(net_arch: list[int]) -> dict[str, Any]:
    return {"net_arch": net_arch, "optimizer_class": th.optim.SGD}


def random_transitions(n: int, n_actions: int = 3, n_features: int = 3) -> list[Transition]:
    rng = np.random.default_rng(0)
    return [
        Transition(
            rng.normal(size=n_features).astype(np.float32),
            int(rng.integers(n_actions)),
            float(rng.normal()),
            rng.normal(size=n_features).astype(np.float32),
            bool(rng.random() < 0.3),
        )
        for _ in range(n)
    ]


# The update


@pytest.mark.parametrize("bootstrap_at_terminal", [False, True])
@pytest.mark.parametrize("net_arch", [[], [5], [16, 8]], ids=str)
def test_an_update_is_that_of_the_equations(backend, net_arch, bootstrap_at_terminal):
    model = NaiveDQN(
        "MlpPolicy",
        RecordingEnv(),
        learning_rate=0.1,
        gamma=0.9,
        q_step_size=0.5,
        bootstrap_at_terminal=bootstrap_at_terminal,
        policy_kwargs=sgd(net_arch),
        seed=1,
        backend=backend,
    )
    oracle, initial = Oracle(model), weights(model)
    for transition in random_transitions(40):
        (expected,) = oracle.learn(transition)
        assert model.learn_one(*transition) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert relative_error(model, oracle, initial) < ROUNDING


@pytest.mark.parametrize(
    ("optimizer_class", "name", "eps"),
    [(th.optim.Adam, "torch_adam", 1e-4), (KerasAdam, "keras_adam", 1e-4)],
)
def test_an_update_with_adam_is_that_of_the_equations(backend, optimizer_class, name, eps):
    # With an ε this large, the two forms of Adam are far apart.
    policy_kwargs = {"optimizer_class": optimizer_class, "optimizer_kwargs": {"eps": eps}}
    model = NaiveDQN(
        "MlpPolicy", RecordingEnv(), policy_kwargs=policy_kwargs, seed=1, backend=backend
    )
    oracle, initial = Oracle(model, name, eps), weights(model)
    for transition in random_transitions(40):
        model.learn_one(*transition)
        oracle.learn(transition)
    assert relative_error(model, oracle, initial) < ROUNDING


def test_the_default_optimiser_is_torchs_adam_as_torch_defaults_it(backend):
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=1, backend=backend)
    oracle, initial = Oracle(model, "torch_adam", eps=1e-8), weights(model)
    for transition in random_transitions(40):
        model.learn_one(*transition)
        oracle.learn(transition)
    assert type(model.policy.optimizer) is th.optim.Adam
    assert relative_error(model, oracle, initial) < ROUNDING


@pytest.mark.parametrize("update", ["each", "mean"])
@pytest.mark.parametrize("optimizer", ["sgd", "torch_adam"])
def test_several_environments_are_learned_from_one_by_one_or_on_the_mean(
    backend, optimizer, update
):
    envs = [RecordingEnv() for _ in range(4)]
    policy_kwargs = sgd([16, 8]) if optimizer == "sgd" else None
    model = NaiveDQN(
        "MlpPolicy",
        DummyVecEnv([lambda env=env: env for env in envs]),
        learning_rate=0.1 if optimizer == "sgd" else 1e-3,
        q_step_size=0.5,
        policy_kwargs=policy_kwargs,
        seed=1,
        update=update,
        backend=backend,
    )
    oracle, initial = Oracle(model, optimizer), weights(model)
    model.learn(4 * 30)
    for batch in zip(*(env.transitions for env in envs), strict=True):
        for transitions in [batch] if update == "mean" else [[step] for step in batch]:
            oracle.learn(*transitions)
    assert oracle.t == model._n_updates == (30 if update == "mean" else 120)
    assert relative_error(model, oracle, initial) < ROUNDING


def test_the_gradient_is_clipped_at_max_grad_norm(backend):
    limit, transition = 0.01, random_transitions(1)[0]
    models = [
        NaiveDQN(
            "MlpPolicy",
            RecordingEnv(),
            learning_rate=1.0,
            max_grad_norm=max_grad_norm,
            policy_kwargs=sgd([16, 8]),
            seed=1,
            backend=backend,
        )
        for max_grad_norm in (None, limit)
    ]
    initial = weights(models[0])
    for model in models:
        model.learn_one(*transition)
    free, clipped = (weights(model) - initial for model in models)
    assert np.linalg.norm(free) > 2 * limit
    assert np.linalg.norm(clipped) == pytest.approx(limit, rel=1e-3)
    np.testing.assert_allclose(
        clipped / np.linalg.norm(clipped), free / np.linalg.norm(free), atol=1e-4
    )


def test_a_terminal_state_is_worth_nothing(backend):
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=1, backend=backend)
    obs, action, reward, next_obs, _ = random_transitions(1)[0]
    q = Oracle(model).q(obs)[action]
    td_error = model.learn_one(obs, action, reward, next_obs, terminated=True)
    assert td_error == pytest.approx(reward - q, rel=1e-5)


def test_only_the_taken_actions_output_moves_in_a_linear_network(backend):
    model = NaiveDQN(
        "MlpPolicy", RecordingEnv(), policy_kwargs={"net_arch": []}, seed=1, backend=backend
    )
    before = [p.detach().clone() for p in model.q_net.parameters()]
    obs, _, reward, next_obs, terminated = random_transitions(1)[0]
    model.learn_one(obs, 1, reward, next_obs, terminated)
    pairs = zip(model.q_net.parameters(), before, strict=True)
    moved = [(now != then).reshape(3, -1).any(1) for now, then in pairs]
    assert [m.tolist() for m in moved] == [[False, True, False]] * 2


# The loop


def test_learn_learns_every_transition_once_and_in_order(backend):
    env = RecordingEnv()
    model = NaiveDQN("MlpPolicy", env, seed=3, backend=backend)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3, backend=backend)
    assert np.array_equal(weights(model), weights(twin))
    model.learn(100)
    # 11 steps to a round of the script: terminations, truncations, episodes of one step.
    assert len(env.transitions) == 100
    assert model._n_updates == 100
    learn_all(twin, env.transitions)
    assert np.array_equal(weights(model), weights(twin))
    for one, other in zip(optimizer_numbers(model), optimizer_numbers(twin), strict=True):
        assert np.array_equal(one, other)


def test_a_skipped_repeated_or_swapped_transition_would_show():
    # What makes the test above worth something.
    env = RecordingEnv()
    NaiveDQN("MlpPolicy", env, seed=3).learn(20)
    played = env.transitions
    results = []
    for transitions in (
        played,
        played[:10] + played[11:],
        played[:10] + played[9:],
        [*played[:9], played[10], played[9], *played[11:]],
    ):
        twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3)
        learn_all(twin, transitions)
        results.append(weights(twin).tobytes())
    assert len(set(results)) == 4


def test_learning_goes_on_where_it_stopped(backend):
    # Also across the seam between two calls of `learn`, no transition is skipped or repeated.
    env = RecordingEnv()
    model = NaiveDQN("MlpPolicy", env, seed=3, backend=backend)
    model.learn(13).learn(14, reset_num_timesteps=False)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3, backend=backend)
    learn_all(twin, env.transitions)
    assert model.num_timesteps == len(env.transitions) == 27
    assert np.array_equal(weights(model), weights(twin))


def test_truncation_bootstraps_from_the_true_last_observation(backend):
    # Episodes of one step: from (episode, 0) to the true last observation (-1, -1); the reset
    # gives (episode + 1, 0).
    env = ScriptedEnv([([1.0], "truncated")])
    model = NaiveDQN(
        "MlpPolicy",
        env,
        learning_rate=0.01,
        policy_kwargs=sgd([]),
        seed=0,
        backend=backend,
    )
    oracle, initial = Oracle(model), weights(model)
    wrong = {name: Oracle(model) for name in ("masked", "reset")}
    actions: list[int] = []
    model.learn(5, callback=lambda locals_, _: actions.append(int(locals_["actions"][0])) or True)
    last = np.array([-1.0, -1.0])
    for episode, action in enumerate(actions):
        obs, reset_obs = np.array([episode, 0.0]), np.array([episode + 1, 0.0])
        oracle.learn(Transition(obs, action, 1.0, last, False))
        wrong["masked"].learn(Transition(obs, action, 1.0, last, True))
        wrong["reset"].learn(Transition(obs, action, 1.0, reset_obs, False))
    assert relative_error(model, oracle, initial) < ROUNDING
    assert relative_error(model, wrong["masked"], initial) > 1e-2
    assert relative_error(model, wrong["reset"], initial) > 1e-2


def test_a_state_both_terminal_and_at_the_time_limit_is_terminal(backend):
    env = RecordingEnv()
    env.ends = ((1, True, True),)
    model = NaiveDQN("MlpPolicy", env, seed=0, gamma=1.0, backend=backend)
    without_bootstrap = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, gamma=0.0, backend=backend)
    model.learn(10)
    learn_all(without_bootstrap, env.transitions)
    assert np.array_equal(weights(model), weights(without_bootstrap))


def test_normalised_observations_are_learned_from_at_the_end_of_an_episode_too(backend):
    env = RecordingEnv()
    vec_env = VecNormalize(DummyVecEnv([lambda: env]), training=False, norm_reward=False)
    vec_env.obs_rms.mean[:], vec_env.obs_rms.var[:] = [1.0, 0.0, -1.0], [4.0, 1.0, 0.25]
    model = NaiveDQN("MlpPolicy", vec_env, seed=3, backend=backend)
    model.learn(40)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3, backend=backend)
    for obs, action, reward, next_obs, terminated in env.transitions:
        normalised = vec_env.normalize_obs(obs), vec_env.normalize_obs(next_obs)
        twin.learn_one(normalised[0], action, reward, normalised[1], terminated)
    assert np.array_equal(weights(model), weights(twin))


def test_what_the_environment_handed_out_is_left_as_it_was(backend):
    # The recorded arrays are those that the callbacks see; learning must not write into them.
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def remember(locals_: dict[str, Any], _: dict[str, Any]) -> bool:
        seen.append((locals_["new_obs"], locals_["new_obs"].copy()))
        return True

    NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, backend=backend).learn(30, callback=remember)
    assert all(np.array_equal(now, then) for now, then in seen)
    assert len({now.ctypes.data for now, _ in seen}) == len(seen) == 30


def test_weights_that_a_callback_sets_choose_the_next_action(backend):
    def prefer(action: int) -> dict[str, Any]:
        twin = NaiveDQN("MlpPolicy", RecordingEnv(), policy_kwargs={"net_arch": []})
        with th.no_grad():
            for param in twin.q_net.parameters():
                param.zero_()
            twin.q_net.q_net[0].bias[action] = 1_000.0
        return {"policy": twin.policy.state_dict()}

    env = RecordingEnv()
    model = NaiveDQN(
        "MlpPolicy",
        env,
        exploration_initial_eps=0.0,
        exploration_final_eps=0.0,
        policy_kwargs={"net_arch": []},
        backend=backend,
    )
    wishes = [2, 0, 1, 1, 2, 0]

    def set_weights(locals_: dict[str, Any], _: dict[str, Any]) -> bool:
        if len(env.transitions) <= len(wishes):
            model.set_parameters(prefer(wishes[len(env.transitions) - 1]), exact_match=False)
        return True

    model.learn(len(wishes) + 1, callback=set_weights)
    assert [step.action for step in env.transitions[1:]] == wishes


def test_a_callback_may_call_learn_one(backend):
    # The transitions it adds are learned from too, and the loop goes on undisturbed.
    extra = random_transitions(20)
    env = RecordingEnv()
    rates = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    model = NaiveDQN("MlpPolicy", env, seed=3, backend=backend, **rates)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3, backend=backend)
    greedy: list[bool] = []

    def teach(locals_: dict[str, Any], _: dict[str, Any]) -> bool:
        played = env.transitions[-1]
        action = twin.predict(played.obs, deterministic=True)[0]
        greedy.append(action == played.action)
        learn_all(twin, [played, extra[len(greedy) - 1]])
        model.learn_one(*extra[len(greedy) - 1])
        return len(greedy) < len(extra)

    model.learn(1_000, callback=teach)
    assert np.array_equal(weights(model), weights(twin))
    assert all(greedy)


# Determinism


def lunar_lander(n_envs: int) -> DummyVecEnv:
    return DummyVecEnv([lambda: gym.make("LunarLander-v3")] * n_envs)


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize(("backend", "steps"), [("auto", 5_000), ("torch", 500)])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(backend, steps, n_envs):
    runs = []
    for disturbance in (1, 2):
        # What else happened in the process must not matter.
        random.seed(disturbance)
        np.random.seed(disturbance)
        th.manual_seed(disturbance)
        model = NaiveDQN("MlpPolicy", lunar_lander(n_envs), seed=7, backend=backend)
        model.learn(steps)
        runs.append((weights(model), *optimizer_numbers(model)))
    for first, second in zip(*runs, strict=True):
        assert first.tobytes() == second.tobytes()


def test_different_seeds_give_different_weights_and_different_episodes(backend):
    envs = [RecordingEnv(), RecordingEnv()]
    models = [
        NaiveDQN("MlpPolicy", env, seed=seed, backend=backend)
        for seed, env in enumerate(envs, start=1)
    ]
    assert not np.array_equal(*(weights(model) for model in models))
    for model in models:
        model.learn(50)
    first, second = (env.transitions for env in envs)
    assert not any(np.array_equal(a.obs, b.obs) for a, b in zip(first, second, strict=True))
    assert [step.action for step in first] != [step.action for step in second]


def test_one_seed_seeds_every_environment_differently():
    envs = [RecordingEnv() for _ in range(3)]
    vec_env = DummyVecEnv([lambda env=env: env for env in envs])
    NaiveDQN("MlpPolicy", vec_env, seed=10).learn(3)
    assert [env.seeds[0] for env in envs] == [10, 11, 12]


def test_nobodys_random_numbers_change_what_is_learned(backend):
    def disturb(locals_: dict[str, Any], _: dict[str, Any]) -> bool:
        random.random()
        np.random.random()
        th.rand(1)
        locals_["self"].predict(locals_["new_obs"])
        locals_["self"].action_space.sample()
        return True

    runs = []
    for callback in (None, disturb):
        model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=5, backend=backend)
        runs.append(weights(model.learn(60, callback=callback)))
    assert np.array_equal(*runs)


def test_evaluating_does_not_change_how_learning_goes_on(backend):
    runs = []
    for evaluates in (False, True):
        model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=5, backend=backend)
        model.learn(30)
        if evaluates:
            eval_env = DummyVecEnv([lambda: Monitor(RecordingEnv())])
            evaluate_policy(model, eval_env, n_eval_episodes=3, deterministic=False)
        model.learn(30, reset_num_timesteps=False)
        runs.append(weights(model))
    assert np.array_equal(*runs)


def test_seeding_again_repeats_the_random_actions():
    model = NaiveDQN("MlpPolicy", RecordingEnv(n_actions=100), seed=0, exploration_initial_eps=1.0)
    obs = np.zeros((50, 3), np.float32)
    model.set_random_seed(4)
    first = model.predict(obs)[0]
    second = model.predict(obs)[0]
    model.set_random_seed(4)
    assert np.array_equal(model.predict(obs)[0], first)
    assert not np.array_equal(first, second)


# Exploration


def exploring_model(n_envs: int, **kwargs: Any) -> tuple[NaiveDQN, list[RecordingEnv]]:
    """With 1000 actions, a random action is all but surely not the greedy one."""
    envs = [RecordingEnv(n_actions=1000) for _ in range(n_envs)]
    vec_env = DummyVecEnv([lambda env=env: env for env in envs])
    kwargs = {"learning_rate": 0.0, "policy_kwargs": {"net_arch": []}, "seed": 0, **kwargs}
    return NaiveDQN("MlpPolicy", vec_env, **kwargs), envs


def explored(model: NaiveDQN, envs: list[RecordingEnv]) -> np.ndarray:
    """Which steps were not greedy, shape (steps, n_envs)."""
    obs = np.array([[step.obs for step in env.transitions] for env in envs])
    actions = np.array([[step.action for step in env.transitions] for env in envs])
    greedy = model.predict(obs.reshape(-1, 3), deterministic=True)[0].reshape(actions.shape)
    return (actions != greedy).T


def test_every_environment_tosses_its_own_coin_while_learning():
    model, envs = exploring_model(
        4, exploration_initial_eps=0.5, exploration_final_eps=0.5, backend="auto"
    )
    model.learn(4 * 400)
    coins = explored(model, envs)
    # 1600 coins of probability 1/2: the standard deviation of their mean is 0.0125.
    assert abs(coins.mean() - 0.5) < 0.06
    correlations = np.corrcoef(coins.T)[np.triu_indices(4, k=1)]
    # Of 400 independent pairs: standard deviation 0.05. A shared coin has correlation 1.
    assert np.abs(correlations).max() < 0.25


def test_every_environment_tosses_its_own_coin_in_predict():
    model, _ = exploring_model(1, exploration_initial_eps=0.5)
    obs = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    greedy = model.predict(obs, deterministic=True)[0]
    actions = model.predict(obs)[0]
    assert abs((actions != greedy).mean() - 0.5) < 0.08
    assert len(set(actions[actions != greedy])) > 300


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_predict_is_greedy_with_epsilon_0_and_random_with_epsilon_1(rate, share):
    model, _ = exploring_model(1, exploration_initial_eps=rate)
    obs = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    greedy = model.predict(obs, deterministic=True)[0]
    assert np.array_equal(greedy, model.predict(obs, deterministic=True)[0])
    assert (model.predict(obs)[0] != greedy).mean() == pytest.approx(share, abs=0.02)


def test_deterministic_actions_are_those_of_the_largest_q_values():
    model, _ = exploring_model(1)
    obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    with th.no_grad():
        q_values = model.q_net(th.as_tensor(obs)).numpy()
    assert np.array_equal(model.predict(obs, deterministic=True)[0], q_values.argmax(1))


def test_random_actions_cover_the_action_space():
    model = NaiveDQN("MlpPolicy", RecordingEnv(n_actions=3), seed=0, exploration_initial_eps=1.0)
    actions = model.predict(np.zeros((3000, 3), np.float32))[0]
    # Each a third, with a standard deviation of 26.
    assert np.abs(np.bincount(actions, minlength=3) - 1000).max() < 150


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        # After 1, 2, … 10 of 10 steps, from 1.0 to 0.2
        (1.0, [0.92, 0.84, 0.76, 0.68, 0.6, 0.52, 0.44, 0.36, 0.28, 0.2]),
        (0.5, [0.84, 0.68, 0.52, 0.36, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]),
        (0.1, [0.2] * 10),
        (0.0, [0.2] * 10),
    ],
)
def test_epsilon_goes_down_in_a_straight_line(fraction, expected):
    model = NaiveDQN(
        "MlpPolicy",
        RecordingEnv(),
        exploration_fraction=fraction,
        exploration_initial_eps=1.0,
        exploration_final_eps=0.2,
    )
    rates: list[float] = []
    model.learn(10, callback=lambda *_: rates.append(model.exploration_rate) or True)
    assert rates == pytest.approx(expected)


def test_the_first_action_explores_at_the_first_rate_and_the_last_ones_at_the_last():
    model, envs = exploring_model(
        20, exploration_initial_eps=1.0, exploration_final_eps=0.0, exploration_fraction=0.5
    )
    model.learn(20 * 20)
    coins = explored(model, envs)
    assert coins[0].mean() > 0.9
    assert 0.2 < coins[:10].mean() < 0.8
    assert not coins[10:].any()


def test_the_defaults_explore_at_the_notebooks_constant_rate():
    model, envs = exploring_model(4)
    model.learn(4 * 400)
    assert model.exploration_rate == 0.3
    # 1600 coins of probability 0.3: the standard deviation of their mean is 0.0115.
    assert abs(explored(model, envs).mean() - 0.3) < 0.05


# learn_one


def test_learn_one_counts_steps_and_updates(backend):
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, backend=backend)
    learn_all(model, random_transitions(3))
    assert model.num_timesteps == model._n_updates == 3


def test_learn_one_needs_no_environment_steps_and_leaves_the_environment_alone(backend):
    env = RecordingEnv()
    model = NaiveDQN("MlpPolicy", env, seed=0, backend=backend)
    learn_all(model, random_transitions(3))
    assert env.transitions == []


def test_learn_one_takes_what_gymnasium_and_predict_return(backend):
    env = gym.make("CartPole-v1")
    model = NaiveDQN("MlpPolicy", env, seed=0, backend=backend)
    obs, _ = env.reset(seed=0)
    for _ in range(30):
        action, _ = model.predict(obs)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        td_error = model.learn_one(obs, action, reward, next_obs, terminated)
        assert isinstance(td_error, float)
        assert np.isfinite(td_error)
        obs = env.reset()[0] if terminated or truncated else next_obs
    assert model._n_updates == 30


def test_learn_one_goes_on_after_learn_with_several_environments(backend):
    # `learn_one` is for one transition, whatever number of environments the model was made with.
    envs = [RecordingEnv() for _ in range(4)]
    model = NaiveDQN(
        "MlpPolicy", DummyVecEnv([lambda env=env: env for env in envs]), seed=0, backend=backend
    )
    model.learn(40)
    before = weights(model)
    learn_all(model, random_transitions(5))
    assert not np.array_equal(weights(model), before)
    model.learn(40, reset_num_timesteps=False)
    assert model._n_updates == 40 + 5 + 40

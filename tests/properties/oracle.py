"""
The update rules in float64 NumPy, written from their equations, slowly and plainly.

Gradients are products of Jacobian matrices, statistics are taken from everything seen so far, and
nothing is shared with the package but the names of its settings.
"""

import itertools
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from torch import nn

from dqn_plugins.learning import Transition
from dqn_plugins.policies import (
    AdaptiveObGD,
    AdaptiveQOptimizer,
    IntentionalOptimizer,
    KerasAdam,
    MaxScaledOptimizer,
    ObGD,
    QPolicy,
    RewardNormalizer,
    RunningStatistics,
    TraceAdam,
)
from tests.properties.cases import Naive, Network, Stream

__all__ = ["NaiveOracle", "Oracle", "StreamOracle", "one_of", "row_of"]

LAYER_NORM_EPS = 1e-5  # torch's
STATISTICS_EPS = 1e-8


def one_of(obs: Any, env_index: int) -> Any:
    """One environment's observation."""
    if isinstance(obs, dict):
        return {key: values[env_index] for key, values in obs.items()}
    return obs[env_index]


def row_of(masks: np.ndarray | None, env_index: int) -> np.ndarray | None:
    """One environment's mask, if there are masks."""
    return None if masks is None else masks[env_index]


def is_photograph(space: spaces.Space[Any]) -> bool:
    """Whether observations are images of bytes, which are divided by 255 and by nothing else."""
    return space.dtype == np.uint8 and len(space.shape or ()) == 3


class Oracle:
    """
    A multilayer perceptron or a convolutional network, what it is fed, and its derivatives.

    :param network: What the network is like.
    :param policy: Where its first weights are taken from.
    """

    def __init__(self, network: Network, policy: QPolicy) -> None:
        self.network = network
        parameters = [p.detach().numpy().astype(np.float64) for p in policy.q_net.parameters()]
        self.shapes = [p.shape for p in parameters]
        # All of them, one after another; so are gradients, traces and moments
        self.weights = np.concatenate([p.ravel() for p in parameters])
        self.slope = 0.01 if network.activation_fn is nn.LeakyReLU else 0.0
        self.normalizes_observations = False
        self.seen: dict[str, list[np.ndarray]] = {}
        self.is_local, self.cost_share = False, 0.0
        if network.convolutions is not None:
            self.lay_out_convolutions()
        # How near the last update came to where rounding decides: a kink of the rectifier, two
        # actions of the same value, or units so alike that layer normalisation enlarges it. Zeros,
        # and ties of them, are the same in every arithmetic.
        self.margin = np.inf

    @property
    def parameters(self) -> list[np.ndarray]:
        ends = np.cumsum([np.prod(shape) for shape in self.shapes])
        parts = np.split(self.weights, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    # What the network is fed

    def parts(self, obs: Any) -> dict[str, tuple[spaces.Space[Any], Any]]:
        space = self.network.observation_space
        if isinstance(space, spaces.Dict):
            return {key: (part, obs[key]) for key, part in space.spaces.items()}
        return {"": (space, obs)}

    def observe(self, obs: Any) -> None:
        for key, (space, value) in self.parts(obs).items():
            if isinstance(space, spaces.Box) and not is_photograph(space):
                self.seen.setdefault(key, []).append(np.asarray(value, np.float64))

    def features(self, obs: Any) -> np.ndarray:
        return np.concatenate(
            [self.encode(key, *part).ravel() for key, part in self.parts(obs).items()]
        )

    def encode(self, key: str, space: spaces.Space[Any], value: Any) -> np.ndarray:
        if isinstance(space, spaces.Discrete):
            return np.eye(int(space.n))[value]
        if isinstance(space, spaces.MultiDiscrete):
            pairs = zip(space.nvec, value, strict=True)
            return np.concatenate([np.eye(n)[choice] for n, choice in pairs])
        value = np.asarray(value, np.float64)
        if is_photograph(space):
            return value / 255
        if isinstance(space, spaces.Box) and self.normalizes_observations:
            seen = self.seen.get(key, [])
            mean = np.mean(seen, axis=0) if seen else 0.0
            variance = np.var(seen, axis=0, ddof=1) if len(seen) > 1 else 1.0
            return np.clip((value - mean) / np.sqrt(variance + STATISTICS_EPS), -10, 10)
        return value

    # What it computes

    def q_values(self, obs: Any) -> np.ndarray:
        return self.forward(obs)[0]

    def forward(self, obs: Any) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """
        Compute the action values.

        :return: The values, the inputs of each linear layer, and the Jacobian matrix of each linear
            layer's inputs by the outputs of the one before.
        """
        x, inputs, jacobians = self.features(obs), [], []
        layers = self.matrices()
        for index, (weight, bias) in enumerate(layers):
            inputs.append(x)
            x = weight @ x + bias
            if index == len(layers) - 1:
                break
            jacobian = np.eye(len(x))
            if self.network.layer_norm and not self.is_scale(index):
                if x.any():
                    self.margin = min(self.margin, 0.01 * np.var(x))
                scale = 1 / np.sqrt(np.var(x) + LAYER_NORM_EPS)
                x = (x - x.mean()) * scale
                n = len(x)
                jacobian = scale * (np.eye(n) - np.ones((n, n)) / n - np.outer(x, x) / n)
            if self.is_scale(index + 1):
                pass  # what follows layer normalisation comes after its learned scale and shift
            elif self.network.activation_fn is nn.Tanh:
                x = np.tanh(x)
                jacobian = np.diag(1 - x**2) @ jacobian
            elif self.network.activation_fn is nn.SiLU:
                logistic = 1 / (1 + np.exp(-x))
                jacobian = np.diag(logistic + x * logistic * (1 - logistic)) @ jacobian
                x = x * logistic
            else:
                if x.any():
                    self.margin = min(self.margin, np.abs(x[x != 0]).min())
                jacobian = np.diag(np.where(x > 0, 1.0, self.slope)) @ jacobian
                x = np.where(x > 0, x, self.slope * x)
            jacobians.append(jacobian)
        if self.is_local:
            x = x + self.parameters[-1] @ self.local_features(obs)
        return x, inputs, jacobians

    def is_scale(self, index: int) -> bool:
        """Whether a layer is the learned scale and shift of layer normalisation."""
        return len(self.shapes[2 * index]) == 1

    def local_features(self, obs: Any) -> np.ndarray:
        """Bumps along each input and the inputs, as much as every step costs the same."""
        x, places = self.features(obs), np.linspace(-2, 2, 8)
        bumps = np.exp(-((x[:, None] - places) ** 2) / 2 / (4 / 7) ** 2)
        return self.cost_share * np.concatenate([2 * bumps.ravel(), x])

    def matrices(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each linear layer, convolution and scale as a matrix and a bias of every output."""
        layers, parameters = [], self.parameters
        for index in range(len(parameters) // 2):
            weight, bias = parameters[2 * index : 2 * index + 2]
            if weight.ndim == 4:
                matrix = np.zeros((len(bias) * self.n_places[index], self.n_inputs[index]))
                entries, outs, units = self.uses[index]
                matrix[outs, units] = weight.ravel()[entries]
                weight, bias = matrix, np.repeat(bias, self.n_places[index])
            elif self.is_scale(index):
                weight = np.diag(weight)
            layers.append((weight, bias))
        return layers

    def by_parameters(
        self, index: int, by_matrix: np.ndarray, by_bias: np.ndarray
    ) -> list[np.ndarray]:
        """Derivatives by a layer's parameters, of which a convolution uses each many times."""
        shape = self.shapes[2 * index]
        if len(shape) < 4:
            return [np.diag(by_matrix) if self.is_scale(index) else by_matrix.ravel(), by_bias]
        by_weight = np.zeros(np.prod(shape))
        entries, outs, units = self.uses[index]
        np.add.at(by_weight, entries, by_matrix[outs, units])
        return [by_weight, by_bias.reshape(shape[0], -1).sum(axis=1)]

    def lay_out_convolutions(self) -> None:
        """Find out which weight of a convolution connects which input with which output."""
        shape = self.network.observation_space.shape
        channels_last = shape[-1] <= shape[0]
        height, width, channels = shape if channels_last else (*shape[1:], shape[0])
        # Numbers of the inputs, by channel, row and column
        numbers = np.arange(height * width * channels).reshape(shape)
        if channels_last:
            numbers = np.moveaxis(numbers, -1, 0)
        self.uses, self.n_places, self.n_inputs = [], [], []
        for filters, kernel, stride, padding in self.network.convolutions or ():
            before = (kernel - 1) // 2 if padding == "same" else 0
            around = np.full((channels, height + 2 * kernel, width + 2 * kernel), -1)
            around[:, before : before + height, before : before + width] = numbers
            if padding == "valid":
                height, width = ((side - kernel) // stride + 1 for side in (height, width))
            uses, n_places = [], height * width
            corners = itertools.product(range(height), range(width))
            for place, (row, column) in enumerate(corners):
                top, left = row * stride, column * stride
                seen = around[:, top : top + kernel, left : left + kernel].ravel()
                for k, (entry, unit) in itertools.product(range(filters), enumerate(seen)):
                    if unit >= 0:
                        uses.append((k * seen.size + entry, k * n_places + place, unit))
            self.uses.append(np.array(uses).T)
            self.n_places.append(n_places)
            self.n_inputs.append(numbers.size)
            channels = filters
            numbers = np.arange(channels * n_places).reshape(channels, height, width)

    def greedy_action(self, obs: Any, mask: np.ndarray | None = None) -> int:
        values = self.q_values(obs)
        if mask is not None:
            values = np.where(mask, values, values[mask].min() - 1)
        best = values.max()
        below = values[values < best]
        if best != 0 and np.count_nonzero(values == best) > 1:  # learned to be equal
            self.margin = 0.0
        elif len(below):
            self.margin = min(self.margin, best - below.max())
        return int(values.argmax())

    def gradient(self, obs: Any, action: int) -> np.ndarray:
        """∇Q(s, a): for each layer from the last to the first, by the chain rule."""
        _, inputs, jacobians = self.forward(obs)
        by_output = np.eye(self.network.n_actions)[action]
        gradient: list[np.ndarray] = []
        for index in range(len(inputs) - 1, -1, -1):
            by_matrix = [np.outer(by_output, inputs[index]), by_output]
            gradient = [*self.by_parameters(index, *by_matrix), *gradient]
            if index > 0:
                by_output = by_output @ self.matrices()[index][0] @ jacobians[index - 1]
        if self.is_local:
            by_values = np.eye(self.network.n_actions)[action]
            gradient.append(np.outer(by_values, self.local_features(obs)).ravel())
        return np.concatenate(gradient)

    def bootstrap(self, batch: Transition, env_index: int, masked: bool = True) -> float:
        if masked and batch.terminated[env_index]:
            return 0.0
        mask = row_of(batch.next_action_masks, env_index)
        return self.value(self.q_values(one_of(batch.next_obs, env_index)), mask)

    def value(self, q_values: np.ndarray, mask: np.ndarray | None = None) -> float:
        """The value of a state whose actions have these; 0 if it has none."""
        possible = q_values if mask is None else q_values[mask]
        return float(possible.max()) if len(possible) else 0.0

    def begin(self, batch: Transition) -> None:
        """Episodes begin in all environments."""

    def learn(self, batch: Transition) -> list[float]:
        """Learn from each transition by itself, or from their mean; the TD errors."""
        envs = np.flatnonzero(batch.valid).tolist()
        groups = [[env] for env in envs] if self.rule.update == "each" else [envs]
        td_errors = []
        for group in groups:
            if group:
                td_errors += self.learn_mean(batch, group)
        for env in np.flatnonzero([] if batch.begun is None else batch.begun).tolist():
            self.observe(one_of(batch.new_obs, env))
        return td_errors

    def learn_mean(self, batch: Transition, envs: list[int]) -> list[float]:
        """One update on the mean over some environments' transitions; the TD errors."""
        raise NotImplementedError


class Moments:
    """
    Adam's moments for every weight.

    :param oracle: Whose weights they are for.
    """

    def __init__(self, oracle: Oracle) -> None:
        self.first, self.second = np.zeros_like(oracle.weights), np.zeros_like(oracle.weights)
        self.t = 0

    def step(
        self, gradient: np.ndarray, betas: tuple[float, float], eps: float, kind: Any
    ) -> np.ndarray:
        """What to subtract from the weights, per unit of learning rate."""
        beta1, beta2 = betas
        self.t += 1
        self.first = beta1 * self.first + (1 - beta1) * gradient
        self.second = beta2 * self.second + (1 - beta2) * gradient**2
        m, v, correction = self.first / (1 - beta1**self.t), self.second, 1 - beta2**self.t
        if kind is KerasAdam:
            return m * np.sqrt(correction) / (np.sqrt(v) + eps)
        if kind is th.optim.RAdam:
            # How many gradients the second moment is worth, and what that leaves of its variance
            most = 2 / (1 - beta2) - 1
            n = most - 2 * self.t * beta2**self.t / correction
            if n <= 5:
                return m
            rest = (n - 4) * (n - 2) * most / ((most - 4) * (most - 2) * n)
            return m * np.sqrt(rest * correction) / (np.sqrt(v) + eps)
        return m / (np.sqrt(v / correction) + eps)

    def rms_step(self, gradient: np.ndarray, alpha: float, eps: float) -> np.ndarray:
        """What RMSprop subtracts from the weights, per unit of learning rate."""
        self.second = alpha * self.second + (1 - alpha) * gradient**2
        return gradient / (np.sqrt(self.second) + eps)


class NaiveOracle(Oracle):
    """
    One gradient step on the mean squared error to a target that moves only the taken action.

    :param network: What the network is like.
    :param policy: Where its first weights are taken from.
    :param rule: The numbers of the update rule.
    """

    def __init__(self, network: Network, policy: QPolicy, rule: Naive) -> None:
        super().__init__(network, policy)
        self.rule = rule
        self.moments = Moments(self)

    def learn_mean(self, batch: Transition, envs: list[int]) -> list[float]:
        rule, n_transitions = self.rule, len(envs)
        td_errors, mean_gradient = [], np.zeros_like(self.weights)
        for i in envs:
            action = batch.actions[i]
            obs = one_of(batch.obs, i)
            next_value = self.bootstrap(batch, i, masked=not rule.bootstrap_at_terminal)
            q_values = self.q_values(obs)
            td_error = batch.rewards[i] + rule.gamma * next_value - q_values[action]
            value = self.value(q_values, row_of(batch.action_masks, i))
            td_error -= rule.advantage_gap * (value - q_values[action])
            td_errors.append(float(td_error))
            # The loss is the mean over actions and transitions of (target − q)²
            target = q_values.copy()
            target[action] += rule.q_step_size * td_error
            for k in range(self.network.n_actions):
                slope = 2 * (q_values[k] - target[k]) / (n_transitions * self.network.n_actions)
                if slope != 0:
                    mean_gradient += slope * self.gradient(obs, k)
        if rule.max_grad_norm is not None:
            norm = np.linalg.norm(mean_gradient)
            mean_gradient *= min(1.0, rule.max_grad_norm / (norm + 1e-6))
        step = mean_gradient
        if rule.optimizer_class is th.optim.RMSprop:
            step = self.moments.rms_step(mean_gradient, **rule.optimizer_kwargs)
        elif rule.optimizer_kwargs:  # one of the Adams
            kind = rule.optimizer_class
            step = self.moments.step(mean_gradient, **rule.optimizer_kwargs, kind=kind)
        self.weights = self.weights - rule.learning_rate * step
        return td_errors


class StreamOracle(Oracle):
    """
    Q(λ) with eligibility traces, normalised observations and rewards, and optimisers for traces.

    :param network: What the network is like.
    :param policy: Where its first weights are taken from.
    :param rule: The numbers of the update rule.
    :param n_envs: Number of environments.
    """

    def __init__(self, network: Network, policy: QPolicy, rule: Stream, n_envs: int) -> None:
        super().__init__(network, policy)
        self.rule, self.n_envs = rule, n_envs
        self.normalizes_observations = rule.normalize_observations
        space = network.observation_space
        self.is_local = (
            rule.local_values is None
            and isinstance(space, spaces.Box)
            and network.convolutions is None
            and rule.normalize_observations
            and bool(rule.normalize_rewards)
        )
        self.moments = Moments(self)
        self.returns_seen: list[float] = []
        self.rewards_seen: list[float] = []
        self.td_errors_seen: list[float] = []
        self.squares_seen: list[np.ndarray] = []
        self.squared_norms_seen: list[float] = []
        self.traces = np.zeros((n_envs, len(self.weights)))
        self.returns = [0.0] * n_envs
        self.average, self.n_averaged = self.weights, 0

    def begin(self, batch: Transition) -> None:
        self.traces[:] = 0.0
        self.returns = [0.0] * self.n_envs
        for i in range(self.n_envs):
            self.observe(one_of(batch.obs, i))

    @property
    def reward_scale(self) -> float:
        kind, rewards = self.rule.normalize_rewards, np.array(self.rewards_seen)
        if not kind:
            return 1.0
        variance = np.var(self.returns_seen, ddof=1) if len(rewards) > 1 else 1.0
        deviation = np.sqrt(variance + STATISTICS_EPS)
        if kind == "return_deviation" or len(rewards) == 0:
            return float(deviation)
        root_mean_square = np.sqrt(np.mean(rewards**2) + STATISTICS_EPS)
        if kind == "reward_rms":
            return float(root_mean_square)
        share = self.cost_share
        return float(deviation ** (1 - share) * root_mean_square**share)

    def scaled(self, reward: float) -> float:
        return reward / self.reward_scale

    def value(self, q_values: np.ndarray, mask: np.ndarray | None = None) -> float:
        if self.rule.target == "max" or not (mask is None or mask.any()):
            return super().value(q_values, mask)
        if mask is not None:
            q_values = q_values[mask]
        # ε-greedily, every action is taken with probability ε/n, the best one with 1 − ε besides.
        epsilon = self.rule.exploration_rate
        probabilities = np.full(len(q_values), epsilon / len(q_values))
        probabilities[q_values.argmax()] += 1 - epsilon
        return float(probabilities @ q_values)

    def learn_mean(self, batch: Transition, envs: list[int]) -> list[float]:
        rule = self.rule
        # Of s: by what was known when it came
        actions, observations = batch.actions, {i: one_of(batch.obs, i) for i in envs}
        masks = {i: row_of(batch.action_masks, i) for i in envs}
        explored = {i: self.greedy_action(observations[i], masks[i]) != actions[i] for i in envs}
        q_values = {i: self.q_values(observations[i]) for i in envs}
        taken = {i: q_values[i][actions[i]] for i in envs}
        gradients = {i: self.gradient(observations[i], actions[i]) for i in envs}
        gap = 0.9 * self.cost_share if rule.advantage_gap is None else rule.advantage_gap
        # Of s′ and r: after a look at both
        for i in envs:
            self.observe(one_of(batch.next_obs, i))
            self.returns[i] = rule.gamma * self.returns[i] + float(batch.rewards[i])
            self.returns_seen.append(self.returns[i])
            self.rewards_seen.append(float(batch.rewards[i]))
        if rule.normalize_rewards:
            mean, rewards = np.mean(self.rewards_seen), np.array(self.rewards_seen)
            self.cost_share = min(mean, 0) ** 2 / (np.mean(rewards**2) + STATISTICS_EPS)
        td_errors = [
            self.scaled(float(batch.rewards[i]))
            + rule.gamma * self.bootstrap(batch, i)
            - float(taken[i])
            - gap * (self.value(q_values[i], masks[i]) - float(taken[i]))
            for i in envs
        ]
        in_units_of_rewards = [td_error * self.reward_scale for td_error in td_errors]
        for i in envs:
            if explored[i] and rule.trace_cut == "watkins":
                self.traces[i] = 0.0
            self.traces[i] = rule.gamma * rule.trace_decay * self.traces[i] + gradients[i]
        self.move({i: self.clipped(d) for i, d in zip(envs, td_errors, strict=True)}, gradients)
        if rule.averaging_window is not None:
            # The window is so many transitions, of which this update learned from a few
            self.n_averaged += len(envs)
            n_updates = self.n_averaged / len(envs)
            share = min(max(5 / (n_updates + 4), len(envs) / rule.averaging_window), 1)
            self.average = (1 - share) * self.average + share * self.weights
        for i in envs:
            if batch.dones[i] or (explored[i] and rule.trace_cut == "after"):
                self.traces[i] = 0.0
            if batch.dones[i]:
                self.returns[i] = 0.0
        return in_units_of_rewards

    def clipped(self, td_error: float) -> float:
        rule = self.rule
        self.td_errors_seen.append(td_error)
        ages = np.arange(len(self.td_errors_seen))[::-1]
        mean_square = np.average(np.square(self.td_errors_seen), weights=0.9999**ages)
        clips = [np.inf if rule.td_error_clip is None else rule.td_error_clip]
        if rule.td_error_clip_rms is not None:
            clips.append(rule.td_error_clip_rms * np.sqrt(mean_square))
        return float(np.clip(td_error, -min(clips), min(clips)))

    def move(self, td_errors: dict[int, float], gradients: dict[int, np.ndarray]) -> None:
        """One step of the optimiser along the traces."""
        rule, kwargs, moments = self.rule, self.rule.optimizer_kwargs, self.moments
        update = sum(d * self.traces[i] for i, d in td_errors.items()) / len(td_errors)
        squares = np.mean([gradients[i] ** 2 for i in td_errors], axis=0)
        if rule.optimizer_class is TraceAdam:
            change = -moments.step(-update, **kwargs, kind=TraceAdam)
        elif rule.optimizer_class is AdaptiveQOptimizer:
            fade = rule.gamma * rule.trace_decay
            moments.second = fade * moments.second + (1 - fade) * squares
            change = update / (np.sqrt(moments.second) + kwargs["eps"])
        elif rule.optimizer_class is MaxScaledOptimizer:
            moments.first = np.maximum(kwargs["beta2"] * moments.first, np.abs(update))
            change = update / (moments.first + kwargs["eps"])
        elif rule.optimizer_class is IntentionalOptimizer:
            change = self.intentional(td_errors, squares)
        else:
            change = self.within_bounds(td_errors, update)
        self.weights = self.weights + rule.learning_rate * change

    def intentional(self, td_errors: dict[int, float], squares: np.ndarray) -> np.ndarray:
        """An intentional update; its running means are weighted means of everything seen."""
        rule, kwargs = self.rule, self.rule.optimizer_kwargs
        self.squares_seen.append(squares)
        ages = np.arange(len(self.squares_seen))[::-1]
        mean_square = np.average(self.squares_seen, axis=0, weights=kwargs["beta2"] ** ages)
        scale = 1 / (np.sqrt(mean_square) + kwargs["eps"])
        self.squared_norms_seen.append(float((squares * scale).sum()))
        fade = rule.gamma * rule.trace_decay
        sigma = np.average(self.squared_norms_seen, weights=fade**ages)
        change = np.zeros_like(self.weights)
        for i, td_error in td_errors.items():
            norm = np.sqrt(sigma * (self.traces[i] ** 2 * scale).sum())
            change += td_error * scale * self.traces[i] / max(norm, 1e-8) / len(td_errors)
        return change

    def within_bounds(self, td_errors: dict[int, float], update: np.ndarray) -> np.ndarray:
        """Overshooting-bounded gradient descent, adaptive or not."""
        rule, kwargs, scale = self.rule, self.rule.optimizer_kwargs, np.ones_like(self.weights)
        if rule.optimizer_class is AdaptiveObGD:
            self.moments.t += 1
            second = kwargs["beta2"] * self.moments.second + (1 - kwargs["beta2"]) * update**2
            self.moments.second = second
            correction = 1 - kwargs["beta2"] ** self.moments.t
            scale = (second / correction + kwargs["eps"]) ** -0.5
        else:
            assert rule.optimizer_class is ObGD
        change = np.zeros_like(self.weights)
        for i, td_error in td_errors.items():
            direction = self.traces[i] * scale
            delta_bar, norm = max(abs(td_error), 1.0), np.abs(direction).sum()
            bound = rule.learning_rate * kwargs["overshoot_factor"] * delta_bar * norm
            change += td_error * direction / max(1.0, bound) / len(td_errors)
        return change

    def assert_statistics(self, policy: QPolicy) -> None:
        """Compare the policy's running statistics with those of everything seen."""
        if self.td_errors_seen:
            ages = np.arange(len(self.td_errors_seen))[::-1]
            mean_square = np.average(np.square(self.td_errors_seen), weights=0.9999**ages)
            np.testing.assert_allclose(policy.td_errors.root**2, mean_square, rtol=1e-3, atol=1e-6)
        normalizer = getattr(policy, "reward_normalizer", None)
        if isinstance(normalizer, RewardNormalizer) and self.returns_seen:
            assert_moments(normalizer.return_statistics, np.array(self.returns_seen))
            assert_moments(normalizer.reward_statistics, np.array(self.rewards_seen))
            np.testing.assert_allclose(normalizer.returns, self.returns, rtol=1e-12, atol=1e-12)
        observations = getattr(policy.q_net, "observation_normalizer", None)
        if observations is not None:
            for statistics, seen in zip(
                observations.statistics.values(), self.seen.values(), strict=True
            ):
                assert_moments(statistics, np.array(seen))


def assert_moments(statistics: RunningStatistics, seen: np.ndarray) -> None:
    assert statistics.count.item() == len(seen)
    deviations = ((seen - seen.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(statistics.mean, seen.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(statistics.squared_deviations, deviations, rtol=1e-9, atol=1e-9)

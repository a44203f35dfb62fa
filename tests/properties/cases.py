"""What the properties hold over: networks, rules, spaces, and episodes scripted step by step."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch as th
from gymnasium import spaces
from hypothesis import strategies as st
from torch import nn

from dqn_plugins.environments import true_next_observation
from dqn_plugins.learning import (
    AutogradLearner,
    CompiledLearner,
    Learner,
    NaiveRule,
    Observation,
    Rule,
    StreamRule,
    Transition,
)
from dqn_plugins.policies import (
    AdaptiveObGD,
    AdaptiveQOptimizer,
    Convolution,
    ImageExtractor,
    IntentionalOptimizer,
    KerasAdam,
    MaxScaledOptimizer,
    MultiInputPolicy,
    ObGD,
    QPolicy,
    RewardScale,
    SparseInitializer,
    StreamMultiInputPolicy,
    StreamQPolicy,
    TraceAdam,
)

__all__ = [
    "NAIVE_OPTIMIZERS",
    "STREAM_OPTIMIZERS",
    "Batch",
    "End",
    "Naive",
    "Network",
    "Script",
    "Stream",
    "boxes",
    "draw_observation",
    "images",
    "make_learner",
    "make_policy",
    "naive_rules",
    "networks",
    "optimizers",
    "others",
    "play",
    "scripts",
    "stack",
    "stream_rules",
]

End = Literal["", "terminated", "truncated", "both"]


# Spaces

# float16 and whole numbers are kept small, because nothing else in these numbers is.
BOXES = [
    *(spaces.Box(-np.inf, np.inf, shape, np.float32) for shape in [(1,), (4,), (2, 3)]),
    spaces.Box(-np.inf, np.inf, (3,), np.float64),
    spaces.Box(-10.0, 10.0, (3,), np.float16),
    spaces.Box(0, 9, (3,), np.uint8),
    spaces.Box(-5, 5, (2, 2), np.int16),
    spaces.Box(-5, 5, (3,), np.int64),
    spaces.Box(0, 1, (4,), np.bool_),
]
OTHERS: list[spaces.Space[Any]] = [
    spaces.Discrete(1),
    spaces.Discrete(5),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(4),
    spaces.Dict(
        {
            "position": BOXES[1],
            "count": spaces.Box(0, 9, (2,), np.int32),
            "kind": spaces.Discrete(3),
            "pair": spaces.MultiDiscrete([2, 2]),
            "flags": spaces.MultiBinary(3),
        }
    ),
]
IMAGES = [
    spaces.Box(0, 1, (5, 6, 3), np.bool_),
    spaces.Box(0, 255, (6, 5, 2), np.uint8),
    spaces.Box(0, 255, (2, 6, 5), np.uint8),
    spaces.Box(-np.inf, np.inf, (1, 5, 5), np.float32),
]
boxes = st.sampled_from(BOXES)
images = st.sampled_from(IMAGES)
others = st.sampled_from(OTHERS)


def draw_observation(space: spaces.Space[Any], rng: np.random.Generator) -> Any:
    """One observation, its real numbers normal and such as float32 holds exactly."""
    if isinstance(space, spaces.Dict):
        return {key: draw_observation(part, rng) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Box):
        if np.issubdtype(space.dtype, np.floating):
            return rng.normal(size=space.shape).astype(np.float32).astype(space.dtype)
        if space.dtype == np.bool_:
            return rng.integers(2, size=space.shape).astype(space.dtype)
        return rng.integers(space.low, space.high, endpoint=True).astype(space.dtype)
    if isinstance(space, spaces.Discrete):
        return np.int64(rng.integers(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return rng.integers(space.nvec).astype(space.dtype)
    assert isinstance(space, spaces.MultiBinary)
    return rng.integers(2, size=space.shape).astype(space.dtype)


def stack(observations: list[Any]) -> Observation:
    """Observations as a ``VecEnv`` puts them together."""
    if isinstance(observations[0], dict):
        return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}
    return np.stack(observations)


# Networks and rules


@dataclass(frozen=True)
class Network:
    """A Q-network, its first weights and what it is fed."""

    observation_space: spaces.Space[Any]
    n_actions: int
    net_arch: list[int]
    activation_fn: type[nn.Module]
    layer_norm: bool
    layer_norm_affine: bool
    sparsity: float | None
    seed: int
    convolutions: tuple[Convolution, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Naive(NaiveRule):
    """The naive update rule, with an optimiser."""

    optimizer_class: type[th.optim.Optimizer]
    optimizer_kwargs: dict[str, Any]
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Stream(StreamRule):
    """Stream Q(λ)'s update rule, with an optimiser, and what its policy and ε are like."""

    optimizer_class: type[th.optim.Optimizer]
    optimizer_kwargs: dict[str, Any]
    learning_rate: float
    exploration_rate: float
    normalize_observations: bool
    normalize_rewards: RewardScale | Literal[False]
    averaging_window: int | None
    local_values: bool | None


@st.composite
def networks(draw: st.DrawFn, observation_spaces: st.SearchStrategy[Any]) -> Network:
    # Layer normalisation of one or two units gives constants, whose gradient is nothing but
    # rounding.
    layer_norm = draw(st.booleans())
    least = 3 if layer_norm else 1
    n_units = st.integers(least, 6)
    space, convolutions = draw(observation_spaces), None
    most_layers = 3
    if space in IMAGES:
        # One normalised map after another and another of a few units multiply rounding, torch's
        # more than ours.
        most_layers, n_units = 1, st.integers(5, 6)
        side, convolutions = min(sorted(space.shape)[1:]), ()
        for _ in range(draw(st.integers(1, 2))):
            padding = draw(st.sampled_from(["valid", "same"]))
            stride = 1 if padding == "same" else draw(st.integers(1, 2))
            kernel_size = draw(st.integers(1, min(4, side)))
            convolutions += (
                Convolution(draw(st.integers(least, 4)), kernel_size, stride, padding),
            )
            if padding == "valid":
                side = (side - kernel_size) // stride + 1
    return Network(
        observation_space=space,
        convolutions=convolutions,
        n_actions=draw(st.integers(1, 4)),
        net_arch=draw(st.lists(n_units, max_size=most_layers)),
        activation_fn=draw(st.sampled_from([nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.SiLU])),
        layer_norm=layer_norm,
        layer_norm_affine=layer_norm and draw(st.booleans()),
        sparsity=draw(st.sampled_from([None, 0.5])),
        seed=draw(st.integers(0, 2**31)),
    )


# With layer normalisation or dead units some gradients are zero but for rounding. Adam's default
# eps of 1e-8 would divide such noise by itself, and the two learners would rightly differ by whole
# steps; with an eps far above the noise they may not.
EPS = [1e-3, 1e-2]
BETAS = [(0.9, 0.999), (0.0, 0.9), (0.8, 0.5)]
updates = st.sampled_from(["each", "mean"])
advantage_gaps = st.sampled_from([0.0, 0.5, 0.9])
UNIT_INTERVAL = st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0])


def optimizers(kind: Any, rates: Any, **settings: Any) -> st.SearchStrategy[Any]:
    """An optimiser, its settings, and a learning rate, by the names of a rule's fields."""
    drawn = {name: st.sampled_from(values) for name, values in settings.items()}
    return st.fixed_dictionaries(
        {
            "optimizer_class": st.just(kind),
            "optimizer_kwargs": st.fixed_dictionaries(drawn),
            "learning_rate": st.sampled_from(rates),
        }
    )


RATES, BETA2 = [1e-3, 1e-2], [0.5, 0.999]
# Below 1, steps overshoot on purpose, and differences of the last bit grow with them.
BOUNDED: dict[str, Any] = {"rates": [0.01, 1.0], "overshoot_factor": [1.0, 2.0]}
NAIVE_OPTIMIZERS = [
    *(
        optimizers(kind, RATES, betas=BETAS, eps=EPS)
        for kind in (th.optim.Adam, KerasAdam, th.optim.RAdam)
    ),
    optimizers(th.optim.SGD, RATES),
    optimizers(th.optim.RMSprop, RATES, alpha=[0.5, 0.99], eps=EPS),
]
STREAM_OPTIMIZERS = [
    optimizers(TraceAdam, RATES, betas=BETAS, eps=EPS),
    optimizers(ObGD, **BOUNDED),
    optimizers(AdaptiveObGD, **BOUNDED, beta2=BETA2, eps=[1e-4, 1e-2]),
    optimizers(AdaptiveQOptimizer, RATES, eps=[1e-2, 0.1]),
    optimizers(IntentionalOptimizer, [0.01, 0.25], beta2=BETA2, eps=EPS),
    optimizers(MaxScaledOptimizer, RATES, beta2=BETA2, eps=EPS),
]


def naive_rules(optimizer: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Naive]:
    return optimizer.flatmap(
        lambda optimizer: st.builds(
            partial(Naive, **optimizer),
            gamma=UNIT_INTERVAL,
            q_step_size=st.sampled_from([0.0, 0.1, 1.0]),
            bootstrap_at_terminal=st.booleans(),
            max_grad_norm=st.sampled_from([None, 0.05]),
            update=updates,
            advantage_gap=advantage_gaps,
        )
    )


def stream_rules(optimizer: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Stream]:
    return optimizer.flatmap(
        lambda optimizer: st.builds(
            partial(Stream, **optimizer),
            gamma=UNIT_INTERVAL,
            trace_decay=UNIT_INTERVAL,
            trace_cut=st.sampled_from(["after", "watkins", "never"]),
            td_error_clip=st.sampled_from([None, 0.5]),
            td_error_clip_rms=st.sampled_from([None, 0.5, 2.0]),
            target=st.sampled_from(["max", "expected"]),
            exploration_rate=st.sampled_from([0.0, 0.3, 1.0]),
            normalize_observations=st.booleans(),
            normalize_rewards=st.sampled_from([False, *get_args(RewardScale)]),
            averaging_window=st.sampled_from([None, 1, 3]),
            local_values=st.sampled_from([None, False]),
            update=updates,
            advantage_gap=st.one_of(st.none(), advantage_gaps),
        )
    )


def make_policy(network: Network, rule: Naive | Stream) -> QPolicy:
    """A new policy; the same arguments give the same first weights."""
    th.manual_seed(network.seed)
    is_dict = isinstance(network.observation_space, spaces.Dict)
    kwargs: dict[str, Any] = {
        "net_arch": network.net_arch,
        "activation_fn": network.activation_fn,
        "layer_norm": network.layer_norm,
        "layer_norm_affine": network.layer_norm_affine,
        "weight_initializer": (
            None if network.sparsity is None else SparseInitializer(network.sparsity)
        ),
        "optimizer_class": rule.optimizer_class,
        "optimizer_kwargs": rule.optimizer_kwargs,
    }
    if network.convolutions is not None:
        kwargs["features_extractor_class"] = ImageExtractor
        kwargs["features_extractor_kwargs"] = {"convolutions": network.convolutions}
    arguments = (
        network.observation_space,
        spaces.Discrete(network.n_actions),
        lambda _: rule.learning_rate,
    )
    if isinstance(rule, Naive):
        policy = (MultiInputPolicy if is_dict else QPolicy)(*arguments, **kwargs)
    else:
        policy = (StreamMultiInputPolicy if is_dict else StreamQPolicy)(
            *arguments,
            **kwargs,
            normalize_observations=rule.normalize_observations,
            normalize_rewards=rule.normalize_rewards,
            averaging_window=rule.averaging_window,
            local_values=rule.local_values,
        )
    for module in policy.q_net.modules():
        if network.layer_norm_affine and type(module) is nn.LayerNorm and module.bias is not None:
            nn.init.uniform_(module.weight, 0.5, 2.0)  # at first they are 1 and 0
            nn.init.normal_(module.bias)
    if getattr(policy, "average_q_net", None) is not None:
        policy.average_q_net.load_state_dict(policy.q_net.state_dict())
    return policy


def make_learner(policy: QPolicy, rule: Naive | Stream, n_envs: int, backend: str) -> Learner:
    """The learner that applies a rule to a policy."""
    kind: type[Rule] = NaiveRule if isinstance(rule, Naive) else StreamRule
    numbers = kind(*(getattr(rule, field.name) for field in fields(kind)))
    learner: Learner = (CompiledLearner if backend == "compiled" else AutogradLearner)(
        policy, numbers, n_envs
    )
    if isinstance(rule, Stream):
        learner.set_exploration_rate(rule.exploration_rate)
    return learner


# Episodes, step by step


@dataclass(frozen=True)
class Script:
    """
    What happens in each environment at each step.

    :param n_envs: Number of environments.
    :param ends: For each step, how it ends each environment's episode, "" for not.
    :param resets: For each step, whether all environments are reset from outside before it.
    :param skips: For each step, which environments make no transition in it.
    :param exploration: Probability of an action that is not the greedy one.
    :param reward_scale: Standard deviation of the rewards.
    :param masked: Whether some actions are impossible.
    :param seed: Seed of the observations, actions and rewards.
    """

    n_envs: int
    ends: list[tuple[End, ...]]
    resets: list[bool]
    skips: list[tuple[bool, ...]]
    exploration: float
    reward_scale: float
    masked: bool
    seed: int


@st.composite
def scripts(draw: st.DrawFn, max_steps: int = 10, max_envs: int = 3, masks: bool = False) -> Script:
    n_envs = draw(st.integers(1, max_envs))
    n_steps = draw(st.integers(1, max_steps))
    end = st.sampled_from(["", "", "", "terminated", "truncated", "both"])
    ends = st.lists(st.tuples(*[end] * n_envs), min_size=n_steps, max_size=n_steps)
    reset = st.sampled_from([False] * 9 + [True])
    skip = st.sampled_from([False] * 7 + [True])
    return Script(
        n_envs=n_envs,
        ends=draw(ends),
        resets=draw(st.lists(reset, min_size=n_steps, max_size=n_steps)),
        skips=draw(st.lists(st.tuples(*[skip] * n_envs), min_size=n_steps, max_size=n_steps)),
        exploration=draw(st.sampled_from([0.0, 0.3, 1.0])),
        reward_scale=draw(st.sampled_from([0.0, 1.0, 30.0])),
        masked=masks and draw(st.booleans()),
        seed=draw(st.integers(0, 2**31)),
    )


class Batch(NamedTuple):
    """
    One step of a script.

    :param begins: Whether episodes begin in all environments.
    :param transition: What a learner is given, with random actions.
    :param explores: In which environments these are taken.
    """

    begins: bool
    transition: Transition
    explores: np.ndarray

    def acted(self, greedy_actions: Any) -> "Batch":
        """The same with other actions where these are not taken."""
        actions = np.where(self.explores, self.transition.actions, greedy_actions)
        return self._replace(transition=self.transition._replace(actions=actions))


def play(script: Script, network: Network) -> Iterator[Batch]:
    """
    Play a script as a ``VecEnv`` would: it resets by itself, and hands the last observation of an
    episode over in the information dictionary. A step that is no transition begins an episode.
    """
    rng = np.random.default_rng(script.seed)

    def draw_all() -> list[Any]:
        space = network.observation_space
        return [draw_observation(space, rng) for _ in range(script.n_envs)]

    mask_rng = np.random.default_rng((script.seed, 1))

    def draw_masks() -> np.ndarray:
        masks = mask_rng.random((script.n_envs, network.n_actions)) < 0.6
        masks[range(script.n_envs), mask_rng.integers(network.n_actions, size=script.n_envs)] = True
        return masks

    obs, masks = stack(draw_all()), draw_masks()
    steps = zip(script.ends, script.resets, script.skips, strict=True)
    for step, (planned_ends, forced_reset, skips) in enumerate(steps):
        ends = ["" if skip else end for end, skip in zip(planned_ends, skips, strict=True)]
        begins = step == 0 or forced_reset
        if forced_reset:
            obs, masks = stack(draw_all()), draw_masks()
        last, first = draw_all(), draw_all()
        dones = np.array([end != "" for end in ends])
        new_obs = stack([f if end else n for n, f, end in zip(last, first, ends, strict=True)])
        infos: list[dict[str, Any]] = [
            {"terminal_observation": n, "TimeLimit.truncated": end == "truncated"} if end else {}
            for n, end in zip(last, ends, strict=True)
        ]
        next_obs, terminated = true_next_observation(new_obs, dones, infos)
        rewards = (script.reward_scale * rng.normal(size=script.n_envs)).astype(np.float32)
        explores = rng.random(script.n_envs) < script.exploration
        random_actions = rng.integers(network.n_actions, size=script.n_envs)
        all_masks: tuple[np.ndarray, ...] = ()
        if script.masked:
            next_masks, new_masks = draw_masks(), draw_masks()
            new_masks[~dones] = next_masks[~dones]
            # At an episode's end, nothing need be possible.
            next_masks[dones & (mask_rng.random(script.n_envs) < 0.5)] = False
            all_masks = masks, next_masks, new_masks
            chances = mask_rng.random(masks.shape)
            random_actions = np.where(masks, chances, -1.0).argmax(axis=1)
        transition = Transition(
            *(obs, random_actions, rewards, next_obs, terminated, dones, new_obs, ~np.array(skips)),
            *(begun if (begun := dones | skips).any() else None, 0, *all_masks),
        )
        yield Batch(begins, transition, explores)
        obs = new_obs
        if script.masked:
            masks = new_masks

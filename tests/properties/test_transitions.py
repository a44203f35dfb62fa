"""Every transition that the environments played is learned from once, in order, as it was."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins.learning import Transition
from tests.algorithms import ALGORITHMS
from tests.properties.oracle import one_of
from tests.properties.tagged_env import SPACES, MaskingEnv, TaggedEnv, encode, mask_of


class Noted(NamedTuple):
    """What a learner was given for one environment."""

    obs: Any
    action: int
    reward: float
    next_obs: Any
    terminated: bool
    done: bool
    new_obs: Any
    valid: bool
    begun: bool
    masks: tuple[Any, ...]


class NotingModel:
    """Makes a model note down what its learners learn from."""

    def _replace_learner(self, n_envs: int) -> None:
        super()._replace_learner(n_envs)  # type: ignore[misc]
        learn = self._learner.learn  # type: ignore[has-type]
        noted = self.__dict__.setdefault("noted", [])

        def noting(transition: Transition) -> np.ndarray:
            result = learn(transition)
            # Only what did not raise was learned.
            *parts, valid, begun, first = transition[:10]
            assert first == 0
            begun = np.zeros(len(valid), bool) if begun is None else begun
            parts += [valid, begun]
            masks = list(zip(*transition[10:], strict=True)) if transition[10] is not None else []
            parts.append(masks or [()] * len(valid))
            noted.append([Noted(*(one_of(part, i) for part in parts)) for i in range(len(valid))])
            return result

        self._learner.learn = noting


ROWS = [
    replace(row, algorithm=type(row.algorithm.__name__, (NotingModel, row.algorithm), {}))
    for row in ALGORITHMS
]


@dataclass(frozen=True)
class Call:
    """
    One call of ``learn``.

    :param steps: Steps of each environment.
    :param starts_anew: Whether it counts from 0 and resets the environments.
    :param callback: "none", one that looks, one that stops after a step, or one that raises.
    """

    steps: int
    starts_anew: bool
    callback: Literal["none", "looks", "stops", "raises"]

    def run(self, model: Any) -> None:
        callbacks: dict[str, Callable[..., bool] | None] = {
            "none": None,
            "looks": lambda *_: True,
            "stops": lambda *_: False,
            "raises": self.interrupt,
        }
        goal = self.steps * model.n_envs
        with contextlib.suppress(RuntimeError, KeyboardInterrupt):
            model.learn(goal, callbacks[self.callback], reset_num_timesteps=self.starts_anew)

    @staticmethod
    def interrupt(*_: Any) -> bool:
        raise KeyboardInterrupt


end = st.sampled_from(["", "", "", "terminated", "truncated", "both"])
calls = st.lists(
    st.builds(
        Call,
        steps=st.integers(1, 8),
        starts_anew=st.booleans(),
        callback=st.sampled_from(["none", "none", "looks", "stops", "raises"]),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def env_lists(draw: st.DrawFn, observation_spaces: list[spaces.Space[Any]]) -> list[TaggedEnv]:
    space = draw(st.sampled_from(observation_spaces))
    # The first environment raises, before any other has stepped: nobody would hear of their steps.
    raises_at: Iterator[frozenset[int]] = iter([draw(st.frozensets(st.integers(0, 9), max_size=2))])
    kind, tells_masks = draw(st.sampled_from([TaggedEnv, MaskingEnv])), draw(st.booleans())
    return [
        kind(
            space,
            draw(st.lists(end, min_size=1, max_size=8)),
            next(raises_at, frozenset()),
            tells_masks,
        )
        for _ in range(draw(st.integers(1, 3)))
    ]


def in_vector_env(autoreset_mode: AutoresetMode) -> Callable[[list[TaggedEnv]], SyncVectorEnv]:
    return lambda envs: SyncVectorEnv(
        [lambda env=env: env for env in envs], autoreset_mode=autoreset_mode
    )


ROUTES: dict[str, Callable[[list[TaggedEnv]], Any]] = {
    "single": lambda envs: envs[0],
    "dummy": lambda envs: DummyVecEnv([lambda env=env: env for env in envs]),
    "next step": in_vector_env(AutoresetMode.NEXT_STEP),
    "same step": in_vector_env(AutoresetMode.SAME_STEP),
    "disabled": in_vector_env(AutoresetMode.DISABLED),
}
"""The ways in which environments can be given to a model."""


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.algorithm.__name__)
@pytest.mark.parametrize("backend", ["torch", "compiled"])
@given(data=st.data())
def test_every_transition_is_learned_once_in_order_and_as_it_was(row, backend, data):
    compilable = [space for space in SPACES if isinstance(space, spaces.Box)]
    envs = data.draw(env_lists(compilable if backend == "compiled" else SPACES))
    space = envs[0].observation_space
    together = data.draw(st.sampled_from([*ROUTES] if len(envs) == 1 else [*ROUTES][1:]))
    model = row.make(
        ROUTES[together](envs),
        "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy",
        learning_rate=1e-5,
        exploration_initial_eps=0.5,
        policy_kwargs={"net_arch": [3]},
        backend=backend,
    )
    for call in data.draw(calls):
        call.run(model)
    steps = model.__dict__.get("noted", [])
    n_transitions = sum(noted.valid for step in steps for noted in step)
    assert n_transitions == sum(len(env.transitions) for env in envs)
    assert model._n_updates == n_transitions or row.rollout > 1
    for i, env in enumerate(envs):
        learned = [step[i] for step in steps if step[i].valid]
        for noted, played in zip(learned, env.transitions, strict=True):
            numbers = (noted.action, noted.reward, noted.terminated, noted.done)
            assert numbers == (played.action, played.reward, played.terminated, played.done)
            assert same(noted.obs, encode(space, played.obs))
            assert same(noted.next_obs, encode(space, played.next_obs))
            # What is acted on next: the first observation of the next episode has the next number.
            begins_now = played.done and together != "next step"
            assert same(noted.new_obs, encode(space, played.next_obs + begins_now))
            assert noted.begun == begins_now
            numbers = (played.obs, played.next_obs, played.next_obs + begins_now)
            expected = [mask_of(number) for number in numbers] if env.is_masked else []
            assert np.array_equal(noted.masks, expected)
        # Where the next step resets, it is no transition, and an episode begins.
        for before, noted in itertools.pairwise(steps):
            if not noted[i].valid:
                assert together == "next step"
                assert before[i].done
                assert noted[i].begun

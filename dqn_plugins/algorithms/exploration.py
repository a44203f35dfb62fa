"""ε-greedy actions: with what probability, for how long, and by whose random numbers."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

from dqn_plugins.arguments import check_in_unit_interval, check_one_of, is_integer
from dqn_plugins.learning import Learner, Observation, Transition
from dqn_plugins.policies import QPolicy

__all__ = ["EpsilonGreedy", "Exploration"]

Exploration: TypeAlias = Literal["epsilon_greedy", "extended", "extended_when_stuck"]
"""For how long a random action is taken. See :class:`EpsilonGreedy`."""

RECENT_EPISODES = 20
LONGEST_DURATION = 10_000


class EpsilonGreedy(BaseAlgorithm):
    """
    The part of an algorithm that chooses actions. Each environment tosses its own coin.

    With probability ε an action is random. It is taken

    - "epsilon_greedy": once;
    - "extended": for ``exploration_duration`` steps, or until the episode ends (Dabney, Ostrovski
      and Barreto, 2021, arXiv 2006.01782): of what lies many equal actions away, steps that are
      random each by itself find nothing;
    - "extended_when_stuck": likewise, but only while the agent is stuck, and else once. How stuck
      it is, from 0 to 1, is the share of the last 20 episodes that were both the longest and the
      worst seen so far: they had all the time there is, and it made no difference. It is also the
      probability of holding an action; and while the agent is stuck, ε does not fall below
      ``exploration_stuck_eps`` times it.

    One generator explores while learning, another in ``predict``: evaluating a model must not
    change how it goes on learning.
    """

    exploration: Exploration = "epsilon_greedy"
    exploration_duration: int | None = None
    exploration_stuck_eps: float = 0.0
    policy: QPolicy
    exploration_fraction: float
    exploration_initial_eps: float
    exploration_final_eps: float
    exploration_rate: float
    exploration_schedule: Schedule
    _learner: Learner
    _n_actions: int
    _exploration_rng: np.random.Generator | None = None
    _predict_rng: np.random.Generator | None = None
    _rng_seed: int | None = None

    def _check_exploration(self) -> None:
        for name in ("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"):
            check_in_unit_interval(name, getattr(self, name))
        check_one_of("exploration", self.exploration, get_args(Exploration), "Try the default.")
        check_in_unit_interval("exploration_stuck_eps", self.exploration_stuck_eps)
        duration = self.exploration_duration
        if duration is not None and not (is_integer(duration) and duration >= 1):
            raise ValueError(
                f"exploration_duration: received {duration!r}, it must be an integer of at least "
                "1, or None to draw it from a zeta distribution. Try 16."
            )

    def _setup_exploration(self) -> None:
        """Make the schedule, and what a loaded model did not bring."""
        if not hasattr(self, "_recent_episodes"):
            self._held, self._recent_episodes = HeldActions(), RecentEpisodes()
            self._begin_exploring(self.n_envs)
        if self.exploration_fraction > 0:
            self.exploration_schedule = LinearSchedule(
                self.exploration_initial_eps, self.exploration_final_eps, self.exploration_fraction
            )
        else:
            self.exploration_schedule = ConstantSchedule(self.exploration_final_eps)
        loaded = self._exploration_rng, self._predict_rng
        self.set_random_seed(self.seed)
        if None not in loaded and self._rng_seed == self.seed:
            self._exploration_rng, self._predict_rng = loaded
        elif self.seed is None:
            self._seed_generators(None)

    def _seed_generators(self, seed: int | None) -> None:
        exploration, predict = np.random.SeedSequence(seed).spawn(2)
        self._exploration_rng = np.random.default_rng(exploration)
        self._predict_rng = np.random.default_rng(predict)
        self._rng_seed = seed

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed everything random: Python, NumPy, torch, the environment and the exploration.

        :param seed: The seed; None changes nothing.
        """
        super().set_random_seed(seed)
        if seed is not None:
            self._seed_generators(seed)

    def _set_exploration_rate(self, exploration_rate: float) -> None:
        if exploration_rate != self.exploration_rate:
            self.exploration_rate = exploration_rate
            self._learner.set_exploration_rate(exploration_rate)

    def _begin_exploring(self, n_envs: int) -> None:
        """Hold no action any more: episodes begin in all environments."""
        self._held.begin(n_envs)
        self._recent_episodes.begin(n_envs)

    def _explore_on(self, transition: Transition) -> None:
        """Take note of what exploration led to."""
        if self.exploration != "epsilon_greedy":
            for env_index in self._recent_episodes.follow(transition):
                self._held.steps[env_index] = 0

    @property
    def _smallest_exploration_rate(self) -> float:
        if self.exploration == "extended_when_stuck":
            return self.exploration_stuck_eps * self._recent_episodes.stuck
        return 0.0

    def _choose_actions(self, obs: Observation, first_env_index: int = 0) -> np.ndarray:
        """
        Choose actions by the newest weights, ε-greedily.

        :param obs: Observations, shape (n, ...).
        :param first_env_index: Index of the environment of the first one.
        :return: Actions, shape (n,), int64.
        """
        assert self._exploration_rng is not None
        toss, epsilon, held = self._exploration_rng.random, self.exploration_rate, self._held
        actions = self._learner.greedy_actions(obs)
        if self.exploration == "epsilon_greedy" and len(actions) > 1:
            # The same draws as one after the other
            draws = toss(len(actions))
            explore = draws < epsilon
            actions[explore] = draws[explore] / epsilon * self._n_actions
            return actions
        for row in range(len(actions)):
            env_index = first_env_index + row
            if held.steps[env_index] > 0:
                held.steps[env_index] -= 1
                actions[row] = held.actions[env_index]
            elif (draw := toss()) < epsilon:
                # Below ε, the draw divided by ε is again uniform in [0, 1).
                actions[row] = held.actions[env_index] = int(draw / epsilon * self._n_actions)
                held.steps[env_index] = self._draw_duration() - 1
        return actions

    def _draw_duration(self) -> int:
        """For how many steps to take a random action."""
        assert self._exploration_rng is not None
        if self.exploration == "epsilon_greedy":
            return 1
        if self.exploration == "extended_when_stuck":
            stuck = self._recent_episodes.stuck
            if stuck == 0.0 or self._exploration_rng.random() >= stuck:
                return 1
        if self.exploration_duration is not None:
            return self.exploration_duration
        return min(int(self._exploration_rng.zipf(2.0)), LONGEST_DURATION)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose actions, ε-greedily or greedily.

        :param observation: One observation, or one per environment, shape (n_envs, ...).
        :param state: Handed back; for recurrent policies.
        :param episode_start: Without effect; for recurrent policies.
        :param deterministic: Whether to always take the greedy action. Otherwise each environment
            tosses its own coin and takes a random action with probability ``exploration_rate``.
        :return: The actions, shape () or (n_envs,), int64, and ``state``.
        """
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if not deterministic:
            assert self._predict_rng is not None
            n_actions = self.action_space.n  # type: ignore[attr-defined]
            actions = np.array(actions)
            explore = self._predict_rng.random(actions.shape) < self.exploration_rate
            random_actions = self._predict_rng.integers(n_actions, size=actions.shape)
            actions = np.where(explore, random_actions, actions)
        return actions, state


@dataclass
class HeldActions:
    """The random actions that were taken last, and for how many steps more they are taken."""

    actions: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def begin(self, n_envs: int) -> None:
        """Hold none, in any environment."""
        self.actions, self.steps = [0] * n_envs, [0] * n_envs


@dataclass
class RecentEpisodes:
    """
    Returns and lengths of the last episodes, and how stuck an agent is that has them.

    :param last: The last ones: return and length.
    :param worst: The worst return of all.
    :param longest: The greatest length of all, in steps.
    :param returns: Return so far of each environment's episode.
    :param lengths: Length so far of each environment's episode, in steps.
    :param stuck: Share of the last ones, one left out, that equal the worst and the longest.
    """

    last: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT_EPISODES))
    worst: float = float("inf")
    longest: int = 0
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    stuck: float = 0.0

    def begin(self, n_envs: int) -> None:
        """Begin episodes in all environments."""
        self.returns, self.lengths = [0.0] * n_envs, [0] * n_envs

    def follow(self, transition: Transition) -> list[int]:
        """Take in rewards; return in which environments an episode ended."""
        ended = []
        dones, valid = transition.dones.tolist(), transition.valid.tolist()
        for row, reward in enumerate(transition.rewards.tolist()):
            if valid[row]:
                env_index = transition.first_env_index + row
                self.returns[env_index] += reward
                self.lengths[env_index] += 1
                if dones[row]:
                    self._end(env_index)
                    ended.append(env_index)
        return ended

    def _end(self, env_index: int) -> None:
        episode = self.returns[env_index], self.lengths[env_index]
        self.returns[env_index], self.lengths[env_index] = 0.0, 0
        self.last.append(episode)
        self.worst, self.longest = min(self.worst, episode[0]), max(self.longest, episode[1])
        # One episode is the worst and the longest in any case.
        n_others = len(self.last) - 1
        n_stuck = self.last.count((self.worst, self.longest)) - 1
        self.stuck = max(n_stuck, 0) / n_others if n_others else 0.0

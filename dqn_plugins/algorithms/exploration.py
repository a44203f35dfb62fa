"""ε-greedy actions: with what probability, for how long, and by whose random numbers."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from dqn_plugins.learning import Transition

__all__ = ["EpsilonGreedy", "Exploration", "HeldActions", "RecentEpisodes"]

Exploration: TypeAlias = Literal["epsilon_greedy", "extended", "extended_when_stuck"]
"""For how long a random action is taken. See :class:`EpsilonGreedy`."""

RECENT_EPISODES = 20
LONGEST_DURATION = 10_000
LONG_FIRST_EPISODE = 1_000
"""Before an episode has ended, what the running ones are measured against: no reward, and as many
steps as most time limits allow."""


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

    :param last: The last ones that ended: return and length.
    :param worst: The worst return of all that ended.
    :param longest: The greatest length of all that ended, in steps.
    :param best_of_longest: The best return of those that were as long.
    :param best_of_shorter: The best return of those that were not.
    :param returns: Return so far of each environment's episode.
    :param lengths: Length so far of each environment's episode, in steps.
    :param stuck: Share of the last ones, one left out, that equal the worst and the longest. An
        episode that still runs counts too, k times, once it is worse than the worst and k times as
        long as the longest, if k is at least 2: it has had the time of k episodes.
    :param lingering: The same share, but of episodes that were the longest and either the worst or
        worse than a shorter one: they spent time on what is done better in less.
    """

    last: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT_EPISODES))
    worst: float = float("inf")
    longest: int = 0
    best_of_longest: float = -float("inf")
    best_of_shorter: float = -float("inf")
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    stuck: float = 0.0
    lingering: float = 0.0

    def begin(self, n_envs: int) -> None:
        """Begin episodes in all environments."""
        self.returns, self.lengths = [0.0] * n_envs, [0] * n_envs
        self._judge()

    def follow(self, transition: Transition) -> list[int]:
        """Take in rewards; return in which environments an episode ended."""
        ended, is_long = [], False
        dones, valid = transition.dones.tolist(), transition.valid.tolist()
        long = 2 * (self.longest or LONG_FIRST_EPISODE)
        for row, reward in enumerate(transition.rewards.tolist()):
            if valid[row]:
                env_index = transition.first_env_index + row
                self.returns[env_index] += reward
                self.lengths[env_index] += 1
                is_long = is_long or self.lengths[env_index] >= long
                if dones[row]:
                    self._end(env_index)
                    ended.append(env_index)
        if ended or is_long:
            self._judge()
        return ended

    def _end(self, env_index: int) -> None:
        value, length = self.returns[env_index], self.lengths[env_index]
        self.returns[env_index], self.lengths[env_index] = 0.0, 0
        self.last.append((value, length))
        self.worst = min(self.worst, value)
        if length < self.longest:
            self.best_of_shorter = max(self.best_of_shorter, value)
            return
        if length > self.longest:
            self.best_of_shorter = max(self.best_of_shorter, self.best_of_longest)
            self.longest, self.best_of_longest = length, value
        self.best_of_longest = max(self.best_of_longest, value)

    def _judge(self) -> None:
        worst, longest = self.worst, self.longest
        best = max(self.best_of_longest, self.best_of_shorter)
        if not self.last:
            worst, best, longest = 0.0, 0.0, LONG_FIRST_EPISODE
        running = [
            (value, length // longest)
            for value, length in zip(self.returns, self.lengths, strict=True)
            if length >= 2 * longest
        ]
        as_long = [value for value, length in self.last if length == self.longest]
        self.stuck = self._share(
            sum(value == worst for value in as_long),
            sum(n for value, n in running if value < worst),
        )
        self.lingering = self._share(
            sum(value == worst or value < self.best_of_shorter for value in as_long),
            sum(n for value, n in running if value < best),
        )

    def _share(self, n_ended: int, n_running: int) -> float:
        """One episode is the worst and the longest in any case, so it is left out."""
        n_others = len(self.last) + n_running - 1
        return max(n_ended + n_running - 1, 0) / n_others if n_others > 0 else 0.0


class EpsilonGreedy:
    """
    Chooses between greedy and random actions. Each environment tosses its own coin.

    With probability ε an action is random. It is taken

    - "epsilon_greedy": once;
    - "extended": for ``duration`` steps, or until the episode ends (Dabney, Ostrovski and Barreto,
      2021, arXiv 2006.01782): of what lies many equal actions away, steps that are random each by
      itself find nothing;
    - "extended_when_stuck": likewise, but only while the agent is stuck, and else once. How stuck
      it is (:class:`RecentEpisodes`) is the probability of holding an action, and ε does not fall
      below ``stuck_rate`` times the share of the last episodes that lingered.

    One generator explores while learning, another in ``predict``: evaluating a model must not
    change how it goes on learning.

    :param n_actions: Number of actions.
    :param n_envs: Number of environments.
    :param seed: Seed of the generators; None for any.
    :param kind: For how long a random action is taken.
    :param duration: For how many steps one is held, if it is; None draws the number each time.
    :param stuck_rate: Least ε of an agent that is stuck entirely, in [0, 1].
    """

    def __init__(
        self,
        n_actions: int,
        n_envs: int = 1,
        seed: int | None = None,
        kind: Exploration = "epsilon_greedy",
        duration: int | None = None,
        stuck_rate: float = 0.0,
    ) -> None:
        self.n_actions, self.seed = n_actions, seed
        self.kind: Exploration = kind
        self.duration, self.stuck_rate = duration, stuck_rate
        self.held, self.episodes = HeldActions(), RecentEpisodes()
        self.begin(n_envs)
        self.set_random_seed(seed)

    def set_random_seed(self, seed: int | None) -> None:
        """Begin anew with the random numbers of a seed; None for any."""
        exploration, predict = np.random.SeedSequence(seed).spawn(2)
        self.rng = np.random.default_rng(exploration)
        self.predict_rng = np.random.default_rng(predict)

    def begin(self, n_envs: int) -> None:
        """Hold no action any more: episodes begin in so many environments."""
        self.held.begin(n_envs)
        self.episodes.begin(n_envs)

    def follow(self, transition: Transition) -> None:
        """Take note of what exploration led to."""
        if self.kind != "epsilon_greedy":
            for env_index in self.episodes.follow(transition):
                self.held.steps[env_index] = 0

    @property
    def smallest_rate(self) -> float:
        """What ε must not fall below now."""
        if self.kind != "extended_when_stuck":
            return 0.0
        return self.stuck_rate * self.episodes.lingering

    def choose(
        self,
        actions: np.ndarray,
        rate: float,
        first_env_index: int = 0,
        action_masks: np.ndarray | None = None,
    ) -> np.ndarray:
        """
        Put random actions in the place of some greedy ones.

        :param actions: Greedy actions, shape (n,), int64. Changed in place.
        :param rate: ε, in [0, 1].
        :param first_env_index: Index of the environment of the first one.
        :param action_masks: Which actions are possible, shape (n, n_actions), bool; None for all. A
            random action is drawn from these, and one that is held is dropped when it is none of
            them.
        :return: The actions to take.
        """
        toss, held = self.rng.random, self.held
        if self.kind == "epsilon_greedy" and len(actions) > 1:
            # The same draws as one after the other
            draws = toss(len(actions))
            explore = draws < rate
            masks = None if action_masks is None else action_masks[explore]
            actions[explore] = self._action_at(draws[explore] / rate, masks)
            return actions
        for row in range(len(actions)):
            env_index = first_env_index + row
            if held.steps[env_index] > 0 and action_masks is not None:
                held.steps[env_index] *= int(action_masks[row, held.actions[env_index]])
            if held.steps[env_index] > 0:
                held.steps[env_index] -= 1
                actions[row] = held.actions[env_index]
            elif (draw := toss()) < rate:
                # Below ε, the draw divided by ε is again uniform in [0, 1).
                if action_masks is None:
                    action = int(draw / rate * self.n_actions)
                else:
                    possible = [a for a, is_it in enumerate(action_masks[row].tolist()) if is_it]
                    action = possible[int(draw / rate * len(possible))]
                actions[row] = held.actions[env_index] = action
                held.steps[env_index] = self._draw_duration() - 1
        return actions

    def _action_at(self, draws: Any, masks: np.ndarray | None) -> Any:
        """Take the possible actions that stand at these places between the first, 0, and 1."""
        if masks is None:
            return draws * self.n_actions
        n_before = np.asarray(draws * masks.sum(axis=-1), np.int64)[..., np.newaxis]
        return (masks.cumsum(axis=-1) > n_before).argmax(axis=-1)

    def _draw_duration(self) -> int:
        """For how many steps to take a random action."""
        if self.kind == "epsilon_greedy":
            return 1
        if self.kind == "extended_when_stuck":
            stuck = self.episodes.stuck
            if stuck == 0.0 or self.rng.random() >= stuck:
                return 1
        if self.duration is not None:
            return self.duration
        return min(int(self.rng.zipf(2.0)), LONGEST_DURATION)

    def choose_to_predict(
        self, actions: np.ndarray, rate: float, action_masks: np.ndarray | None = None
    ) -> np.ndarray:
        """
        The same for ``predict``, which learns nothing: by other random numbers, for one step, and
        for greedy actions of any shape.
        """
        explore = self.predict_rng.random(actions.shape) < rate
        if action_masks is not None:
            draws = self.predict_rng.random(actions.shape)
            return np.where(explore, self._action_at(draws, action_masks), actions)
        return np.where(
            explore, self.predict_rng.integers(self.n_actions, size=actions.shape), actions
        )

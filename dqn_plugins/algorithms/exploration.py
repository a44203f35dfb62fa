"""ε-greedy actions: with what probability, and by whose random numbers."""

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

from dqn_plugins.arguments import check_in_unit_interval
from dqn_plugins.learning import Learner, Observation
from dqn_plugins.policies import QPolicy

__all__ = ["EpsilonGreedy"]


class EpsilonGreedy(BaseAlgorithm):
    """
    The part of an algorithm that chooses actions. Each environment tosses its own coin.

    One generator explores while learning, another in ``predict``: evaluating a model must not
    change how it goes on learning.
    """

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

    def _setup_exploration(self) -> None:
        """Make the schedule, and the generators unless a loaded model brought its own."""
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

    def _choose_actions(self, obs: Observation) -> np.ndarray:
        """
        Choose actions by the newest weights, ε-greedily.

        :param obs: Observations, shape (n_envs, ...).
        :return: Actions, shape (n_envs,), int64.
        """
        assert self._exploration_rng is not None
        toss, epsilon = self._exploration_rng.random, self.exploration_rate
        actions = self._learner.greedy_actions(obs)
        for env_index in range(len(actions)):
            if (draw := toss()) < epsilon:
                # Below ε, the draw divided by ε is again uniform in [0, 1).
                actions[env_index] = int(draw / epsilon * self._n_actions)
        return actions

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

"""Learning from every transition once, as it arrives, also in a loop of one's own."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, maybe_transpose

from dqn_plugins.algorithms.q_algorithm import QAlgorithm
from dqn_plugins.arguments import check_in_unit_interval, is_integer, is_number
from dqn_plugins.errors import DivergenceError, NonFiniteTransitionError
from dqn_plugins.learning import Observation, Transition, raise_if_not_finite
from dqn_plugins.policies.action_masks import as_action_masks

__all__ = ["OnlineQAlgorithm"]

FLAGS = np.array([False]), np.array([True])
ONE_ROW = np.ones(1, np.bool_)
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


class OnlineQAlgorithm(QAlgorithm):
    """
    Base of the algorithms that learn from every transition once, as it arrives.

    Instead of ``learn``, a loop of the user's own may call :meth:`act` and :meth:`learn_one`, once
    per transition. Episodes of such a loop and of ``learn`` give each other no credit.
    """

    # Whether the next observation begins an episode, and whether the last transition came from
    # such a loop.
    _own_episode_is_over = True
    _learned_one = False

    def act(
        self,
        obs: Observation,
        total_timesteps: int | None = None,
        exploration_rate: float | None = None,
        action_masks: Any = None,
    ) -> int:
        """
        Choose an action while learning: by the newest weights, ε-greedily.

        ``predict`` may act by other weights, as ``StreamQ``'s does by their average. An action that
        is not the newest network's greedy one counts as exploration, and may cut eligibility
        traces; so act by this one in a loop that learns. With ``total_timesteps``, such a loop
        learns what ``learn(total_timesteps)`` learns, bit for bit on the same transitions.

        The first observation of an episode, the one after a transition that was terminated or
        truncated, is taken into the running statistics.

        :param obs: The observation, of the observation space's shape.
        :param total_timesteps: How many transitions the loop will learn from in all, for schedules:
            ε, and the learning rate if it is a function, follow ``num_timesteps``.
        :param exploration_rate: ε, in [0, 1], instead. With neither, ε is
            ``exploration_final_eps``, since a run without a known end has no schedule.
        :param action_masks: Which actions are possible, of which one is chosen, shape (n_actions,):
            Booleans, or 1 and 0. None for all.
        :return: The action.
        :raises ValueError: If an argument has the wrong shape or range. Nothing was changed.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        """
        if total_timesteps is not None and exploration_rate is not None:
            raise ValueError(
                f"exploration_rate: received {exploration_rate!r} beside total_timesteps="
                f"{total_timesteps!r}, one of them must be None. Drop one."
            )
        if total_timesteps is not None and not (
            is_integer(total_timesteps) and total_timesteps > 0
        ):
            raise ValueError(
                f"total_timesteps: received {total_timesteps!r}, it must be an integer of at "
                "least 1. Pass how many transitions the loop will learn from in all."
            )
        if exploration_rate is not None:
            check_in_unit_interval("exploration_rate", exploration_rate)
        batch = _as_batch("obs", obs, self.observation_space)
        masks = self._as_masks("action_masks", action_masks)
        self._renew(n_envs=1)
        if total_timesteps is not None:
            self._follow_schedules(total_timesteps)
        elif exploration_rate is not None:
            self._set_exploration_rate(exploration_rate)
        else:
            smallest = self._explorer.smallest_rate
            self._set_exploration_rate(max(self.exploration_final_eps, smallest))
        if self._own_episode_is_over:
            self._begin_own_episode(batch)
        choose = self._ask_predict if self._is_overridden("predict") else self._choose_actions
        return int(choose(batch, 0, masks)[0])

    def learn_one(
        self,
        obs: Observation,
        action: int,
        reward: float,
        next_obs: Observation,
        terminated: bool,
        truncated: bool = False,
        action_masks: Any = None,
        next_action_masks: Any = None,
    ) -> float:
        """
        Learn from one transition, for loops of one's own: the same update as ``learn``'s.

        :param obs: The observation before the step, of the observation space's shape.
        :param action: The action taken, in [0, n_actions). Choose it with :meth:`act`.
        :param reward: The reward, a finite number.
        :param next_obs: The observation that the step led to, of the observation space's shape. At
            a time limit this is the last observation of the episode.
        :param terminated: Whether ``next_obs`` is a terminal state. A time limit is not one.
        :param truncated: Whether the episode was cut short, so that the next transition belongs to
            another one. For algorithms that remember what led to a transition.
        :param action_masks: Which actions were possible in ``obs``, shape (n_actions,): Booleans,
            or 1 and 0. None for all.
        :param next_action_masks: Which are possible in ``next_obs``, likewise, given together with
            ``action_masks``. Of a terminal state it may be left out.
        :return: The TD error r + γ·max Q(s′, ·) − Q(s, a) before the update, less what
            ``advantage_gap`` subtracts, in the units of the rewards.
        :raises ValueError: If an argument has the wrong shape or range. Nothing was changed.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If the TD error or the update overflows. Nothing was changed.
        """
        actions, rewards = _as_actions(action, self._explorer.n_actions), _as_rewards(reward)
        is_terminal = _as_flag("terminated", terminated)
        done = is_terminal or _as_flag("truncated", truncated)
        self.num_timesteps += 1
        try:
            before = _as_batch("obs", obs, self.observation_space)
            after = _as_batch("next_obs", next_obs, self.observation_space)
            masks = self._as_masks("action_masks", action_masks)
            if next_action_masks is None and is_terminal and masks is not None:
                next_action_masks = np.zeros(masks.shape[1], np.bool_)
            next_masks = self._as_masks("next_action_masks", next_action_masks, is_over=done)
            _check_masks(masks, next_masks, action)
            self._renew(n_envs=1)
            if self._own_episode_is_over:
                raise_if_not_finite(before, rewards, after)
                self._begin_own_episode(before)
            ends = FLAGS[is_terminal], FLAGS[done]
            transition = Transition(
                *(before, actions, rewards, after, *ends, after, ONE_ROW),
                action_masks=masks,
                next_action_masks=next_masks,
                new_action_masks=next_masks,
            )
            td_errors = self._learn_from(transition)
        except (ValueError, DivergenceError) as error:
            if isinstance(error, NonFiniteTransitionError):
                error.step = self.num_timesteps
            self.num_timesteps -= 1
            raise
        self._own_episode_is_over = done
        self._learned_one = True
        return float(td_errors[0])

    def _as_masks(self, name: str, masks: Any, is_over: bool = False) -> np.ndarray | None:
        if masks is None:
            return None
        return as_action_masks(masks, 1, self._explorer.n_actions, name, is_over)

    def _begin_own_episode(self, obs: Observation) -> None:
        self._start_episodes(obs)
        self._own_episode_is_over = False
        self._learned_one = True

    def _forget_own_episode(self) -> None:
        """Keep ``learn`` from continuing what a loop of the user's own learned last."""
        if self._learned_one:
            self._learner.forget()
            self._explorer.begin(self._learner.n_envs)
        self._learned_one = False
        self._own_episode_is_over = True

    def _notice_changes(self) -> None:
        """Take note of what a callback did: it may set numbers, load, or learn by itself."""
        super()._notice_changes()
        if self._learned_one:
            self._forget_own_episode()


def _check_masks(masks: np.ndarray | None, next_masks: np.ndarray | None, action: Any) -> None:
    if (masks is None) != (next_masks is None):
        one, other = "action_masks", "next_action_masks"
        if masks is None:
            one, other = other, one
        raise ValueError(
            f"{other}: received None beside {one}, it must be a mask, too. Pass both, or neither."
        )
    if masks is not None and not masks[0, action]:
        raise ValueError(
            f"action: received {action!r}, it must be possible by action_masks, which are "
            f"{masks[0].astype(int).tolist()}. Choose it by act(obs, action_masks=...)."
        )


def _as_actions(action: Any, n_actions: int) -> np.ndarray:
    if not is_integer(action) or not 0 <= action < n_actions:
        raise ValueError(
            f"action: received {action!r}, it must be an integer from 0 to {n_actions - 1}. Pass "
            "what `act` or `predict` returned."
        )
    return np.array([action], np.int64)


def _as_rewards(reward: Any) -> np.ndarray:
    if not is_number(reward):
        raise ValueError(
            f"reward: received {reward!r}, it must be one number. For several environments "
            "call `learn_one` once for each."
        )
    if abs(reward) > LARGEST_FLOAT32:
        reward = np.copysign(np.inf, reward)  # refused further on
    return np.array([reward], np.float32)


def _as_batch(name: str, obs: Any, space: spaces.Space[Any]) -> Observation:
    """Check one observation, give it the space's number type, and add the batch dimension."""
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, dict) or obs.keys() != space.spaces.keys():
            received = sorted(obs) if isinstance(obs, dict) else type(obs).__name__
            raise ValueError(
                f"{name}: received {received}, it must be a dictionary with the keys "
                f"{sorted(space.spaces)}. Pass it as the environment returned it."
            )
        return {
            key: _batch_of_one(f"{name}[{key!r}]", obs[key], part)
            for key, part in space.spaces.items()
        }
    return _batch_of_one(name, obs, space)


def _as_flag(name: str, flag: Any) -> bool:
    if not isinstance(flag, (bool, np.bool_)):
        raise ValueError(
            f"{name}: received {flag!r}, it must be True or False, as the environment's `step` "
            "returned it."
        )
    return bool(flag)


def _batch_of_one(name: str, obs: Any, space: spaces.Space[Any]) -> np.ndarray:
    is_box = isinstance(space, spaces.Box)
    if is_box and type(obs) is np.ndarray and (obs.shape, obs.dtype) == (space.shape, space.dtype):
        return obs[np.newaxis]
    if is_image_space(space) and np.ndim(obs) == len(space.shape or ()):
        # Stable-Baselines3 puts the channels of an environment's images first.
        obs = maybe_transpose(np.asarray(obs), space)
    if np.shape(obs) != space.shape:
        raise ValueError(
            f"{name}: received shape {np.shape(obs)}, the observation space has {space.shape}. "
            "Pass one observation, without a batch dimension, as the environment returned it."
        )
    batch = np.asarray(obs)[np.newaxis]
    # Before the cast, which turns NaN in an image into a number
    raise_if_not_finite(batch, np.zeros(0), batch)
    with np.errstate(over="ignore"):  # infinity is refused further on
        cast = batch.astype(space.dtype)
    real = is_box and not is_image_space(space)
    # Of an image or a discrete observation, the cast would make another one.
    if not real and not (np.array_equal(cast, batch) and space.contains(cast[0])):
        allowed = f"an element of {space}"
        if isinstance(space, spaces.Discrete):
            allowed = f"an integer from 0 to {space.n - 1}"
        raise ValueError(
            f"{name}: received {batch[0]}, it must be {allowed}. Pass it as the environment "
            "returned it."
        )
    return cast

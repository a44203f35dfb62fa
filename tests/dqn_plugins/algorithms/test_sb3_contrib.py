"""sb3-contrib's own tools for masks, with our models."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from tests.algorithms import each_algorithm
from tests.properties.tagged_env import MaskingEnv, TaggedEnv, mask_of

evaluation = pytest.importorskip("sb3_contrib.common.maskable.evaluation")
callbacks = pytest.importorskip("sb3_contrib.common.maskable.callbacks")
wrappers = pytest.importorskip("sb3_contrib.common.wrappers")

SPACE = spaces.Box(0.0, np.inf, (2,), np.float32)
ENDS: list[Any] = ["", "", "terminated", "", "truncated"]


class Strict(TaggedEnv):
    """Raises where an impossible action is taken, and tells nobody what is possible."""

    is_masked = True


def masked() -> gym.Env[Any, Any]:
    return Monitor(
        wrappers.ActionMasker(Strict(SPACE, ENDS), lambda env: mask_of(env.unwrapped.number))
    )


@each_algorithm
def test_action_masker_is_learned_from_and_evaluated(row):
    model = row.make(masked())
    model.learn(60)
    returns, lengths = evaluation.evaluate_policy(
        model, masked(), n_eval_episodes=6, return_episode_rewards=True, use_masking=True
    )
    assert lengths == [3, 2, 3, 2, 3, 2]
    # The reward is the number of the observation, and a reset takes a number, too.
    assert returns[:2] == [1 + 2 + 3, 5 + 6]
    env = SubprocVecEnv([masked] * 2, start_method="fork")
    mean, _ = evaluation.evaluate_policy(
        model, env, n_eval_episodes=4, deterministic=False, use_masking=True
    )
    assert mean > 0
    env.close()


@each_algorithm
def test_maskable_eval_callback_evaluates_while_learning(row, tmp_path):
    evaluated = DummyVecEnv([lambda: Monitor(MaskingEnv(SPACE, ENDS))])
    callback = callbacks.MaskableEvalCallback(
        evaluated, n_eval_episodes=2, eval_freq=20, log_path=str(tmp_path), verbose=0
    )
    row.make(masked()).learn(60, callback)
    with np.load(tmp_path / "evaluations.npz") as written:
        assert written["timesteps"].tolist() == [20, 40, 60]
        assert written["ep_lengths"].tolist() == [[3, 2]] * 3

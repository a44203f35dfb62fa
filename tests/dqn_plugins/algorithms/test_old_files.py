"""Models that earlier versions saved are loaded, and go on where they were."""

from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import PQN, StreamQ
from tests.environments import ScriptedEnv

DATA = Path(__file__).parents[2] / "data"


TWENTY_ACTIONS = partial(ScriptedEnv, [([-1.0] * 12, "truncated")], n_actions=20)


# Written by version 0.2.0 after 54 steps of two such environments, all of them random and each
# action held for five, and one `predict`. The numbers are what that version did next: the actions
# at hand are taken for two steps more, before new ones are drawn. What is random does not depend on
# weights. PQN draws its minibatches from the same generator.
@pytest.mark.parametrize(
    ("algorithm", "name", "actions", "rollout"),
    [
        (
            StreamQ,
            "stream_q",
            [[7, 7, 2, 2, 2, 2, 2, 19, 19, 3], [2, 2, 8, 8, 8, 8, 8, 15, 15, 9]],
            0,
        ),
        (
            PQN,
            "pqn",
            [
                [5, 5, 12, 12, 12, 12, 12, 9, 9, 14, 14, 14, 14],
                [9, 9, 11, 11, 11, 11, 11, 8, 8, 13, 13, 13, 13],
            ],
            3,
        ),
    ],
)
def test_a_model_of_version_0_2_0_goes_on(algorithm, name, actions, rollout, tmp_path):
    envs = [TWENTY_ACTIONS(), TWENTY_ACTIONS()]
    vec_env = DummyVecEnv([lambda env=env: env for env in envs])
    vec_env.reset()
    for env in envs:  # where they were: in the fourth step of their third episode
        env.step_in_episode = 3
    model = algorithm.load(DATA / f"{name}_0.2.0.zip", env=vec_env, force_reset=False)
    assert (model.num_timesteps, model.exploration_rate) == (54, 1.0)
    if algorithm is StreamQ:  # whose defaults are others now
        assert model.policy_kwargs["normalize_observations"] is True
        assert model.policy.q_net.local_values is None
        assert model.advantage_gap == 0.0
    episodes = model._explorer.episodes
    assert (list(episodes.last), episodes.lengths) == ([(-12.0, 12)] * 4, [3, 3])
    if rollout:
        assert model._rollout.length == rollout
    else:
        assert (model._td_errors.count, model._td_errors.last != 0.0) == (6, True)
    assert not {"_exploration_rng", "_held", "_td_error_count", "_n_actions"} & vars(model).keys()
    model.learn(20, reset_num_timesteps=False)
    assert [[*chain(*env.actions)] for env in envs] == actions
    # and what is saved now is loaded as well
    model.save(tmp_path / "model")
    for one in (model, algorithm.load(tmp_path / "model")):
        assert one.predict(np.zeros((6, 2), np.float32))[0].tolist() == [8, 18, 4, 14, 1, 5]


def test_a_seed_that_is_given_while_loading_counts(tmp_path):
    obs = np.zeros((100, 2), np.float32)
    StreamQ("MlpPolicy", TWENTY_ACTIONS(), seed=0).save(tmp_path / "model")
    drawn = [
        StreamQ.load(tmp_path / "model", **seed).predict(obs)[0].tolist()
        for seed in ({}, {"seed": 0}, {"seed": 1})
    ]
    assert drawn[0] == drawn[1] != drawn[2]

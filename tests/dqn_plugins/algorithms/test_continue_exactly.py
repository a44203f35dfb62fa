"""Save, load, continue: bit for bit as if the model had never stopped."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.algorithms import Row, each_algorithm, each_optimizer
from tests.environments import DriftEnv
from tests.helpers import (
    complete_state,
    differences,
    everything,
    statistics,
    through_a_file,
    weights,
)

N_STEPS = 80


def same_path(row: Row, n_envs: int, stop: int, **kwargs: Any) -> None:
    """
    Train a model, train another one that is saved and loaded on its way, and compare.

    :param stop: After how many steps of each environment it is saved.
    """
    chosen: dict[str, Any] = {
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.1,
        "exploration_fraction": 0.7,
        **kwargs,
    }

    def new_model() -> Any:
        return row.make(DummyVecEnv([DriftEnv] * n_envs), **copy.deepcopy(chosen))

    def predict(one: Any, n: int) -> np.ndarray:
        return one.predict(np.zeros((n, 3), np.float32))[0]

    # Stopped with ε, learning rate and counters on their way, and in the middle of an episode
    model, total = new_model(), N_STEPS * n_envs
    model.learn(total, callback=lambda *_: model.num_timesteps < stop * n_envs)
    predict(model, 5)
    before = complete_state(model)
    loaded = through_a_file(model, env=copy.deepcopy(model.get_env()), force_reset=False)
    assert differences(before, complete_state(loaded)) == []

    never_stopped = new_model().learn(total)
    predict(never_stopped, 5)
    for one in (model, loaded):
        one.learn(total - stop * n_envs, reset_num_timesteps=False)
    states, actions = [], []
    for one in (model, loaded, never_stopped):
        actions.append(predict(one, 40).tolist())
        states.append(complete_state(one))
    assert states[0]["num_timesteps"] >= total
    assert differences(states[1], states[0]) == differences(states[2], states[0]) == []
    assert actions[0] == actions[1] == actions[2]
    assert len(set(actions[0])) > 1, "nothing random was compared"
    # and the comparison sees that something happened in between
    changed = " ".join(differences(before, states[0]))
    for name in ("policy", "optimizer", "exploration_rate", "_n_updates", "_episode_num"):
        assert f".{name}" in changed


@each_optimizer
def test_save_load_continue_is_never_having_stopped(backend, row, optimizer):
    rate = row.optimizers[optimizer]
    more = {"trace_cut": "never"} if "trace_cut" in row.changed else {}
    kwargs = {
        "learning_rate": LinearSchedule(rate, rate / 10, 1.0),
        "policy_kwargs": {"optimizer_class": optimizer},
        "backend": backend,
        **more,
    }
    # In the middle of a rollout, if there are rollouts
    same_path(row, 2, 35, **kwargs)
    if optimizer is next(iter(row.optimizers)):
        same_path(row, 1, 35, **kwargs)
        if row.rollout > 1:
            same_path(row, 1, 36, **kwargs)


@each_algorithm
def test_with_every_argument_changed_it_goes_on_as_well(row):
    given = {**row.changed, "tensorboard_log": None, "verbose": 0}
    same_path(row, 2, 35, **{**given, "exploration_initial_eps": 1.0})


@each_algorithm
def test_learning_in_two_pieces_is_learning_in_one(backend, row):
    # With a constant ε and learning rate the number of steps to come has no influence.
    rates = {"exploration_initial_eps": 0.5, "exploration_final_eps": 0.5, "learning_rate": 1e-3}
    models = [row.make(backend=backend, **rates) for _ in range(2)]
    models[0].learn(40)
    models[1].learn(16).learn(24, reset_num_timesteps=False)
    assert models[1].num_timesteps == 40
    assert everything(models[1]) == everything(models[0])


@each_algorithm
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_goes_on_as_the_model_does_and_by_itself(backend, row, copied):
    model = row.make(DummyVecEnv([DriftEnv] * 2), backend=backend).learn(24)
    other, before = copied(model), everything(model)
    assert everything(other) == before
    other.learn(24, reset_num_timesteps=False)
    assert everything(model) == before
    model.learn(24, reset_num_timesteps=False)
    assert everything(model) == everything(other) != before


@each_algorithm
@pytest.mark.parametrize(("saved_with", "loaded_with"), [(1, 3), (3, 1)])
def test_a_model_goes_over_to_another_number_of_environments(
    backend, row, saved_with, loaded_with, tmp_path
):
    model = row.make(DummyVecEnv([DriftEnv] * saved_with), backend=backend)
    model.learn(20 * saved_with)
    loaded = through_a_file(model, env=DummyVecEnv([DriftEnv] * loaded_with))
    assert np.array_equal(weights(loaded), weights(model))
    loaded.learn(20 * loaded_with, reset_num_timesteps=False)
    assert loaded.num_timesteps == 20 * (saved_with + loaded_with)
    assert not np.array_equal(weights(loaded), weights(model))
    # and saved and loaded again
    assert everything(through_a_file(loaded)) == everything(loaded)
    # Parameters go over as well.
    other = row.make(backend=backend).learn(8)
    other.policy.load_state_dict(model.policy.state_dict())
    other.learn(8)
    for name, number in statistics(other).items():
        if name.endswith("returns"):
            assert number.shape == (1,)
    assert np.isfinite(weights(other)).all()


@each_algorithm
def test_saving_in_a_callback_changes_nothing_and_holds_what_was_learned_up_to_it(
    tmp_path, backend, row
):
    model, at = row.make(backend=backend), 2 * row.rollout

    def save(*_: Any) -> bool:
        model.save(tmp_path / str(model.num_timesteps))
        return True

    model.learn(5 * row.rollout, callback=save)
    assert everything(model) == everything(row.make(backend=backend).learn(5 * row.rollout))
    halfway = type(model).load(tmp_path / str(at))
    twin = row.make(backend=backend)
    twin.learn(5 * row.rollout, callback=lambda *_: twin.num_timesteps < at)
    assert halfway.num_timesteps == at
    assert everything(halfway) == everything(twin) != everything(model)

"""
RL Zoo's own commands, run on our algorithms.

Each runs in a process of its own: importing RL Zoo replaces Gymnasium's TimeLimit.
"""

import csv
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

if importlib.util.find_spec("rl_zoo3") is None:
    pytest.skip("RL Zoo is not installed", allow_module_level=True)

import optuna

import dqn_plugins.zoo
from dqn_plugins import PQN, STREAM_Q_PAPER_HYPERPARAMETERS, NaiveDQN, StreamQ
from dqn_plugins.policies import ObGD
from dqn_plugins.wrappers import read_frames
from dqn_plugins.zoo import register_algorithms
from dqn_plugins.zoo.__main__ import main
from dqn_plugins.zoo.registration import convert_sampled, sample
from tests.helpers import statistics, weights

ALGORITHMS = {"naive_dqn": NaiveDQN, "pqn": PQN, "stream_q": StreamQ}
STEPS = 400
SEED = 1

# An environment that tells how it was made. The second one that a process makes, which is the one
# that the first trial of a search learns from, has rewards too large to square.
OWN_ENVIRONMENT = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class OwnCartPole(CartPoleEnv):
    made = 0

    def __init__(self, explosive=False, render_mode=None):
        super().__init__(render_mode=render_mode)
        OwnCartPole.made += 1
        self.explosive = explosive and OwnCartPole.made == 2
        print(f"made: {explosive=} {render_mode=}")

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, 1e30 if self.explosive else reward, *rest

gym.register("OwnCartPole-v0", entry_point=OwnCartPole, max_episode_steps=20)
"""


# Several commands, each as ``python -m dqn_plugins.zoo`` would run it, in one process: importing RL
# Zoo takes longer than what they do.
IN_TURN = """
import os, sys
from dqn_plugins.zoo.__main__ import main
for step in sys.argv[1:]:
    folder, _, command = step.partition(": ")
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    main(command.split())
"""


def zoo(folder: Path, *commands: str) -> str:
    """Run ``python -m dqn_plugins.zoo`` in a folder, or in several; what it printed."""
    arguments = ["-m", "dqn_plugins.zoo", *commands[0].split()]
    if len(commands) > 1:
        arguments = ["-c", IN_TURN, *commands]
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg", "SDL_VIDEODRIVER": "dummy"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=300,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which RL Zoo has trained StreamQ on CartPole, gone on from that, and more."""
    folder = tmp_path_factory.mktemp("zoo")
    page = (Path(__file__).parents[2] / "docs" / "rl_zoo.md").read_text()
    (example,) = re.findall(r"```python\n([^`]*hyperparams = [^`]*)```", page)
    (folder / "paper.py").write_text(example)
    train = "train --algo stream_q --env CartPole-v1"
    model = folder / "logs" / "stream_q" / "CartPole-v1_1" / "CartPole-v1.zip"
    printed = zoo(
        folder,
        f"{folder}: {train} -n {STEPS} --seed {SEED} --eval-freq 200 --save-freq 200",
        f"{folder / 'on'}: {train} -n 100 --eval-freq -1 -i {model}",
        f"{folder / 'own'}: {train} --conf-file {folder / 'paper.py'} -n 100 --eval-freq -1 "
        "-params trace_decay:0.9 n_envs:2",
        f"{folder}: enjoy --algo stream_q --env CartPole-v1 -f logs --no-render -n 600 --load-best",
    )
    (folder / "printed").write_text(printed)
    return folder


@pytest.fixture
def own_environment(tmp_path: Path) -> Path:
    """A folder with a module that registers an environment of the user's own."""
    (tmp_path / "own_environment.py").write_text(OWN_ENVIRONMENT)
    return tmp_path


TRAIN_ON_IT = "train --algo naive_dqn --env OwnCartPole-v0 --gym-packages own_environment -n 50 "


def test_the_trainer_trains_what_the_algorithm_alone_would(trained):
    run = trained / "logs" / "stream_q" / "CartPole-v1_1"
    env = make_vec_env("CartPole-v1", n_envs=1, seed=SEED)
    alone = StreamQ("MlpPolicy", env, seed=SEED).learn(STEPS)
    model = StreamQ.load(run / "CartPole-v1.zip")
    assert model.num_timesteps == STEPS
    np.testing.assert_array_equal(weights(model), weights(alone))
    with np.load(run / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [200, 400]
    for checkpoint in ("best_model", "rl_model_200_steps", "rl_model_400_steps"):
        StreamQ.load(run / checkpoint)


def test_enjoy_plays_the_trained_model(trained):
    printed = (trained / "printed").read_text()
    assert "best_model.zip" in printed
    # Longer than the 8 or 9 steps of one action only, whatever little was learned
    assert float(re.findall(r"Mean reward: ([\d.]+)", printed)[0]) > 8


@pytest.mark.long
def test_a_video_of_the_trained_model_plays_and_the_plots_find_the_run(trained):
    zoo(trained, "record_video --algo stream_q --env CartPole-v1 -f logs -n 20 -o videos")
    (video,) = (trained / "videos").glob("*.mp4")
    assert len(list(read_frames(video))) >= 20
    zoo(trained, "plot_train --algo stream_q --env CartPole -f logs")
    printed = zoo(trained, "all_plots --algo stream_q --env CartPole -f logs")
    assert "STREAM_Q" in printed
    assert re.search(r"\|CartPole *\|[\d.]+ \+/-", printed)


def test_training_goes_on_from_a_trained_model(trained):
    after = StreamQ.load(trained / "on/logs/stream_q/CartPole-v1_1/CartPole-v1.zip")
    # How many rewards the model's normalisation has seen, over all training
    assert statistics(after)["q_net.reward_normalizer.return_statistics.count"][0] == STEPS + 100


def test_a_configuration_of_the_users_own_wins_over_ours(trained):
    model = StreamQ.load(trained / "own/logs/stream_q/CartPole-v1_1/CartPole-v1.zip")
    assert isinstance(model.policy.optimizer, ObGD)
    assert model.learning_rate(1.0) == STREAM_Q_PAPER_HYPERPARAMETERS["learning_rate"] == 1.0
    assert model.trace_decay == 0.9
    assert model.n_envs == 2


@pytest.mark.long
def test_environment_arguments_are_passed_on_and_nothing_renders(own_environment):
    arguments = "--env-kwargs explosive:False --eval-env-kwargs explosive:None"
    printed = zoo(own_environment, TRAIN_ON_IT + arguments)
    assert re.findall("made: .*", printed) == [
        "made: explosive=None render_mode=None",
        "made: explosive=False render_mode=None",
    ]


@pytest.mark.long
def test_a_diverging_trial_does_not_end_the_search(own_environment):
    printed = zoo(
        own_environment,
        f"{TRAIN_ON_IT}--env-kwargs explosive:True --optimize-hyperparameters --n-trials 2 "
        "--n-evaluations 1 --eval-episodes 1 --no-optim-plots --seed 0",
    )
    assert "Learning diverged" in printed
    (report,) = (own_environment / "logs" / "naive_dqn").glob("report_*.csv")
    with report.open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert [trial["state"] for trial in trials] == ["PRUNED", "COMPLETE"]
    assert float(trials[1]["value"]) > 0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_a_search_draws_makes_a_model_that_learns(name):
    def objective(trial: optuna.Trial) -> float:
        drawn = sample(name, trial, n_actions=0, n_envs=1, additional_args={})
        model = ALGORITHMS[name]("MlpPolicy", "CartPole-v1", **drawn).learn(20)
        assert model.gamma == pytest.approx(trial.user_attrs["gamma"])
        hidden = [
            layer.out_features for layer in model.q_net.modules() if isinstance(layer, nn.Linear)
        ]
        assert hidden[:-1] == drawn["policy_kwargs"]["net_arch"]
        # RL Zoo makes keyword arguments of a finished trial by the numbers that the study keeps.
        assert convert_sampled(trial.params) == drawn
        return 0.0

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=10)
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 10


@pytest.mark.parametrize("name", ALGORITHMS)
def test_our_hyperparameter_files_name_arguments_that_exist(name):
    text = (Path(dqn_plugins.zoo.__file__).parent / f"{name}.yml").read_text()
    by_environment = yaml.safe_load(text)
    assert {"default", "CartPole-v1", "LunarLander-v3"} <= by_environment.keys()
    known = set(inspect.signature(ALGORITHMS[name]).parameters)
    for hyperparameters in by_environment.values():
        # Not `normalize`, which is RL Zoo's for VecNormalize: StreamQ normalises inside the model.
        of_the_zoo = {"n_timesteps", "n_envs", "env_wrapper", "frame_stack"}
        assert hyperparameters.keys() - of_the_zoo <= known
        assert hyperparameters["n_timesteps"] >= 1e4


@pytest.mark.parametrize("arguments", [[], ["trian", "--algo", "stream_q"]])
def test_an_unknown_command_is_answered_with_the_known_ones(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert "train, enjoy, record_video" in str(stopped.value)
    assert (repr(arguments[0]) if arguments else "nothing") in str(stopped.value)


@pytest.mark.parametrize(
    ("run", "raised"), [(register_algorithms, ImportError), (lambda: main(["train"]), SystemExit)]
)
def test_without_rl_zoo_the_error_tells_what_to_install(monkeypatch, run, raised):
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    with pytest.raises(raised, match=r"pip install 'dqn-plugins\[zoo\]'"):
        run()

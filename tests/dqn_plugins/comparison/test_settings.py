import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from rich.console import Console

from dqn_plugins import NOTEBOOK_HYPERPARAMETERS, NaiveDQN
from dqn_plugins.comparison import ComparisonSettings, run_comparison
from dqn_plugins.comparison.settings import read_settings
from dqn_plugins.comparison.study import plan
from dqn_plugins.experiments.algorithms import make_model, resolve
from dqn_plugins.experiments.hyperparameters import describe
from dqn_plugins.experiments.names import folder_name, is_file_safe
from dqn_plugins.experiments.record import ExportSettings, RecordSettings
from dqn_plugins.experiments.watch import WatchSettings
from tests.dqn_plugins.comparison.studies import small_study, status_of

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
STACK = "gymnasium.wrappers.FrameStackObservation"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algo": ("streamq",)}, r"algo: received 'streamq'.*Did you mean 'stream_q'"),
        ({"algo": ("DQN1",)}, r"Did you mean 'dqn1'"),
        ({"env": ("LunarLander-v1",)}, r"env: received 'LunarLander-v1'.*LunarLander-v3"),
        ({"env": ("CartPole",)}, None),
        ({"env": ("Lunar Lander",)}, r"env: received 'Lunar Lander'"),
        ({"backend": "loki"}, r"backend: received 'loki', it must be one of \('local'"),
        ({"cell_timeout": 0}, r"cell_timeout: received 0"),
        ({"reference": "ppo"}, r"reference: received 'ppo'"),
        ({"hp": ("gama:0.9",)}, r"no algorithm here has 'gama'.*'gamma'"),
        ({"hp": ("gamma",)}, r"must be like gamma:0.995"),
        ({"zoo": "not_there.yml"}, r"zoo: received 'not_there.yml', from which no algorithm"),
        ({"zoo": "tund"}, r"zoo: received 'tund'.*Pass 'tuned', or .* after random or stream_q"),
        ({"zoo": "gone/random.yml"}, r"zoo: gone/random.yml cannot be read"),
        ({"env_kwargs": ("gravity",)}, r"must be like gravity:-5"),
        ({"env_kwargs": ("no_such:1",)}, r"unexpected keyword argument 'no_such'.* --env-kwargs"),
        ({"wrapper": ("os.system",)}, r"wrappers: received 'os.system'"),
        ({"wrapper": ("gymnasium.wrappers.Nothing",)}, r"cannot be found"),
        ({"wrapper": (STACK,)}, r"cannot be made .*stack_size.*Pass the arguments that it takes"),
        ({"wrapper": ({STACK: 2},)}, r"cannot be made .*must be a mapping"),
        ({"wrapper": ({STACK: {"stack_size": "a"}},)}, r"cannot be made"),
        ({"env": (":X-v0",)}, r"env: received ':X-v0'.*is no name of a module"),
        ({"n_envs": 0}, r"n_envs: received 0"),
        ({"frame_stack": 1.5}, r"frame_stack: received 1.5"),
        ({"vectorization": "both"}, r"vectorization: received 'both'"),
        (
            {"vectorization": "envpool", "wrapper": ("gymnasium.wrappers.TimeAwareObservation",)},
            r"wrappers: EnvPool's environments take none",
        ),
        ({"vectorization": "envpool", "algo": ("dqn",)}, r"'envpool' for 'dqn'.*stream_q\.vec"),
        ({"vectorization": "envpool", "env": ("GridWorld-v0",)}, r"EnvPool"),
        ({"env": ("CardPole-v1",)}, r"Did you mean 'CartPole-v1'"),
        ({"env": ("no_such_module:Env-v0",)}, r"no_such_module"),
        ({"env": ("Pendulum-v1",)}, r"'Pendulum-v1', whose actions are continuous.*Discrete"),
        ({"env": ()}, r"env: received none"),
        ({"algo": ()}, r"algo: received none"),
        ({"algo": ("dqn", "dqn")}, r"each may be named once"),
        ({"algo": ("../dqn",)}, r"the name is also a folder's"),
        ({"timesteps": None}, r"received neither"),
        ({"cpu_seconds": 3.0}, r"received both"),
        ({"timesteps": None, "cpu_seconds": 0.0}, r"cpu_seconds: received 0\.0"),
        ({"timesteps": 0}, r"timesteps: received 0"),
        ({"seeds": 0}, r"seeds: received 0"),
        ({"first_seed": 999_999}, r"below 1,000,000"),
        ({"jobs": 0}, r"jobs: received 0, .* at least 1, or -1"),
        ({"evaluations": 0}, r"evaluations: received 0"),
        ({"dask_address": "tcp://there:8786"}, r"--backend dask"),
        ({"variants": {"a": {"algorithm": "deqn"}}, "algo": ("a",)}, r"algorithm of 'a'.*'dqn'"),
        (
            {"variants": {"dqn": {"learnin_rate": 1}}, "algo": ("dqn",)},
            r"'learnin_rate', which DQN does not have.*'learning_rate'",
        ),
        (
            {"variants": {"dqn": {"policy_kwargs": "dict(net_arch=[8])"}}, "algo": ("dqn",)},
            r"policy_kwargs of 'dqn'.*it must be a mapping",
        ),
        *(
            ({"hp": {key: value}, "algo": ("dqn",)}, rf"{re.escape(key)} of 'dqn': received {what}")
            for key, value, what in (
                ("policy_kwargs", 5, "5, it must be a mapping"),
                ("policy_kwargs", [64], r"\[64\], it must be a mapping"),
                ("policy_kwargs.optimizer_kwargs", 5, "5, it must be a mapping"),
                ("policy_kwargs.activation_fn", "relu", "'relu', .* torch.nn.ReLU"),
                ("policy_kwargs.optimizer_class", "adam", "'adam', .* torch.optim.Adam"),
                ("policy_kwargs.net_arch", 64, r"64, it must be a list, such as \[64, 64\]"),
            )
        ),
        *(
            ({"variants": {"a": {"algorithm": "dqn", **own}}, "algo": ("a",)}, message)
            for own, message in (
                (
                    {"environments": ["CartPole-v1"]},
                    r"environments of 'a': received \['CartPole-v1",
                ),
                ({"environments": {"CartPole-v1": 5}}, r"environments of 'a': received 5"),
                ({"zoo": 5}, r"zoo of 'a': received 5"),
            )
        ),
        ({"reference": 5}, r"reference: received 5"),
        ({"variants": {"random": {"gamma": 1}}, "algo": ("random",)}, r"does not have"),
        (
            {"hp": {"policy_kwargs.net_arh": [8]}, "algo": ("dqn",)},
            r"policy_kwargs of 'dqn': received 'net_arh', which DQNPolicy.*Did you mean 'net_arch'",
        ),
        (
            {"hp": {"policy_kwargs.optimizer_kwargs": {"beta": 1}}, "algo": ("naive_dqn",)},
            r"optimizer_kwargs of 'naive_dqn': received 'beta', which Adam.*Did you mean 'betas'",
        ),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str | None
) -> None:
    out = tmp_path / "study"
    if message is None:  # Gymnasium knows the newest version
        plan(small_study(out, **changes), Console(quiet=True))
        return
    with pytest.raises(ValueError, match=f"(?s){message}"):
        run_comparison(small_study(out, **changes))
    assert not list(out.glob("[!.]*"))


def test_a_study_is_a_file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "env: [CartPole-v1, Acrobot-v1]\n"
        "seeds: 3\n"
        "cpu_seconds: 20\n"
        "algorithms:\n"
        "  small: {algorithm: dqn, policy_kwargs: {net_arch: [8]}, train_freq: [1, episode]}\n"
        "  ppo:\n"
    )
    settings = read_settings(path)
    assert settings.env == ("CartPole-v1", "Acrobot-v1")
    assert (settings.seeds, settings.cpu_seconds, settings.timesteps) == (3, 20, None)
    study, cells = plan(settings, Console(quiet=True))
    assert list(study["algorithms"]) == ["small", "ppo"]
    model = make_model(cells[0].variant, gym.make("CartPole-v1"), seed=0)
    assert model.policy.net_arch == [8]
    assert model.train_freq.frequency == 1
    described = study["algorithms"]["small"]
    hyperparameters = described["hyperparameters"]["Acrobot-v1"]
    assert hyperparameters["policy_kwargs"]["net_arch"] == [8]
    assert hyperparameters["buffer_size"] == 1_000_000  # a default, written down too
    json.dumps(study)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"study\.yaml cannot be read"),
        ("a: [", r"study\.yaml cannot be read"),
        ("a: !!python/object/apply:os.system ['true']", r"study\.yaml cannot be read"),
        ("a: 1\na: 2", r"study\.yaml cannot be read(?s:.*)there twice: a"),
        ("- a\n- b", r"study\.yaml holds list, it must be a mapping"),
        ("enw: CartPole-v1", r"'enw' in .*, which is no setting.*'env'"),
        ("algorithms: {a: 3}", r"'a' under algorithms holds 3"),
        ("algorithms: [dqn]", r"algorithms holds \['dqn'\], it must be a mapping"),
        ("videos: 3", r"videos: received 3, it must be like True"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(path)


def test_programs_may_pass_text_for_paths_and_one_value_for_several():
    wrapper = {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 5}}
    given = {"env": "CartPole-v1", "algo": ["random"], "hp": "gamma:0.5", "zoo": "tuned"}
    assert ComparisonSettings(**given, wrapper=wrapper, out="runs/a") == ComparisonSettings(
        env=("CartPole-v1",),
        algo=("random",),
        hp={"gamma": 0.5},
        zoo=(Path("tuned"),),
        wrapper=(wrapper,),
        out=Path("runs/a"),
    )
    two = (Path("a"), Path("b"))
    assert RecordSettings(["a", "b"], out="c") == RecordSettings(two, out=Path("c"))
    assert ExportSettings("a", "b") == ExportSettings(*two)
    assert WatchSettings(algo="random", out="b") == WatchSettings(algo=("random",), out=Path("b"))


def test_numbers_of_numpy_are_numbers(tmp_path):
    settings = small_study(tmp_path, seeds=np.int64(2), timesteps=np.int64(300), algo=("random",))
    n_envs, kwargs = np.int64(2), {"sutton_barto_reward": np.bool_(True)}
    study, cells = plan(replace(settings, n_envs=n_envs, env_kwargs=kwargs), Console(quiet=True))
    assert len(cells) == 2
    described = json.loads(json.dumps(study))["algorithms"]["random"]["hyperparameters"]
    environment = {"n_envs": 2, "env_kwargs": {"sutton_barto_reward": True}}
    assert described["CartPole-v1"].items() >= environment.items()
    variants = {"two": {"algorithm": "random", "n_envs": n_envs}}
    assert resolve("two", "CartPole-v1", variants).environment.described() == {"n_envs": 2}


def test_entries_for_other_environments_are_named(tmp_path, capsys):
    entries = {"CartPole-v1": {"gamma": 0.9}, "CardPole-v1": {"gamma": 0.8}}
    variants = {"mine": {"algorithm": "dqn", "environments": entries}}
    plan(small_study(tmp_path, algo=("mine",), variants=variants), Console())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("mine: its entry for 'CardPole-v1', no environment here, is left out")
    assert line.endswith("Did you mean 'CartPole-v1'?")


def test_a_file_may_hold_nothing_and_write_whole_numbers_with_an_exponent(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("# nothing yet\n")
    assert read_settings(path) == ComparisonSettings()
    path.write_text("timesteps: 1e5\nseeds: 2.0\ncpu_seconds: 60.0")
    settings = read_settings(path)
    numbers = (settings.timesteps, settings.seeds, settings.cpu_seconds)
    assert [repr(each) for each in numbers] == ["100000", "2", "60.0"]


def test_the_ladder_begins_with_the_notebook_and_ends_with_stream_q():
    settings = read_settings(CONFIGS / "ladder.yaml")
    notebook = resolve("1_notebook", settings.env[0], settings.variants)
    assert describe(notebook.arguments) == describe(NOTEBOOK_HYPERPARAMETERS)
    last = resolve(list(settings.variants)[-1], settings.env[0], settings.variants)
    last = last.described(settings.env[0])
    stream_q = resolve("stream_q", settings.env[0]).described(settings.env[0])
    stream_q["policy_kwargs"]["net_arch"] = [128, 128]
    assert last == stream_q
    # Each rung differs from all others.
    rungs = [
        describe(resolve(name, settings.env[0], settings.variants).arguments)
        for name in settings.variants
    ]
    assert all(rungs.count(rung) == 1 for rung in rungs)


def test_the_zoo_file_says_what_the_zoo_says():
    zoo = pytest.importorskip("rl_zoo3")
    file = Path(zoo.__file__).parent / "hyperparams" / "dqn.yml"
    theirs = yaml.safe_load(file.read_text())
    settings = read_settings(CONFIGS / "dqn_rl_zoo.yaml")
    ours = settings.variants["dqn_rl_zoo"]
    assert set(settings.env) == ours["environments"].keys()
    assert ours["policy_kwargs"] == {"net_arch": [256, 256]}
    for env, kwargs in ours["environments"].items():
        assert kwargs == {key: theirs[env][key] for key in kwargs}
        assert theirs[env].keys() - kwargs.keys() == {"n_timesteps", "policy", "policy_kwargs"}
        assert theirs[env]["policy_kwargs"] == "dict(net_arch=[256, 256])"


def test_dqn1_has_a_buffer_of_one_and_learns_at_every_step():
    env = gym.make("CartPole-v1")
    model = make_model(resolve("dqn1", "CartPole-v1"), env, seed=0)
    model.learn(20)
    assert model.replay_buffer.buffer_size == 1
    assert model.batch_size == 1
    assert model._n_updates == 20


def test_variants_can_hold_python_objects_too():
    variants = {"mine": {"algorithm": "naive_dqn", "policy_kwargs": {"activation_fn": th.nn.Tanh}}}
    variant = resolve("mine", "CartPole-v1", variants)
    assert isinstance(make_model(variant, gym.make("CartPole-v1"), 0), NaiveDQN)
    assert variant.described("CartPole-v1")["policy_kwargs"]["activation_fn"] == "torch.nn.Tanh"


def test_what_is_typed_and_what_is_a_value_are_the_same():
    typed = ComparisonSettings(
        hp=("gamma:0.9", "dqn.policy_kwargs.net_arch:[8]"),
        env_kwargs=("gravity:-5", "name:earth"),
        wrapper=("{a.B: {c: 1}}", "a.C"),
    )
    values = ComparisonSettings(
        hp={"gamma": 0.9, "dqn.policy_kwargs.net_arch": [8]},
        env_kwargs={"gravity": -5, "name": "earth"},
        wrapper=({"a.B": {"c": 1}}, "a.C"),
    )
    assert typed == values == replace(typed)
    assert typed.environment["env_kwargs"] == {"gravity": -5, "name": "earth"}


def test_tuned_settings_stand_beside_the_defaults(tmp_path):
    zoo = pytest.importorskip("rl_zoo3")
    algorithms = ("dqn", "naive_dqn", "pqn", "random")
    settings = small_study(tmp_path, algo=algorithms, zoo=(Path("tuned"),))
    study, cells = plan(settings, Console(quiet=True))
    sources = {name: entry["source"] for name, entry in study["algorithms"].items()}
    # The tuned settings of NaiveDQN on CartPole are its defaults, and random actions have none.
    assert sources == {
        "dqn": "defaults",
        "dqn_tuned": "RL Zoo: dqn.yml",
        "naive_dqn": "defaults",
        "pqn": "defaults",
        "pqn_tuned": "ours: pqn.yml",
        "random": "defaults",
    }
    theirs = yaml.safe_load((Path(zoo.__file__).parent / "hyperparams" / "dqn.yml").read_text())
    tuned = study["algorithms"]["dqn_tuned"]["hyperparameters"]["CartPole-v1"]
    for name in ("learning_rate", "train_freq", "gamma", "target_update_interval"):
        assert tuned[name] == theirs["CartPole-v1"][name]
    n_envs = {cell.variant.name: cell.variant.environment.n_envs for cell in cells}
    assert (n_envs["pqn"], n_envs["pqn_tuned"]) == (1, 4)


def test_names_of_folders():
    assert folder_name("ALE/Pong-v5") == "ALE-Pong-v5"
    assert folder_name("my_module:MyEnv-v0") == "my_module-MyEnv-v0"
    assert all(is_file_safe(name) for name in ("stream_q", "1_notebook", "a.b+c-d"))
    assert not any(is_file_safe(name) for name in ("", "..", "a/b", "-a", "a b", ".a", "a\\b"))


def test_flags_go_before_what_the_file_says(tmp_path, monkeypatch):
    path = tmp_path / "study.yaml"
    path.write_text(
        "env: Acrobot-v1\nseeds: 3\ntimesteps: 100\nalgorithms: {mine: {algorithm: dqn}}\n"
        "normalize: {norm_reward: false}\nhp: {gamma: 0.9, dqn.gamma: 0.8}\n"
        "env_kwargs: {a: 1, b: 2}\n"
    )
    seen = []
    monkeypatch.setattr("dqn_plugins.cli._compare", lambda *given: seen.append(given) or 0)
    flags = ("--env", "CartPole-v1", "--env", "MountainCar-v0", "--seeds", "2e0")
    assert status_of("compare", "--config", path, *flags) == 0
    assert status_of("compare", f"--config={path}") == 0
    named = ("--hp", "batch_size:8", "--hp", "gamma:0.5", "--env-kwargs", "b:3", "--no-normalize")
    named += ("--cpu-seconds", 5, "--max-episode-steps=1e3")
    assert status_of("compare", "--config", path, *named) == 0
    (with_flags, command, _), (without, *_), (merged, *_) = seen
    assert with_flags.env == ("CartPole-v1", "MountainCar-v0")
    assert (with_flags.seeds, with_flags.timesteps) == (2, 100)
    assert list(with_flags.variants) == ["mine"]
    assert command.startswith("dqn-plugins compare --config")
    assert without.env == ("Acrobot-v1",)
    assert replace(without, env=()) == replace(
        without, env=(), seeds=3, timesteps=100, variants={"mine": {"algorithm": "dqn"}}
    )
    assert (without.normalize, merged.normalize) == ({"norm_reward": False}, False)
    assert (merged.timesteps, merged.cpu_seconds) == (None, 5)
    assert repr(merged.max_episode_steps) == "1000"
    assert dict(merged.env_kwargs) == {"a": 1, "b": 3}
    variant = resolve("dqn", "CartPole-v1", hp=merged.hp)
    assert variant.arguments == {"gamma": 0.5, "batch_size": 8}


def test_a_switch_that_was_not_typed_says_nothing(monkeypatch):
    seen = []
    monkeypatch.setattr("dqn_plugins.cli.train", lambda *given: seen.append(given[0].environment))
    what = ("train", "--algo", "ppo", "--env", "CartPole-v1", "--timesteps", 10)
    for flags in ((), ("--normalize",), ("--no-normalize", "--n-envs", 1)):
        assert status_of(*what, *flags) == 0
    assert seen == [{}, {"normalize": True}, {"normalize": False, "n_envs": 1}]

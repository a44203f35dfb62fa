"""Record episodes of a saved model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dqn_plugins.experiments.algorithms import load_model
from dqn_plugins.experiments.environments import make_environment
from dqn_plugins.experiments.random_policy import RandomPolicy
from dqn_plugins.experiments.rollout import play_episodes
from dqn_plugins.experiments.seeds import FIRST_FINAL_EVALUATION_SEED

__all__ = ["RecordSettings", "record"]


@dataclass(frozen=True)
class RecordSettings:
    """
    Record greedy episodes of a saved model.

    :param model: File that `save` wrote, or folder of a training run or of a cell of a comparison.
    :param env: Environment, by its Gymnasium id. By default the one it was trained on, which the
        settings.json beside the model tells.
    :param algo: Algorithm of the model, by name; by default the file tells.
    :param episodes: Number of episodes, one video each.
    :param seed: Seed of the first episode; the others count up from it. By default the first
        episodes of a comparison's final evaluation.
    :param out: Folder of the videos.
    """

    model: Path
    env: str | None = None
    algo: str | None = None
    episodes: int = 3
    seed: int = FIRST_FINAL_EVALUATION_SEED
    out: Path = Path("videos")


def record(settings: RecordSettings, console: Console | None = None) -> list[Path]:
    """
    Record greedy episodes of a saved model, with its Q-values if it has any.

    :param settings: What to record.
    :param console: Where the return of each episode is shown; standard error by default.
    :return: The videos.
    :raises ValueError: If a setting is wrong, or something is not there.
    """
    from dqn_plugins.wrappers import RecordVideo

    if settings.episodes < 1:
        raise ValueError(f"episodes: received {settings.episodes}, it must be at least 1.")
    console = console or Console(stderr=True, highlight=False)
    trained_with = _settings_beside(settings.model)
    env_id = settings.env or trained_with.get("environment")
    if env_id is None:
        raise ValueError(
            f"env: there is no settings.json beside {settings.model} that tells what it was "
            "trained on. Pass --env, such as --env LunarLander-v3."
        )
    frames = make_environment(env_id, render_mode="rgb_array")
    if trained_with.get("algorithm_class") == "RandomPolicy":
        model: Any = RandomPolicy("MlpPolicy", frames, trained_with["seed"])
    else:
        model = load_model(settings.model, settings.algo)
        _check_spaces(model, frames, env_id)
    has_q_values = hasattr(getattr(model, "policy", None), "q_net")
    name = str(trained_with.get("algorithm") or type(model).__name__)
    env = RecordVideo(
        frames,
        str(settings.out),
        episode_trigger=lambda episode: True,
        name_prefix=name,
        caption=True,
        model=model if has_q_values else None,
    )
    videos = []
    for seed in range(settings.seed, settings.seed + settings.episodes):
        (episode,) = play_episodes(model, [env], [seed])
        env.stop_recording()
        assert env.video_path is not None
        videos.append(Path(env.video_path))
        line = f"{env.video_path}: return {episode.episode_return:.1f}, seed {seed}"
        console.print(line, markup=False, soft_wrap=True)
    env.close()
    return videos


def _settings_beside(model: Path) -> dict[str, Any]:
    """
    Read what a model was trained with, if that is written beside it.

    :param model: The file or the folder that it is in.
    :return: The settings, empty if there are none.
    """
    folder = model if model.is_dir() else model.parent
    # A checkpoint lies one folder deeper.
    for file in (folder / "settings.json", folder.parent / "settings.json"):
        if file.exists():
            content: dict[str, Any] = json.loads(file.read_text())
            return content
    return {}


def _check_spaces(model: Any, env: Any, env_id: str) -> None:
    for name in ("observation_space", "action_space"):
        its, there = getattr(model, name), getattr(env, name)
        if its != there and (its.shape != there.shape or name == "action_space"):
            raise ValueError(
                f"env: received {env_id!r}, whose {name.replace('_', ' ')} is {there}; the model "
                f"has {its}. Pass the environment it was trained on."
            )

"""What is made of saved models: films of their episodes, and ONNX files."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.algorithms import load_model, model_file
from dqn_plugins.experiments.environments import EnvironmentSettings, load_normalization
from dqn_plugins.experiments.rollout import Episode, Player
from dqn_plugins.experiments.running import FIRST_FINAL_EVALUATION_SEED, check_at_least
from dqn_plugins.experiments.settings import Settings
from dqn_plugins.files import output_folder, read_json, write_json
from dqn_plugins.values import value_kind

__all__ = ["ExportSettings", "RecordSettings", "check_spaces", "export", "record", "trained_on"]


@dataclass(frozen=True)
class RecordSettings(Settings):
    """
    Record greedy episodes of saved models.

    :param model: File that `save` wrote, or folder of a training run or of a cell of a comparison;
        several are recorded one after the other.
    :param env: Environment, by its Gymnasium id. By default the one it was trained on, with its
        arguments and wrappers, according to the settings.json beside the model.
    :param algo: Algorithm of the model, by name; by default according to the file.
    :param episodes: Number of episodes, one video each.
    :param seed: Seed of the first episode; the others count up from it. By default that of the
        first episode of a comparison's final evaluation.
    :param max_episode_steps: Steps after which an episode is cut.
    :param out: Folder of the videos.
    :param side_by_side: Whether the same episode of all models is put into one video as well.
    """

    model: Path | tuple[Path, ...]
    env: str | None = None
    algo: str | None = None
    episodes: int = 3
    seed: int = FIRST_FINAL_EVALUATION_SEED
    max_episode_steps: int = 10_000
    out: Path = Path("videos")
    side_by_side: bool = False


def record(settings: RecordSettings, console: Console | None = None) -> list[Path]:
    """
    Record greedy episodes of saved models, with their Q-values if they have any.

    :param settings: What to record.
    :param console: Where the return of each episode is shown; standard error by default.
    :return: The videos, those of the first model first, those side by side last. Beside each of a
        model is a JSON file with what happened.
    :raises SettingsError: If a setting is wrong, or something is not there.
    """
    check_at_least(settings, episodes=1, seed=0, max_episode_steps=1)
    console = console or Console(stderr=True, highlight=False)
    models = (settings.model,) if isinstance(settings.model, Path) else tuple(settings.model)
    env_ids = [trained_on(model, settings.env)[0] for model in models]
    if not models or (settings.side_by_side and (len(models) == 1 or len(set(env_ids)) > 1)):
        raise SettingsError(
            f"model: received {len(models)}, of {', '.join(sorted(set(env_ids))) or 'nothing'}; it "
            "must be at least one, and with --side-by-side two or more of one environment. Pass "
            "their files or folders."
        )
    output_folder(settings.out)
    recorded = [_record_model(model, settings, console) for model in models]
    names = _told_apart([name for name, _ in recorded], models)
    videos = [video for _, each in recorded for video, _ in each]
    for number in range(settings.episodes if settings.side_by_side else 0):
        from dqn_plugins.wrappers import side_by_side

        labels = [
            f"{name}: {each[number][1].episode_return:.1f}"
            for name, (_, each) in zip(names, recorded, strict=True)
        ]
        videos.append(
            side_by_side(
                [each[number][0] for _, each in recorded],
                labels,
                settings.out / f"side-by-side-episode-{number}.mp4",
            )
        )
        console.print(f"{videos[-1]}: {', '.join(labels)}", markup=False, soft_wrap=True)
    return videos


def _told_apart(names: list[str], models: Sequence[Path]) -> list[str]:
    """Add to names that repeat as much of the end of the model's path as tells them apart."""
    paths = [model.resolve().parts for model in models]
    alike = [names.count(name) > 1 for name in names]
    for depth in range(1, 1 + max(map(len, paths))):
        apart = [
            f"{name} ({'/'.join(path[-depth:])})" if is_alike else name
            for name, path, is_alike in zip(names, paths, alike, strict=True)
        ]
        if len(set(apart)) == len(apart):
            return apart
    return names  # one model twice


def _record_model(
    path: Path, settings: RecordSettings, console: Console
) -> tuple[str, list[tuple[Path, Episode]]]:
    """Record the episodes of one model; tell its name, and the videos with what is in them."""
    env_id, made, trained_with = trained_on(path, settings.env)
    model = load_model(path, settings.algo)
    player = Player(env_id, made, settings.max_episode_steps, render_mode="rgb_array")
    if player.normalization is not None:
        load_normalization(player.normalization, _statistics_of(path))
    check_spaces(model, player.venv, env_id)
    name = str(trained_with.get("algorithm") or type(model).__name__)
    has_q_values = value_kind(model) == "Q"
    videos = []
    for number in range(settings.episodes):
        place = settings.out / f"{name}-episode-{number}.mp4"
        video, episode = player.record(model, settings.seed + number, place, has_q_values)
        seed, outcome = episode.seed, episode.episode_return
        told = {"episode": number, "seed": seed, "length": episode.length, "return": outcome}
        known = {"video": video.name, "environment_id": env_id, **asdict(episode)}
        write_json(video.with_suffix(".json"), {**known, "episodes": [told]})
        line = f"{video}: return {outcome:.1f}, seed {seed}"
        console.print(line, markup=False, soft_wrap=True)
        videos.append((video, episode))
    player.close()
    return name, videos


def trained_on(model: Path, env: str | None) -> tuple[str, EnvironmentSettings, dict[str, Any]]:
    """
    Find out what a saved model was trained on, from the settings.json beside the file or in its
    folder: the id of the environment, unless it is given, how it was made, and all else. Refuse a
    model that is not there.
    """
    model_file(model)
    folder = model if model.is_dir() else model.parent
    # A checkpoint lies one folder deeper.
    content = read_json(folder / "settings.json") or read_json(folder.parent / "settings.json")
    env_id = env or content.get("environment")
    if env_id is None:
        raise SettingsError(
            f"env: there is no settings.json beside {model} that says what it was trained on. "
            "Pass --env, such as --env LunarLander-v3."
        )
    made = EnvironmentSettings.from_mapping(content.get("hyperparameters", {}))
    return str(env_id), made, content


def _statistics_of(model: Path) -> Path:
    folder = model if model.is_dir() else model.parent
    of_checkpoint = model.stem.startswith("model_")
    name = model.stem.replace("model_", "model_vecnormalize_") if of_checkpoint else "vecnormalize"
    file = folder / f"{name}.npz"
    if not file.is_file():
        raise SettingsError(
            f"model: {file} is not there, which holds what its observations are normalised with. "
            "Pass the model in the folder that it was trained into."
        )
    return file


def check_spaces(model: Any, env: Any, env_id: str) -> None:
    """Refuse a model that does not fit an environment."""
    for name in ("observation_space", "action_space"):
        its, there = getattr(model, name), getattr(env, name)
        # Stable-Baselines3 moves the channels of images to the front.
        shapes = [sorted(space.shape or ()) for space in (its, there)]
        if shapes[0] != shapes[1] or (name == "action_space" and its != there):
            raise SettingsError(
                f"env: received {env_id!r}, whose {name.replace('_', ' ')} is {there}; the model "
                f"has {its}. Pass the environment it was trained on."
            )


@dataclass(frozen=True)
class ExportSettings(Settings):
    """
    Export the greedy policy of a saved model to ONNX.

    :param model: File that `save` wrote, or folder of a training run or of a cell of a comparison.
    :param output: The ONNX file; by default beside the model, with its name.
    """

    model: Path
    output: Path | None = None


def export(settings: ExportSettings, console: Console | None = None) -> Path:
    """
    Export the greedy policy of a saved model to ONNX, see the algorithms' ``export_onnx``.

    :param settings: What to export.
    :param console: Where the file's name is shown; standard error by default.
    :return: The file.
    :raises SettingsError: If there is no such model, its algorithm cannot be exported, or the file
        cannot be written.
    """
    console = console or Console(stderr=True, highlight=False)
    model = load_model(settings.model)
    if not hasattr(model, "export_onnx"):
        raise SettingsError(
            f"model: received one of {type(model).__name__}, it must be of an algorithm of this "
            "package. Stable-Baselines3 explains how to export its own: "
            "https://stable-baselines3.readthedocs.io/en/master/guide/export.html"
        )
    source = settings.model / "model.zip" if settings.model.is_dir() else settings.model
    output = settings.output or source.with_suffix(".onnx")
    output_folder(output.parent, "output")
    path: Path = model.export_onnx(output)
    console.print(f"Exported: {path}", markup=False, soft_wrap=True)
    return path

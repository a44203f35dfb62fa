"""Export a saved model to ONNX."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.algorithms import load_model

__all__ = ["ExportSettings", "export"]


@dataclass(frozen=True)
class ExportSettings:
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
    :raises SettingsError: If there is no such model, or its algorithm cannot be exported.
    """
    console = console or Console(stderr=True, highlight=False)
    model = load_model(settings.model)
    if not hasattr(model, "export_onnx"):
        raise SettingsError(
            f"model: received one of {type(model).__name__}, it must be of an algorithm of this "
            "package. Stable-Baselines3 tells how to export its own: "
            "https://stable-baselines3.readthedocs.io/en/master/guide/export.html"
        )
    source = settings.model / "model.zip" if settings.model.is_dir() else settings.model
    path: Path = model.export_onnx(settings.output or source.with_suffix(".onnx"))
    console.print(f"Exported: {path}", markup=False, soft_wrap=True)
    return path

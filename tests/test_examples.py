"""Every example is run as a reader would run it, with a budget small enough for a test."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from PIL import Image

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.wrappers import read_frames

EXAMPLES = Path(__file__).parent.parent / "examples"
MAKEFILE = (EXAMPLES.parent / "Makefile").read_text(encoding="utf-8")
NOTEBOOK = EXAMPLES / "seed_notebook.ipynb"
# A warning is the first thing a newcomer would stumble over, so none is let through.
PYTHON = [sys.executable, "-W", "error::UserWarning"]
SHELL = os.environ | {"COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}


def run(folder: Path, script: str, *arguments: object) -> str:
    """Run an example in a folder; what it printed."""
    result = subprocess.run(
        [*PYTHON, str(EXAMPLES / script), *map(str, arguments)],
        cwd=folder,
        env=SHELL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=300,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def assert_plays(video: Path, height: int) -> None:
    """Decode a video of LunarLander, and see that something moves in it."""
    frames = list(read_frames(video))
    assert len(frames) > 10
    assert frames[0].shape == (height, 600, 3)
    assert any(np.any(frame != frames[0]) for frame in frames)


@pytest.mark.slow
def test_quickstart(tmp_path: Path) -> None:
    printed = run(tmp_path, "quickstart.py")
    assert re.search(r"^Greedy return over 10 episodes: -?\d+\.\d ± \d+\.\d ", printed, re.M)
    assert NaiveDQN.load(tmp_path / "runs/quickstart").num_timesteps == 10_000


@pytest.mark.slow
def test_ladder(tmp_path: Path) -> None:
    settings = ("--timesteps", 300, "--seeds", 1, "--jobs", 1)
    episodes = ("--evaluations", 1, "--evaluation-episodes", 1, "--final-evaluation-episodes", 1)
    # By autograd: compiled, each rung would be compiled anew
    run(tmp_path, "ladder.py", *settings, *episodes, "--no-videos", "--hp", "backend:torch")
    summary = pd.read_csv(tmp_path / "runs/ladder/summary.csv")
    rungs = summary["algorithm"].tolist()
    assert rungs[0] == "1_notebook"
    assert rungs == sorted(rungs, key=lambda rung: int(rung.partition("_")[0]))
    assert (summary["finished"] == 1).all()


def test_own_loop(tmp_path: Path) -> None:
    *reports, summary = run(tmp_path, "own_loop.py", "--steps", 3_000).splitlines()
    assert reports[0].startswith("Episode 20: mean return -")
    found = re.match(r"Learned from 3,000 transitions in (\d+) episodes, each once", summary)
    assert found is not None
    assert len(reports) == int(found[1]) // 20


@pytest.mark.slow
def test_masks(tmp_path: Path) -> None:
    lines = run(tmp_path, "masks.py", "--steps", 2_000, "--every", 3_000).splitlines()
    found = re.findall(
        r"^(.*): greedy return -?\d+\.\d\d after 2,000 steps$", "\n".join(lines), re.M
    )
    assert found == ["StreamQ with masks", "StreamQ without", "MaskablePPO"]
    assert Image.open(tmp_path / "masks.png").width > 500


def test_seed_notebook_script(tmp_path: Path) -> None:
    arguments = ("--episodes", 6, "--report-every", 3, "--videos", 1, "--seed", 2)
    lines = run(tmp_path, "seed_notebook.py", *arguments).splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["Episode 3", "Episode 6"]
    assert all("mean last reward" in line for line in lines[:2])
    assert "in 6 episodes" in lines[2]
    folder = tmp_path / "runs/seed_notebook"
    video = folder / "videos/rl-video-episode-0.mp4"
    assert lines[3:] == [str(video)]
    assert_plays(video, height=400)
    assert NaiveDQN.load(folder / "model").bootstrap_at_terminal


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    """What `make demo` runs, with fewer steps: a table, the curves and the videos side by side."""
    recipe = next(line for line in MAKEFILE.splitlines() if "configs/demo.yaml" in line)
    command = [sys.executable, "-m", "dqn_plugins", *recipe.split()[1:3]]
    arguments = ["--timesteps", "1000", "--seeds", "1", "--final-evaluation-episodes", "2"]
    result = subprocess.run(
        [*command, str(EXAMPLES / "configs/demo.yaml"), *arguments],
        cwd=tmp_path,
        env=SHELL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs/demo"
    for name in ("stream_q", "naive_dqn", "dqn"):
        assert f" {name} " in result.stdout
        assert (folder / f"LunarLander-v3/{name}/seed_0/model.zip").is_file()
    with Image.open(folder / "curves.png") as picture:
        assert len(picture.getcolors(2**24)) > 100
    frames = list(read_frames(folder / "videos/LunarLander-v3.mp4"))
    assert frames[0].shape[1] >= 3 * 600
    assert any(np.any(frame != frames[0]) for frame in frames)
    assert "data:video/mp4" in (folder / "report.html").read_text()


def test_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is None
            assert not cell.outputs


@pytest.mark.slow
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the notebook has one of its own
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    budget = {"EPISODES": 12, "VIDEOS": 2, "TIMESTEPS": 2_000}
    for name, value in budget.items():
        cells[0].source, count = re.subn(
            rf"^{name} = [\d_]+", f"{name} = {value}", cells[0].source, flags=re.M
        )
        assert count == 1
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    outputs = {
        cell.id: [output for output in cell.outputs if output.get("name") != "stderr"]
        for cell in cells
    }
    report = "".join(output.text for output in outputs["train"])
    assert report.count("mean last reward") == 6
    assert "transitions, each learned from once" in report
    for name in ("curve", "wrong", "next"):
        assert any("image/png" in output.data for output in outputs[name])
    for name, prefix in (("film", "naive_dqn"), ("next-film", "stream_q")):
        (film,) = outputs[name]
        assert film.data["text/html"].count('<video width="360"') == 2
        for number in range(2):
            assert_plays(tmp_path / f"runs/seed_notebook/{prefix}-episode-{number}.mp4", height=512)


def test_live(tmp_path: Path) -> None:
    printed = run(tmp_path, "live.py", "--timesteps", 500, "--port", 0, "--no-wait").splitlines()
    assert re.fullmatch(r"Watch at http://127\.0\.0\.1:\d+/", printed[0])
    assert printed[-1] == "Learned from 500 transitions, each once."
    with urlopen(printed[0].split()[-1]) as page:  # it outlives the training, and its output
        assert page.status == 200


@pytest.mark.slow
def test_atari(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    budget = ("--steps", 20, "--record-steps", 12)
    run(tmp_path, "atari.py", *budget)
    printed = run(tmp_path, "atari.py", *budget, "--resume")
    assert "Saved runs/atari/Pong.zip" in printed
    assert StreamQ.load(tmp_path / "runs/atari/Pong").num_timesteps == 40
    videos = sorted((tmp_path / "runs/atari/videos").glob("*.mp4"))
    assert len(videos) == 2
    assert next(iter(read_frames(videos[0]))).shape == (210, 160, 3)

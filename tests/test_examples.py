"""Every example is run as a reader would run it, with a budget small enough for a test."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from PIL import Image

from dqn_plugins import NaiveDQN
from dqn_plugins.wrappers import read_frames

EXAMPLES = Path(__file__).parent.parent / "examples"
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
    run(tmp_path, "ladder.py", *settings, *episodes, "--no-videos")
    summary = pd.read_csv(tmp_path / "runs/ladder/summary.csv")
    rungs = summary["algorithm"].tolist()
    assert rungs[0] == "1_notebook"
    assert rungs == sorted(rungs)
    assert (summary["finished"] == 1).all()


def test_own_loop(tmp_path: Path) -> None:
    *reports, summary = run(tmp_path, "own_loop.py", "--steps", 3_000).splitlines()
    assert reports[0].startswith("Episode 20: mean return -")
    found = re.match(r"Learned from 3,000 transitions in (\d+) episodes, each once", summary)
    assert found is not None
    assert len(reports) == int(found[1]) // 20


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


CURVES = {"NaiveDQN": (213, 94, 0), "StreamQ": (0, 158, 115), "DQN": (0, 114, 178)}


@pytest.mark.slow
def test_compare_with_dqn(tmp_path: Path) -> None:
    arguments = ("--timesteps", 1_000, "--evaluation-episodes", 2, "--videos", 1)
    printed = run(tmp_path, "compare_with_dqn.py", *arguments)
    folder = tmp_path / "runs/demo"
    for place in ("learning_curves.png", "videos", "*.zip", "*.monitor.csv"):
        assert str(Path("runs/demo", place)) in printed

    rows = [line[1:-1].split("│") for line in printed.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == list(CURVES)
    for name, steps, seconds, speed, training, greedy in rows:
        assert int(steps.replace(",", "")) == 1_000
        assert float(speed.replace(",", "")) > 0
        assert float(seconds) > 0
        log = pd.read_csv(folder / f"{name.strip()}.monitor.csv", skiprows=1)
        complete = log[~log["incomplete"]]
        assert float(training) == pytest.approx(complete["r"].tail(100).mean(), abs=0.06)
        assert re.fullmatch(r"-?\d+\.\d ± \d+\.\d", greedy.strip())
        assert (folder / f"{name.strip()}.zip").is_file()

    with Image.open(folder / "learning_curves.png") as picture:
        assert picture.size == (1800, 750)
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for color in CURVES.values():
        assert (pixels == color).all(axis=1).sum() > 500

    videos = sorted(folder.glob("videos/*.mp4"))
    assert [video.name for video in videos] == ["NaiveDQN-episode-0.mp4", "StreamQ-episode-0.mp4"]
    for video in videos:
        assert_plays(video, height=512)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of Ctrl-C")
def test_compare_with_dqn_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends the demo in a sentence, and an earlier run's folder is left alone."""
    earlier = tmp_path / "runs/demo"
    earlier.mkdir(parents=True)
    (earlier / "learning_curves.png").write_text("an earlier run's")
    command = [*PYTHON, str(EXAMPLES / "compare_with_dqn.py"), "--timesteps", "1000000"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=SHELL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        # Programs that a shell starts in the background may inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            log = tmp_path / "runs/demo_1/NaiveDQN.monitor.csv"
            deadline = time.monotonic() + 120
            while not log.exists() or len(log.read_text().splitlines()) < 3:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "Traceback" not in printed
    assert "runs/demo is there already and stays; this run goes to runs/demo_1." in printed
    assert printed.rstrip().endswith("Interrupted. What was done so far is in runs/demo_1.")
    assert [path.name for path in earlier.iterdir()] == ["learning_curves.png"]
    assert (earlier / "learning_curves.png").read_text() == "an earlier run's"


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

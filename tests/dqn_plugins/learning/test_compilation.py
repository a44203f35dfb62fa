"""What compiled code is kept as, when it is made anew, and that it is Python all the same."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dqn_plugins.policies
import dqn_plugins.wrappers
from tests.algorithms import ALGORITHMS
from tests.helpers import weights

ROOT = Path(__file__).parents[3]


def installed(folder: Path) -> Path:
    """Copy the package as it is installed, rooms at the root included."""
    package = folder / "installed" / "dqn_plugins"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(dqn_plugins.__file__).parent, package, ignore=ignore)
    for room in (dqn_plugins.policies, dqn_plugins.wrappers):
        name, source = room.__name__.split(".")[-1], Path(room.__file__).parent
        shutil.copytree(source, package / name, ignore=ignore, dirs_exist_ok=True)
    return package


def run(program: str, folder: Path, *paths: Path, **variables: str) -> tuple[list[str], str]:
    """Run a program in a process of its own; the lines that it printed, and its errors."""
    path = os.pathsep.join(map(str, (*paths, ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def learned_numbers() -> np.ndarray:
    """Weights after a few updates by the compiled learner of every algorithm."""
    models = [row.make(backend="compiled").learn(16) for row in ALGORITHMS]
    return np.concatenate([weights(model) for model in models])


def test_the_compiled_code_is_python_that_computes_the_same(tmp_path):
    program = (
        "import numpy as np\n"
        "from tests.dqn_plugins.learning.test_compilation import learned_numbers\n"
        "np.save('weights.npy', learned_numbers())\n"
    )
    run(program, tmp_path, NUMBA_DISABLE_JIT="1")
    np.testing.assert_allclose(np.load(tmp_path / "weights.npy"), learned_numbers(), atol=1e-5)


WITHOUT_A_FOLDER = """
import tiny
from dqn_plugins import NaiveDQN
from dqn_plugins.learning.compiled.announcing import announced
from tests.environments import RecordingEnv
model = NaiveDQN("MlpPolicy", RecordingEnv(), backend="compiled")
with announced():
    print(model.backend, tiny.doubled(21))
"""


def test_compiled_code_needs_no_folder_to_be_kept_in(tmp_path):
    # Root may write anywhere but below a file: not into the package, nor the user's folders.
    blocked = tmp_path / "file"
    blocked.touch()
    package = installed(tmp_path)
    for folder in (package / "learning" / "compiled", tmp_path):
        (folder / "__pycache__").touch()
    (tmp_path / "tiny.py").write_text(
        "from dqn_plugins.learning.compiled.compilation import entry_point\n"
        "@entry_point\ndef doubled(number):\n    return 2 * number\n"
    )
    lines, errors = run(
        WITHOUT_A_FOLDER,
        tmp_path,
        package.parent,
        tmp_path,
        PYTHONDONTWRITEBYTECODE="1",
        NUMBA_CACHE_DIR=str(blocked / "cache"),
        XDG_CACHE_HOME=str(blocked / "cache"),
        HOME=str(blocked / "home"),
    )
    assert lines == ["compiled 42"]
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in errors
    assert not list(tmp_path.rglob("*.nb?"))


ACTS = """
import sys
import numpy as np
from dqn_plugins import StreamQ
from tests.environments import RecordingEnv
from tests.helpers import weights
model = StreamQ("MlpPolicy", RecordingEnv(), policy_kwargs={"net_arch": [32]}, seed=0)
obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
print(model._learner.greedy_actions(obs).tolist())
"""
# Whoever is interrupted while compiling has reset the environment.
LEARNS = ACTS + "model.env.reset()\nprint(weights(model.learn(1_000)).tobytes().hex())"
# Ctrl-C while code is compiled, which takes ten times as long as this waits
IS_INTERRUPTED = (
    ACTS
    + """
import os, signal, threading
from dqn_plugins.learning import compilation_observers
class Impatient:
    def on_compilation(self, is_compiling):
        compilation_observers.discard(self)
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
impatient = Impatient()
compilation_observers.add(impatient)
signal.signal(signal.SIGINT, signal.default_int_handler)
before = weights(model)
try:
    model.learn(1_000)
except KeyboardInterrupt:
    print("interrupted", np.array_equal(weights(model), before), model.num_timesteps)
print(weights(model.learn(1_000)).tobytes().hex())
"""
)


@pytest.mark.slow
def test_code_is_kept_and_made_anew_when_another_file_of_it_has_changed(tmp_path):
    package = installed(tmp_path)
    cache = tmp_path / "cache"

    def digest() -> dict[str, str]:
        files = sorted(cache.rglob("*.nb?"))
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    def ran(program: str) -> tuple[list[str], str]:
        return run(program, tmp_path, package.parent, NUMBA_CACHE_DIR=str(cache))

    (actions, interrupted, compiled), said = ran(IS_INTERRUPTED)
    assert interrupted == "interrupted True 0"
    # Once for what was interrupted, and once for what went on
    assert [line.split(",")[0] for line in said.splitlines()] == [
        "Compiling the learner for this machine"
    ] * 2
    # What was interrupted while it was written is written by the next.
    assert ran(LEARNS)[0] == [actions, compiled]
    kept = digest()
    assert kept
    # The process that compiles learns, bit for bit, what those that load learn, without a word.
    assert ran(LEARNS) == ([actions, compiled], "")
    assert digest() == kept
    # What Python calls lies in another file, rules.py, which stays as it is.
    source = package / "learning" / "compiled" / "layers.py"
    old = "outputs[unit] = total + added[unit]"
    assert source.read_text().count(old) == 1
    source.write_text(source.read_text().replace(old, "outputs[unit] = -total"))
    # Nor is there any more a class that it was compiled for.
    for file in source.parent.glob("*.py"):
        file.write_text(file.read_text().replace("Rewards", "Earnings"))
    assert ran(ACTS)[0] != [actions]

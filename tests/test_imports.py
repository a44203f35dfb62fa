"""What importing the package costs, counted in modules: seconds depend on the machine."""

import subprocess
import sys
import textwrap

PREAMBLE = """
import sys
def roots(): return {name.partition(".")[0] for name in sys.modules}
"""


def run(program: str) -> list[str]:
    """Run a program in a process of its own; the words it printed."""
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(program)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    ).stdout.split()


def test_wrappers_import_no_torch_and_nothing_else_that_is_large() -> None:
    names = "RecordVideo, EpisodeReward, LiveView, show_video"
    imported = run(f"from dqn_plugins.wrappers import {names}\nprint(*roots())")
    large = {
        "torch", "stable_baselines3", "numba", "scipy", "pandas", "matplotlib", "moviepy",
        "IPython", "pygame", "jinja2", "starlette",
    }  # fmt: skip
    assert large & set(imported) == set()


def test_the_algorithms_add_numba_to_what_stable_baselines3_imports_and_nothing_else_large() -> (
    None
):
    before, *added = run(
        """
        import stable_baselines3
        before, modules = roots(), len(sys.modules)
        from dqn_plugins import NaiveDQN, StreamQ
        print(len(sys.modules) - modules, *(roots() - before))
        """
    )
    assert int(before) < 450
    large = {"scipy", "matplotlib", "moviepy", "IPython", "pygame", "jinja2", "joblib", "tyro"}
    # numba asks whether SciPy is there, which imports the top of it.
    assert large & set(added) <= {"scipy"}


def test_the_package_alone_imports_nothing_large() -> None:
    imported = run("import dqn_plugins, dqn_plugins.wrappers\nprint(*roots())")
    assert {"torch", "numpy", "gymnasium", "numba"} & set(imported) == set()


def test_all_algorithms_learn_compiled_without_what_extras_bring() -> None:
    """SciPy above all: numba's products of matrices would need it."""
    learners = run(
        """
        for name in ("scipy", "joblib", "jinja2"):
            sys.modules[name] = None
        from dqn_plugins import PQN, NaiveDQN, StreamQ
        for algorithm, arguments in (NaiveDQN, {}), (StreamQ, {}), (PQN, {"n_steps": 8}):
            model = algorithm("MlpPolicy", "CartPole-v1", seed=0, **arguments).learn(16)
            print(model._is_compiled())
        """
    )
    assert learners == ["True"] * 3

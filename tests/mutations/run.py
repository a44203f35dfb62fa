"""
Break the package on purpose, one mutation at a time, and see that the tests notice.

Each mutation is made in a copy of the repository, where the tests named beside it are run. Exits
with 0 if all were caught. ``--only TEXT`` takes those whose file or description contains it.
"""

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
# When one of these changes, all code is compiled anew. As plain Python it computes the same.
LEARNING = "dqn_plugins/learning/"
COMPILES = ("compilation.py", "announcing.py")  # tested by compiling
TESTS_FAILED = 1  # pytest's exit status


def copy_repository(goal: Path) -> None:
    """
    Copy what the tests need, so that the copy imports from itself.

    The rooms of the package go inside it, as in an installed package: the editable install, which
    knows where they lie, would import them from the working tree.
    """
    ignore = shutil.ignore_patterns("*.pyc", ".venv*", ".git", "build", ".hypothesis", "runs")
    for name in ("tests", "docs", "examples", "pyproject.toml", "README.md"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, goal / name, ignore=ignore)
        else:
            shutil.copy2(source, goal / name)
    # Compiled code on disk stays valid: it asks what is in the files.
    shutil.copytree(ROOT / "dqn_plugins", goal / "dqn_plugins", ignore=ignore)
    for room in ("policies", "wrappers"):
        shutil.copytree(ROOT / room, goal / room, ignore=ignore)
        (goal / "dqn_plugins" / room).symlink_to(goal / room)


def run_tests(root: Path, arguments: tuple[str, ...], compile_code: bool, log: Path) -> None:
    """Run pytest in this process, which was made for it, and end with its exit status."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(root)
    sys.path[:] = [str(root), *(path for path in sys.path if path not in (str(ROOT), ""))]
    os.environ["HYPOTHESIS_PROFILE"] = "mutations"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    if not compile_code:
        import numba

        os.environ["NUMBA_DISABLE_JIT"] = "1"
        numba.config.DISABLE_JIT = 1  # type: ignore[attr-defined]
    import pytest

    import dqn_plugins.policies
    import dqn_plugins.wrappers

    for package in (dqn_plugins, dqn_plugins.policies, dqn_plugins.wrappers):
        assert Path(package.__path__[0]).is_relative_to(root), package
    options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header"]
    sys.exit(pytest.main([*options, *arguments]))


def outcome(root: Path, arguments: tuple[str, ...], compile_code: bool, limit: float) -> str:
    """
    Run tests in a process of their own.

    :return: "passed", "failed", "timeout", or what else pytest's exit status says.
    """
    log = root / "log.txt"
    process = CONTEXT.Process(target=run_tests, args=(root, arguments, compile_code, log))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return "timeout"
    # EnvPool aborts the process that drops environments in the middle of a step.
    results = {0: "passed", TESTS_FAILED: "failed", -signal.SIGABRT: "failed"}
    return results.get(process.exitcode or 0, f"exit status {process.exitcode}")


def compiles(mutation: Mutation) -> bool:
    """Tell whether compiled code is compiled where a mutation is tested, and not plain Python."""
    return mutation.file.endswith(COMPILES) or not mutation.file.startswith(LEARNING)


def check(mutation: Mutation, root: Path, limit: float) -> str:
    """
    Apply a mutation, run its tests, and take it back.

    :return: "caught", "survived", or why the answer is not known.
    """
    path = root / mutation.file
    original, times = path.read_bytes(), path.stat()
    text = original.decode()
    if text.count(mutation.old) != 1:
        return f"occurs {text.count(mutation.old)} times"
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        result = outcome(root, mutation.tests, compiles(mutation), limit)
    finally:
        path.write_bytes(original)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return {"failed": "caught", "passed": "survived"}.get(result, result)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of a file's name or of a description")
    parser.add_argument("--limit", type=float, default=600, help="seconds for each mutation")
    parser.add_argument("--keep", action="store_true", help="keep the copy and the last log")
    arguments = parser.parse_args()
    chosen = [m for m in MUTATIONS if arguments.only in f"{m.file} {m.breaks}"]
    # Imported once for all: what takes seconds and is not the package's
    CONTEXT.set_forkserver_preload(
        ["torch", "stable_baselines3", "numba", "pytest", "hypothesis", "moviepy", "matplotlib"]
    )
    root = Path(tempfile.mkdtemp(prefix="mutations-"))
    results = []
    try:
        copy_repository(root)
        # Tests that fail without any mutation would catch everything.
        selections = {(m.tests, compiles(m)) for m in chosen}
        for tests, compile_code in sorted(selections):
            result = outcome(root, tests, compile_code, arguments.limit)
            print(f"{'unmutated':<9} {result:<8} {' '.join(tests)}", flush=True)
            if result != "passed":
                print((root / "log.txt").read_text()[-3000:])
                return 2
        for mutation in chosen:
            start = time.perf_counter()
            result = check(mutation, root, arguments.limit)
            results.append(result)
            seconds = time.perf_counter() - start
            print(f"{result:<9} {seconds:5.0f} s  {mutation.file}: {mutation.breaks}", flush=True)
    finally:
        if not arguments.keep:
            shutil.rmtree(root)
    print(f"{results.count('caught')} of {len(results)} mutations caught")
    return int(results.count("caught") != len(results))


CONTEXT = multiprocessing.get_context("forkserver")

if __name__ == "__main__":
    sys.exit(main())

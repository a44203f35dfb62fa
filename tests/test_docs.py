"""The pages as a reader meets them: every block of Python runs, every public name is described."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.error import DependencyNotInstalled
from stable_baselines3 import DQN, PPO

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.wrappers import LiveView
from tests.algorithms import ALGORITHMS

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
# A comment above a block, which no reader sees: what is shorter in the test.
MARKER = re.compile(r"<!-- in the test: (.+?) -> (.+?) -->\n")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
STEPS = 300
PACKAGES = (
    "dqn_plugins",
    "dqn_plugins.comparison",
    "dqn_plugins.environments",
    "dqn_plugins.learning",
    "dqn_plugins.policies",
    "dqn_plugins.wrappers",
)


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """The blocks of Python on a page: the line each begins at, and its code."""
    text = page.read_text(encoding="utf-8")
    end = 0
    for found in BLOCK.finditer(text):
        code = found[1]
        for long, short in MARKER.findall(text[end : found.start()]):
            assert long in code, f"{page.name}: {long!r} is not in the block that follows"
            code = code.replace(long, short)
        yield text.count("\n", 0, found.start()) + 2, code
        end = found.end()


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Train for a moment only, and wait for nobody, in an empty folder."""
    for algorithm in (*(row.algorithm for row in ALGORITHMS), DQN, PPO):

        def learn(self: Any, total_timesteps: int, *args: Any, _real: Any = algorithm.learn,
                  **kwargs: Any) -> Any:  # fmt: skip
            return _real(self, min(total_timesteps, STEPS), *args, **kwargs)

        monkeypatch.setattr(algorithm, "learn", learn)
    monkeypatch.setattr(LiveView, "wait_until_watched", lambda *_: False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))],
    ids=lambda page: page.relative_to(ROOT).with_suffix("").as_posix(),
)
@pytest.mark.usefixtures("briefly")
def test_every_block_of_python_on_a_page_runs(page: Path) -> None:
    """One after the other: a block may use what those above it made."""
    names: dict[str, Any] = {"__name__": "page"}
    try:
        for line, code in blocks(page):
            # As many lines in front as in the page, so that a traceback tells where
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
    except (ImportError, DependencyNotInstalled) as error:
        if not re.search(r"pip install 'dqn-plugins\[|No module named 'rl_zoo3'", str(error)):
            raise
        pytest.skip(str(error))  # of an extra that is not installed here
    finally:
        for name, spec in list(gym.registry.items()):  # what a library registers, it does once
            if getattr(spec.entry_point, "__module__", None) == "page":
                del gym.registry[name]


# What is public, and what is to be said of it


def public_things() -> Iterator[tuple[str, Any]]:
    """Every public class and function, and every public method that is written here."""
    seen = set()
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            thing = getattr(module, name)
            if not callable(thing) or not hasattr(thing, "__module__") or id(thing) in seen:
                continue
            if not str(thing.__module__).startswith("dqn_plugins"):
                continue  # a type alias, or somebody else's
            seen.add(id(thing))
            yield f"{package}.{name}", thing
            if not inspect.isclass(thing):
                continue
            for owner in thing.__mro__:
                if not owner.__module__.startswith("dqn_plugins"):
                    continue
                for method, value in vars(owner).items():
                    function = inspect.unwrap(getattr(value, "__func__", value))
                    is_public = not method.startswith("_") and isinstance(function, FunctionType)
                    if is_public and id(function) not in seen:
                        seen.add(id(function))
                        yield f"{package}.{name}.{method}", function


def missing_in(thing: Any) -> list[str]:
    """What a docstring does not say."""
    if not inspect.isclass(thing) and not thing.__doc__:
        return []  # does what its base class says
    text = inspect.getdoc(thing) or ""
    function = thing.__init__ if inspect.isclass(thing) else thing
    missing = [] if text else ["any docstring"]
    if inspect.isclass(thing):  # what it takes beyond what its base class describes stands there
        text = "\n".join(inspect.getdoc(base) or "" for base in thing.__mro__)
    if not isinstance(function, FunctionType):
        return missing
    described = set(re.findall(r":param (?:[\w\[\], ]+ )?(\w+):", text))
    for name, parameter in inspect.signature(function).parameters.items():
        is_self = name in {"self", "cls"}
        is_rest = parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        if not is_self and not is_rest and not name.startswith("_") and name not in described:
            missing.append(f":param {name}:")
    returned = inspect.signature(function).return_annotation
    nothing = {None, "None", inspect.Signature.empty, "NoReturn"}
    if not inspect.isclass(thing) and returned not in nothing and ":return:" not in text:
        missing.append(":return:")
    missing += [
        f":raises {error}:" for error in _raised(function) if f":raises {error}:" not in text
    ]
    return missing


def _raised(function: FunctionType) -> set[str]:
    """The exceptions that stand in the function itself; a dataclass's is nowhere."""
    if function.__code__.co_filename == "<string>":
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = node.exc.func
            if isinstance(name, ast.Name) and name.id[0].isupper():
                names.add(name.id)
    return names - {"NotImplementedError", "AttributeError", "AssertionError"}


def test_what_is_public_is_fully_described() -> None:
    missing = {name: missing_in(thing) for name, thing in public_things()}
    assert len(missing) > 150
    assert {name: lacks for name, lacks in missing.items() if lacks} == {}


@pytest.mark.parametrize("package", [*PACKAGES, "dqn_plugins.zoo"])
def test_the_reference_finds_every_public_name(package: str) -> None:
    """Names that are imported when they are asked for, and data, which have no docstring."""
    module = import_module(package)
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    assert f"automodule:: {package}\n" in pages
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        if isinstance(getattr(module, name), dict):
            assert f"py:data:: {package}.{name}\n" in pages


def test_arguments_that_go_are_named_and_those_that_stay_are_there() -> None:
    page = (ROOT / "docs" / "how_to" / "from_sb3_dqn.md").read_text()
    for algorithm in (NaiveDQN, StreamQ):
        taken = set(inspect.signature(algorithm.__init__).parameters)
        for name in set(inspect.signature(DQN.__init__).parameters) - {"self", "policy"} - taken:
            assert name == "_init_setup_model" or f"`{name}`" in page, name


def numbers_module() -> Any:
    """The program that ``make numbers`` runs."""
    spec = spec_from_file_location("numbers_of_pages", ROOT / "docs" / "write_numbers.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_on_pages_are_those_of_the_results() -> None:
    """Each of them is one of a result's; `make numbers` corrects what this finds."""
    pages = numbers_module().pages()
    assert len(pages) > 5
    for page, text in pages.items():
        assert page.read_text(encoding="utf-8") == text, page.name


def test_a_number_is_written_where_the_page_has_another(tmp_path: Path) -> None:
    numbers = numbers_module()
    result = tmp_path / "result.md"
    result.write_text(
        "# R\n\n| who | score | range |\n|---|---|---|\n| a | −1,234.6 | −7 … 8.25 |\n"
    )
    columns = {"score": "score", "range": "range"}
    rows = {"a": numbers.Row(str(result), columns, ["a"])}
    page = "It has 5,\nand 1 to 2 in all; b has 5.\n"
    expected = "It has −1,235,\nand −7 to 8.2 in all; b has 5.\n"
    place = "It has {a.score:,.0f}, and {a.range[0]} to {a.range[1]:.1f} in all"
    assert numbers.written(page, [place], rows) == expected
    assert numbers.written(page, ["b has {a.score:hundreds}."], rows).endswith("b has −1,200.\n")
    for wrong in ("It had {a.score}", "has {a.score}"):
        with pytest.raises(ValueError, match=r"[02] places"):
            numbers.written(page, [wrong], rows)
    with pytest.raises(ValueError, match="0 rows"):
        numbers.Row(str(result), columns, ["b"])


def test_the_tests_that_pages_name_are_there() -> None:
    tests = "".join(file.name + file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for page in PAGES:
        for name in re.findall(r"\btest_\w+(?:\.py)?", page.read_text()):
            assert f"def {name}(" in tests or name.removesuffix(".py") + ".py" in tests, name


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "examples"])
def test_no_program_hides_a_module_of_the_standard_library(folder: str) -> None:
    """A program's own folder comes first where Python looks for what it imports."""
    names = {path.stem for path in (ROOT / folder).glob("*.py")}
    assert names
    assert not names & sys.stdlib_module_names

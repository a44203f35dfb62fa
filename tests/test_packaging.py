"""What reaches site-packages, and that it works beside a user's own wrappers.py and policies.py."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import dqn_plugins

ROOT = Path(__file__).parents[1]
ROOMS = ("dqn_plugins", "policies", "wrappers")

USERS_SCRIPT = """
import sys
from pathlib import Path

import policies
import wrappers

assert wrappers.MINE == "wrappers" and policies.MINE == "policies"

import dqn_plugins
import dqn_plugins.policies
import dqn_plugins.wrappers
from dqn_plugins import NaiveDQN
from dqn_plugins.policies import QPolicy
from dqn_plugins.wrappers import EpisodeReward, RecordVideo, show_video

assert QPolicy.__module__.startswith("dqn_plugins.policies")
assert EpisodeReward.__module__.startswith("dqn_plugins.wrappers")
# Importing the package has put nothing else in the place of the user's modules.
assert sys.modules["wrappers"].MINE == "wrappers" and sys.modules["policies"].MINE == "policies"
print("PACKAGE", Path(dqn_plugins.__file__).parent)
print("VERSION", dqn_plugins.__version__)
NaiveDQN("MlpPolicy", "CartPole-v1", seed=0, backend="torch").learn(5).save("model")
NaiveDQN.load("model")
"""


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A folder with modules of the user's own, which happen to be called like our rooms."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("wrappers", "policies"):
        (folder / f"{name}.py").write_text(f"MINE = {name!r}\n")
    (folder / "script.py").write_text(USERS_SCRIPT)
    return folder


def run_python(
    arguments: list[str], cwd: Path, python: str = sys.executable, **environment: str
) -> str:
    # Not what this test process happens to have on its path
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [python, *arguments],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build folder left over from before must not help or harm."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*ROOMS, "tests", "examples", "benchmarks"):
        if (ROOT / name).exists():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
    target = tmp_path_factory.mktemp("dist")
    arguments = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(source)]
    run_python(arguments, cwd=target)
    (path,) = target.glob("*.whl")
    return path


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


def metadata_of(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return file.read(name).decode()


def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel):
    names = names_in(wheel)
    (metadata,) = {name.partition("/")[0] for name in names} - {"dqn_plugins"}
    assert metadata.endswith(".dist-info")
    assert f"{metadata}/licenses/LICENSE" in names
    expected = {"dqn_plugins/py.typed"}
    for room in ROOMS:
        inside = "dqn_plugins" if room == "dqn_plugins" else f"dqn_plugins/{room}"
        for path in (ROOT / room).rglob("*"):
            # Modules, hyperparameters for RL Zoo, templates of the report
            if path.suffix in {".py", ".yml", ".html", ".css"}:
                expected.add(f"{inside}/{path.relative_to(ROOT / room).as_posix()}")
    assert "dqn_plugins/zoo/stream_q.yml" in expected
    assert expected <= names
    modules = {name for name in names if name.endswith(".py")}
    assert modules <= expected


def test_the_wheel_names_what_it_needs(wheel):
    metadata = metadata_of(wheel)
    requirements = ("stable-baselines3>=", "gymnasium[box2d]>=", "torch>=", "numba>=")
    for line in (
        "Name: dqn-plugins\n",
        "Requires-Python: >=3.10\n",
        *(f"Requires-Dist: {requirement}" for requirement in requirements),
    ):
        assert line in metadata


def test_the_wheel_works_beside_a_users_own_wrappers_and_policies(wheel, users_folder, tmp_path):
    site = tmp_path / "site"
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run_python([*pip, "--target", str(site), str(wheel)], cwd=tmp_path)
    assert not (site / "policies").exists()
    assert not (site / "wrappers").exists()
    output = run_python(["script.py"], cwd=users_folder, PYTHONPATH=str(site))
    assert f"PACKAGE {site / 'dqn_plugins'}\n" in output
    version = wheel.name.split("-")[1]
    assert f"VERSION {version}\n" in output


def test_the_editable_install_works_beside_a_users_own_wrappers_and_policies(users_folder):
    output = run_python(["script.py"], cwd=users_folder)
    assert f"PACKAGE {ROOT / 'dqn_plugins'}\n" in output


def test_no_folder_of_ours_is_importable_under_its_own_name(tmp_path):
    script = (
        "import importlib.util as u; "
        "print([u.find_spec(name) for name in ('policies', 'wrappers')])"
    )
    assert run_python(["-c", script], cwd=tmp_path) == "[None, None]\n"


def test_the_package_works_from_the_root_of_the_repository():
    # Where the folder `dqn_plugins` on the path shadows the installed package, if anything does.
    script = "import dqn_plugins as d, dqn_plugins.policies as p, dqn_plugins.wrappers as w; "
    output = run_python(["-c", f"{script} print(d.__file__, p.__file__, w.__file__)"], cwd=ROOT)
    expected = [str(ROOT / room / "__init__.py") for room in ROOMS]
    assert output.split() == expected
    assert dqn_plugins.__file__ == expected[0]  # what these tests run against


def pins(file: str, python: str = f"3.{sys.version_info.minor}") -> dict[str, Version]:
    """The versions that a constraints file pins for a Python, by name."""
    found: dict[str, Version] = {}
    for line in (ROOT / file).read_text().splitlines():
        if not line.startswith("#") and applies(requirement := Requirement(line), python):
            assert canonical(requirement.name) not in found, line
            (specifier,) = requirement.specifier
            found[canonical(requirement.name)] = Version(specifier.version)
    return found


def extras_of(wheel: Path) -> list[str]:
    return re.findall(r"Provides-Extra: (.*)", metadata_of(wheel))


def applies(requirement: Requirement, python: str, extra: str = "") -> bool:
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def lower_bounds(wheel: Path) -> dict[str, Version]:
    """The lower bounds of everything that pyproject.toml requires, by name."""
    bounds = {}
    for line in re.findall(r"Requires-Dist: (.*)", metadata_of(wheel)):
        requirement = Requirement(line)
        for specifier in requirement.specifier:
            name, bound = canonical(requirement.name), Version(specifier.version)
            bounds[name] = min(bound, bounds.get(name, bound))  # an extra may want a newer one
    return bounds


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_are_allowed(lower_bounds):
    oldest = pins("constraints-oldest.txt")
    assert len(oldest) > 20
    # What checks the code or makes the site, RL Zoo, which needs a newer Stable-Baselines3 than the
    # rest, and what is tested where it is installed: EnvPool, ONNX, environments of images
    left_out = {"envpool", "mypy", "ruff", "requests", "rl-zoo3", "seaborn"}
    left_out |= {"furo", "myst-parser", "sphinx", "sphinx-copybutton"}
    left_out |= {"onnx", "onnxruntime", "onnxscript"}
    left_out |= {"ale-py", "minatar", "opencv-python-headless"}
    assert oldest == {name: bound for name, bound in lower_bounds.items() if name not in left_out}


def test_the_pinned_versions_are_allowed(lower_bounds):
    pinned = pins("constraints.txt", "3.13")  # for which there is everything
    for name, bound in lower_bounds.items():
        assert pinned[name] >= bound, name


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_pinned_versions_go_together_for_every_python(wheel, python):
    """What each package says of itself is known of those that are installed here."""
    pinned = pins("constraints.txt", python)
    for line in re.findall(r"Requires-Dist: (.*)", metadata_of(wheel)):
        requirement = Requirement(line)
        if any(applies(requirement, python, extra) for extra in ["", *extras_of(wheel)]):
            name = canonical(requirement.name)
            assert name == "dqn-plugins" or requirement.specifier.contains(pinned[name]), line
    n_checked = 0
    for name, version in pinned.items():
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if Version(package.version).public != str(version):
            continue
        n_checked += 1
        pythons = SpecifierSet(package.metadata.get("Requires-Python", ""))
        assert pythons.contains(f"{python}.0"), f"{name} {version} needs Python {pythons}"
        for requirement in map(Requirement, package.requires or ()):
            wanted = pinned.get(canonical(requirement.name))
            if wanted is not None and applies(requirement, python):
                assert requirement.specifier.contains(wanted), f"{name} needs {requirement}"
    assert n_checked > 50


# The extras that bring what a room imports besides what the core brings.
EXTRAS = {
    "dqn_plugins/comparison": {"compare", "cluster"},
    "dqn_plugins/environments": {"envpool"},
    "dqn_plugins/zoo": {"zoo"},
    "wrappers/live": {"live"},
    "wrappers/notebook.py": {"notebook"},
    "examples/seed_notebook.ipynb": {"notebook"},
}


def test_what_is_imported_is_required(wheel):
    requirements = [
        Requirement(line) for line in re.findall(r"Requires-Dist: (.*)", metadata_of(wheel))
    ]
    brought_by = importlib.metadata.packages_distributions()
    brought_by |= {"optuna": ["rl-zoo3"], "markupsafe": ["jinja2"]}  # which require them
    modules = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    for path in [*modules, ROOT / "examples" / "seed_notebook.ipynb"]:
        where = path.relative_to(ROOT).as_posix()
        extras = {""}.union(*(more for room, more in EXTRAS.items() if where.startswith(room)))
        required = {
            canonical(each.name)
            for each in requirements
            if any(applies(each, "3.12", extra) for extra in extras)
        }
        for name in imported_by(path) - sys.stdlib_module_names - {"dqn_plugins"}:
            packages = {canonical(each) for each in brought_by.get(name, [name])}
            assert packages & required, f"{where} imports {name}"


def imported_by(path: Path) -> set[str]:
    names: list[str] = []
    code = path.read_text()
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(code)["cells"] if cell["cell_type"] == "code"]
        lines = [line for cell in cells for line in [*cell["source"], "\n"]]
        code = "".join(line for line in lines if not line.startswith("%"))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(str(node.module))
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def sdist(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from all that is in the repository."""
    target = tmp_path_factory.mktemp("sdist")
    arguments = ["-m", "build", "--sdist", "--no-isolation", "--outdir", str(target), str(ROOT)]
    run_python(arguments, cwd=target)
    (path,) = target.glob("*.tar.gz")
    assert path.name == f"{wheel.name.removesuffix('-py3-none-any.whl')}.tar.gz"
    return path


# Such as RELEASE_PYTHONS="python3.10 python3.13"; torch is then what PyPI has for them.
PYTHONS = os.environ.get("RELEASE_PYTHONS", sys.executable).split()


@pytest.mark.long
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_the_quickstart_runs_in_an_empty_environment_from_an_empty_folder(
    kind, python, request, tmp_path
):
    distribution = str(request.getfixturevalue(kind))
    environment, folder = tmp_path / "environment", tmp_path / "folder"
    folder.mkdir()
    run_python(["-m", "venv", str(environment)], cwd=tmp_path, python=python)
    new = str(environment / "bin" / "python")
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints: list[str] = []
    if python == sys.executable:  # for which the versions were chosen
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        # torch first, as the Makefile says why
        run_python([*pip, f"torch=={pins('constraints.txt')['torch']}"], cwd=folder, python=new)
    run_python([*pip, *constraints, distribution], cwd=folder, python=new)
    shutil.copy(ROOT / "examples" / "quickstart.py", folder)
    output = run_python(["quickstart.py"], cwd=folder, python=new)
    assert re.search(r"Greedy return over 10 episodes: -?[\d.]+ ± [\d.]+", output)
    run_python(["-m", "pip", "check"], cwd=folder, python=new)
    # What belongs to an extra says so.
    refused = subprocess.run(
        [new, "-m", "dqn_plugins", "compare", "--env", "CartPole-v1"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "pip install 'dqn-plugins[compare]'" in refused.stderr


def test_mypys_cache_outlives_the_check_of_types():
    result = subprocess.run(
        ["make", "--dry-run", "typecheck"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    removed = re.findall(r"rm -rf (\S+)", result.stdout)
    cache = Path("build/typecheck/.mypy_cache")  # mypy keeps it where it is run
    assert removed
    assert not any(Path(each) in [cache, *cache.parents] for each in removed)

"""One table of algorithms, and what has its names from it."""

from inspect import signature
from pathlib import Path

import pytest

from dqn_plugins.experiments.algorithms import ALGORITHMS

VALUES = {"Q": "Q(s, a)", "V": "V(s)", "": "–"}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_page_has_every_algorithm_as_the_table_has_it(name: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "comparison.md").read_text()
    entry = ALGORITHMS[name]
    several = "s" if entry.n_envs > 1 else ""
    columns = (
        f"`{name}`",
        f"`{entry.path.removeprefix('dqn_plugins.experiments.')}`",
        entry.about,
        VALUES[entry.values],
        f"{entry.n_envs} environment{several}",
        f"`{entry.extra}`" if entry.extra else "",
    )
    assert f"| {' | '.join(columns)} |\n".replace("|  |", "| |") in page


@pytest.mark.parametrize("name", [name for name, entry in ALGORITHMS.items() if entry.search])
def test_what_is_searched_are_arguments(name: str) -> None:
    arguments = {*signature(ALGORITHMS[name].load_class()).parameters}
    assert ALGORITHMS[name].search.keys() - arguments == {"one_minus_gamma", "net_arch"}

"""The list of mutations cannot rot: what each one replaces is still there, once."""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutations.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{Path(m.file).stem}: {m.breaks}")
def test_what_a_mutation_replaces_occurs_once(mutation: Mutation):
    assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
    assert mutation.old != mutation.new


def test_there_are_at_least_thirty_in_every_part():
    assert len(MUTATIONS) >= 30
    folders = Counter(Path(mutation.file).parts[0] for mutation in MUTATIONS)
    assert folders.keys() == {"dqn_plugins", "policies", "wrappers"}


def test_the_tests_that_must_catch_them_exist():
    for mutation in MUTATIONS:
        assert (ROOT / mutation.tests[0]).is_file()

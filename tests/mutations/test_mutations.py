"""The list of mutations cannot rot: what each one replaces is still there, once."""

from collections import Counter
from pathlib import Path

from tests.mutations.mutations import MUTATIONS

ROOT = Path(__file__).parents[2]


def test_every_mutation_replaces_what_occurs_once_and_has_tests_that_exist():
    wrong = []
    for mutation in MUTATIONS:
        count = (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old)
        if count != 1 or mutation.old == mutation.new:
            wrong.append(f"{mutation.file}: {mutation.breaks}: {count} times")
        if not (ROOT / mutation.tests[0]).is_file():
            wrong.append(f"{mutation.file}: {mutation.breaks}: no {mutation.tests[0]}")
    assert not wrong


def test_there_are_at_least_thirty_in_every_part():
    assert len(MUTATIONS) >= 30
    folders = Counter(Path(mutation.file).parts[0] for mutation in MUTATIONS)
    assert folders.keys() == {"dqn_plugins", "policies", "wrappers"}

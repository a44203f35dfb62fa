"""Mutations of the package, each of which breaks a promise that some test must hold."""

import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MUTATIONS", "Mutation"]


@dataclass(frozen=True)
class Mutation:
    """
    One change of one file.

    :param file: Path from the root of the repository.
    :param tests: What to hand to pytest: the tests that must catch it.
    :param breaks: What is wrong then.
    :param old: Text that occurs exactly once in the file.
    :param new: What to put in its place.
    """

    file: str
    tests: tuple[str, ...]
    breaks: str
    old: str
    new: str


def _read(text: str) -> list[Mutation]:
    """
    Read a list of mutations. A file and its tests stand above what they have in common::

        == file: tests
        what is wrong then
        - old text, of one or more lines
        + new text
    """
    mutations = []
    for part in ("\n" + text).split("\n== ")[1:]:
        header, *lines = part.strip("\n").split("\n")
        file, tests = header.split(": ", 1)
        while lines:
            breaks = lines.pop(0)
            old, new = [], []
            while lines and lines[0][0] in "-+":
                line = lines.pop(0)
                (old if line[0] == "-" else new).append(line[2:])
            texts = "\n".join(old), "\n".join(new)
            mutations.append(Mutation(file, tuple(shlex.split(tests)), breaks, *texts))
    return mutations


MUTATIONS = _read(Path(__file__).with_suffix(".txt").read_text(encoding="utf-8"))

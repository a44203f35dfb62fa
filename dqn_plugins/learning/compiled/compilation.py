"""How functions are compiled, how they are given many arrays at once, and when code is stale."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.experimental import structref
from numba.extending import overload

from dqn_plugins import policies

__all__ = [
    "Bools",
    "Doubles",
    "Floats",
    "Ints",
    "by_class",
    "by_reference",
    "compiled",
    "entry_point",
    "inlined",
    "not_kept",
]

Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Function = TypeVar("Function", bound=Callable[..., Any])

not_kept: list[str] = []
"""Names of functions that each process compiles anew, because no folder can keep them."""

_OPTIONS: dict[str, Any] = {
    # Division by zero gives infinity, as in NumPy: checking for it would keep loops from being
    # vectorised.
    "error_model": "numpy",
    # Sums may be reordered and fused, so that loops use the vector unit. "nnan" and "ninf" are left
    # out: with them the compiler would delete the checks for NaN and infinity.
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}
_PART: Any = {
    **_OPTIONS,
    # A function that is called, not inlined, may be taken from wherever it was compiled first, in
    # another order of the same sum: the process that compiles would differ in the last bit from
    # those that load.
    "forceinline": True,
    # Python does not call it, so no time is spent on compiling it once more for that.
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def compiled(function: Function) -> Function:
    """Compile a function that only compiled code calls, as a part of what calls it."""
    return numba.njit(**_PART)(function)  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """Do the same for one that is called from one place: it is not compiled by itself first."""
    return numba.njit(inline="always", **_PART)(function)  # type: ignore[no-any-return]


def entry_point(function: Function) -> Function:
    """
    Compile a function that Python calls at its first call, and keep the result on disk.

    numba compiles anew when the function's file changes, or the types of the arguments. That other
    files have changed is told by :data:`SOURCES`, which is in the type of every structure: a
    function that depends on other files must take one.
    """
    options = {**_OPTIONS, "no_cfunc_wrapper": True}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither the package's folder nor the user's can be written
        not_kept.append(function.__name__)
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


def _digest_of_sources() -> str:
    """Read the sources of all that compiled code depends on: this room's, and the policies'."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parents[1], Path(policies.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


SOURCES = f"sources_{_digest_of_sources()}"
"""Name of a field that every structure has: another one whenever the sources have changed."""


@structref.register
class StructureType(types.StructRef):
    """The type, in compiled code, of a structure that is passed by reference."""


class Structure(structref.StructRefProxy):
    """What Python holds of a structure: something to pass to compiled code."""

    __slots__ = ()
    # numba asks for it at every call; its own property takes a twentieth of a microsecond longer.
    _numba_type_ = structref.StructRefProxy.__dict__["_type"]


structref.define_boxing(StructureType, Structure)  # type: ignore[no-untyped-call]


def by_reference(values: Any) -> Any:
    """
    Give compiled code a ``NamedTuple`` by reference, which takes half a microsecond to pass however
    many fields it has; by value, each field would take its time. Its arrays stay shared with
    Python. A field may be None: what is then left out is not compiled.
    """
    return values if numba.config.DISABLE_JIT else _new_structure(values)  # type: ignore[attr-defined]


def _as_structure(values: Any) -> Any:
    """Copy the fields of a ``NamedTuple`` into a new structure; see the overload."""


@overload(_as_structure, strict=False)  # the annotations differ
def _(values: Any) -> Any:
    marks = [(SOURCES, types.int8), (CLASS + values.instance_class.__name__, types.int8)]
    fields = [*zip(values.fields, values.types, strict=True), *marks]
    assignments = "".join(f"    structure.{name} = values.{name}\n" for name in values.fields)
    names: dict[str, Any] = {"new": structref.new, "Type": StructureType(fields)}  # type: ignore[no-untyped-call]
    # numba knows no setattr; its own constructors of structures are made the same way.
    exec(  # noqa: S102
        f"def copied(values):\n    structure = new(Type)\n{assignments}    return structure\n",
        names,
    )
    return names["copied"]


def _new_structure(values: Any) -> Any:
    return _as_structure(values)


# No argument of it has a type that tells of the sources, but its name is part of the name of what
# numba keeps on disk. That must be another one: numba loads the classes that an earlier version
# compiled for before it asks whether the file has changed, and fails where a class has moved.
_new_structure.__qualname__ = SOURCES
_new_structure = entry_point(_new_structure)


CLASS = "class_"
"""What the name of a field begins with that tells of which class a structure was made."""


def by_class(versions: Mapping[type, Function]) -> Function:
    """
    Join compiled functions that differ by the class of ``NamedTuple`` that their first argument, a
    structure, was made of. It is known while compiling, so that the others are not compiled.
    """
    named = {kind.__name__: version for kind, version in versions.items()}

    def call(structure: Any, *arguments: Any) -> Any:
        return named[type(structure).__name__](structure, *arguments)

    @overload(call, strict=False, jit_options=_PART)
    def _(structure: Any, *_arguments: Any) -> Any:
        marks = [name for name in structure.field_dict if name.startswith(CLASS)]
        version = named[marks[0].removeprefix(CLASS)]

        def chosen(structure: Any, *arguments: Any) -> Any:
            return version(structure, *arguments)

        return chosen

    return call  # type: ignore[return-value]

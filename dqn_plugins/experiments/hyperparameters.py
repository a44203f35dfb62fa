"""
Hyperparameters in a file: from YAML to Python objects, and back to something a person can read.

A string that begins with the name of one of :data:`PACKAGES` is a dotted name and stands for the
object itself, such as ``torch.nn.ReLU``. A mapping with the key ``class`` stands for an object made
from its other entries: ``{class: dqn_plugins.policies.SparseInitializer, sparsity: 0.9}``. Nothing
else is imported, so that a file from somebody else is as safe to run as it looks.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import yaml

__all__ = ["PACKAGES", "build", "describe", "read_yaml"]

PACKAGES = ("torch.nn", "torch.optim", "dqn_plugins.policies", "stable_baselines3", "sb3_contrib")
"""Packages that dotted names in a file may lead to."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also takes ``1e-3`` for a number, and refuses repeated keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"there twice: {', '.join(repeated)}", node.start_mark
            )
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """
    Read a YAML file whose outermost level is a mapping.

    :param path: The file.
    :return: What it says.
    :raises ValueError: If it cannot be read.
    """
    try:
        content = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 (a safe loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"config: {path} cannot be read: {error}. Correct the file; examples/configs/ has "
            "examples."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"config: {path} holds {type(content).__name__}, it must be a mapping such as "
            "'algorithms: {my_dqn: {algorithm: dqn, learning_rate: 1e-3}}'."
        )
    return content


def build(value: Any) -> Any:
    """
    Turn what a file says into what an algorithm takes.

    :param value: A value from a YAML file, or one that needs no turning.
    :return: The same with dotted names replaced by the objects they name.
    :raises ValueError: If a name leads nowhere.
    """
    if isinstance(value, str) and value.startswith(tuple(f"{package}." for package in PACKAGES)):
        return _named(value)
    if isinstance(value, Mapping):
        built = {name: build(entry) for name, entry in value.items() if name != "class"}
        if "class" not in value:
            return built
        cls = build(value["class"])
        if not inspect.isclass(cls):
            raise ValueError(
                f"class: received {value['class']!r}, it must be the dotted name of a class in "
                f"one of {PACKAGES}."
            )
        try:
            return cls(**built)
        except TypeError as error:
            raise ValueError(f"class: {value['class']} cannot be made: {error}.") from error
    if isinstance(value, list):
        return [build(entry) for entry in value]
    return value


def _named(name: str) -> Any:
    """
    Find an object by its dotted name.

    :param name: Such as ``torch.optim.Adam``.
    :return: The object.
    :raises ValueError: If there is none.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"hyperparameters: received {name!r}, which leads nowhere ({error}). Write the name as "
            "it would be imported, such as torch.nn.ReLU."
        ) from error


def describe(value: Any) -> Any:
    """
    Turn hyperparameters into what JSON can hold and a person can read: the reverse of
    :func:`build`.

    :param value: Hyperparameters, or one of them.
    :return: Mappings, lists, strings, numbers, True, False or None.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): describe(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(entry) for entry in value]
    if inspect.isclass(value) or inspect.isfunction(value):
        return _public_name(value)
    if isinstance(value, partial):
        return {"partial": describe(value.func), **describe(value.keywords)}
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {"class": _public_name(type(value)), **fields}
    if hasattr(value, "item"):  # a number of NumPy's or torch's
        return value.item()
    return repr(value)


def _public_name(named: type | FunctionType) -> str:
    """
    Name a class or function by the shortest way to import it.

    :param named: The class or function.
    :return: Its dotted name, by the outermost package that offers it: ``torch.nn.ReLU`` rather
        than ``torch.nn.modules.activation.ReLU``.
    """
    parts = str(named.__module__).split(".")
    for length in range(1, len(parts)):
        module = ".".join(parts[:length])
        # Its parents are imported if the class is.
        if getattr(import_module(module), named.__qualname__, None) is named:
            return f"{module}.{named.__qualname__}"
    return f"{named.__module__}.{named.__qualname__}"

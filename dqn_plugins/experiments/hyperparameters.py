"""
Hyperparameters as text: from files and flags to Python objects, and back to what a person reads.

A string such as ``torch.nn.ReLU`` stands for the class or function of that name, and a mapping with
the key ``class`` for an object made from its other entries:
``{class: dqn_plugins.policies.SparseInitializer, sparsity: 0.9}``. Only what :func:`_is_allowed`
names is looked up or made: a file from somebody else can open, write and run nothing.
"""

import ast
import dataclasses
import inspect
import re
from collections.abc import Mapping
from datetime import date
from functools import partial
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import yaml

from dqn_plugins.arguments import is_number
from dqn_plugins.errors import SettingsError

__all__ = ["build", "describe", "parse_value", "read_yaml", "zoo_hyperparameters"]

PACKAGES = ("torch.nn", "torch.optim", "dqn_plugins.policies", "stable_baselines3", "sb3_contrib")
"""Packages that dotted names may lead to."""


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


def read_yaml(path: Path, argument: str = "config") -> dict[str, Any]:
    """Read a YAML file whose outermost level is a mapping; refuse what cannot be read."""
    try:
        content = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 (a safe loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(
            f"{argument}: {path} cannot be read: {error}. Correct the file; examples/configs/ has "
            "examples."
        ) from error
    if content is None:  # nothing, or comments only
        return {}
    if not isinstance(content, dict):
        raise SettingsError(
            f"{argument}: {path} holds {type(content).__name__}, it must be a mapping such as "
            "'algorithms: {my_dqn: {algorithm: dqn, learning_rate: 1e-3}}'."
        )
    return content


def parse_value(text: str) -> Any:
    """
    Read a value that was typed or stands in one of RL Zoo's files: YAML, or Python's
    ``dict(net_arch=[64, 64], activation_fn=nn.ReLU)``, of which nothing is run. Names of classes
    stay text, for :func:`build`.
    """
    try:
        if re.match(r"\s*(dict\(|\{\s*['\"])", text):
            return _from_python(ast.parse(text.strip(), mode="eval").body)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader)
    except (ValueError, SyntaxError, yaml.YAMLError) as error:
        raise SettingsError(
            f"hyperparameters: received {text!r}, which cannot be read ({error}). Write it as in "
            "YAML, such as {net_arch: [64, 64]}."
        ) from error


def _from_python(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict" and not node.args:
        return {str(each.arg): _from_python(each.value) for each in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_from_python, node.values), strict=True))
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_from_python(each) for each in node.elts]
    if isinstance(node, ast.Attribute):
        return re.sub(r"^(?=nn\.)", "torch.", re.sub(r"^th\.", "torch.", ast.unparse(node)))
    return ast.literal_eval(node)


def zoo_hyperparameters(path: Path, env_id: str) -> dict[str, Any]:
    """
    Read one of RL Zoo's files, such as ``hyperparams/dqn.yml``: the section of an environment, else
    that of Atari's games or ``default``. Return hyperparameters and settings of the environment by
    our names, but not ``n_timesteps``.
    """
    content = read_yaml(path, "zoo")
    is_atari = env_id.startswith("ALE/") or "NoFrameskip" in env_id
    wanted = [env_id, *(["atari"] if is_atari else []), "default"]
    section = next((content[name] for name in wanted if name in content), None)
    if not isinstance(section, dict):
        raise SettingsError(
            f"zoo: {path} has no section for {env_id!r}. Add one, or one called 'default'."
        )
    values = {
        key: parse_value(value) if isinstance(value, str) and key != "policy" else value
        for key, value in section.items()
        if key != "n_timesteps"
    }
    for key in ("callback", "vec_env_wrapper", "noise_type"):
        if values.pop(key, None):
            raise SettingsError(
                f"zoo: received {key!r} in {path}, which is not supported here. Remove it from a "
                "copy of the file, and pass that."
            )
    wrappers = values.pop("env_wrapper", None)
    if wrappers:
        values["wrappers"] = wrappers if isinstance(wrappers, list) else [wrappers]
    for key, value in values.items():
        if isinstance(value, str) and value.startswith("lin_"):
            start = parse_value(value.removeprefix("lin_"))
            if not is_number(start):
                raise SettingsError(
                    f"{key}: received {value!r} in {path}, it must be like lin_2.5e-4."
                )
            values[key] = {
                "class": "stable_baselines3.common.utils.LinearSchedule",
                "start": float(start),
                "end": 0.0,
                "end_fraction": 1.0,
            }
    return values


def build(value: Any) -> Any:
    """
    Turn what a file says into what an algorithm takes: dotted names into the objects they name.
    Names that lead nowhere, or to what is not on the list, are refused.
    """
    if isinstance(value, str) and value.startswith(tuple(f"{package}." for package in PACKAGES)):
        return _named(value)
    if isinstance(value, Mapping):
        built = {name: build(entry) for name, entry in value.items() if name != "class"}
        if "class" not in value:
            return built
        cls = build(value["class"])
        if not inspect.isclass(cls):
            raise SettingsError(
                f"class: received {value['class']!r}, it must be the dotted name of a class in "
                f"one of {PACKAGES}."
            )
        try:
            made: Any = cls(**built)
            if cls.__name__.endswith("Schedule"):
                made(1.0)  # what it cannot compute with is refused here
        except (TypeError, ValueError, ArithmeticError) as error:
            raise SettingsError(
                f"class: {value['class']} cannot be made of {built}: {error}. Pass what it takes."
            ) from error
        return made
    if isinstance(value, list):
        return [build(entry) for entry in value]
    return value


def _named(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"hyperparameters: received {name!r}, which cannot be found ({error}). Write the name "
            "as it would be imported, such as torch.nn.ReLU."
        ) from error
    if not _is_allowed(found):
        raise SettingsError(
            f"hyperparameters: received {name!r}. A file may name layers, activation functions, "
            "optimisers, initialisers, feature extractors, policies, replay buffers and schedules, "
            "and nothing else. For other objects, pass ComparisonSettings(variants=...) from "
            "Python."
        )
    return found


def _is_allowed(found: Any) -> bool:
    """Whether a file may name a class or function: making or calling it has no effects outside."""
    import torch
    from stable_baselines3.common import buffers, utils

    from dqn_plugins import policies

    if inspect.isclass(found):
        # Feature extractors and policies are modules.
        bases = (torch.nn.Module, torch.optim.Optimizer, buffers.BaseBuffer)
        ours = vars(policies).values()
        schedules = (utils.LinearSchedule, utils.ConstantSchedule)
        return issubclass(found, bases) or found in schedules or any(found is each for each in ours)
    modules = ("torch.nn.init", "torch.nn.functional", "dqn_plugins.policies.initializers")
    return callable(found) and getattr(found, "__module__", None) in modules


def describe(value: Any, where: str = "hyperparameters") -> Any:
    """
    Turn hyperparameters, or one of them, into what JSON can hold and a person can read: the reverse
    of :func:`build`. Two descriptions are the same only if what they describe is: what can be told
    from another neither by a name nor by a content is refused.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (PurePath, date)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): describe(entry, f"{where}.{name}") for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(entry, where) for entry in value]
    if inspect.isclass(value) or inspect.isroutine(value):
        if re.search(r"<lambda>|<locals>", value.__qualname__):
            raise SettingsError(
                f"{where}: received {value!r}, which has no name of its own, so that a resumed "
                "study could not tell it from another. Define it at the top level of a module, or "
                "pass an object whose class is a dataclass."
            )
        return _public_name(value)
    if isinstance(value, partial):
        arguments = {"arguments": describe(value.args, where)} if value.args else {}
        partly = {"partial": describe(value.func, where), **arguments}
        return {**partly, **describe(value.keywords, where)}
    if dataclasses.is_dataclass(value):
        entries = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return {"class": _public_name(type(value)), **describe(entries, where)}
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "tolist"):  # torch's tensors
        return value.tolist()
    text = repr(value)
    if re.search(r"\bat 0x[0-9a-fA-F]+", text):
        raise SettingsError(
            f"{where}: received {text}, which is described by its address only, so that a resumed "
            "study could not tell it from another. Make its class a dataclass, or give it a "
            "__repr__ that holds what decides the results."
        )
    return text


def _public_name(named: Any) -> str:
    """Name a class or function by the outermost package that offers it."""
    parts, name = str(named.__module__).split("."), named.__qualname__
    for length in range(1, len(parts)):
        module = ".".join(parts[:length])
        # Its parents are imported if the class is.
        if getattr(import_module(module), name, None) is named:
            return f"{module}.{name}"
    return f"{named.__module__}.{name}"

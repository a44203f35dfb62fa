"""Model files: written whole or not at all, and looked into without running code from them."""

import io
import json
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch as th
from stable_baselines3.common.save_util import open_path
from stable_baselines3.common.type_aliases import TensorDict

__all__ = ["check_model_file", "is_path", "naming_env", "read_parameters", "written_whole"]

PARAMETERS = ("policy", "policy.optimizer")


def is_path(path: Any) -> bool:
    """Tell a path from a file-like object."""
    return isinstance(path, (str, os.PathLike))


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """
    Write a file beside its place and move it there when it is complete and on the disk.

    Whatever ends the program meanwhile, or fills the disk, the earlier file of that name is intact.

    :param path: Where to. ``.zip`` is appended if it has no suffix, and missing folders are made.
    :return: Context with the open file to write to.
    """
    place = Path(path)
    if not place.suffix:
        place = Path(f"{place}.zip")
    if place.is_dir():
        warnings.warn(f"{place} is a folder; saving to {place}_2 instead.", stacklevel=3)
        place = Path(f"{place}_2")
    place = Path(os.path.realpath(place))  # a link stays a link, to the new file
    if place.exists() and not place.is_file():  # such as /dev/null
        with place.open("wb") as file:
            yield file
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        if place.exists():
            shutil.copymode(place, beside)
        else:
            os.chmod(beside, 0o666 & ~_umask())
        os.replace(beside, place)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    _sync_folder(place.parent)


def _umask() -> int:
    # There is no way to ask for it but to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Have the new name survive a power cut too, where the system can be asked for that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_model_file(path: Any, arguments: Iterable[str] = ()) -> None:
    """
    Refuse a file that cannot be a model of an algorithm, before anything in it is unpickled.

    :param path: The file, with or without ``.zip``, or a file-like object, which is left at its
        beginning.
    :param arguments: Arguments that the algorithm has and others do not.
    """
    with _opened(path) as (archive, name):
        missing = [entry for entry in ("data", *_entries()) if entry not in archive.namelist()]
        if missing:
            raise ValueError(
                f"path: {name} is a zip file, but no model: it has no {', '.join(missing)}. Pass "
                "a file that `save` of this algorithm wrote."
            )
        try:
            data = json.loads(archive.read("data"))
            # Stable-Baselines3 writes the class's name in plain text beside its pickle.
            policy = data["policy_class"].get("__module__", "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"path: the description of the model in {name} cannot be read ({error!r}). Pass a "
                "file that `save` of this algorithm wrote."
            ) from error
        arguments = sorted(arguments)
        if arguments and not any(argument in data for argument in arguments):
            raise ValueError(
                f"path: {name} holds a model of another algorithm: it has a policy from {policy}, "
                f"and no {', '.join(arguments)}. Load it with the class that saved it."
            )


def read_parameters(path: Any, device: th.device | str = "auto") -> TensorDict:
    """
    Read what ``get_parameters`` of a model gave when it was saved. No code from the file is run.

    :param path: The file, with or without ``.zip``, or a file-like object.
    :raises FileNotFoundError: If there is no such file.
    :raises ValueError: If it is no model file, or holds anything but tensors and numbers.
    """
    location = "cpu" if device == "auto" else device
    with _opened(path) as (archive, name):
        try:
            return {
                key: th.load(
                    io.BytesIO(archive.read(entry)), map_location=location, weights_only=True
                )
                for key, entry in zip(PARAMETERS, _entries(), strict=True)
            }
        except Exception as error:
            raise ValueError(
                f"path: {name} cannot be read as tensors ({error}). Pass a file that `save` of "
                "this algorithm wrote."
            ) from error


def _entries() -> list[str]:
    return [f"{key}.pth" for key in PARAMETERS]


@contextmanager
def _opened(path: Any) -> Iterator[tuple[zipfile.ZipFile, str]]:
    """Open a model file for reading, checked for damage; its name for messages comes with it."""
    file = open_path(path if not is_path(path) else Path(path), "r", suffix="zip")
    name = repr(str(path)) if is_path(path) else "the given file object"
    try:
        try:
            with zipfile.ZipFile(file) as archive:
                # The weights inside are zip files too. What is left after the end of one of those
                # looks like a zip file with something in front of it.
                if min((entry.header_offset for entry in archive.infolist()), default=0) > 0:
                    raise zipfile.BadZipFile("its table of contents is missing")
                damaged = archive.testzip()
                if damaged is not None:
                    raise zipfile.BadZipFile(f"{damaged} is damaged")
                yield archive, name
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise ValueError(_what_is_wrong(file, name, error)) from error
    finally:
        if is_path(path):
            file.close()
        else:
            file.seek(0)


def _what_is_wrong(file: IO[bytes], name: str, error: Exception) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    beginning = file.read(4)
    if size == 0:
        problem = "is empty, as after a program that was killed while it saved in place"
    elif beginning == b"PK\x03\x04":
        problem = f"is cut short or damaged ({error})"
    else:
        problem = f"is no zip file: it begins with {beginning!r}"
    return f"path: {name} {problem}. Pass a file that `save` of this algorithm wrote, or a backup."


@contextmanager
def naming_env() -> Iterator[None]:
    """Let Stable-Baselines3's complaint about spaces also say what to do."""
    try:
        yield
    except ValueError as error:
        if "spaces do not match" not in str(error):
            raise
        raise ValueError(
            f"env: {error} (the model's first, the environment's second). Pass an environment "
            "with the model's spaces, or make a new model for this environment."
        ) from error

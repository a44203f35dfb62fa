"""Names that users type: what was meant when one is unknown, and what a folder may be called."""

import difflib
import re
from collections.abc import Iterable

__all__ = ["folder_name", "is_file_safe", "nearest_names"]


def nearest_names(name: str, known: Iterable[str]) -> str:
    """
    Say which known names are closest to an unknown one: those if some are close, all if there are
    few, or nothing.
    """
    known = sorted(known)
    # Separators are what people get wrong most.
    plain = {_letters(candidate): candidate for candidate in known}
    nearest = [plain[match] for match in difflib.get_close_matches(_letters(name), plain, 3, 0.5)]
    if nearest:
        return f" Did you mean {' or '.join(repr(match) for match in nearest)}?"
    return f" Known: {', '.join(known)}." if len(known) <= 20 else ""


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def is_file_safe(name: str) -> bool:
    """Whether a name can be a folder on any system: letters, digits, ".", "_", "+" and "-"."""
    return re.fullmatch(r"[\w+][\w.+-]*", name) is not None


def folder_name(environment: str) -> str:
    """Name the folder of an environment: its id, with "-" for a "/" or ":"."""
    return re.sub(r"[/:]", "-", environment)

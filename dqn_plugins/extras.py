"""What an optional part of the package needs, and the words for its absence."""

import importlib.util

from gymnasium.error import DependencyNotInstalled

__all__ = ["require_extra"]


def require_extra(extra: str, what: str, *modules: str) -> None:
    """
    Make sure that what an optional part needs is installed.

    :param extra: Name of the extra that brings it.
    :param what: What needs it, for the message.
    :param modules: Names of top-level modules.
    :raises DependencyNotInstalled: If one is not there, with the extra to install.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyNotInstalled(
            f"{what} needs {' and '.join(missing)}, not installed here. "
            f"Run `pip install 'dqn-plugins[{extra}]'`."
        )

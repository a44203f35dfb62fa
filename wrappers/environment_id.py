"""The id of an environment that may live in another process."""

from __future__ import annotations

import re

from stable_baselines3.common.vec_env import VecEnv

__all__ = ["environment_id"]


def environment_id(venv: VecEnv) -> str | None:
    """
    Ask the first sub-environment for its id. Its name, which ends in the id, is asked for rather
    than its spec: a spec may hold functions, and a worker that cannot pickle its answer dies.

    :param venv: The vectorised environment.
    :return: The id, such as ``"CartPole-v1"``; None if it has none, or cannot be
        asked.

    Example::

        from dqn_plugins.wrappers.environment_id import environment_id
        from stable_baselines3.common.env_util import make_vec_env

        assert environment_id(make_vec_env("CartPole-v1")) == "CartPole-v1"
    """
    try:
        name = str(venv.env_method("__str__", indices=[0])[0])
    except (NotImplementedError, AttributeError):  # Gymnasium's VectorEnv, asked as a whole only
        return None
    found = re.search(r"<([^<>\s]+)>+$", name)
    return None if found is None else found[1]

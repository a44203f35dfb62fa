"""``python -m dqn_plugins``: the same as the command ``dqn-plugins``."""

from dqn_plugins.cli import main

if __name__ == "__main__":
    main()

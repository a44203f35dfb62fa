"""
See what each ingredient buys: from the notebook's naive DQN to StreamQ, one rung at a time.

The rungs are in ``configs/ladder.yaml``: the same environment, steps and seeds for all. This is
``dqn-plugins compare`` with that file; interrupt it anywhere, the next run does what is missing.

Run it with ``python examples/ladder.py``, for a first look with ``--seeds 1 --timesteps 20000``.
Everything goes to ``runs/ladder``; ``--help`` lists the options.
"""

import sys
from pathlib import Path

from dqn_plugins.cli import main

LADDER = Path(__file__).parent / "configs" / "ladder.yaml"

if __name__ == "__main__":
    main(["compare", "--config", str(LADDER), "--out", "runs/ladder", *sys.argv[1:]])

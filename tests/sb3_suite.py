"""
Stable-Baselines3's own tests, with one of our algorithms in place of its DQN.

``python -m tests.sb3_suite path/to/stable-baselines3`` runs the tests of a checkout that have to do
with DQN, for each algorithm, or for the one named behind the path. Arguments that only a buffer or
a target network needs are left out. What is listed in ``DIFFERENCES``, and for StreamQ in
``OF_STREAM_Q``, must fail, everything else must pass.
"""

import inspect
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm

from dqn_plugins import PQN, StreamQ
from tests.algorithms import ALGORITHMS

LEFT_OUT = {
    "buffer_size",
    "learning_starts",
    "batch_size",
    "tau",
    "train_freq",
    "gradient_steps",
    "replay_buffer_class",
    "replay_buffer_kwargs",
    "optimize_memory_usage",
    "n_steps",
    "target_update_interval",
}
BUFFER, TARGET = "there is no buffer", "there is no target network"
DIFFERENCES: dict[str, str] = {
    "test_checkpoint_additional_info": BUFFER,
    "test_features_extractor_target_net": TARGET,
    "test_image_like_input[True": "images that are not of bytes are learned from",
    "test_performance_her": "HER changes the goals in a buffer",
    "test_n_step_replay.py::test_run[DQN]": BUFFER,
    "test_offpolicy_multi_env[DQN]": "each transition is learned from, whatever train_freq says",
    "test_warn_dqn_multi_env": TARGET,
    "test_save_load_replay_buffer": BUFFER,
    "test_warn_buffer[True": BUFFER,
    "test_dqn_target_update_interval": TARGET,
    "test_save_load_no_target_params": TARGET,
    "test_dqn_train_with_batch_norm": TARGET,
    "test_offpolicy_collect_rollout_batch_norm": TARGET,
    "test_predict_with_dropout_batch_norm[CartPole": TARGET,
}
TRACES = "its optimisers keep eligibility traces"
OF_STREAM_Q: dict[str, str | None] = {
    "test_custom_optimizer": TRACES,
    "test_dqn_custom_policy": TRACES,
    "::test_save_load[DQN]": "the newest weights and their average share the statistics",
    "test_save_load_no_target_params": None,  # does not differ
}


class Suite:
    """
    A plugin of pytest that puts an algorithm in DQN's place.

    :param algorithm: The algorithm.
    """

    def __init__(self, algorithm: Any) -> None:
        class DQN(algorithm):  # type: ignore[misc]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                quick = {"n_steps": 16} if algorithm is PQN else {}
                kept = {name: value for name, value in kwargs.items() if name not in LEFT_OUT}
                super().__init__(*args, **quick, **kept)

        self.substitute = DQN
        self.differences = DIFFERENCES | (OF_STREAM_Q if algorithm is StreamQ else {})
        stable_baselines3.DQN = DQN  # type: ignore[misc]

    def concerns(self, item: Any) -> bool:
        """Whether a test makes a DQN."""
        parameters = getattr(item, "callspec", None)
        values = list(parameters.params.values()) if parameters else []
        algorithms = [each for each in values if isinstance(each, type(BaseAlgorithm))]
        if any(issubclass(each, BaseAlgorithm) for each in algorithms):
            return self.substitute in algorithms
        return "DQN(" in inspect.getsource(item.function)

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """Keep what concerns DQN, and mark what is known to differ."""
        chosen = [item for item in items if self.concerns(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        for item in chosen:
            for part, reason in self.differences.items():
                if part in item.nodeid and reason is not None:
                    item.add_marker(pytest.mark.xfail(strict=True, reason=reason))
        items[:] = chosen


def main(checkout: Path, algorithm: Any) -> int:
    """Run the tests of a checkout with an algorithm."""
    with tempfile.TemporaryDirectory() as folder:
        # Beside the checkout's own package, that one would be imported.
        shutil.copytree(checkout / "tests", Path(folder) / "sb3")
        sys.path.insert(0, folder)  # for environments in processes of their own
        options = ["-q", "-c", "/dev/null", "--rootdir", folder, "--import-mode=importlib"]
        options += ["-p", "no:cacheprovider", "-W", "ignore", "-ra", "-o", "markers=expensive"]
        return int(pytest.main([*options, *sys.argv[3:], f"{folder}/sb3"], [Suite(algorithm)]))


if __name__ == "__main__":
    classes = {row.algorithm.__name__: row.algorithm for row in ALGORITHMS}
    if len(sys.argv) > 2:
        sys.exit(main(Path(sys.argv[1]), classes[sys.argv[2]]))
    # A process for each: what stands in DQN's place is imported once.
    command = [sys.executable, "-m", "tests.sb3_suite", sys.argv[1]]
    sys.exit(max(subprocess.run([*command, name]).returncode for name in classes))

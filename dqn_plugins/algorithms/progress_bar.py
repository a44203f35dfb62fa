"""The bar that ``learn(..., progress_bar=True)`` shows."""

import time

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import ProgressBarCallback

__all__ = ["ProgressBar"]

SECONDS_BETWEEN_UPDATES = 0.1


class ProgressBar:
    """
    Stable-Baselines3's progress bar, told ten times a second instead of at every step.

    :param model: The model that learns.
    :param total_timesteps: ``num_timesteps`` at the end.
    :raises ImportError: If tqdm or rich is missing.
    """

    def __init__(self, model: BaseAlgorithm, total_timesteps: int) -> None:
        self._model = model
        self._shown = model.num_timesteps
        self._next_update = 0.0
        self._callback = ProgressBarCallback()
        self._callback.init_callback(model)
        self._callback.on_training_start({"total_timesteps": total_timesteps}, {})

    def update(self) -> None:
        """Show how many steps are done, unless that was shown just now."""
        now = time.monotonic()
        if now >= self._next_update:
            self._show()
            self._next_update = now + SECONDS_BETWEEN_UPDATES

    def close(self) -> None:
        """Show the last step, and leave the bar as it is."""
        self._show()
        self._callback.on_training_end()

    def _show(self) -> None:
        steps = self._model.num_timesteps
        self._callback.pbar.update(steps - self._shown)
        self._shown = steps

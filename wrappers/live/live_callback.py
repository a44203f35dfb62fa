"""Attaches the model that learns to a live view."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback

from dqn_plugins.wrappers.live.live_view import View

__all__ = ["LiveCallback"]


class LiveCallback(BaseCallback):
    """
    Attach the model that learns to a view as training begins: ``view.attach(model)`` for those who
    pass callbacks. ``attach`` alone is a little faster, since it needs no call per step.

    :param view: A :class:`dqn_plugins.wrappers.LiveView` or
        :class:`dqn_plugins.wrappers.VecLiveView`.

    Example::

        import gymnasium as gym
        from dqn_plugins.wrappers import LiveCallback, LiveView
        from stable_baselines3 import DQN

        env = LiveView(gym.make("CartPole-v1", render_mode="rgb_array"))
        DQN("MlpPolicy", env).learn(200, callback=LiveCallback(env))
        env.close()
    """

    def __init__(self, view: View):
        super().__init__()
        self.view = view

    def _on_training_start(self) -> None:
        self.view.attach(self.model)

    def _on_step(self) -> bool:
        return True

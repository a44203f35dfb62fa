"""Videos of a :class:`gymnasium.Env`, written while it runs."""

from __future__ import annotations

from typing import Any, cast

from gymnasium import logger
from gymnasium.core import ActType, ObsType

from dqn_plugins.wrappers.observing.observer import ObservedEnv
from dqn_plugins.wrappers.video.recorders import RecordingEpisodes

__all__ = ["RecordVideo"]


class RecordVideo(RecordingEpisodes, ObservedEnv[ObsType, ActType]):
    """
    Record videos of episodes: a drop-in for :class:`gymnasium.wrappers.RecordVideo` that streams.

    Every frame goes to the encoder as it is rendered, so memory stays constant, and the file plays
    up to the last half second whatever ends the program: an exception, Ctrl-C, SIGTERM,
    ``kill -9``, an environment that is never closed. Existing videos are never overwritten: a
    taken name gets the next number (``rl-video-episode-0_1.mp4``). Beside each video lies a
    ``.json`` file of the same name with the environment's id, seed, return, length, how the
    episode ended, and package versions.

    A recording begins when a trigger says so and ends with the next reset, after ``video_length``
    frames, or with :meth:`close`. Put this wrapper outermost: what it shows is what it wraps. Its
    vector twin is :class:`dqn_plugins.wrappers.VecRecordVideo`.

    :param env: The environment, made with a ``render_mode`` that returns pictures
        (``"rgb_array"``, or one ending in ``_list``).
    :param video_folder: Folder of the videos; made if missing.
    :param episode_trigger: Function from the episode's number, from 0, to whether its recording
        begins. Without any trigger: the cubes 0, 1, 8, 27, ... up to 1000, then every 1000th.
    :param step_trigger: Function from the number of the environment step, from 0 and over all
        episodes, to whether a recording begins there.
    :param video_length: Frames per video, exactly; 0 records whole episodes.
    :param name_prefix: Beginning of the file names: ``{name_prefix}-episode-{number}.mp4`` or
        ``{name_prefix}-step-{number}.mp4``.
    :param fps: Frames per second; by default ``metadata["render_fps"]``, or 30 without that.
    :param disable_logger: False prints the name of each finished video.
    :param gc_trigger: Function from the episode's number to whether garbage is collected after its
        video. Nothing here needs it, since no frames are kept; None by default.
    :param caption: True writes episode, step, reward and return so far under each frame; a
        function from :class:`dqn_plugins.wrappers.FrameDetails` to labels and texts writes those.
    :param model: Draws this model's Q-values under each frame, the greedy action marked: a
        Stable-Baselines3 model with ``policy.q_net``, or a function from one observation to an
        array of Q-values. It is asked about the observations of the environment below.
    :param action_names: Names for the Q-values, one per action; numbers by default.
    :param size: Width and height of the video in pixels. Pictures keep their shape, what is left
        beside them stays black, and they may differ in size. By default, as they are rendered.
    :raises ValueError: If the environment's render mode gives no pictures, or ``fps`` or
        ``video_length`` is out of range.
    :raises TypeError: If ``model`` or ``caption`` is of a kind that cannot be drawn.
    :raises OSError: If the folder cannot be made or written.
    :raises DependencyNotInstalled: If no ffmpeg with H.264 is found.

    Example::

        import gymnasium as gym
        from dqn_plugins.wrappers import RecordVideo

        env = gym.make("CartPole-v1", render_mode="rgb_array")
        env = RecordVideo(env, "videos", episode_trigger=lambda episode: True, caption=True)
        for _ in range(3):
            env.reset(seed=0)
            done = False
            while not done:
                _, _, terminated, truncated, _ = env.step(env.action_space.sample())
                done = terminated or truncated
        env.close()
    """

    def _capture_frame(self) -> None:
        """Record a frame; an environment may call it for one between two steps."""
        if not self.recording:
            return
        with self._finished_on_failure():
            frame: Any = self.env.render()
        if isinstance(frame, list):
            if not frame:
                logger.warn(
                    "A frame is missing from the video: env.render() was called just before and "
                    "took it."
                )
                return
            self.render_history.extend(frame)
            frame = frame[-1]
        self._add_frames([frame], self._seen())

    def render(self) -> Any:
        """
        Render the environment.

        :return: What the environment's ``render`` gives; for a render mode ending in ``_list``
            the frames since the last call, at most 64 of those that went into the video.
        """
        rendered = cast(Any, self.env.render())
        if isinstance(rendered, list) and self.render_history:
            rendered = [*self.render_history, *rendered]
            self.render_history.clear()
        return rendered

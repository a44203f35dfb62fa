"""Wrappers that record episodes: their rewards, and what they look like."""

from dqn_plugins.wrappers.episode_reward import EpisodeReward
from dqn_plugins.wrappers.notebook import show_video
from dqn_plugins.wrappers.overlay import FrameDetails, Overlay, QValueOverlay
from dqn_plugins.wrappers.record_video import RecordVideo
from dqn_plugins.wrappers.video_writer import VideoWriter

__all__ = [
    "EpisodeReward",
    "FrameDetails",
    "Overlay",
    "QValueOverlay",
    "RecordVideo",
    "VideoWriter",
    "show_video",
]

"""
Wrappers that record episodes: their rewards, and what they look like.

For a :class:`gymnasium.Env`: :class:`EpisodeReward`, :class:`RecordVideo`. For a
Stable-Baselines3 ``VecEnv``: :class:`VecEpisodeReward`, :class:`VecRecordVideo`. For what was
recorded: :func:`show_video`, :func:`show_videos`, :func:`side_by_side`.
"""

from dqn_plugins.wrappers.drawing.overlay import FrameDetails, Overlay, QValueOverlay
from dqn_plugins.wrappers.notebook import show_video, show_videos
from dqn_plugins.wrappers.rewards.episode import EpisodeRecord
from dqn_plugins.wrappers.rewards.episode_log import EpisodeLog
from dqn_plugins.wrappers.rewards.episode_reward import EpisodeReward
from dqn_plugins.wrappers.rewards.vec_episode_reward import VecEpisodeReward
from dqn_plugins.wrappers.video.record_video import RecordVideo
from dqn_plugins.wrappers.video.side_by_side import side_by_side
from dqn_plugins.wrappers.video.vec_record_video import VecRecordVideo
from dqn_plugins.wrappers.video.video_reader import read_frames
from dqn_plugins.wrappers.video.video_writer import VideoWriter

__all__ = [
    "EpisodeLog",
    "EpisodeRecord",
    "EpisodeReward",
    "FrameDetails",
    "Overlay",
    "QValueOverlay",
    "RecordVideo",
    "VecEpisodeReward",
    "VecRecordVideo",
    "VideoWriter",
    "read_frames",
    "show_video",
    "show_videos",
    "side_by_side",
]

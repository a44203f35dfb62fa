"""
Wrappers that record episodes: their rewards, and what they look like, afterwards or live.

For a :class:`gymnasium.Env`: :class:`EpisodeReward`, :class:`RecordVideo`, :class:`LiveView`. For a
Stable-Baselines3 ``VecEnv``: :class:`VecEpisodeReward`, :class:`VecRecordVideo`,
:class:`VecLiveView`. For Gymnasium's ``VectorEnv``: :class:`VectorEpisodeReward`,
:class:`VectorRecordVideo`. For what was recorded: :func:`show_video`, :func:`show_videos`,
:func:`side_by_side`, :func:`to_gif`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dqn_plugins.wrappers.drawing.overlay import FrameDetails, Overlay, QValueOverlay
    from dqn_plugins.wrappers.live.live_callback import LiveCallback
    from dqn_plugins.wrappers.live.live_page import LivePage
    from dqn_plugins.wrappers.live.live_view import LiveView
    from dqn_plugins.wrappers.live.vec_live_view import VecLiveView
    from dqn_plugins.wrappers.notebook import show_video, show_videos
    from dqn_plugins.wrappers.rewards.episode import EpisodeRecord
    from dqn_plugins.wrappers.rewards.episode_log import EpisodeLog
    from dqn_plugins.wrappers.rewards.episode_reward import EpisodeReward
    from dqn_plugins.wrappers.rewards.vec_episode_reward import VecEpisodeReward
    from dqn_plugins.wrappers.rewards.vector_episode_reward import VectorEpisodeReward
    from dqn_plugins.wrappers.video.enlarge_frames import EnlargeFrames
    from dqn_plugins.wrappers.video.gif import to_gif
    from dqn_plugins.wrappers.video.record_video import RecordVideo
    from dqn_plugins.wrappers.video.side_by_side import side_by_side
    from dqn_plugins.wrappers.video.vec_record_video import VecRecordVideo
    from dqn_plugins.wrappers.video.vector_record_video import VectorRecordVideo
    from dqn_plugins.wrappers.video.video_reader import read_frames
    from dqn_plugins.wrappers.video.video_writer import VideoWriter

__all__ = [
    "EnlargeFrames",
    "EpisodeLog",
    "EpisodeRecord",
    "EpisodeReward",
    "FrameDetails",
    "LiveCallback",
    "LivePage",
    "LiveView",
    "Overlay",
    "QValueOverlay",
    "RecordVideo",
    "VecEpisodeReward",
    "VecLiveView",
    "VecRecordVideo",
    "VectorEpisodeReward",
    "VectorRecordVideo",
    "VideoWriter",
    "read_frames",
    "show_video",
    "show_videos",
    "side_by_side",
    "to_gif",
]

# Imported when they are asked for: the page's process needs neither torch nor ffmpeg, and who
# records a video no page.
_MODULES = {
    "EnlargeFrames": "video.enlarge_frames",
    "EpisodeLog": "rewards.episode_log",
    "EpisodeRecord": "rewards.episode",
    "EpisodeReward": "rewards.episode_reward",
    "FrameDetails": "drawing.overlay",
    "LiveCallback": "live.live_callback",
    "LivePage": "live.live_page",
    "LiveView": "live.live_view",
    "Overlay": "drawing.overlay",
    "QValueOverlay": "drawing.overlay",
    "RecordVideo": "video.record_video",
    "VecEpisodeReward": "rewards.vec_episode_reward",
    "VecLiveView": "live.vec_live_view",
    "VecRecordVideo": "video.vec_record_video",
    "VectorEpisodeReward": "rewards.vector_episode_reward",
    "VectorRecordVideo": "video.vector_record_video",
    "VideoWriter": "video.video_writer",
    "read_frames": "video.video_reader",
    "show_video": "notebook",
    "show_videos": "notebook",
    "side_by_side": "video.side_by_side",
    "to_gif": "video.gif",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

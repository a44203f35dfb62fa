"""Frames to an MP4 file, one at a time, through an ffmpeg process."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import struct
import subprocess
import sys
import tempfile
import weakref
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium import logger
from gymnasium.error import DependencyNotInstalled

from dqn_plugins.files import checked_folder

__all__ = ["VideoWriter"]

FRAGMENT_SECONDS = 0.5
KEYFRAME_SECONDS = 2.0
# Room for one whole 600 x 400 RGB frame: the environment's next step need not wait for the
# encoder to drain the pipe 64 KiB at a time.
PIPE_BYTES = 1 << 20
ENCODER_PATIENCE_SECONDS = 60.0

Frame: TypeAlias = npt.NDArray[np.uint8]


@functools.lru_cache(maxsize=8)
def _encoder_flags(executable: str) -> tuple[str, ...]:
    """Ask an ffmpeg once what it can do."""
    fix = (
        "Run `pip install --upgrade imageio-ffmpeg`, and unset IMAGEIO_FFMPEG_EXE and "
        "FFMPEG_BINARY unless they name a working ffmpeg."
    )
    try:
        answers = [
            subprocess.run(
                [executable, "-hide_banner", "-h", topic],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=True,
                timeout=60,
            ).stdout
            for topic in ("encoder=libx264", "muxer=mp4")
        ]
    except (OSError, subprocess.SubprocessError) as error:
        raise DependencyNotInstalled(
            f"The ffmpeg at {executable!r} does not run ({error}). {fix}"
        ) from error
    if "Encoder libx264" not in answers[0]:
        raise DependencyNotInstalled(
            f"The ffmpeg at {executable!r} was built without the H.264 encoder libx264, which "
            f"browsers and phones need. {fix}"
        )
    # Fragments make an unfinished file playable. A recent ffmpeg turns them into an ordinary,
    # seekable file at the end (hybrid); an older one leaves them.
    if "hybrid_fragmented" in answers[1]:
        return ("+frag_keyframe+hybrid_fragmented",)
    return ("+frag_keyframe+empty_moov+default_base_moof",)


def find_encoder() -> str:
    """
    Find an ffmpeg that can write H.264: the one ``FFMPEG_BINARY`` names (as for moviepy), or else
    the one that imageio-ffmpeg brings or finds.
    """
    executable = os.environ.get("FFMPEG_BINARY", "")
    if executable in {"", "ffmpeg-imageio", "auto-detect"}:  # moviepy's words for "find one"
        try:
            import imageio_ffmpeg

            executable = str(imageio_ffmpeg.get_ffmpeg_exe())
        except (ImportError, RuntimeError) as error:
            raise DependencyNotInstalled(
                f"No ffmpeg was found ({error}). Run `pip install imageio-ffmpeg`, or set "
                "IMAGEIO_FFMPEG_EXE to the path of an ffmpeg program."
            ) from error
    _encoder_flags(executable)
    return executable


def checked_fps(fps: float) -> Fraction:
    """Check a frame rate."""
    try:
        rate = Fraction(float(fps)).limit_denominator(1001) if math.isfinite(fps) else Fraction(0)
    except TypeError:
        rate = Fraction(0)
    if rate <= 0:
        raise ValueError(
            f"fps: received {fps!r}, it must be a finite number above 0. Pass 30, or "
            'correct metadata["render_fps"] of the environment.'
        )
    return rate


def reserve_path(path: Path) -> Path:
    """Create an empty file under a name that is free, without ever touching an existing file."""
    number = 0
    while True:
        stem = path.stem if number == 0 else f"{path.stem}_{number}"
        candidate = path.with_name(stem + path.suffix)
        if not candidate.with_suffix(".json").exists():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                return candidate
        number += 1


def to_rgb(frame: Any) -> Frame:
    """Bring a rendered frame into the one form that is encoded."""
    if not isinstance(frame, np.ndarray):
        raise TypeError(
            f"frame: received {type(frame).__name__}, it must be a NumPy array. Make the "
            'environment with render_mode="rgb_array".'
        )
    if 0 in frame.shape or not (
        frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] in {1, 3, 4})
    ):
        raise ValueError(
            f"frame: received shape {frame.shape}, it must be (height, width), (height, width, 1), "
            "(height, width, 3) or (height, width, 4), and not empty. Return an image, channels "
            "last, from the environment's render()."
        )
    frame = to_bytes(frame)
    if frame.ndim == 2:
        frame = frame[:, :, np.newaxis]
    if frame.shape[2] == 1:
        frame = np.repeat(frame, 3, axis=2)
    rgb: Frame = frame[:, :, :3]
    return rgb


def to_bytes(frame: npt.NDArray[Any]) -> Frame:
    """
    Bring pixels to the range from 0 to 255. Truth values, and floats in a picture without any above
    1, are shares of 255.
    """
    if frame.dtype == np.uint8:
        return frame
    if frame.dtype.kind not in "biuf":
        raise TypeError(
            f"frame: received dtype {frame.dtype}, it must hold numbers, uint8 from 0 to 255 at "
            "best. Return such an array from the environment's render()."
        )
    pixels = np.nan_to_num(frame.astype(np.float64))
    if frame.dtype.kind in "bf" and pixels.max(initial=0.0) <= 1:
        pixels *= 255
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def drop_half_fragment(path: Path) -> None:
    """
    Make a video that a full disk cut short open again. Half a fragment's pictures do no harm, but
    players refuse the whole file if the list before them (a ``moof`` box) is cut.
    """
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        start = 0
        while start + 8 <= end:
            file.seek(start)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1:  # the length did not fit into 32 bits and follows
                size = int.from_bytes(file.read(8), "big")
            if size < 8:
                return
            if kind == b"moof" and start + size > end:
                file.truncate(start)
                return
            start += size


class _Encoder:
    """The ffmpeg process behind one file. It refers to no writer: a finalizer can hold it."""

    def __init__(self, path: Path, width: int, height: int, fps: Fraction):
        executable = find_encoder()
        # fmt: off
        command = [
            executable, "-y", "-loglevel", "error",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}",
            # Raw pictures need no probing, which would hold the first ones back.
            "-framerate", str(fps), "-probesize", "32", "-analyzeduration", "0",
            "-i", "pipe:0", "-an",
            # Players take small videos for BT.601 and large ones for BT.709 unless told.
            "-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p",
            "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
            # No look-ahead: each frame leaves the encoder before the next arrives, so little is
            # held in memory and little is lost when everything is killed.
            "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-crf", "23",
            "-threads", "1", "-filter_threads", "1",
            "-g", str(max(1, round(KEYFRAME_SECONDS * fps))),
            "-movflags", *_encoder_flags(executable),
            "-frag_duration", str(round(FRAGMENT_SECONDS * 1e6)), "-flush_packets", "1",
            "-f", "mp4", f"file:{path}",
        ]
        # fmt: on
        # A session of its own: Ctrl-C in the terminal, or its closing, must reach the program
        # that records and not the encoder, which ends in order when its input ends.
        detached: dict[str, Any]
        if sys.platform == "win32":
            detached = {
                "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            }
        else:
            detached = {"start_new_session": True}
        self.path = path
        # A file, not a pipe: nobody reads while frames go in, and a full pipe would block ffmpeg.
        self.messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self.messages,
                # More than a frame (Python 3.13 forgets what just fits): Ctrl-C can arrive between
                # two halves of it, and the buffer keeps the second half for the next time.
                # Otherwise all later frames would be shifted.
                bufsize=3 * width * height + 1,
                **detached,
            )
        except OSError:
            self.messages.close()
            raise
        assert isinstance(self.process.stdin, io.BufferedWriter)
        self._input = self.process.stdin
        self.error_text = ""
        self.abandoned = False
        self._widen_pipe()
        _encoders.add(self)

    def _widen_pipe(self) -> None:
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError):  # the limit for ordinary users may be lower
                fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def send(self, data: Frame) -> None:
        """Hand one whole frame to ffmpeg."""
        if self.abandoned:
            return
        try:
            self._input.write(data.data)
            self._input.flush()
        except OSError as error:
            self.finish()
            raise OSError(
                error.errno,
                f"The video encoder stopped ({self.error_text or error.strerror}); the frames "
                "before that are kept. See that the disk has room",
                str(self.path),
            ) from error

    def finish(self) -> None:
        """End the input and wait until the file is complete. Doing it twice does no harm."""
        if self.messages.closed:
            return
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self.process.wait(ENCODER_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            logger.warn(
                f"The encoder of {self.path} is still busy after {ENCODER_PATIENCE_SECONDS:.0f} s "
                "and was left to finish by itself."
            )
        if self.process.returncode:
            with contextlib.suppress(OSError):
                drop_half_fragment(self.path)
        self.messages.seek(0)
        self.error_text = self.messages.read().decode(errors="replace").strip()
        self.error_text = self.error_text.partition("\n")[0][-300:]
        self.messages.close()

    def abandon(self) -> None:
        """Let go of the file in a forked child: the video stays the parent's."""
        self.abandoned = True
        with contextlib.suppress(OSError):
            self._input.raw.close()
        self.messages.close()
        # Not this process's child: nothing here may wait for it.
        self.process.returncode = 0


_encoders: weakref.WeakSet[_Encoder] = weakref.WeakSet()


def _abandon_all() -> None:
    # A child that keeps the pipe open would keep ffmpeg waiting for an end that never comes.
    for encoder in list(_encoders):
        encoder.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


class VideoWriter:
    """
    Write frames to an MP4 file as they come: constant memory, and a file that plays up to the
    last half second whatever ends the program.

    H.264 in yuv420p, which every browser and phone plays. Frames of odd size are padded to even
    by repeating their last row or column, greyscale becomes RGB. The file appears with the first
    frame; an existing file is never touched, see :attr:`path`.

    :param path: Where to write, ending in ``.mp4``. The folder is made if missing. If the name is
        taken, the next number is appended: ``run_1.mp4``.
    :param fps: Frames per second, above 0.
    :raises DependencyNotInstalled: If no ffmpeg with H.264 is found.
    :raises ValueError: If ``fps`` is not a finite number above 0, or the name does not end in
        ``.mp4``.
    :raises OSError: If the folder cannot be made or written.

    Example::

        import numpy as np
        from dqn_plugins.wrappers import VideoWriter

        with VideoWriter("videos/fade.mp4", fps=30) as writer:
            for grey in range(0, 256, 5):
                writer.write(np.full((90, 160, 3), grey, dtype=np.uint8))
        print(writer.path, writer.frame_count)
    """

    def __init__(self, path: str | os.PathLike[str], fps: float = 30):
        wanted = Path(os.path.abspath(os.fspath(path)))
        if wanted.suffix.lower() != ".mp4":
            raise ValueError(
                f"path: received {os.fspath(path)!r}, it must end in .mp4. Only MP4 is written."
            )
        self.fps = checked_fps(fps)
        find_encoder()
        checked_folder(wanted.parent, "path")
        #: The file being written: the wanted path, or a numbered neighbour if that was taken
        #: (decided at the first frame).
        self.path = wanted
        #: Frames written so far.
        self.frame_count = 0
        #: (width, height) of the video in pixels, None before the first frame.
        self.size: tuple[int, int] | None = None
        self.closed = False
        self._frame_shape: tuple[int, ...] = ()
        self._encoder: _Encoder | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def write(self, frame: npt.NDArray[Any]) -> None:
        """
        Append one frame.

        :param frame: An array of shape (height, width), (height, width, 1), (height, width, 3) or
            (height, width, 4), the same in every call: uint8, other numbers from 0 to 255, truth
            values, or floats from 0 to 1.
        :raises TypeError: If it is not an array of numbers.
        :raises ValueError: If its shape is not an image's, or differs from the first frame's, or
            the writer is closed.
        :raises OSError: If the encoder stopped, for example because the disk is full.
        """
        if self.closed:
            raise ValueError(f"{self.path} is closed. Make a new VideoWriter.")
        rgb = to_rgb(frame)
        if self._encoder is None:
            self._start(rgb)
        elif rgb.shape != self._frame_shape:
            raise ValueError(
                f"frame: received shape {frame.shape}, it must be {self._frame_shape}, as before "
                "in this video. Let the environment render at one size, or start a new video when "
                "the size changes."
            )
        assert self._encoder is not None
        if rgb.shape[0] % 2 or rgb.shape[1] % 2:
            rgb = np.pad(rgb, [(0, rgb.shape[0] % 2), (0, rgb.shape[1] % 2), (0, 0)], "edge")
        self._encoder.send(np.ascontiguousarray(rgb))
        self.frame_count += 1

    def _start(self, rgb: Frame) -> None:
        height, width = rgb.shape[:2]
        self._frame_shape = rgb.shape
        self.size = (width + width % 2, height + height % 2)
        self.path = reserve_path(self.path)
        try:
            self._encoder = _Encoder(self.path, *self.size, self.fps)
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        # Runs when the writer is forgotten and when the interpreter ends, whichever is first.
        self._finalizer = weakref.finalize(self, self._encoder.finish)

    @property
    def abandoned(self) -> bool:
        """Whether this is a copy in a forked process: the video is the parent's."""
        return self._encoder is not None and self._encoder.abandoned

    def close(self) -> None:
        """
        Finish the file. It waits for the encoder; calling it again does nothing.

        :raises OSError: If the encoder reported a failure, for example a full disk.
        """
        if self.closed:
            return
        self.closed = True
        if self._finalizer is not None:
            self._finalizer()
        encoder = self._encoder
        if encoder is not None and encoder.process.returncode not in {0, None}:
            raise OSError(
                f"The video encoder failed on {self.path}: {encoder.error_text or 'no message'}. "
                "What it wrote is kept. See that the disk has room."
            )

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

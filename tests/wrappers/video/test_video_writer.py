"""Frames in, a file that players take out."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled

from dqn_plugins.wrappers import VideoWriter, read_frames
from dqn_plugins.wrappers.video import video_writer
from tests.wrappers.scripted import close_colours, colours, describe

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (128, 128, 128), (250, 250, 0)]


def flat(colour: tuple[int, int, int], height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def write(path: Path, frames: list[np.ndarray], fps: float = 30) -> Path:
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.path


def test_count_size_codec_rate_and_colours(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [flat(colour) for colour in COLOURS * 7], fps=12.5)
    description = describe(path)
    assert description["size"] == (64, 48)
    assert description["codec"] == "h264"
    assert description["pix_fmt"].startswith("yuv420p")
    assert description["fps"] == 12.5
    assert close_colours(colours(path), COLOURS * 7)


@pytest.mark.parametrize("size", [(41, 61), (40, 61), (41, 60), (1, 1)])
def test_odd_sizes_are_padded_by_their_edges(tmp_path: Path, size: tuple[int, int]) -> None:
    frame = flat((0, 0, 0), *size)
    frame[-1, :] = 255
    frame[:, -1] = 255
    path = write(tmp_path / "a.mp4", [frame] * 3)
    height, width = size
    assert describe(path)["size"] == (width + width % 2, height + height % 2)
    assert describe(path)["pix_fmt"].startswith("yuv420p")
    decoded = list(read_frames(path))[-1]
    assert (decoded[height - 1 :] > 200).all()
    assert (decoded[:, width - 1 :] > 200).all()


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (48, 64, 4)])
def test_grey_and_transparent_frames_become_rgb(tmp_path: Path, shape: tuple[int, ...]) -> None:
    frame = np.full(shape, 90, dtype=np.uint8)
    path = write(tmp_path / "a.mp4", [frame, frame])
    assert close_colours(colours(path), [(90, 90, 90)] * 2)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([0, 90, 300, -5]), [0, 90, 255, 0]),
        (np.array([0.0, 90.4, 300.0, np.nan]), [0, 90, 255, 0]),
        (np.array([0.0, 0.5, 1.0, -0.5], np.float32), [0, 128, 255, 0]),
        (np.array([False, True]), [0, 255]),
    ],
)
def test_pixels_of_other_types(pixels: np.ndarray, expected: list[int]) -> None:
    frame = video_writer.to_rgb(pixels[np.newaxis])
    assert frame.dtype == np.uint8
    assert frame[0, :, 0].tolist() == expected


def test_frames_that_are_views_are_written_as_they_look(tmp_path: Path) -> None:
    big = np.zeros((96, 128, 3), dtype=np.uint8)
    big[::2, ::2] = (10, 250, 10)
    path = write(tmp_path / "a.mp4", [big[::2, ::2], big[::2, ::2][::-1]])
    assert close_colours(colours(path), [(10, 250, 10)] * 2)


@pytest.mark.parametrize(
    ("frame", "error", "fix"),
    [
        (np.zeros((4, 4, 3), complex), TypeError, "received dtype complex128.*numbers"),
        ([[0]], TypeError, "received list"),
        (np.zeros((4, 4, 2), dtype=np.uint8), ValueError, r"\(4, 4, 2\)"),
        (np.zeros((3, 4, 4, 3), dtype=np.uint8), ValueError, "channels last"),
        (np.zeros((0, 4, 3), dtype=np.uint8), ValueError, "not empty"),
    ],
)
def test_other_frames_are_refused_and_leave_no_file(
    tmp_path: Path, frame: np.ndarray, error: type[Exception], fix: str
) -> None:
    writer = VideoWriter(tmp_path / "a.mp4")
    with pytest.raises(error, match=fix):
        writer.write(frame)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_refused_and_the_rest_kept(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(flat(COLOURS[0]))
        with pytest.raises(ValueError, match=r"received shape \(20, 20, 3\).*\(48, 64, 3\)"):
            writer.write(flat(COLOURS[0], 20, 20))
        writer.write(flat(COLOURS[1]))
    assert close_colours(colours(writer.path), COLOURS[:2])
    with pytest.raises(ValueError, match="is closed"):
        writer.write(flat(COLOURS[0]))


@pytest.mark.parametrize("fps", [0, -1, 1e-4, float("nan"), float("inf"), "30", None])
def test_frame_rates_out_of_range(tmp_path: Path, fps: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        VideoWriter(tmp_path / "a.mp4", fps)


def test_names_that_are_taken_get_the_next_number(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("mine")
    (tmp_path / "a_1.json").write_text("mine as well")
    path = write(tmp_path / "a.mp4", [flat(COLOURS[0])])
    assert path.name == "a_2.mp4"
    assert (tmp_path / "a.mp4").read_text() == "mine"


def test_writers_at_once_share_no_file(tmp_path: Path) -> None:
    reserved: list[Path] = []

    def reserve() -> None:
        reserved.extend(video_writer.reserve_path(tmp_path / "a.mp4") for _ in range(20))

    threads = [threading.Thread(target=reserve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(reserved)) == 80


def test_only_mp4(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.mp4"):
        VideoWriter(tmp_path / "a.avi")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"path: received .*a folder that can be written.*Pass"):
        VideoWriter(tmp_path / "file" / "a.mp4")


def test_a_missing_or_poor_ffmpeg_fails_at_construction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFMPEG_BINARY", str(tmp_path / "nothing"))
    with pytest.raises(DependencyNotInstalled, match=r"does not run.*pip install"):
        VideoWriter(tmp_path / "a.mp4")
    poor = tmp_path / "ffmpeg"
    poor.write_text("#!/bin/sh\necho Codec not recognized\n")
    poor.chmod(poor.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("FFMPEG_BINARY", str(poor))
    with pytest.raises(DependencyNotInstalled, match=r"without the H\.264 encoder"):
        VideoWriter(tmp_path / "a.mp4")


def test_an_older_ffmpeg_leaves_fragments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("+frag_keyframe+empty_moov+default_base_moof",)
    monkeypatch.setattr(video_writer, "_encoder_flags", lambda executable: flags)
    path = write(tmp_path / "a.mp4", [flat(colour) for colour in COLOURS])
    assert b"moof" in path.read_bytes()
    assert close_colours(colours(path), COLOURS)


def test_a_finished_file_is_an_ordinary_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [flat(colour) for colour in COLOURS], fps=5)
    assert describe(path)["duration"] == pytest.approx(1.0)


@pytest.mark.parametrize("fps", [1, 60])
def test_frames_reach_the_file_while_recording(tmp_path: Path, fps: int) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", fps)
    for _ in range(2 * fps + 3):
        writer.write(flat(COLOURS[0], 8, 8))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if sum(1 for _ in read_frames(writer.path)) >= 3:
                break
        except (ValueError, OSError, StopIteration):
            pass
        time.sleep(0.1)
    else:
        pytest.fail("nothing to play while the recording runs")
    writer.close()


def test_an_encoder_that_dies_is_reported_and_its_frames_kept(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", fps=4)
    for _ in range(40):
        writer.write(flat(COLOURS[0]))
    time.sleep(0.5)
    assert writer._encoder is not None
    writer._encoder.process.kill()
    with pytest.raises(OSError, match="encoder stopped"):  # noqa: PT012
        for _ in range(1000):
            writer.write(flat(COLOURS[0]))
    with pytest.raises(OSError, match="is kept"):
        writer.close()
    assert sum(1 for _ in read_frames(writer.path)) >= 30


def test_a_file_cut_anywhere_in_its_last_fragment_plays(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", fps=10)
    for index in range(25):
        writer.write(flat(COLOURS[index % 5]))
    assert writer._encoder is not None
    deadline = time.monotonic() + 20
    while (content := writer.path.read_bytes()).count(b"moof") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    writer.close()
    start = content.rindex(b"moof") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    expected = None
    for cut in range(start, start + length, 12):
        path = tmp_path / f"{cut}.mp4"
        path.write_bytes(content[:cut])
        video_writer.drop_half_fragment(path)
        count = sum(1 for _ in read_frames(path))
        expected = expected or count
        assert count == expected >= 10
    whole = writer.path.read_bytes()
    video_writer.drop_half_fragment(writer.path)
    assert writer.path.read_bytes() == whole


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")
def test_an_interrupt_in_the_middle_of_a_frame_shifts_nothing(tmp_path: Path) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    half = flat((0, 0, 0), 400, 600)
    half[:200] = (250, 250, 250)
    previous = signal.signal(signal.SIGALRM, interrupt)
    writer = VideoWriter(tmp_path / "a.mp4")
    writer.write(half)
    assert writer._encoder is not None
    encoder = writer._encoder.process.pid
    os.kill(encoder, signal.SIGSTOP)  # so that the pipe fills in the middle of a frame
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            for _ in range(20):
                writer.write(half)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        os.kill(encoder, signal.SIGCONT)
    writer.write(half)
    writer.close()
    frames = list(read_frames(writer.path))
    assert len(frames) == writer.frame_count + 1  # the interrupted one is whole as well
    for frame in frames:
        assert (frame[:199] > 240).all()
        assert (frame[201:] < 15).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_forked_child_neither_writes_nor_keeps_the_file_open(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4")
    writer.write(flat(COLOURS[0]))
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(write_end)
            writer.write(flat(COLOURS[1]))
            os.read(read_end, 1)  # until the parent has closed its video
        finally:
            os._exit(0)
    os.close(read_end)
    writer.write(flat(COLOURS[2]))
    begun = time.monotonic()
    writer.close()
    assert time.monotonic() - begun < 20
    os.close(write_end)
    assert os.waitpid(child, 0)[1] == 0
    assert close_colours(colours(writer.path), [COLOURS[0], COLOURS[2]])


def test_a_writer_that_is_forgotten_finishes_its_file(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4")
    for colour in COLOURS:
        writer.write(flat(colour))
    del writer
    assert close_colours(colours(tmp_path / "a.mp4"), COLOURS)

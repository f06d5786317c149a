"""Frames that are cut out of videos by copying packets are those that the decoder gives from the whole file."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import ENCODERS, FPS, frames_of, shown, write
from vla_data.errors import DataError
from vla_data.media import clips, entry, packets
from vla_data.media.frames import Frames
from vla_data.media.video import Clip, encode
from vla_data.media.video_settings import VideoSettings

SHORT = ("h264-g5-b3", "h264-strips", "hevc-leading", "av1-g5")
"""The encoders of each push."""
COUNT = 14


def cut_all(path: Path, ranges: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """The ranges that were accepted, each of which must be exact."""
    whole, sums = frames_of(path), packets.packet_digests(str(path))
    accepted = set()
    for start, stop in ranges:
        clip = packets.copy(path, start, stop, fps=FPS)
        if clip is None:
            continue
        accepted.add((start, stop))
        assert shown(clip.data) == [(n / FPS, whole[start + n]) for n in range(stop - start)], (start, stop)
        own = clip.digests
        assert own == sums[sums.index(own[0]) :][: len(own)], (start, stop)
    return accepted


def test_accepted_cuts_are_exact(tmp_path: Path) -> None:
    found = {}
    for name in SHORT:
        path = write(tmp_path / f"{name}.mp4", name, COUNT)
        ranges = [(a, b) for a in range(COUNT) for b in (a + 1, a + 4, COUNT - 2, COUNT) if a < b <= COUNT]
        found[name] = cut_all(path, sorted({*ranges}))
    assert {start for start, _ in found["av1-g5"]} == {0, 5, 10}
    assert {start for start, _ in found["h264-g5-b3"]} == {0, 5, 10}
    assert {start for start, _ in found["h264-strips"]} == {0}  # its later key frames are none to begin at
    assert {start for start, _ in found["hevc-leading"]} <= {0, 5, 10}
    assert all((0, COUNT) in accepted for accepted in found.values())


@pytest.mark.nightly
@pytest.mark.parametrize("name", ENCODERS)
def test_every_range_of_every_encoder(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", name, 40, seed=1)
    accepted = cut_all(path, list(itertools.combinations(range(41), 2)))
    print(f"\n{name}: {len(accepted)} of 820 ranges are copied, all exact")
    assert (0, 40) in accepted


def test_clips_with_b_frames_are_joined_frame_by_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4", "h264-g5-b3", COUNT)
    whole = frames_of(path)
    parts = [packets.copy(path, *part, fps=FPS) for part in ((5, 10), (0, 5), (10, 11), (5, COUNT))]
    made = [part for part in parts if part is not None]
    assert len(made) == 4
    joined = io.BytesIO()
    packets.join((part.data for part in made), joined, fps=FPS, delay=max(part.delay for part in made))
    want = [*whole[5:10], *whole[:5], whole[10], *whole[5:]]
    assert shown(joined.getvalue()) == [(n / FPS, digest) for n, digest in enumerate(want)]


def test_a_head_between_key_frames_is_encoded_and_the_rest_copied(tmp_path: Path) -> None:
    settings = VideoSettings(codec="h264", gop=4)
    path = tmp_path / "video.mp4"
    ground = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    path.write_bytes(encode((np.roll(ground, t, axis=1) for t in range(12)), settings, fps=FPS))
    frames, whole = Frames(Clip(path, 0).frames(12), 32, 48), frames_of(path)
    made = clips.encode(frames.take(range(2, 11)), settings, fps=FPS, copy=True)
    assert (made.copied, made.encoded) == (7, 2)
    times, found = zip(*shown(made.clip.data), strict=True)
    assert list(times) == [n / FPS for n in range(9)]
    assert list(found[2:]) == whole[4:11]
    # Another encoder's stream can't go on where this one's ends.
    other = VideoSettings(codec="h264", gop=4, preset="ultrafast")
    again = clips.encode(frames.take(range(2, 11)), other, fps=FPS, copy=True)
    assert (again.copied, again.encoded) == (0, 9)
    assert clips.encode(frames.take([0, 2, 4]), settings, fps=FPS, copy=True).copied == 0
    assert clips.encode(frames, VideoSettings(codec="av1"), fps=FPS, copy=True).copied == 0
    assert clips.encode(frames, settings, fps=FPS, copy=False).copied == 0


def test_only_pictures_that_need_no_other_begin_a_cut() -> None:
    avc, hvc = b"\1\x64\0\x0a\xff", bytes(21) + b"\xff"
    assert entry.is_entry("h264", b"\0\0\0\2\x06\5\0\0\0\1\x65", avc)
    assert not entry.is_entry("h264", b"\0\0\0\2\x06\5\0\0\0\1\x41", avc)
    assert not entry.is_entry("h264", b"\0\0\0\1\x67", avc)  # no picture at all
    assert entry.is_entry("hevc", b"\0\0\0\1\x26", hvc)
    assert not entry.is_entry("hevc", b"\0\0\0\1\x02", hvc)
    assert entry.is_entry("av1", b"\x12\0\x32\1\x10", b"")
    assert not entry.is_entry("av1", b"\x12\0\x32\1\x30", b"")  # a frame that refers to others
    assert not entry.is_entry("av1", b"\x12\0\x32", b"")
    assert entry.is_entry("vp9", b"\x82", b"")
    assert not entry.is_entry("vp9", b"\x86", b"")
    assert not entry.is_entry("mpeg4", b"\0\0\1\xb0", b"")


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(DataError) as caught:
        packets.packets_of(path)
    assert caught.value.code == "E109"

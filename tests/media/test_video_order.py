"""Frames of a video are those of a decoder that goes through the file once, in whichever order they are asked
for.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import pytest

from vla_data.errors import DataError
from vla_data.media import video

FRAMES: Final = 36
_QUIET: Final = "log-level=none"


def _pictures() -> list[np.ndarray[Any, Any]]:
    """Pictures of noise that moves, so that every frame differs from those that it is predicted from."""
    base = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return [np.roll(base, 3 * t, axis=1) for t in range(FRAMES)]


def _encoded(codec: str, options: dict[str, str], pixels: str = "yuv420p") -> bytes:
    """An mp4 file as FFmpeg writes it, with whatever B-frames and groups of pictures the encoder makes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        stream.codec_context.thread_count = 1
        for picture in _pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _in_order(data: bytes) -> list[np.ndarray[Any, Any]]:
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


CASES: Final = {
    **{
        f"h264 gop {gop} b {b} open {is_open}": (
            "libx264",
            {"g": gop, "bf": b, "x264-params": f"open-gop={is_open}"},
        )
        for gop, b, is_open in (("1", "0", 0), ("2", "0", 0), ("2", "2", 1), ("8", "3", 1), ("250", "3", 0))
    },
    **{
        f"hevc gop {gop} b {b} open {is_open}": (
            "libx265",
            {"x265-params": f"keyint={gop}:bframes={b}:open-gop={is_open}:{_QUIET}"},
        )
        for gop, b, is_open in ((1, 0, 0), (2, 4, 1), (8, 4, 1), (8, 2, 0), (250, 4, 1))
    },
    **{
        f"av1 gop {gop} refresh {kind}": (
            "libsvtav1",
            {"g": gop, "preset": "12", "svtav1-params": f"lp=1:irefresh-type={kind}"},
        )
        for gop, kind in (("2", 2), ("8", 2), ("8", 1))
    },
    "h264 refreshed in strips": ("libx264", {"g": "2", "x264-params": "intra-refresh=1"}),
    "hevc as lerobot records it": ("libx265", {"g": "2", "crf": "30", "x265-params": _QUIET}),
    "mpeg4 with B-frames": ("mpeg4", {"g": "8", "bf": "2"}),
    "vp9 with hidden frames": ("libvpx-vp9", {"g": "8", "lag-in-frames": "16", "auto-alt-ref": "1"}),
}


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    video._reader.cache_clear()


@pytest.mark.parametrize("case", CASES)
def test_frames_in_any_order_are_those_of_one_pass(case: str, tmp_path: Path) -> None:
    data = _encoded(*CASES[case])
    path = tmp_path / "film.mp4"
    path.write_bytes(data)
    want = _in_order(data)
    assert len(want) == len(video.timeline(path).pts) == FRAMES
    mixed = list(range(FRAMES))
    random.Random(1).shuffle(mixed)
    for order in (range(FRAMES)[::-1], mixed, range(0, FRAMES, 7), range(FRAMES)):
        video._reader.cache_clear()
        clip = video.Clip(path, 0)
        for number in order:
            assert np.array_equal(clip.frame(number), want[number]), (number, order)


def test_a_frame_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(_encoded("libx264", {"g": "8"}))
    for number in (FRAMES, FRAMES + 100):
        with pytest.raises(DataError, match="ends before frame") as caught:
            video.Clip(path, 0).frame(number)
        assert caught.value.code == "E105"


def test_times_of_frames_are_those_of_the_file_and_begin_at_0(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(_encoded("libx264", {"g": "8", "bf": "3"}))
    np.testing.assert_allclose(video.timeline(path).seconds(), np.arange(FRAMES) / 30, atol=1e-9)


@pytest.mark.parametrize(
    ("pixels", "bits", "gray"), [("yuv420p", 8, False), ("yuv420p10le", 10, False), ("gray12le", 12, True)]
)
def test_bits_and_colours_are_described(pixels: str, bits: int, gray: bool, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(_encoded("libx265", {"x265-params": _QUIET}, pixels))
    about = video.describe(path)
    assert (about.pixel_format, about.bits, about.gray, about.alpha) == (pixels, bits, gray, False)
    assert (about.height, about.width, float(about.rate)) == (48, 64, 30.0)

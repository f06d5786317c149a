"""A video that says that its frames are in another file, which FFmpeg can follow and we do not let it.

The file is that of an honest video with its frames zeroed and its data reference (``dref``, ISO/IEC 14496-12)
written by hand: a Macintosh alias record (QuickTime File Format, "Data Reference Atoms") that names the other
file beside it or by its whole path.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import numpy as np
import pytest

from tests.jobs.test_strangers import Here
from tests.rollouts import rollout, save
from vla_data import open_sink, open_source, run
from vla_data.errors import RefusedError
from vla_data.media import video
from vla_data.media.video_settings import VideoSettings

_DREF: Final = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        yield at, size, kind
        at += size


def _with_reference(data: bytes, entry: bytes) -> bytes:
    """The same video without its frames, with this entry as its only data reference."""
    out = bytearray(data)
    around: list[int] = []
    at, end = 0, len(data)
    for kind in _DREF:
        at, size = next((a, n) for a, n, k in _boxes(data, at, end) if k == kind)
        around.append(at)
        at, end = at + 8, at + size
    new = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    for place in around[:-1]:
        struct.pack_into(">I", out, place, struct.unpack_from(">I", out, place)[0] + len(new) - size)
    out[around[-1] : around[-1] + size] = new
    frames, length = next((a, n) for a, n, k in _boxes(data, 0, len(data)) if k == b"mdat")
    out[frames + 8 : frames + length] = bytes(length - 8)
    return bytes(out)


def _alias(path: str, *, beside: bool) -> bytes:
    """An alias record with one piece, an absolute path; ``beside``: one folder up and down leads there too."""
    name = path.encode() + b"\0" * (len(path) % 2)
    body = bytes(10 + 1 + 27 + 12 + 1 + 63 + 16) + struct.pack(">HH", beside, beside) + bytes(16)
    body += struct.pack(">hH", 2, len(name)) + name + struct.pack(">hH", -1, 0)
    return struct.pack(">I4sI", 12 + len(body), b"alis", 0) + body


@pytest.fixture
def private(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    """A video that nobody was given, with its frames."""
    pixels = [np.full((32, 32, 3), 20 * n, dtype=np.uint8) for n in range(8)]
    path = tmp_path / "given/private.mp4"
    path.parent.mkdir()
    path.write_bytes(video.encode(pixels, VideoSettings(codec="h264"), fps=5))
    return path, list(video.decode(path.read_bytes()))


def _frames(container: av.container.InputContainer) -> list[np.ndarray]:
    with container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("beside", [True, False], ids=["relative", "absolute"])
def test_no_frame_of_another_file_comes(beside: bool, private: tuple[Path, list[np.ndarray]]) -> None:
    path, secret = private
    named = f"/x/{path.name}" if beside else str(path)
    forged = path.with_name("forged.mp4")
    forged.write_bytes(_with_reference(path.read_bytes(), _alias(named, beside=beside)))
    # The atom is right: where FFmpeg is told to follow it, it does.
    follow = {"enable_drefs": "1", "use_absolute_path": str(int(not beside))}
    np.testing.assert_array_equal(_frames(av.open(str(forged), "r", format="mp4", options=follow)), secret)
    for source in (forged, io.BytesIO(forged.read_bytes())):
        try:
            seen = _frames(video.open_video(source))
        except av.FFmpegError:
            seen = []
        assert not any(np.array_equal(one, other) for one in seen for other in secret)


def test_a_dataset_of_such_a_video_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "rollouts", "0.npz", rollout(8, size=(32, 32)))
    sink = open_sink(tmp_path / "made", video=VideoSettings(codec="h264"))
    run(open_source(tmp_path / "rollouts"), (), sink, engine=Here())
    (file,) = (tmp_path / "made").rglob("*.mp4")
    whole = file.read_bytes()
    file.with_name("private.mp4").write_bytes(whole)
    file.write_bytes(_with_reference(whole, _alias("/x/private.mp4", beside=True)))
    with pytest.raises(RefusedError, match="none of 1 episodes can be used"):
        run(open_source(tmp_path / "made"), (), open_sink(tmp_path / "out", images="png"), engine=Here())

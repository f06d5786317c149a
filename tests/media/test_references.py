"""A video that says that its frames are in another file, which FFmpeg can follow and we do not let it.

The file is that of an honest video with its frames zeroed and its data reference (``dref``, ISO/IEC 14496-12)
written by hand: a Macintosh alias record (QuickTime File Format, "Data Reference Atoms") that names the other
file beside it or by its whole path.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import numpy as np
import pytest

from tests.jobs.test_strangers import Here
from tests.rollouts import rollout, save
from vla_data import open_sink, open_source, run
from vla_data.errors import DataError, RefusedError
from vla_data.media import mp4, video
from vla_data.media.video_settings import VideoSettings

_DREF: Final = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")


def _boxes(data: bytes | bytearray, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        yield at, size, kind
        at += size


def _with_reference(data: bytes, entry: bytes) -> bytes:
    """The same video without its frames, with this entry as its only data reference."""
    out = bytearray(_put(data, _DREF, struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry))
    frames, length = next((a, n) for a, n, k in _boxes(out, 0, len(out)) if k == b"mdat")
    out[frames + 8 : frames + length] = bytes(length - 8)
    return bytes(out)


def _alias(path: str, *, beside: bool) -> bytes:
    """An alias record with one piece, an absolute path; ``beside``: one folder up and down leads there too."""
    name = path.encode() + b"\0" * (len(path) % 2)
    body = bytes(10 + 1 + 27 + 12 + 1 + 63 + 16) + struct.pack(">HH", beside, beside) + bytes(16)
    body += struct.pack(">hH", 2, len(name)) + name + struct.pack(">hH", -1, 0)
    return struct.pack(">I4sI", 12 + len(body), b"alis", 0) + body


def _put(data: bytes, kinds: tuple[bytes, ...], new: bytes) -> bytes:
    """The same video with another box at a path of boxes."""
    out = bytearray(data)
    around: list[int] = []
    at, end, size = 0, len(data), len(data)
    for kind in kinds:
        at, size = next((a, n) for a, n, k in _boxes(data, at, end) if k == kind)
        around.append(at)
        at, end = at + 8, at + size
    for place in around[:-1]:
        struct.pack_into(">I", out, place, struct.unpack_from(">I", out, place)[0] + len(new) - size)
    out[around[-1] : around[-1] + size] = new
    return bytes(out)


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


# -- headers that mean more than they hold ----------------------------------------------------------------

_TABLE: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")


def _compressed(data: bytes, *, inside: bytes) -> bytes:
    """The header as QuickTime compressed it, with 64 MiB of zeros behind it."""
    at, size = next((a, n) for a, n, k in _boxes(data, 0, len(data)) if k == b"moov")
    packed = zlib.compress(data[at : at + size] + bytes(64 << 20), 9)
    body = struct.pack(">I4s4s", 12, b"dcom", b"zlib")
    body += struct.pack(">I4sI", 12 + len(packed), b"cmvd", size + (64 << 20)) + packed
    box = struct.pack(">I4s", 8 + len(body), b"cmov") + body
    if inside:
        box = struct.pack(">I4s", 8 + len(box), inside) + box
    return data[:at] + box + data[at + size :]


@pytest.mark.parametrize("inside", [b"moov", b"free", b"udta", b""])
def test_a_compressed_header_is_not_unpacked(inside: bytes, private: tuple[Path, list[np.ndarray]]) -> None:
    path, _ = private
    path.write_bytes(_compressed(path.read_bytes(), inside=inside))
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError) as caught:
        video.describe(path)
    assert caught.value.code == "E109"


@pytest.mark.parametrize("count", [100_000, 2**32 - 1])
def test_more_samples_than_bytes_are_refused(count: int, private: tuple[Path, list[np.ndarray]]) -> None:
    path, _ = private
    path.write_bytes(_put(path.read_bytes(), _TABLE, struct.pack(">I4sIII", 20, b"stsz", 0, 1, count)))
    with pytest.raises(DataError) as caught:
        video.describe(path)
    assert caught.value.code == "E107"


def test_a_large_header_and_very_many_boxes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp4, "MAX_BOXES", 1000)
    for name, data, size in (
        ("large.mp4", struct.pack(">I4sQ", 1, b"moov", 1 << 40), 1 << 30),
        ("many.mp4", struct.pack(">I4s", 8, b"free") * 1001, 0),
    ):
        (tmp_path / name).write_bytes(data)
        if size:
            os.truncate(tmp_path / name, size)  # no bytes are there
        with pytest.raises(DataError) as caught:
            video.describe(tmp_path / name)
        assert caught.value.code == "E107"


def test_frames_of_no_known_codec_are_refused(private: tuple[Path, list[np.ndarray]]) -> None:
    path, _ = private
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(DataError) as caught:
        video.describe(path)
    assert caught.value.code == "E203"


def test_honest_files_of_every_form_are_left_alone(private: tuple[Path, list[np.ndarray]]) -> None:
    path, frames = private
    for flags in ("faststart", "frag_keyframe+empty_moov", "frag_every_frame", "default_base_moof"):
        with av.open(str(path), "w", format="mp4", options={"movflags": flags}) as output:
            stream = output.add_stream("libx264", rate=5)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv420p"
            for pixels in frames:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            output.mux(stream.encode())
        assert video.describe(path).codec == "h264"
        assert len(video.timeline(path).pts) == len(frames)

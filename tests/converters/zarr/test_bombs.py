"""Replay buffers of a few bytes that mean far more, and chunks that are exchanged while a run works."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.lerobot_sets import Here
from tests.zarr_buffers import TASK, arrays, write
from vla_data.errors import DataError, RefusedError

pytest.importorskip("numcodecs")
pytest.importorskip("zarr")

_ROOM = 64 << 20


def meta(shape: list[int], chunks: list[int], dtype: str = "<f4", codec: str | None = None) -> str:
    """A ``.zarray``."""
    told = {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, "fill_value": 0, "order": "C"}
    return json.dumps(told | {"compressor": {"id": codec} if codec else None, "filters": None})


def archive(path: Path, members: dict[str, Any]) -> Path:
    """A buffer of two episodes of four steps, with other members."""
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(".zgroup", '{"zarr_format": 2}')
        out.writestr("meta/episode_ends/.zarray", meta([2], [2], "<i8"))
        out.writestr("meta/episode_ends/0", struct.pack("<2q", 4, 8))
        out.writestr("data/action/.zarray", meta([8, 2], [8, 2]))
        for name, data in members.items():
            out.writestr(name, data)
    return path


def source_of(root: Path) -> vd.Source:
    return vd.open_source(f"zarr:{root}", task=TASK, fps=10)


GIB = 1 << 30
BOMBS = {
    "one_array": {"data/x/.zarray": meta([8, GIB], [8, 1 << 20])},
    "arrays_together": {f"data/x{n}/.zarray": meta([8, 50_000_000], [8, 1_000_000]) for n in range(3)},
    "chunks": {"data/x/.zarray": meta([8, 300_000], [1, 1])},
    "chunks_together": {f"data/x{n}/.zarray": meta([8, 150_000], [1, 1]) for n in range(2)},
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_means_more_than_an_episode_has_is_refused_before_it_is_made(kind: str, tmp_path: Path) -> None:
    source = source_of(archive(tmp_path / "a.zarr.zip", BOMBS[kind]))
    refs = source.episodes()
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            source.read(refs[0])
        assert tracemalloc.get_traced_memory()[1] < _ROOM
    finally:
        tracemalloc.stop()
    assert caught.value.code == "E107"


def test_a_name_of_many_folders_takes_no_more_memory_than_itself(tmp_path: Path) -> None:
    """The names of all folders in one of 64 kB have 1 GB."""
    names = {"a/" * 4_000 + str(number): b"" for number in range(3)}
    path = archive(tmp_path / "a.zarr.zip", names)
    tracemalloc.start()
    try:
        assert len(source_of(path).episodes()) == 2
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def _head(right: int, bottom: int, components: int) -> bytes:
    """How a codestream of JPEG 2000 begins."""
    sizes = struct.pack(
        ">HHIIIIIIIIH", 38 + 3 * components, 0, right, bottom, 0, 0, right, bottom, 0, 0, components
    )
    return b"\xff\x4f\xff\x51" + sizes + b"\x07\x01\x01" * components


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(data), kind) + data


def pictures() -> dict[str, bytes]:
    """Name -> a picture of JPEG 2000 that means more than the 16 x 12 pixels that its array has."""
    imagecodecs = pytest.importorskip("imagecodecs")
    large = imagecodecs.jpeg2k_encode(np.zeros((600, 600, 3), np.uint8), level=0, codecformat="jp2")
    right = imagecodecs.jpeg2k_encode(np.zeros((12, 16, 3), np.uint8), level=0, codecformat="jp2")
    body, at = right[right.index(b"\xff\x4f\xff\x51") :], right.index(b"jp2c") - 4
    rest = body[4 + struct.unpack_from(">H", body, 4)[0] :]
    start = 12 + struct.unpack_from(">I", large, 12)[0]
    return {
        "header_before": large[:start] + _box(b"free", _head(16, 12, 3)) + large[start:],
        "components": right[:at] + _box(b"jp2c", _head(16, 12, 16_000) + rest),
        "palette": right[:start] + _box(b"jp2h", _box(b"pclr", b"\0" * 1000)) + right[start:],
        "box_of_no_size": right[:start] + struct.pack(">I4s", 0, b"free") + right[start:],
        "no_header": right[: at + 20],
    }


@pytest.mark.parametrize("kind", ["header_before", "components", "palette", "box_of_no_size", "no_header"])
def test_the_sizes_of_jpeg_2000_are_those_that_are_decoded(kind: str, tmp_path: Path) -> None:
    picture = pictures()[kind]
    members: dict[str, Any] = {f"data/camera/{n}.0.0.0": picture for n in range(8)}
    members["data/camera/.zarray"] = meta([8, 12, 16, 3], [1, 12, 16, 3], "|u1", "imagecodecs_jpeg2k")
    source = source_of(archive(tmp_path / "a.zarr.zip", members))
    frames = source.read(source.episodes()[0]).frames["observation.images.camera"]
    with pytest.raises(DataError, match=r"E105.*(header|palette)"):
        frames.pixels(0)


@pytest.mark.parametrize("how", ["metadata", "damaged"])
def test_metadata_that_change_are_noticed(how: str, tmp_path: Path) -> None:
    """They are read again by whoever reads later: the same bytes would mean other numbers."""
    root = write(tmp_path / "a.zarr", {"action": arrays()["action"]})
    told = root / "data/action/.zarray"

    def change(_: Path) -> None:
        told.write_text(told.read_text().replace("<f4", "<i4") if how == "metadata" else "{")

    with pytest.raises(RefusedError, match="E403"):
        vd.run(source_of(root), (), vd.open_sink(tmp_path / "out"), engine=Here(), before_publishing=change)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["replaced", "written_over", "removed", "added"])
def test_a_chunk_in_the_middle_that_changes_is_noticed(how: str, tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr", {"action": arrays()["action"]}, chunk=1)
    middle = root / "data/action/6.0"  # of the second episode, 4 to 9
    if how == "added":
        middle.rename(tmp_path / "chunk")

    def change(_: Path) -> None:
        if how == "replaced":
            other = tmp_path / "other"
            other.write_bytes(middle.read_bytes())
            os.replace(other, middle)
        elif how == "written_over":
            middle.write_bytes(middle.read_bytes())
        elif how == "removed":
            middle.unlink()
        else:
            (tmp_path / "chunk").rename(middle)

    with pytest.raises(RefusedError, match="episode_000001 changed"):
        vd.run(source_of(root), (), vd.open_sink(tmp_path / "out"), engine=Here(), before_publishing=change)
    assert not (tmp_path / "out").exists()

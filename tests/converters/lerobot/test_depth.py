"""Depth of LeRobot 0.6.1: TIFF images and grey video of 12 bits, as numbers and back."""

from __future__ import annotations

import io
import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import vla_data as vd
from converters.lerobot import depth
from converters.lerobot.source import LerobotSource
from tests.language_sets import METRES, MM, STEPS, annotated, maps, tiff
from tests.lerobot_sets import FILE, FPS, TOP, Here, camera, numbers, records, vector, write
from vla_data.errors import DataError
from vla_data.media import tiff as tiffs

CAMERA = "observation.images.far"
LEVELS = {"video.depth_min": 0.01, "video.depth_max": 10.0, "video.shift": 3.5, "video.use_log": True}


def read(root: Path, number: int = 0) -> vd.Episode:
    source = LerobotSource(root=root)
    return source.read(source.episodes()[number])


def film(codes: np.ndarray[Any, Any]) -> bytes:
    """A lossless video of levels, as lerobot's encoder makes it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream: Any = out.add_stream("libx265", rate=FPS, options={"x265-params": "lossless=1:log-level=none"})
        stream.height, stream.width, stream.pix_fmt = codes.shape[1], codes.shape[2], "gray12le"
        for step in codes:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(step, format="gray12le")))
        out.mux(stream.encode())
    return buffer.getvalue()


def filmed(root: Path, codes: np.ndarray[Any, Any], **info: Any) -> Path:
    facts = {"is_depth_map": True, **LEVELS, **info}
    features = {"action": vector(), CAMERA: camera("video", (*codes.shape[1:], 1), **facts)}
    ends = len(codes) / FPS
    columns = [{"action": numbers(len(codes)).tolist()}]
    return write(root, columns, features, videos={CAMERA: (film(codes), [(0.0, ends)])})


def metres_of(code: int, low: float, high: float, shift: float, log: bool) -> float:
    """The formula of lerobot's ``dequantize_depth``, in double precision."""
    if not log:
        return low + code / 4095 * (high - low)
    first, last = math.log(low + shift), math.log(high + shift)
    return math.exp(first + code / 4095 * (last - first)) - shift


def codes(steps: int = STEPS) -> np.ndarray[Any, Any]:
    pick = np.random.default_rng(3)
    found = pick.integers(0, 4096, (steps, 48, 64), dtype=np.uint16)
    found[:, 0, :2] = 0, 4095
    return found


def test_images_are_exact_and_are_written_as_lerobot_has_them(tmp_path: Path) -> None:
    root = annotated(tmp_path / "in", language=False)
    sink = vd.open_sink(tmp_path / "out", images="png")
    report = vd.run(LerobotSource(root=root), (), sink, engine=Here())
    assert not report.warnings
    for number in range(2):
        for name, want in zip((MM, METRES), maps(number), strict=True):
            for folder in (root, tmp_path / "out"):
                found = read(folder, number).arrays[name]
                assert found.dtype == want.dtype
                np.testing.assert_array_equal(found[..., 0], want)
    cells = pq.read_table(tmp_path / "out" / FILE)[MM].to_pylist()
    with Image.open(io.BytesIO(cells[7]["bytes"])) as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), maps(1)[0][1])
    with Image.open(io.BytesIO(pq.read_table(tmp_path / "out" / FILE)[METRES][7].as_py()["bytes"])) as image:
        np.testing.assert_array_equal(np.asarray(image), maps(1)[1][1])
    info = json.loads((tmp_path / "out/meta/info.json").read_text())["features"]
    assert info[MM]["info"] == {"is_depth_map": True, "depth_unit": "mm"}
    assert (info[METRES]["dtype"], info[METRES]["shape"]) == ("image", [6, 8, 1])
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())[MM]
    every = np.concatenate([maps(e)[0] for e in range(2)]).astype(np.float64)
    assert stats["mean"] == [[[pytest.approx(every.mean())]]]
    assert stats["count"] == [2 * STEPS]
    assert vd.verify(tmp_path / "out", against=[str(root)]).ok


def test_depth_without_a_unit_stays_depth_without_a_unit(tmp_path: Path) -> None:
    features = {"action": vector(), MM: camera(shape=(6, 8, 1), is_depth_map=True)}
    columns = {"action": numbers(STEPS).tolist(), MM: records([tiff(m) for m in maps(0)[0]])}
    root = write(tmp_path / "in", [columns], features)
    vd.run(LerobotSource(root=root), (), vd.open_sink(tmp_path / "out", images="png"), engine=Here())
    info = json.loads((tmp_path / "out/meta/info.json").read_text())["features"][MM]
    assert info["info"] == {"is_depth_map": True, "depth_unit": None}
    assert vd.verify(tmp_path / "out").ok


@pytest.mark.parametrize("unit", ["m", "mm", None])
@pytest.mark.parametrize("log", [True, False])
def test_levels_of_a_video_are_the_distances_that_lerobot_gives(
    unit: str | None, log: bool, tmp_path: Path
) -> None:
    want = codes()
    root = filmed(tmp_path / "in", want, **{"depth_unit": unit, "video.use_log": log})
    episode = read(root)
    exact = np.vectorize(lambda code: metres_of(int(code), 0.01, 10.0, 3.5, log))(want)
    found = episode.arrays[CAMERA]
    assert found.shape == (STEPS, 48, 64, 1)
    assert episode.notes == (f"depth_from_video:{CAMERA}",)
    if unit == "m":
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[..., 0], exact, atol=3e-6)
    else:  # whole millimetres; float32 may round those near a half the other way
        assert found.dtype == np.uint16
        near = np.abs(found[..., 0] - exact * 1000)
        assert near.max() <= 0.5 + 3e-3
    schema = LerobotSource(root=root).schema(episode)
    assert schema.features[CAMERA].convention["depth_unit"] == (unit or "mm")
    vd.run(LerobotSource(root=root), (), vd.open_sink(tmp_path / "out", images="png"), engine=Here())
    np.testing.assert_array_equal(read(tmp_path / "out").arrays[CAMERA], found)
    assert vd.verify(tmp_path / "out", against=[str(root)]).ok


@pytest.mark.parametrize(
    "info",
    [
        {"video.shift": None},
        {"video.use_log": None},
        {"video.depth_min": 10.0},
        {"video.depth_min": float("nan")},
        {"video.shift": -1.0},
        {"video.use_log": 1},
    ],
)
def test_levels_that_nobody_explains_are_refused(info: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(filmed(tmp_path / "in", codes(), **info))
    assert caught.value.code == "E208"
    assert f"--drop {CAMERA}" in caught.value.message


def test_maps_that_differ_or_are_missing_are_refused_with_their_row(tmp_path: Path) -> None:
    good = [tiff(m) for m in maps(0)[0]]
    for name, cells, words in (
        ("size", [*good[:5], tiff(maps(0)[0][0][:, :4])], "unlike from row 5"),
        ("type", [*good[:5], tiff(maps(0)[1][0])], "unlike from row 5"),
        ("gap", [*good[:3], None, *good[4:]], "no image in row 3"),
        ("png", [*good[:3], b"\x89PNG\r\n\x1a\n" + bytes(40), *good[4:]], "row 3: a depth map is no TIFF"),
    ):
        features = {"action": vector(), MM: camera(shape=(6, 8, 1), is_depth_map=True, depth_unit="mm")}
        root = write(tmp_path / name, [{"action": numbers(STEPS).tolist(), MM: records(cells)}], features)
        with pytest.raises(DataError, match=words) as caught:
            read(root)
        assert f"--drop {MM}" in caught.value.message
        assert (
            MM not in LerobotSource(root=root, leave_out=(MM,)).read(LerobotSource(root=root).episodes()[0]).arrays
        )


# -- TIFF -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("size", [(1, 1), (6, 8), (480, 640), (3, 4096)])
def test_tiff_is_pillows_both_ways(dtype: Any, size: tuple[int, int]) -> None:
    pick = np.random.default_rng(1)
    values = (pick.random(size) * 60000).astype(dtype)
    np.testing.assert_array_equal(tiffs.decode(tiff(values)), values)
    with Image.open(io.BytesIO(tiffs.encode(values))) as image:
        np.testing.assert_array_equal(np.asarray(image), values)
    np.testing.assert_array_equal(tiffs.decode(tiffs.encode(values)), values)
    assert tiffs.decode(tiffs.encode(values)).dtype == dtype


def test_big_endian_tiff_is_read() -> None:
    image = Image.fromarray(maps(0)[0][0].astype(">u2"))
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    assert buffer.getvalue()[:2] == b"MM"
    np.testing.assert_array_equal(tiffs.decode(buffer.getvalue()), maps(0)[0][0])


def changed(**tags: int) -> bytes:
    """A sound map with other tags."""
    data = bytearray(tiffs.encode(maps(0)[0][0]))
    for at in range(10, 10 + 12 * 10, 12):
        tag = struct.unpack_from("<H", data, at)[0]
        if f"t{tag}" in tags:
            struct.pack_into("<I", data, at + 8, tags[f"t{tag}"])
    return bytes(data)


ATTACKS = {
    "empty": b"",
    "magic alone": b"II*\0",
    "no directory": b"II*\0" + struct.pack("<I", 1 << 31),
    "directory of 65,535": b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(100),
    "compressed": changed(t259=5),
    "three channels": changed(t277=3),
    "8 bits": changed(t258=8),
    "signed": changed(t339=2),
    "too wide": changed(t256=1 << 30),
    "too high": changed(t257=5000),
    "no rows": changed(t257=0),
    "beyond the end": changed(t273=1 << 31),
    "count beyond": changed(t279=1 << 31),
    "cut": tiffs.encode(maps(0)[0][0])[:-1],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused(name: str) -> None:
    with pytest.raises(DataError) as caught:
        tiffs.decode(ATTACKS[name])
    assert caught.value.code in ("E109", "E107")


def test_damaged_tiff_is_a_map_of_its_size_or_refused() -> None:
    sound = tiff(maps(0)[0][0])
    pick = random.Random(0)
    for _ in range(5000):
        data = bytearray(sound)
        for _ in range(pick.randint(1, 4)):
            data[pick.randrange(len(data) if pick.random() < 0.3 else 200)] = pick.randrange(256)
        try:
            found = tiffs.decode(bytes(data[: pick.choice((len(data), pick.randrange(len(data))))]))
        except DataError:
            continue
        assert found.nbytes <= len(data)


def test_a_camera_is_no_depth_by_its_name(tmp_path: Path) -> None:
    assert not depth.is_depth(vd.Feature(dtype="uint16", shape=(6, 8, 1)))
    assert not depth.is_depth(vd.Feature(dtype="uint8", shape=(6, 8, 1), convention={"depth_unit": "mm"}))
    assert not depth.is_depth(vd.Feature(dtype="uint16", shape=(6, 8), convention={"depth_unit": "mm"}))
    assert TOP in read(annotated(tmp_path / "in")).frames

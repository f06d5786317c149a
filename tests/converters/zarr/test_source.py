"""Replay buffers in zarr, held against zarr's own reader; damage, attacks, and what is declared."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.lerobot_sets import Here
from tests.zarr_buffers import ENDS, LENGTHS, TASK, arrays, write
from vla_data.errors import DataError, UsageError
from vla_data.steps.features import SelectFeatures

numcodecs = pytest.importorskip("numcodecs")
pytest.importorskip("zarr")


def source_of(root: Path, **options: Any) -> vd.Source:
    return vd.open_source(f"zarr:{root}", **{"task": TASK, **options})


def episodes(root: Path, **options: Any) -> list[vd.Episode]:
    source = source_of(root, **options)
    return [source.read(ref) for ref in source.episodes()]


@pytest.mark.parametrize("name", ["buffer.zarr", "buffer.zarr.zip"])
def test_every_number_and_picture_is_that_of_zarr(name: str, tmp_path: Path) -> None:
    root, want = write(tmp_path / name), arrays()
    found = episodes(root)
    assert [len(episode) for episode in found] == list(LENGTHS)
    start = 0
    for episode, stop in zip(found, ENDS, strict=True):
        for array, feature in (
            ("action", "action"),
            ("state", "observation.state"),
            ("robot0_eef_pos", "observation.robot0_eef_pos"),
            ("n_contacts", "observation.n_contacts"),
        ):
            np.testing.assert_array_equal(episode.arrays[feature], want[array][start:stop])
            assert episode.arrays[feature].dtype == want[array].dtype
        for camera in ("camera0_rgb", "img"):
            for t in range(len(episode)):
                pixels = episode.frames[f"observation.images.{camera}"].pixels(t)
                np.testing.assert_array_equal(pixels, want[camera][start + t])
        assert episode.notes == ("camera_from_numbers:observation.images.img",)
        start = stop
    schema = source_of(root).schema(found[0])
    assert schema.fps == 10  # of `timestamp`
    assert not any(schema.features[name].convention for name in found[0].arrays)


CODECS = [
    *(numcodecs.Blosc(name, shuffle=2) for name in ("lz4", "zstd", "zlib", "blosclz", "lz4hc")),
    *(numcodecs.Zlib(), numcodecs.GZip(), numcodecs.BZ2(), numcodecs.LZMA(), numcodecs.LZ4(), numcodecs.Zstd()),
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec.codec_id}-{getattr(codec, 'cname', '')}")
def test_codecs(codec: Any, tmp_path: Path) -> None:
    given = {"action": arrays()["action"]}
    root = write(tmp_path / "a.zarr", given, codec=codec)
    found = np.concatenate([episode.arrays["action"] for episode in episodes(root, fps=10)])
    np.testing.assert_array_equal(found, given["action"])
    # What claims to hold more, or is cut, is damaged; nothing larger than a chunk is ever made.
    path = root / "data/action/0.0"
    data = path.read_bytes()
    path.write_bytes(codec.encode(bytes(1 << 20)))
    for damaged in (path.read_bytes(), data[:-3], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="E105"):
            source_of(root, fps=10).read(source_of(root).episodes()[0])


@pytest.mark.parametrize("codec", ["jpegxl", "jpeg2k"])
def test_pictures_of_imagecodecs(codec: str, tmp_path: Path) -> None:
    """UMI's cameras are JPEG XL, Diffusion Policy's caches JPEG 2000, a picture a chunk."""
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = arrays()["camera0_rgb"]
    root = write(tmp_path / "a.zarr", {"camera0_rgb": pixels, "action": arrays()["action"]}, chunk=1)
    options = (
        {"lossless": True, "effort": 1, "numthreads": 1} if codec == "jpegxl" else {"level": 0, "reversible": True}
    )
    encode = getattr(imagecodecs, f"{codec}_encode")
    for number, picture in enumerate(pixels):
        (root / f"data/camera0_rgb/{number}.0.0.0").write_bytes(encode(picture, **options))
    meta = root / "data/camera0_rgb/.zarray"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"compressor": {"id": f"imagecodecs_{codec}"}}))
    found = [f for e in episodes(root, fps=10) for f in e.frames["observation.images.camera0_rgb"].items]
    for frame, want in zip(found, pixels, strict=True):
        np.testing.assert_array_equal(frame.pixels(), want)  # type: ignore[union-attr]
    for wrong in (
        encode(np.zeros((4000, 4000, 3), np.uint8), **options),
        encode(pixels[0], **options)[:-40],
        b"x",
    ):
        (root / "data/camera0_rgb/0.0.0.0").write_bytes(wrong)
        with pytest.raises(DataError, match="E105"):
            episodes(root, fps=10)[0].frames["observation.images.camera0_rgb"].pixels(0)


def test_orders_parts_of_pictures_and_byte_orders(tmp_path: Path) -> None:
    import zarr

    want = arrays()["camera0_rgb"]
    root = write(tmp_path / "a.zarr", {"action": arrays()["action"]})
    group = zarr.open_group(root, mode="a", zarr_format=2)
    options = {"shape": want.shape, "dtype": "u1", "order": "F"}
    group.create_array("data/top", chunks=(4, 5, 7, 3), **options)[:] = want
    big = arrays()["state"].astype(">f8")
    group.create_array("data/state", shape=big.shape, chunks=(4, 2), dtype=">f8")[:] = big
    found = episodes(root, fps=10)
    pictures = [
        episode.frames["observation.images.top"].pixels(t) for episode in found for t in range(len(episode))
    ]
    np.testing.assert_array_equal(pictures, want)
    states = np.concatenate([episode.arrays["observation.state"] for episode in found])
    np.testing.assert_array_equal(states, big)
    assert states.dtype == np.float64


def test_a_chunk_that_is_not_there_is_the_fill_value_and_told(tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr", {"action": arrays()["action"]})
    (root / "data/action/0.0").unlink()
    found = episodes(root, fps=10)[0]
    assert not found.arrays["action"][:3].any()
    assert found.notes == ("absent_chunks:action",)
    report = vd.run(source_of(root, fps=10), (), vd.open_sink(tmp_path / "out"), engine=Here())
    assert any("chunks of action are not there" in line for line in report.warnings)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"compressor": {"id": "pickle"}}, "E208"),
        ({"compressor": {"id": "json2"}}, "E208"),
        ({"filters": [{"id": "pickle"}]}, "E208"),
        ({"dtype": "|O"}, "E208"),
        ({"dtype": [["a", "<f4"]]}, "E208"),
        ({"dtype": "<U4"}, "E208"),
        ({"chunks": [1 << 30, 2]}, "E107"),
        ({"chunks": [0, 2]}, "E141"),
        ({"chunks": [3]}, "E141"),
        ({"shape": [14, 2]}, "E204"),
        ({"shape": [15.0, 2]}, "E141"),
        ({"shape": [15, 1 << 60]}, "E141"),
        ({"order": "A"}, "E141"),
        ({"dimension_separator": "/../"}, "E141"),
        ({"fill_value": "much"}, "E141"),
        ({"zarr_format": 3}, "E141"),
    ],
)
def test_metadata_that_are_not_read(change: dict[str, Any], code: str, tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr", {"action": arrays()["action"]})
    meta = root / "data/action/.zarray"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    with pytest.raises(UsageError, match=code):
        source_of(root, fps=10).episodes()


def test_what_is_no_replay_buffer_is_told(tmp_path: Path) -> None:
    import zarr

    zarr.create_group(tmp_path / "new.zarr", zarr_format=3)
    zarr.create_group(tmp_path / "empty.zarr", zarr_format=2)
    (tmp_path / "text.zarr.zip").write_text("no archive")
    for name, words in (
        ("new", "E002 .*format 3"),
        ("empty", "E003 .*episode_ends"),
        ("text", "E108 .*no sound zip"),
    ):
        with pytest.raises(UsageError, match=words):
            source_of(tmp_path / f"{name}.zarr{'.zip' if name == 'text' else ''}").episodes()
    root = write(tmp_path / "a.zarr", {"action": arrays()["action"]})
    ends = root / "meta/episode_ends/0"
    ends.write_bytes(numcodecs.Blosc("lz4").encode(np.array([5, 5, 15], dtype=np.int64)))
    with pytest.raises(UsageError, match=r"E204 .*does not rise"):
        source_of(root).episodes()


def test_rate_and_instruction_are_asked_for(tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr", {"action": arrays()["action"]})
    with pytest.raises(UsageError, match=r"E231 .*--fps"):
        source_of(root).schema(episodes(root, fps=10)[0])
    with pytest.raises(DataError, match=r"E211 .*--task"):
        episodes(root, task=None)


def test_links_are_not_followed(tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr", {"action": arrays()["action"], "state": arrays()["state"]})
    secret = tmp_path / "secret"
    shutil.copytree(root / "data/state", secret)
    shutil.rmtree(root / "data/state")
    os.symlink(secret, root / "data/state")
    with pytest.raises(UsageError, match="E131"):
        source_of(root).episodes()
    (root / "data/state").unlink()
    os.rename(root / "data/action/0.0", tmp_path / "chunk")
    os.symlink(tmp_path / "chunk", root / "data/action/0.0")
    with pytest.raises(DataError, match="E131"):
        episodes(root, fps=10)


@pytest.mark.parametrize("kind", ["twice", "encrypted", "bomb", "longer"])
def test_archives_that_lie(kind: str, tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr.zip", {"action": arrays()["action"]})
    name = "data/action/0.0"
    if kind == "twice":
        with zipfile.ZipFile(root, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, b"other")
    else:
        data = bytearray(root.read_bytes())
        at = data.rindex(b"PK\x01\x02", 0, data.rindex(name.encode()))
        if kind == "encrypted":
            data[at + 8] |= 1
        elif kind == "bomb":
            data[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
        else:
            data[at + 20 : at + 24] = struct.pack("<I", len(data))
        root.write_bytes(data)
    with pytest.raises((UsageError, DataError), match=r"E10[578]"):
        episodes(root, fps=10)


@pytest.mark.parametrize("flips", [150, pytest.param(1000, marks=pytest.mark.nightly)])
def test_flips_are_told_or_change_nothing_unseen(flips: int, tmp_path: Path) -> None:
    """Blosc has no checksum: what a flip in a chunk changes, the fingerprint tells; metadata refuse or stay."""
    given = {name: arrays()[name] for name in ("action", "camera0_rgb", "timestamp")}
    root = write(tmp_path / "a.zarr", given, chunk=8)
    source = source_of(root)
    refs = source.episodes()
    before = [source.fingerprint(ref) for ref in refs]
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name not in (".zattrs", ".zgroup"))
    dice = random.Random(3)
    for _ in range(flips):
        path = dice.choice(files)
        data = path.read_bytes()
        at = dice.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :])
        try:
            after = [source.fingerprint(ref) for ref in source.episodes()]
            # Where episodes end is known by its numbers: a flip there that changes none of them changes nothing.
            assert after != before or path.is_relative_to(root / "meta"), (path, at)
            for ref in refs:
                source.read(ref)
        except (UsageError, DataError):
            pass
        finally:
            path.write_bytes(data)
    assert [source.fingerprint(ref) for ref in source.episodes()] == before


def test_a_flip_in_a_member_of_an_archive_is_found(tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr.zip", {"action": arrays()["action"]})
    data = bytearray(root.read_bytes())
    at = data.index(b"data/action/0.0") + len("data/action/0.0") + 20
    data[at] ^= 1
    root.write_bytes(data)
    with pytest.raises(DataError, match="E105"):
        episodes(root, fps=10)


def test_what_nobody_wants_is_not_unpacked(tmp_path: Path) -> None:
    root = write(tmp_path / "a.zarr")
    for path in (root / "data/camera0_rgb").glob("[0-9]*"):
        path.write_bytes(b"damaged")
    assert "observation.images.camera0_rgb" not in episodes(root, leave_out=("camera*",))[0].frames
    steps = [SelectFeatures(drop=("observation.images.camera0_rgb",))]
    report = vd.run(source_of(root), steps, vd.open_sink(tmp_path / "out"), engine=Here())
    assert report.counts["published_episodes"] == 3
    assert vd.verify(tmp_path / "out", against=f"zarr:{root}").ok

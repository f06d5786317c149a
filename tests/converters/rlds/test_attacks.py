"""Hostile and damaged RLDS datasets: each is refused with a code, in bounded memory, and nothing is executed."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.rlds import example, tfds_json, tfrecord
from converters.rlds import features as rlds_features
from converters.rlds import images as rlds_images
from converters.rlds import values as rlds_values
from converters.rlds.example import parse
from converters.rlds.features import Leaf
from converters.rlds.source import RldsSource
from tests.converters.rlds.test_source import CUT, bridge, copy, edit
from vla_data.errors import DataError, UsageError, VlaDataError

SHARD = "bridge_dataset-train.tfrecord-00000-of-00001"


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(**features: bytes) -> bytes:
    """An Example of features that are encoded already."""
    entries = [field(1, field(1, name.encode()) + field(2, value)) for name, value in features.items()]
    return field(1, b"".join(entries))


def refused(folder: Path) -> str:
    """The code with which a dataset, or each of its episodes, is refused."""
    source = bridge(folder)
    try:
        for ref in source.episodes():
            source.read(ref)
    except VlaDataError as error:
        assert "\n" not in str(error)
        return error.code
    return "nothing"


def raw(folder: Path, record: bytes) -> Path:
    """A copy of the real cut whose first record is this."""
    copy(folder)
    with (CUT / SHARD).open("rb") as file:
        records = list(tfrecord.records(file, name="f"))
    data = b"".join(bytes(p) for r in (record, *records[1:]) for p in tfrecord.frame([r]))
    (folder / SHARD).write_bytes(data)
    return folder


# -- protobuf -------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.one_of(
            st.lists(st.binary(max_size=300), max_size=5),
            st.lists(st.floats(width=32), max_size=40).map(lambda items: np.array(items, np.float32)),
            st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40).map(lambda items: np.array(items, np.int64)),
        ),
        max_size=8,
    )
)
def test_what_is_written_is_read(features: dict[str, Any]) -> None:
    found = parse(b"".join(bytes(p) for p in tfrecord.example(features)))
    assert found.keys() == features.keys()
    for name, want in features.items():
        if isinstance(want, list):
            assert [bytes(item) for item in found[name].strings()] == want
        elif want.dtype == np.float32:
            assert found[name].floats().tobytes() == want.tobytes()
        else:
            assert found[name].integers().tolist() == want.tolist()


def test_numbers_that_are_not_packed_are_read() -> None:
    ints = b"".join(varint(1 << 3) + varint(n) for n in (1, 300, 2**64 - 1))
    floats = b"".join(varint(1 << 3 | 5) + struct.pack("<f", x) for x in (1.5, -2.0))
    mixed = varint(1 << 3) + varint(7) + field(1, varint(8) + varint(9000)) + varint(1 << 3) + varint(10)
    found = parse(message(i=field(3, ints), f=field(2, floats), m=field(3, mixed)))
    assert found["i"].integers().tolist() == [1, 300, -1]
    assert found["f"].floats().tolist() == [1.5, -2.0]
    assert found["m"].integers().tolist() == [7, 8, 9000, 10]
    tf = pytest.importorskip("tensorflow")
    theirs = tf.train.Example.FromString(message(i=field(3, ints), f=field(2, floats), m=field(3, mixed)))
    assert list(theirs.features.feature["m"].int64_list.value) == [7, 8, 9000, 10]


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff" * 20,
        b"\x00" * 20,
        b"\x12\x00",
        b"\x08\x01",
        b"\x09" + bytes(8),
        b"\x0b\x0c",
        field(1, field(2, b"")),
        field(1, field(1, field(1, b"a"))),
        field(1, field(1, field(1, b"a") + field(1, b"b"))),
        field(1, field(1, field(1, b"a") + field(2, b"") + field(2, b""))),
        field(1, field(1, field(1, b"\xff") + field(2, b""))),
        field(1, 2 * field(1, field(1, b"a") + field(2, b""))),
        message(a=field(1, b"") + field(2, b"")),
        message(a=field(4, b"")),
    ],
)
def test_messages_that_are_no_examples_are_refused(data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        parse(data)
    assert caught.value.code == "E105"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (field(2, field(1, b"abc")), "floats"),
        (field(3, field(1, b"\x80")), "integers"),
        (field(3, field(1, b"\x80" * 10 + b"\x01")), "integers"),
        (field(3, field(1, b"\xff" * 9 + b"\x02")), "integers"),
        (field(3, field(2, b"")), "integers"),
        (field(1, field(1, b"x") + b"\x08\x01"), "strings"),
        (field(1, b"\x0a\x7f"), "strings"),
        (field(1, field(1, b"x")), "floats"),
    ],
)
def test_values_that_lie_are_refused(value: bytes, read: str) -> None:
    with pytest.raises(DataError) as caught:
        getattr(parse(message(a=value))["a"], read)()
    assert caught.value.code in ("E105", "E203")


def test_a_million_features_are_refused_before_they_are_held(tmp_path: Path) -> None:
    entry = b"".join(field(1, field(1, b"%07d" % i) + field(2, b"")) for i in range(1_000_000))
    record = field(1, entry)
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        parse(record)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()
    assert caught.value.code == "E106"
    assert refused(raw(tmp_path / "d", record)) == "E106"


def test_a_bomb_of_empty_strings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "MAX_STRINGS", 1000)
    with pytest.raises(DataError) as caught:
        parse(message(a=field(1, b"\x0a\x00" * 1001)))["a"].strings()
    assert caught.value.code == "E106"
    with pytest.raises(DataError) as caught:
        parse(message(a=field(3, b"\x08\x00" * 1001)))["a"].integers()
    assert caught.value.code == "E106"
    monkeypatch.setattr(example, "MAX_NUMBERS", 1000)
    with pytest.raises(DataError) as caught:
        parse(message(a=field(3, field(1, b"\x00" * 1001))))["a"].integers()
    assert caught.value.code == "E107"


def test_a_zlib_bomb_is_inflated_to_its_declared_size_at_most() -> None:
    bomb = zlib.compress(bytes(200 << 20), 9)
    leaf = Leaf(path="steps/x", kind="tensor", dtype="int32", shape=(5, 5), encoding="zlib")
    record = parse(message(**{"steps/x": field(1, field(1, bomb))}))
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        rlds_values.array(leaf, record, 1)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
    assert caught.value.code == "E107"


@pytest.mark.parametrize("size", [0, 99, 101])
@pytest.mark.parametrize("encoding", ["bytes", "zlib"])
def test_memory_of_another_size_is_refused(encoding: str, size: int) -> None:
    data = zlib.compress(bytes(size)) if encoding == "zlib" else bytes(size)
    leaf = Leaf(path="steps/x", kind="tensor", dtype="int32", shape=(5, 5), encoding=encoding)
    with pytest.raises(DataError) as caught:
        rlds_values.array(leaf, parse(message(**{"steps/x": field(1, field(1, data))})), 1)
    assert caught.value.code in ("E203", "E107")


def png(width: int, height: int, body: bytes = b"", *, bits: int = 16, colour: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (png(60_000, 60_000), "E107"),
        (png(0, 5), "E107"),
        (png(4, 5), "E109"),
        (png(4, 5, zlib.compress(bytes(range(5 * 9)))[:20]), "E109"),
        (png(4, 5, zlib.compress(bytes(5 * 5)), bits=8), "E203"),
        (b"", "E109"),
        (b"GIF89a" + bytes(60), "E109"),
    ],
)
def test_depth_images_that_lie_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(DataError) as caught:
        rlds_images.decode_all([memoryview(data)], (None, None, 1), "uint16", name="x")
    assert caught.value.code == code


def test_pixels_beyond_the_header_are_never_inflated() -> None:
    bomb = memoryview(png(4, 5, zlib.compress(bytes(200_000_000))))
    rlds_images.decode_all([memoryview(png(4, 5, zlib.compress(bytes(99))))], (None, None, 1), "uint16", name="x")
    tracemalloc.start()  # what is imported by the first picture is not the bomb's
    pixels = rlds_images.decode_all([bomb], (None, None, 1), "uint16", name="x")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert pixels.shape == (1, 5, 4, 1)


# -- the two JSON files ---------------------------------------------------------------------------------


def test_a_class_of_ones_own_is_refused_before_anything_else(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    def attack(tree: Any) -> None:
        tree["featuresDict"]["features"]["steps"]["pythonClassName"] = "evil.Feature"
        tree["featuresDict"]["features"]["broken"] = {"pythonClassName": f"{__name__}.X"}

    edit(folder / "features.json", attack)
    (folder / "dataset_info.json").write_text((folder / "dataset_info.json").read_text().replace('"25"', '"x"'))
    assert refused(folder) == "E121"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "tensorflow_datasets.core.features.video_feature.Video;x",
        "tensorflow_datasets.X",
        "",
        5,
        None,
        ["a"],
        "\x1b[2Jx",
    ],
)
def test_only_known_classes_are_read(name: Any) -> None:
    with pytest.raises(UsageError) as caught:
        rlds_features.leaves({"pythonClassName": name})
    assert caught.value.code == "E121"
    assert "\x1b" not in str(caught.value)


BAD_JSON: dict[str, bytes] = {
    "twice": b'{"name": "a", "name": "b"}',
    "nan": b'{"name": NaN}',
    "digits": b'{"name": ' + b"9" * 1_000_000 + b"}",
    "depth": b"[" * 100_000 + b"]" * 100_000,
    "cut": b'{"name": "bridge_da',
    "empty": b"",
    "list": b"[]",
    "number": b"1",
    "not utf-8": b'{"name": "\xff"}',
    "large": b" " * (17 << 20),
}


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("kind", BAD_JSON)
def test_json_that_two_readers_could_understand_differently(tmp_path: Path, file: str, kind: str) -> None:
    folder = copy(tmp_path / "d")
    (folder / file).write_bytes(BAD_JSON[kind])
    assert refused(folder) in ("E141", "E107", "E002")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda info: info.update(name="../x"), "E122"),
        (lambda info: info.update(name="/etc/passwd"), "E122"),
        (lambda info: info.update(name="..\\x\0"), "E122"),
        (lambda info: info["splits"][0].update(name="../../train"), "E122"),
        (lambda info: info["splits"][0].update(name="other"), "E204"),
        (lambda info: info["splits"][0].update(filepathTemplate="/etc/{SPLIT}"), "E122"),
        (lambda info: info["splits"][0].update(shardLengths=["1"]), "E204"),
        (lambda info: info["splits"][0].update(shardLengths=["3"]), "E105"),
        (lambda info: info["splits"][0].update(shardLengths=["2", "2"]), "E204"),
        (lambda info: info["splits"][0].update(shardLengths=[str(10**12)]), "E204"),
        (lambda info: info["splits"][0].update(shardLengths=[str(10**30)]), "E107"),
        (lambda info: info["splits"][0].update(shardLengths=["-1"]), "E107"),
        (lambda info: info["splits"][0].update(shardLengths=["x"]), "E141"),
        (lambda info: info["splits"][0].update(shardLengths=["1"] * 200_000), "E107"),
        (lambda info: info["splits"].append(info["splits"][0]), "E141"),
        (lambda info: info["splits"].pop(), "E204"),
        (lambda info: info.pop("splits"), "E141"),
        (lambda info: info.update(splits=5), "E141"),
        (lambda info: info.update(fileFormat="riegeli"), "E002"),
        (lambda info: info.update(fileFormat=["tfrecord"]), "E002"),
    ],
)
def test_metadata_that_lies_is_refused(tmp_path: Path, change: Callable[[Any], None], code: str) -> None:
    assert refused(copy(tmp_path / "d", info=change)) == code


def leaf(**facts: Any) -> Any:
    module = "tensorflow_datasets.core.features"
    return {"pythonClassName": f"{module}.tensor_feature.Tensor", "tensor": facts}


def steps(**features: Any) -> Any:
    module = "tensorflow_datasets.core.features"
    inner = {"pythonClassName": f"{module}.features_dict.FeaturesDict", "featuresDict": {"features": features}}
    dataset = {"pythonClassName": f"{module}.dataset_feature.Dataset", "sequence": {"feature": inner}}
    return {**inner, "featuresDict": {"features": {"steps": dataset}}}


@pytest.mark.parametrize(
    ("tree", "code"),
    [
        (steps(x=leaf(dtype="complex64")), "E141"),
        (steps(x=leaf(dtype="float32", encoding="pickle")), "E141"),
        (steps(x=leaf(dtype="float32", shape={"dimensions": [str(10**9)]})), "E107"),
        (steps(x=leaf(dtype="float32", shape={"dimensions": ["x"]})), "E141"),
        (steps(x=leaf(dtype="float32", shape={"dimensions": [1.5]})), "E141"),
        (steps(x=leaf(dtype="float32", shape=[])), "E141"),
        (steps(x=leaf()), "E141"),
        (steps(**{"a//b": leaf(dtype="float32")}), "E141"),
        (steps(**{"a/b": leaf(dtype="float32"), "a": tfds_json.folder({"b": leaf(dtype="int64")})}), "E141"),
        (steps(**{"": leaf(dtype="float32")}), "E141"),
        (steps(**{"\x1b[2J": leaf(dtype="float32")}), "E141"),
        (steps(**{f"f{i}": leaf(dtype="float32") for i in range(3000)}), "E106"),
        (steps(), "E002"),
        ({"featuresDict": {}}, "E002"),
    ],
)
def test_features_that_no_dataset_has_are_refused(tree: Any, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        rlds_features.leaves(json.loads(json.dumps(tree)))
    assert caught.value.code == code


# -- files ----------------------------------------------------------------------------------------------


def test_links_out_of_the_dataset_are_not_followed(tmp_path: Path) -> None:
    for i, name in enumerate((SHARD, "features.json", "dataset_info.json")):
        folder = copy(tmp_path / str(i))
        secret = tmp_path / f"secret{i}"
        (folder / name).rename(secret)
        (folder / name).symlink_to(secret)
        assert refused(folder) in ("E131", "E105")
    loop = copy(tmp_path / "loop")
    (loop / SHARD).unlink()
    (loop / SHARD).symlink_to(loop / SHARD)
    assert refused(loop) == "E133"


def test_a_link_out_gives_no_data_of_the_file(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    shutil.move(folder / SHARD, tmp_path / "outside")
    (folder / SHARD).symlink_to(tmp_path / "outside")
    source = bridge(folder)
    for ref in source.episodes()[:2]:
        with pytest.raises(DataError, match="leads outside"):
            source.read(ref)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    (folder / SHARD).unlink()
    os.mkfifo(folder / SHARD)
    assert refused(folder) == "E133"


def test_missing_and_left_over_shards_are_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    shutil.copy(folder / SHARD, folder / "bridge_dataset-train.tfrecord-00001-of-00002")
    assert refused(folder) == "E204"
    (folder / "bridge_dataset-train.tfrecord-00001-of-00002").unlink()
    (folder / SHARD).unlink()
    assert refused(folder) == "E133"


def test_a_cut_shard_costs_the_episodes_after_the_cut(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    whole = (folder / SHARD).read_bytes()
    first = bridge(folder).episodes()[0].size + tfrecord.FRAME
    for size in (first, first + 5, first + 12, len(whole) - 1):
        (folder / SHARD).write_bytes(whole[:size])
        source = bridge(folder)
        good, bad, other = source.episodes()
        assert len(source.read(good)) == len(source.read(other)) == 6
        with pytest.raises(DataError) as caught:
            source.read(bad)
        assert caught.value.code == "E105"


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    whole = (folder / SHARD).read_bytes()
    want = {ref.id: bridge(folder).fingerprint(ref) for ref in bridge(folder).episodes()}
    pick = random.Random(1)
    for _ in range(60):
        bad = bytearray(whole)
        bad[pick.randrange(len(bad))] ^= 1 << pick.randrange(8)
        (folder / SHARD).write_bytes(bad)
        source = bridge(folder)
        damaged = 0
        for ref in source.episodes():
            try:
                assert source.fingerprint(ref) == want[ref.id]
            except DataError as error:
                assert error.code in ("E105", "E107")
                damaged += 1
        assert damaged > 0


def test_a_file_that_changes_after_it_was_listed_is_noticed(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    source = bridge(folder)
    refs = source.episodes()
    with (folder / SHARD).open("r+b") as file:
        file.seek(500)
        file.write(b"changed")
    with pytest.raises(DataError) as caught:
        source.read(refs[0])
    assert caught.value.code == "E105"
    (folder / SHARD).unlink()
    with pytest.raises(DataError) as caught:
        source.read(refs[0])
    assert caught.value.code == "E133"


# -- mutation fuzzing -----------------------------------------------------------------------------------


def test_two_thousand_mutants_of_a_record_are_read_or_refused() -> None:
    """Past the checksum, which an attacker computes anew."""
    with (CUT / SHARD).open("rb") as file:
        record = next(tfrecord.records(file, name="f"))
    source = bridge()
    name = source.episodes()[0].id
    sha256 = "0" * 64
    pick = random.Random(7)
    # Where names, lengths and tags are; most bytes are those of images.
    hot = [at for at in range(len(record) - 1) if record[at] in (0x0A, 0x12) and record[at + 1] < 0x80]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(2_000):
        bad = bytearray(record)
        for _ in range(pick.randint(1, 4)):
            at = (pick.choice(hot) + pick.randrange(3) if pick.random() < 0.7 else pick.randrange(len(bad))) % len(
                bad
            )
            action = pick.randrange(4)
            if action == 0:
                bad[at] ^= 1 << pick.randrange(8)
            elif action == 1:
                bad[at] = pick.choice([0, 1, 0x7F, 0x80, 0xFF])
            elif action == 2:
                del bad[at : at + pick.randrange(1, 50)]
            else:
                bad[at:at] = bad[at : at + pick.randrange(1, 50)]
        try:
            assert len(source._episode(name, bytes(bad), sha256)) > 0
            outcomes["read"] += 1
        except VlaDataError as error:
            assert "\n" not in error.message
            outcomes["refused"] += 1
    assert outcomes["refused"] > 1000, outcomes


def test_two_hundred_mutants_of_the_metadata_are_read_or_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    pick = random.Random(8)
    for file in ("features.json", "dataset_info.json"):
        good = (folder / file).read_bytes()
        for _ in range(100):
            bad = bytearray(good)
            for _ in range(pick.randint(1, 3)):
                bad[pick.randrange(len(bad))] = pick.choice(b'0123456789-"{}[]:,.eE\x00\xffabc')
            (folder / file).write_bytes(bad)
            source = RldsSource(root=folder, fps=5, allow_empty_instruction=True)
            try:
                for ref in source.episodes():
                    source.schema(source.read(ref))
            except VlaDataError as error:
                assert "\n" not in str(error)
        (folder / file).write_bytes(good)

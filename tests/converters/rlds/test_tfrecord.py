"""TFRecord files and Examples, against TensorFlow's own."""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.rlds import tfrecord
from vla_data.errors import DataError

tf = pytest.importorskip("tensorflow")

INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32)
VALUES = st.one_of(
    st.lists(st.binary(max_size=300), max_size=5),
    st.lists(FLOATS, max_size=40).map(lambda items: np.array(items, np.float32)),
    st.lists(INTS, max_size=40).map(lambda items: np.array(items, np.int64)),
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def reference(features: dict[str, Any]) -> bytes:
    """What TensorFlow writes."""
    message = tf.train.Example()
    for name, value in features.items():
        feature = message.features.feature[name]
        if isinstance(value, list):
            feature.bytes_list.value.extend(value)
            feature.bytes_list.SetInParent()
        elif value.dtype == np.float32:
            feature.float_list.value.extend(value.tolist())
            feature.float_list.SetInParent()
        else:
            feature.int64_list.value.extend(value.tolist())
            feature.int64_list.SetInParent()
    message.features.SetInParent()
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def ours(features: dict[str, Any]) -> bytes:
    return b"".join(tfrecord.example(features))


def read(data: bytes) -> list[bytes]:
    return list(tfrecord.records(io.BytesIO(data), name="f"))


def has_prefixes(names: Iterable[str]) -> bool:
    ordered = sorted(name.encode() for name in names)
    return any(later.startswith(name) for name, later in itertools.pairwise(ordered))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_example_is_what_tensorflow_serialises(features: dict[str, Any]) -> None:
    data = ours(features)
    if has_prefixes(features):
        # Where a name begins with another, Python's protobuf (upb) puts the longer one first, C++'s the shorter.
        message = tf.train.Example.FromString(data)
        assert message.SerializeToString(deterministic=True) == reference(features)
        assert len(data) == len(reference(features))
    else:
        assert data == reference(features)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_lengths_at_the_borders_of_varints(size: int) -> None:
    features = {"image": [b"x" * size], "zahl": np.array([size, -size, 2**63 - 1, -(2**63)], np.int64)}
    assert ours(features) == reference(features)


def test_arrays_of_any_shape_and_order_are_flattened_by_rows() -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    for form in (table, np.asfortranarray(table), table.astype(">f4").astype(np.float32), table[:, ::1]):
        assert ours({"a": form}) == reference({"a": table.reshape(-1)})
    assert ours({"a": table.T}) == reference({"a": table.T.reshape(-1)})


def test_memoryviews_are_not_copied() -> None:
    image = memoryview(b"j" * 1000)
    assert any(piece is image for piece in tfrecord.example({"i": [image]}))


def test_other_types_are_refused() -> None:
    for dtype in (np.float64, np.int32, np.bool_, np.uint8):
        with pytest.raises(TypeError, match="float32 and int64"):
            tfrecord.example({"a": np.zeros(2, dtype)})


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=1000), max_size=6))
def test_framing_is_that_of_tf_and_each_reads_the_other(payloads: list[bytes]) -> None:
    data = b"".join(b"".join(tfrecord.frame([payload])) for payload in payloads)
    assert len(data) == sum(map(len, payloads)) + tfrecord.FRAME * len(payloads)
    assert data == by_tensorflow(payloads)
    assert read(data) == payloads


def by_tensorflow(payloads: list[bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/f.tfrecord"
        with tf.io.TFRecordWriter(file) as writer:
            for payload in payloads:
                writer.write(payload)
        data = Path(file).read_bytes()
        assert [bytes(item.numpy()) for item in tf.data.TFRecordDataset(file)] == payloads
    return data


def test_every_flipped_bit_is_noticed() -> None:
    good = b"".join(b"".join(tfrecord.frame([payload])) for payload in (b"first record", b"", b"second"))
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DataError) as caught:
            read(bytes(bad))
        assert caught.value.code in ("E105", "E107"), bit


def test_every_cut_is_noticed_that_is_not_between_records() -> None:
    payloads = [b"first record", b"", b"second"]
    frames = [b"".join(tfrecord.frame([payload])) for payload in payloads]
    good = b"".join(frames)
    borders = {sum(map(len, frames[:n])): n for n in range(4)}
    for length in range(len(good)):
        if length in borders:  # a shorter file, and a whole one: numbers of records are the ledger's business
            assert read(good[:length]) == payloads[: borders[length]]
        else:
            with pytest.raises(DataError, match=r"ends inside record|damaged") as caught:
                read(good[:length])
            assert caught.value.code == "E105"


def test_a_huge_record_is_refused_before_it_is_read() -> None:
    head = b"".join(tfrecord.frame([b"\0" * 50]))
    with pytest.raises(DataError) as caught:
        list(tfrecord.records(io.BytesIO(head), name="f", max_bytes=49))
    assert caught.value.code == "E107"

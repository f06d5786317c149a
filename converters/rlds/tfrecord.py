"""TFRecord files of ``tf.train.Example`` messages, without TensorFlow.

Framing: https://www.tensorflow.org/tutorials/load_data/tfrecord (length, masked CRC-32C of it, data, masked
CRC-32C of that). Message: ``Example{1: Features{1: map<string, Feature>}}`` with ``Feature{1: BytesList, 2:
FloatList, 3: Int64List}``, encoded as protobuf's deterministic serialisation does, keys in order, so that the
same episode gives the same bytes in every process; the stock writer's bytes change from run to run.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError

Value = Sequence[bytes | memoryview] | NDArray[np.float32] | NDArray[np.int64]

_BYTES, _FLOATS, _INTS = 1, 2, 3
_LENGTH: Final = struct.Struct("<Q")
_CRC: Final = struct.Struct("<I")
_HEAD: Final = _LENGTH.size + _CRC.size
FRAME: Final = _LENGTH.size + 2 * _CRC.size
"""Bytes that framing adds to a record."""


def example(features: Mapping[str, Value]) -> list[bytes | memoryview]:
    """A serialised ``tf.train.Example``, in pieces; images are not copied.

    Args:
        features: name -> byte strings, float32 array or int64 array; arrays are flattened.
    """
    entries: list[bytes | memoryview] = []
    for name in sorted(features, key=lambda name: name.encode()):
        key = _field(1, [name.encode()])
        value = _field(2, _feature(features[name]))
        entries.extend(_field(1, [*key, *value]))
    return _field(1, entries)


def _feature(value: Value) -> list[bytes | memoryview]:
    if isinstance(value, np.ndarray):
        if value.dtype == np.float32:
            packed: bytes = np.ascontiguousarray(value, dtype="<f4").tobytes()
            return _field(_FLOATS, _field(1, [packed]) if packed else [])
        if value.dtype != np.int64:
            raise TypeError(f"an Example holds float32 and int64, not {value.dtype}")
        packed = _varints(value.astype(np.int64, copy=False))
        return _field(_INTS, _field(1, [packed]) if packed else [])
    items: list[bytes | memoryview] = []
    for item in value:
        items.extend(_field(1, [item]))
    return _field(_BYTES, items)


def _field(number: int, pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """A length-delimited field."""
    return [_varint(number << 3 | 2) + _varint(sum(map(len, pieces))), *pieces]


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _varints(value: NDArray[np.int64]) -> bytes:
    """All numbers as varints; the i-th bytes of all that have so many are one operation."""
    left = np.ascontiguousarray(value).reshape(-1).view(np.uint64).copy()
    sizes = np.ones(len(left), dtype=np.int64)
    for i in range(1, 10):
        sizes += left >= np.uint64(1 << 7 * i)
    starts = np.cumsum(sizes) - sizes
    out = np.zeros(int(sizes.sum()), dtype=np.uint8)
    for i in range(int(sizes.max(initial=0))):
        having = np.flatnonzero(sizes > i)
        more = (sizes[having] > i + 1).astype(np.uint8) << 7
        out[starts[having] + i] = (left[having] & np.uint64(0x7F)).astype(np.uint8) | more
        left >>= np.uint64(7)
    return out.tobytes()


def frame(pieces: Iterable[bytes | memoryview]) -> list[bytes | memoryview]:
    """One record with its framing."""
    data = b"".join(pieces)
    length = _LENGTH.pack(len(data))
    return [length, _CRC.pack(_masked(length)), data, _CRC.pack(_masked(data))]


def _masked(data: bytes) -> int:
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(file: BinaryIO, *, name: str, max_bytes: int = 2 << 30) -> Iterator[bytes]:
    """The records of a TFRecord file, with both checksums verified.

    Raises:
        DataError: E105 when a checksum or the end of the file is wrong, E107 for a record over ``max_bytes``.
    """
    number = 0
    while head := file.read(_HEAD):
        if len(head) < _HEAD:
            raise DataError("E105", f"{name} ends inside record {number}")
        size = _length(head, name, number, max_bytes)
        data = file.read(size)
        tail = file.read(_CRC.size)
        if len(data) < size or len(tail) < _CRC.size:
            raise DataError("E105", f"{name} ends inside record {number}")
        if _CRC.unpack(tail)[0] != _masked(data):
            raise DataError("E105", f"record {number} of {name} is damaged")
        yield data
        number += 1


def _length(head: bytes, name: str, number: int, max_bytes: int) -> int:
    """The length that a record's head says, if its checksum says so too."""
    length = head[: _LENGTH.size]
    if _CRC.unpack(head[_LENGTH.size :])[0] != _masked(length):
        raise DataError("E105", f"record {number} of {name} is damaged")
    size = int(_LENGTH.unpack(length)[0])
    if size > max_bytes:
        raise DataError("E107", f"record {number} of {name} has {size:,} bytes")
    return size


def scan(handle: int, size: int, *, name: str, max_bytes: int = 2 << 30) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of the data of each record of an open file of ``size`` bytes. Lengths are checked, data is
    not read.

    Raises:
        DataError: as `records`.
    """
    at = number = 0
    while at < size:
        head = os.pread(handle, _HEAD, at)
        if len(head) < _HEAD:
            raise DataError("E105", f"{name} ends inside record {number}")
        length = _length(head, name, number, max_bytes)
        if at + length + FRAME > size:
            raise DataError("E105", f"{name} ends inside record {number}")
        yield at + _HEAD, length
        at += length + FRAME
        number += 1


def read_at(handle: int, offset: int, length: int, *, name: str) -> bytes:
    """The data of the record that `scan` found at ``offset``, with its checksum verified.

    Raises:
        DataError: E105 when it is not what the file says.
    """
    pieces: list[bytes] = []
    missing = length + _CRC.size
    while missing:
        pieces.append(os.pread(handle, missing, offset + length + _CRC.size - missing))
        if not pieces[-1]:
            raise DataError("E105", f"{name} ends inside a record")
        missing -= len(pieces[-1])
    whole = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
    data = bytes(whole[:length])
    if _CRC.unpack(whole[length:])[0] != _masked(data):
        raise DataError("E105", f"the record at {offset:,} of {name} is damaged")
    return data

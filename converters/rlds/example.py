"""Reads ``tf.train.Example`` messages by the rules of protobuf (https://protobuf.dev/programming-guides/encoding),
without TensorFlow or protobuf, and never copies or converts a number that nobody asks for.

``Example{1: Features{1: map<string, Feature>}}`` with ``Feature{1: BytesList, 2: FloatList, 3: Int64List}``.
Packed and unpacked numbers are read, as protobuf demands. What two readers could understand differently is
refused: a name that stands twice, a value of two kinds, fields that no Example has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.safety.text import show

MAX_FEATURES: Final = 10_000
MAX_STRINGS: Final = 4_000_000  # byte strings of one feature; each costs some 100 bytes of memory
MAX_NUMBERS: Final = 1 << 28  # integers of one feature; each costs 8 bytes, and at least 1 byte in the file
MAX_NAME: Final = 1024

BYTES, FLOATS, INTS = 1, 2, 3
_VARINT, _LENGTH, _FIXED32 = 0, 2, 5
_KINDS: Final = {0: "nothing", BYTES: "byte strings", FLOATS: "floats", INTS: "integers"}


@dataclass(frozen=True, slots=True)
class Values:
    """One feature's values, still encoded. An empty feature is an empty list of any kind.

    Attributes:
        name: of the feature, for messages.
        kind: 1 byte strings, 2 floats, 3 integers, 0 nothing.
        data: content of the list message.
    """

    name: str
    kind: int
    data: memoryview

    def strings(self) -> list[memoryview]:
        """Byte strings; views of the record."""
        self._must_be(BYTES)
        out = []
        for number, wire, content in _fields(self.data, self.name):
            if number != 1 or wire != _LENGTH:
                raise _broken(self.name)
            out.append(content)
            if len(out) > MAX_STRINGS:
                raise DataError("E106", f"{show(self.name)} has more than {MAX_STRINGS:,} byte strings")
        return out

    def floats(self) -> NDArray[np.float32]:
        """float32; a view of the record where they are packed in one piece."""
        self._must_be(FLOATS)
        pieces = []
        for content in self._pieces(_FIXED32):
            if len(content) % 4:
                raise _broken(self.name)
            pieces.append(np.frombuffer(content, dtype="<f4"))
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, "<f4"), *pieces])

    def integers(self) -> NDArray[np.int64]:
        """int64."""
        self._must_be(INTS)
        pieces = [_varints(content, self.name) for content in self._pieces(_VARINT)]
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.int64), *pieces])

    def _must_be(self, kind: int) -> None:
        if self.kind not in (0, kind):
            raise DataError("E203", f"{show(self.name)} has {_KINDS[self.kind]}, not {_KINDS[kind]}")

    def _pieces(self, single: int) -> list[memoryview]:
        """Packed runs of numbers; those that stand alone are joined to one run."""
        packed: list[memoryview] = []
        alone: list[memoryview] = []
        for number, wire, content in _fields(self.data, self.name):
            if number != 1 or wire not in (_LENGTH, single):
                raise _broken(self.name)
            if wire == _LENGTH and alone:
                packed.append(memoryview(b"".join(alone)))
                alone = []
            (packed if wire == _LENGTH else alone).append(content)
            if len(packed) + len(alone) > MAX_STRINGS:
                raise DataError("E106", f"{show(self.name)} has more than {MAX_STRINGS:,} unpacked numbers")
        return [*packed, memoryview(b"".join(alone))] if alone else packed


def parse(data: bytes | memoryview) -> dict[str, Values]:
    """Name -> values of every feature of a serialised Example.

    Raises:
        DataError: E105 when it is none, E106 when it has more than 10,000 features.
    """
    out: dict[str, Values] = {}
    what = "the record"
    for features in _messages(data, what):
        for entry in _messages(features, what):
            if len(out) == MAX_FEATURES:
                raise DataError("E106", f"the record has more than {MAX_FEATURES:,} features")
            parts = dict(_pair(entry))
            name = _name(parts[1])
            if name in out:
                raise DataError("E105", f"{show(name)} is there twice in the record")
            out[name] = _values(name, parts[2])
    return out


def _pair(entry: memoryview) -> list[tuple[int, memoryview]]:
    """Key and value of a map entry."""
    found: list[tuple[int, memoryview]] = []
    for number, wire, content in _fields(entry, "the record"):
        if wire != _LENGTH or number not in (1, 2) or len(found) == 2:
            raise _broken("the record")
        found.append((number, content))
    if {number for number, _ in found} != {1, 2}:
        raise _broken("the record")
    return found


def _values(name: str, data: memoryview) -> Values:
    found = list(_limited(_fields(data, name), 1, name))
    if not found:
        return Values(name, 0, data)
    number, wire, content = found[0]
    if wire != _LENGTH or number not in (BYTES, FLOATS, INTS):
        raise _broken(name)
    return Values(name, number, content)


def _messages(data: bytes | memoryview, what: str) -> Iterator[memoryview]:
    for number, wire, content in _fields(data, what):
        if number != 1 or wire != _LENGTH:
            raise _broken(what)
        yield content


def _limited(
    fields: Iterator[tuple[int, int, memoryview]], most: int, what: str
) -> Iterator[tuple[int, int, memoryview]]:
    for i, item in enumerate(fields):
        if i == most:
            raise _broken(what)
        yield item


def _fields(data: bytes | memoryview, what: str) -> Iterator[tuple[int, int, memoryview]]:
    """(number, wire type, content) of the fields of a message; a varint's content is its bytes."""
    view = memoryview(data)
    at, end = 0, len(view)
    while at < end:
        key, at = _varint(view, at, end, what)
        wire = key & 7
        if wire == _LENGTH:
            size, at = _varint(view, at, end, what)
            stop = at + size
        elif wire == _FIXED32:
            stop = at + 4
        elif wire == _VARINT:
            stop = _varint(view, at, end, what)[1]
        else:
            raise _broken(what)
        if stop > end:
            raise DataError("E105", f"{show(what)} says that it has {stop - end:,} bytes more than there are")
        yield key >> 3, wire, view[at:stop]
        at = stop


def _varint(view: memoryview, at: int, end: int, what: str) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift <= 63:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise _broken(what)


def _varints(data: memoryview, what: str) -> NDArray[np.int64]:
    """A run of varints, all at once: the i-th bytes of all numbers that have so many are one operation."""
    raw = np.frombuffer(data, dtype=np.uint8)
    last = raw < 0x80
    count = int(np.count_nonzero(last))
    if count > MAX_NUMBERS:
        raise DataError("E107", f"{show(what)} has {count:,} integers, more than {MAX_NUMBERS:,}")
    if len(raw) and not last[-1]:
        raise _broken(what)
    if count == len(raw):
        return raw.astype(np.int64)
    stops = np.flatnonzero(last)
    starts = np.concatenate(([0], stops[:-1] + 1))
    sizes = stops - starts + 1
    # A 64-bit number has at most 10 bytes, the tenth of which is 0 or 1.
    if int(sizes.max()) > 10 or bool((raw[stops[sizes == 10]] > 1).any()):
        raise _broken(what)
    values = np.zeros(count, dtype=np.uint64)
    for i in range(int(sizes.max())):
        having = np.flatnonzero(sizes > i)
        values[having] |= (raw[starts[having] + i] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * i)
    return values.view(np.int64)


def _name(data: memoryview) -> str:
    if len(data) > MAX_NAME:
        raise DataError("E106", f"a feature's name has {len(data):,} bytes")
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise DataError("E105", "a feature's name is not UTF-8") from None


def _broken(what: str) -> DataError:
    return DataError("E105", f"{show(what)} is not a part of a tf.train.Example")

"""Where encoded images lie in a Parquet file, so that one can be read without the others.

A column chunk of images that is neither compressed nor dictionary-encoded, as our LeRobot sink writes it, has the
bytes of each image as they are: pages, each a Thrift head (compact protocol) and a body of definition levels and
then values, a length of 4 bytes and the bytes (https://parquet.apache.org/docs/file-format/data-pages/). What is
found is compared with what the source read; anything else is not located, and read as a whole.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import google_crc32c

from vla_data.errors import DataError
from vla_data.files.tables import open_parquet
from vla_data.media.frames import Frames
from vla_data.media.located import Located
from vla_data.safety.pieces import Pieces

_DATA_PAGE: Final = 0
_PLAIN: Final = 0
_MAX_DEPTH: Final = 8


class Map:
    """Where the images of each row group of a Parquet file are."""

    def __init__(self, path: Path) -> None:
        self.file = Pieces(path)
        self._groups: dict[str, dict[int, list[Located] | None]] = {}
        self.meta = open_parquet(path).metadata
        names = [self.meta.row_group(0).column(i).path_in_schema for i in range(self.meta.num_columns)]
        self.leaves: Mapping[str, int] = {name: i for i, name in enumerate(names)}

    def images(self, group: int, column: str) -> list[Located] | None:
        """The images of a row group, in the order of rows; None where they can't be located."""
        leaf = self.leaves.get(f"{column}.bytes")
        if leaf is None:
            return None
        facts = self.meta.row_group(group).column(leaf)
        plain = set(facts.encodings) <= {"PLAIN", "RLE"} and not facts.has_dictionary_page
        stats = facts.statistics
        if facts.compression != "UNCOMPRESSED" or not plain or stats is None or stats.null_count != 0:
            return None
        levels = self.meta.schema.column(leaf).max_definition_level
        if self.meta.schema.column(leaf).max_repetition_level:
            return None
        start = facts.data_page_offset
        try:
            chunk = memoryview(self.file.read(start, facts.total_compressed_size))
            found = [
                Located(self.file, start + at, size, google_crc32c.value(bytes(chunk[at : at + size])))
                for at, size in _values(chunk, levels)
            ]
        except (DataError, ValueError, IndexError, struct.error, KeyError):
            return None
        return found if len(found) == self.meta.row_group(group).num_rows else None

    def find(self, column: str, wanted: Frames) -> tuple[Located, ...] | None:
        """Where these images of one episode are; None unless each is found, byte for byte."""
        items = [item for item in wanted.items if isinstance(item, bytes)]
        if not items or len(items) < len(wanted.items):
            return None
        for group in range(self.meta.num_row_groups):
            if self.meta.row_group(group).num_rows < len(items):
                continue
            if group not in self._groups.setdefault(column, {}):
                self._groups[column][group] = self.images(group, column)
            found = self._groups[column][group]
            if found is None:
                continue
            first = google_crc32c.value(items[0])
            begins = (i for i, at in enumerate(found) if (at.size, at.crc) == (len(items[0]), first))
            start = next((i for i in begins if _same(found[i], items[0])), -1)
            part = found[start : start + len(items)] if start >= 0 else []
            if len(part) == len(items) and all(map(_same, part, items)):
                return tuple(part)
        return None


def _same(place: Located, image: bytes) -> bool:
    try:
        return place.size == len(image) and place.data() == image
    except DataError:  # changed since
        return False


def _values(view: memoryview, levels: int) -> Iterator[tuple[int, int]]:
    """Where each image of a column chunk is in it, and its size."""
    at, end = 0, len(view)
    while at < end:
        head, body = _Compact(view, at).struct()
        size = head[3]
        page = head.get(5)
        if head[1] != _DATA_PAGE or page is None or page[2] != _PLAIN or size < 0 or body + size > end:
            raise ValueError("not a plain data page")
        place, stop = body, body + size
        if levels:
            place += 4 + _u32(view, place)
        for _ in range(page[1]):
            length = _u32(view, place)
            if place + 4 + length > stop:
                raise ValueError("a value beyond its page")
            yield place + 4, length
            place += 4 + length
        if place != stop:
            raise ValueError("a page of another size")
        at = stop


def _u32(view: memoryview, at: int) -> int:
    value: int = struct.unpack_from("<I", view, at)[0]
    return value


class _Compact:
    """Reads a struct of Thrift's compact protocol: field number -> integer, bool, bytes or struct."""

    def __init__(self, view: memoryview, at: int) -> None:
        self._view = view
        self._at = at

    def struct(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """The struct here, and where it ends."""
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            delta, kind = kind >> 4, kind & 15
            number = number + delta if delta else self._zigzag()
            fields[number] = self._value(kind, depth)
        return fields, self._at

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 8:
            length = self._varint()
            self._at += length
            return None  # no text is of interest here
        if kind == 12:
            return self.struct(depth + 1)[0]
        raise ValueError(f"type {kind}, which no page head has")

    def _byte(self) -> int:
        value = self._view[self._at]
        self._at += 1
        return int(value)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number without an end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def find(path: Path, column: str, images: Frames) -> tuple[Located, ...] | None:
    """Where these images of one episode are in a Parquet file; None unless each is found, byte for byte."""
    facts = path.stat()
    return _map(path, facts.st_mtime_ns, facts.st_size).find(column, images)


@functools.lru_cache(maxsize=1024)
def _map(path: Path, _mtime: int, _size: int) -> Map:
    return Map(path)

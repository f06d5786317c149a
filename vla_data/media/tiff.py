"""Depth maps as TIFF files, the way lerobot stores them: one channel of uint16 or float32, nothing compressed.

The part of TIFF 6.0 that Pillow's ``compression="raw"`` writes, read by its own rules and no more: everything else
that TIFF can be is refused, and no library of decoders sees the bytes.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.media.images import MAX_SIDE

Depth = NDArray[Any]

_MAGIC: Final = {b"II*\0": "<", b"MM\0*": ">"}
_TAGS: Final = 64  # in one directory, at most
_SHORT, _LONG = 3, 4
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS, _SAMPLES, _COUNTS, _FORMAT = 256, 257, 258, 259, 273, 277, 279, 339
_FILL_ORDER, _PREDICTOR, _TILE_WIDTH = 266, 317, 322
_DTYPES: Final = {(16, 1): "u2", (32, 3): "f4"}


def looks_encoded(data: bytes) -> bool:
    """Whether bytes begin as a TIFF file does."""
    return data[:4] in _MAGIC


def decode(data: bytes | memoryview) -> Depth:
    """``(height, width)`` uint16 or float32.

    Raises:
        DataError: E109 for anything but an uncompressed map of one of these, E107 for a side of over 4,096 pixels.
    """
    view = memoryview(data)
    order = _MAGIC.get(bytes(view[:4]))
    if order is None:
        raise DataError("E109", "a depth map is no TIFF file")
    try:
        tags = _tags(view, order)
        height, width = tags[_HEIGHT][0], tags[_WIDTH][0]
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise DataError("E107", f"a depth map of {width:,}x{height:,} pixels; at most {MAX_SIDE:,} a side")
        kind = _DTYPES.get((tags.get(_BITS, (1,))[0], tags.get(_FORMAT, (1,))[0]))
        plain = all(tags.get(tag, (1,)) == (1,) for tag in (_COMPRESSION, _SAMPLES, _FILL_ORDER, _PREDICTOR))
        if kind is None or not plain or _TILE_WIDTH in tags:
            raise DataError("E109", "a depth map is no uncompressed TIFF of uint16 or float32, as lerobot writes")
        parts = list(zip(tags[_OFFSETS], tags[_COUNTS], strict=True))
        size = height * width * np.dtype(kind).itemsize
        if sum(count for _, count in parts) != size or any(at + count > len(view) for at, count in parts):
            raise DataError("E109", "a depth map is cut")
    except (struct.error, KeyError, ValueError, IndexError):
        raise DataError("E109", "a depth map is damaged") from None
    joined = b"".join(view[at : at + count] for at, count in parts)
    values = np.frombuffer(joined, order + kind).reshape(height, width)
    return values.astype(kind)


def _tags(view: memoryview, order: str) -> dict[int, tuple[int, ...]]:
    """The whole numbers of the first directory, by tag."""
    (at,) = struct.unpack_from(order + "I", view, 4)
    (count,) = struct.unpack_from(order + "H", view, at)
    if count > _TAGS:
        raise ValueError("too many tags")
    found = {}
    for i in range(count):
        place = at + 2 + 12 * i
        tag, kind, number = struct.unpack_from(order + "HHI", view, place)
        if kind not in (_SHORT, _LONG) or number > MAX_SIDE:
            continue
        size, letter = (2, "H") if kind == _SHORT else (4, "I")
        where = place + 8 if size * number <= 4 else struct.unpack_from(order + "I", view, place + 8)[0]
        found[tag] = struct.unpack_from(f"{order}{number}{letter}", view, where)
    return found


def encode(values: Depth) -> bytes:
    """A TIFF file of ``(height, width)`` uint16 or float32, which Pillow opens as mode ``I;16`` or ``F``."""
    kind = "u2" if values.dtype == np.uint16 else "f4"
    data = np.ascontiguousarray(values.astype(f"<{kind}", copy=False)).tobytes()
    bits, sample = next(key for key, name in _DTYPES.items() if name == kind)
    height, width = values.shape
    tags: list[tuple[int, int, Any]] = [
        (_WIDTH, _LONG, width),
        (_HEIGHT, _LONG, height),
        (_BITS, _SHORT, bits),
        (_COMPRESSION, _SHORT, 1),
        (262, _SHORT, 1),  # 0 is black
        (_OFFSETS, _LONG, 8 + 2 + 12 * 10 + 4),
        (_SAMPLES, _SHORT, 1),
        (278, _LONG, height),  # rows in the one strip
        (_COUNTS, _LONG, len(data)),
        (_FORMAT, _SHORT, sample),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, of, value in tags:
        head += struct.pack("<HHI", tag, of, 1) + struct.pack("<I", value)
    return head + struct.pack("<I", 0) + data

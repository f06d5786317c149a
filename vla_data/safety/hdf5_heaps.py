"""Heaps of HDF5 files in which the library would never come to an end.

Texts and attributes of no fixed size are in collections: objects one after the other, the last of them the space
that is free. Where that says that it has no bytes, as where zeros were written over it, the library takes the same
place again for ever. https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, III.E.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Final

from vla_data.errors import DataError
from vla_data.safety.files import open_binary

_HEAD: Final = b"GCOL\x01\0\0\0"
_SIZE: Final = struct.Struct("<Q")
_OBJECT: Final = struct.Struct("<HHIQ")  # number, references, reserved, bytes
_PIECE: Final = 16 << 20
_MAX: Final = 1 << 30  # of a collection; the library makes them of 4 KiB and more


def check_heaps(path: Path, *, root: Path) -> None:
    """Refuse a file with such a heap. Reads all of it once.

    Raises:
        DataError: E105; and as `vla_data.safety.files.open_regular`.
    """
    with open_binary(path, root=root) as file:
        at, tail = 0, b""
        while piece := file.read(_PIECE):
            data, start = tail + piece, at - len(tail)
            found = data.find(_HEAD)
            while found >= 0:
                if _is_endless(file, start + found):
                    raise DataError(
                        "E105", f"the heap at byte {start + found:,} is damaged: its free space has no size"
                    )
                found = data.find(_HEAD, found + 1)
            at += len(piece)
            file.seek(at)
            tail = data[-len(_HEAD) + 1 :]


def _is_endless(file: io.BufferedReader, start: int) -> bool:
    """Whether what begins like a collection has free space of no bytes."""
    file.seek(start + len(_HEAD))
    size = file.read(_SIZE.size)
    end = min(_SIZE.unpack(size)[0], _MAX) if len(size) == _SIZE.size else 0
    at = len(_HEAD) + _SIZE.size
    while at + _OBJECT.size <= end:
        file.seek(start + at)
        head = file.read(_OBJECT.size)
        if len(head) < _OBJECT.size:
            return False
        number, _, _, count = _OBJECT.unpack(head)
        if number == 0:
            return bool(count == 0)
        at += _OBJECT.size + -(-count // 8) * 8
    return False

"""A file of which pieces are read when they are wanted, any number of times.

It is not mapped into memory: whoever cuts a mapped file ends the process that looks at it (SIGBUS), and nothing
can be said then. A piece that is not there any more is an error like any other.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final

from vla_data.errors import DataError
from vla_data.safety.files import Facts, open_regular

_OPEN: Final = 128
"""Files that are held open at a time; the others are opened again when they are wanted."""


class Pieces:
    """A regular file, as it is now.

    Raises:
        DataError: as `vla_data.safety.files.open_regular`.
    """

    __slots__ = ("_facts", "_path", "size")

    def __init__(self, path: Path) -> None:
        handle, self._facts = open_regular(path, root=None)
        os.close(handle)
        self._path, self.size = path, self._facts[2]

    def read(self, start: int, size: int) -> bytes:
        """``size`` bytes from ``start`` on.

        Raises:
            DataError: E133, the file is gone, E105, it is cut, E109, it is another by now.
        """
        handle = _held(self._path, self._facts)
        pieces, missing = [], size
        while missing and (piece := os.pread(handle.number, missing, start + size - missing)):
            pieces.append(piece)
            missing -= len(piece)
        if missing:
            raise DataError("E105", f"the file ends {missing:,} bytes before its size")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Handle:
    """A descriptor that is closed when nobody uses it any more, also where another thread reads from it."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@functools.lru_cache(maxsize=_OPEN)
def _held(path: Path, facts: Facts) -> _Handle:
    number, found = open_regular(path, root=None)
    handle = _Handle(number)
    if found != facts:
        raise DataError("E109", "the file has changed since it was opened")
    return handle

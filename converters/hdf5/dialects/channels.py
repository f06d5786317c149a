"""Pictures whose rows are channels, as PyTorch has them, and numbers that look like pictures and stay numbers."""

from __future__ import annotations

from typing import Final

import numpy as np

from vla_data.safety.hdf5 import Array, Table

_SMALLEST: Final = 16
"""Pixels of a side below which numbers are no picture."""


class ChannelsLast(Table):
    """``(N, height, width, 3)`` of a table that has them as ``(N, 3, height, width)``."""

    def __init__(self, table: Table) -> None:
        self.file, self._item, self.path = table.file, table._item, table.path
        count, channels, height, width = table.shape
        self.shape, self.kind, self.dtype = (count, height, width, channels), table.kind, table.dtype
        self._row, self._varies = table.row_bytes, table._varies

    @staticmethod
    def fits(table: Table) -> bool:
        """Whether a table is ``(N, 3, height, width)`` uint8."""
        shape = table.shape
        return (
            table.kind == "number"
            and table.dtype == np.uint8
            and len(shape) == 4
            and shape[1] == 3
            and shape[3] != 3
            and min(shape[2:]) >= _SMALLEST
        )

    def read(self, start: int = 0, stop: int | None = None) -> Array:
        """See `Table`."""
        return np.ascontiguousarray(super().read(start, stop).transpose(0, 2, 3, 1))


def looks_like_pictures(table: Table) -> bool:
    """Whether numbers may be cameras', which no rule makes one: RGB as floats, with opacity, or of several."""
    if table.kind != "number" or len(table.shape) not in (4, 5):
        return False
    if len(table.shape) == 5:
        return table.dtype == np.uint8 and 3 in (table.shape[2], table.shape[4]) and table.shape[3] >= _SMALLEST
    _, first, second, last = table.shape
    if last in (3, 4) and min(first, second) >= _SMALLEST:
        return table.dtype.kind == "f" if last == 3 else table.dtype == np.uint8
    return first == 3 and min(second, last) >= _SMALLEST and table.dtype.kind == "f"

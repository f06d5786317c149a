"""The bytes of the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Rows(Sequence[bytes]):
    """The bytes of each row, for example raw RGB, read when asked for: a whole episode may not fit into memory.

    Args:
        count: of rows.
        read: gives one row as an array.
    """

    def __init__(self, count: int, read: Callable[[int], Any]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: Any) -> Any:
        if not 0 <= i < self._count:
            raise IndexError(i)
        return np.asarray(self._read(i)).tobytes()

"""Statistics of numbers per step, over the first axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Array, Json
from vla_data.errors import DataError
from vla_data.statistics.runs import Column, Run, scratch_file

QUANTILES: Final = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
"""LeRobot's names of the quantiles in its statistics."""

_LEVELS: Final = np.array(list(QUANTILES.values()))
_TOGETHER: Final = 1 << 16  # values that are looked at together

LARGEST: Final = 1e150
"""Values beyond this have no square that a float64 could hold."""

Vector = NDArray[np.float64]


class Described(Protocol):
    """What writers ask for: statistics of one dataset, or of a mixture. ``D`` is the number of elements."""

    @property
    def count(self) -> int:
        """Vectors seen."""
        ...

    @property
    def min(self) -> Vector:
        """``(D,)``."""
        ...

    @property
    def max(self) -> Vector:
        """``(D,)``."""
        ...

    @property
    def mean(self) -> Vector:
        """``(D,)``."""
        ...

    @property
    def std(self) -> Vector:
        """``(D,)``, with ddof 0."""
        ...

    def quantiles(self, levels: Sequence[float]) -> NDArray[np.float64]:
        """``(len(levels), D)``."""
        ...

    def share_outside(self, low: Vector, high: Vector) -> Vector:
        """``(D,)``: the share of values below ``low`` or above ``high``."""
        ...


def vector_stats(values: Array) -> dict[str, Json]:
    """min, max, mean, std (ddof 0), count and quantiles (linear) of each element, as LeRobot names them.

    Args:
        values: ``(N, ...)`` with N of at least 1; booleans count as 0 and 1. Computed in float64. What is not
            finite counts nowhere; where nothing is finite, every statistic is 0.
    """
    if len(values) == 0:
        raise ValueError("there is nothing to take statistics of")
    table = values.reshape(len(values), -1)
    out: dict[str, list[float]] = {name: [] for name in ("min", "max", "mean", "std", *QUANTILES)}
    # Some elements at a time: a copy and a sort of a large table would take four times the room.
    some = max(1, _TOGETHER // len(table))
    for at in range(0, table.shape[1], some):
        block = np.ascontiguousarray(table[:, at : at + some].T, dtype=np.float64)
        if table.dtype.kind != "f" or np.isfinite(block).all():
            _add_rows(out, block)
        else:
            for row in block:
                good = row[np.isfinite(row)]
                _add_rows(out, good[None] if len(good) else np.zeros((1, 1)))
    order = ("min", "max", "mean", "std")
    return {**{name: out[name] for name in order}, "count": [len(values)], **{n: out[n] for n in QUANTILES}}


def _add_rows(out: Mapping[str, list[float]], rows: Vector) -> None:
    """Append the statistics of each of some elements, ``(D, N)``, to those of the elements before."""
    for name in ("min", "max", "mean", "std"):
        out[name] += getattr(rows, name)(axis=1).tolist()
    levels = np.quantile(rows, _LEVELS, axis=1)
    for name, level in zip(QUANTILES, levels, strict=True):
        out[name] += level.tolist()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VectorStats:
    """Exact statistics of any number of vectors, which add up: ``a.merge(b)`` knows what both have seen.

    Count, min, max and every quantile are exact for any split and order of the data; mean and std are so up to
    rounding in float64. Each element's values are kept, sorted, and equal ones are counted, so memory is at most
    that of the data in float32 or float64; `spilled` moves them to disk.

        stats = VectorStats.of(actions)            # (N, 7)
        stats = stats.update(more)                 # a new one
        stats.to_json()["q99"]

    Attributes:
        count: vectors seen, at least 1.
        mean: ``(D,)``.
        squares: ``(D,)``, the sum of squared distances from the mean.
        columns: the values of each of the ``D`` elements.
    """

    count: int
    mean: Vector
    squares: Vector
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, values: Array) -> VectorStats:
        """Of ``values``, ``(N, ...)`` with N of at least 1; the other axes are made one.

        Raises:
            DataError: E201 for NaN or infinity, E202 beyond `LARGEST`, E208 for integers that float64 can't hold.
        """
        if len(values) == 0:
            raise ValueError("there is nothing to take statistics of")
        table = exact_floats(values).reshape(len(values), -1)
        rows = np.ascontiguousarray(table.T)
        if np.may_share_memory(rows, values):  # of one element: sorting must not touch the argument
            rows = rows.copy()
        rows.sort(axis=1)
        low, high = rows[:, 0].astype(np.float64), rows[:, -1].astype(np.float64)
        if not (np.isfinite(low) & np.isfinite(high)).all():
            raise DataError("E201", "a value is not finite")
        if (np.maximum(-low, high) > LARGEST).any():
            raise DataError("E202", f"a value is beyond {LARGEST:g}, too large to take a standard deviation of")
        mean = rows.mean(axis=1, dtype=np.float64)
        away = rows - mean[:, None]
        error = away.sum(axis=1)  # of the mean, times N
        squares = np.square(away, out=away).sum(axis=1) - error**2 / len(values)
        constant = low == high
        return cls(
            count=len(values),
            mean=np.where(constant, low, mean) + 0.0,
            squares=np.where(constant, 0.0, np.maximum(squares, 0.0)),
            columns=tuple(Column((Run.of(row),)) for row in rows),
        )

    def update(self, values: Array) -> VectorStats:
        """With more vectors, ``(N, ...)``; none change nothing."""
        return self if len(values) == 0 else self.merge(VectorStats.of(values))

    def merge(self, other: VectorStats) -> VectorStats:
        """Of what both have seen."""
        if self.width != other.width:
            raise ValueError(f"statistics of {self.width} elements can't be merged with those of {other.width}")
        count = self.count + other.count
        away = self.mean - other.mean
        return VectorStats(
            count=count,
            mean=np.where(away == 0, self.mean, (self.count * self.mean + other.count * other.mean) / count),
            squares=self.squares + other.squares + away**2 * (self.count * other.count / count),
            columns=tuple(a + b for a, b in zip(self.columns, other.columns, strict=True)),
        )

    @property
    def width(self) -> int:
        """Elements of a vector."""
        return len(self.columns)

    @property
    def nbytes(self) -> int:
        """Bytes of values in memory."""
        return sum(column.nbytes for column in self.columns)

    @property
    def std(self) -> Vector:
        """``(D,)``, with ddof 0."""
        return np.sqrt(self.squares / self.count)

    @property
    def min(self) -> Vector:
        """``(D,)``."""
        return np.array([column.min for column in self.columns])

    @property
    def max(self) -> Vector:
        """``(D,)``."""
        return np.array([column.max for column in self.columns])

    def quantiles(self, levels: Sequence[float]) -> NDArray[np.float64]:
        """``(len(levels), D)``: `numpy.quantile` (linear) of everything seen, to the last bit."""
        return np.stack([column.quantiles(levels) for column in self.columns], axis=1)

    def share_outside(self, low: Vector, high: Vector) -> Vector:
        """``(D,)``: the share of values below ``low`` or above ``high``."""
        counts = [
            int(column.below([a], inclusive=False)[0]) + self.count - int(column.below([b], inclusive=True)[0])
            for column, a, b in zip(self.columns, low, high, strict=True)
        ]
        return np.array(counts) / self.count

    def spilled(self, folder: Path | None = None) -> VectorStats:
        """The same, with all values in a nameless file of ``folder`` or the system's temporary one.

        Raises:
            MachineError: it can't be written.
        """
        with scratch_file(folder) as file:
            columns = tuple(column.spilled(file) for column in self.columns)
        return VectorStats(count=self.count, mean=self.mean, squares=self.squares, columns=columns)

    def to_json(self) -> dict[str, Json]:
        """As `vector_stats` gives them."""
        return describe(self)


def describe(stats: Described) -> dict[str, Json]:
    """min, max, mean, std, count and quantiles, as LeRobot names them."""
    out: dict[str, Json] = {key: getattr(stats, key).tolist() for key in ("min", "max", "mean", "std")}
    out["count"] = [stats.count]
    for name, row in zip(QUANTILES, stats.quantiles(list(QUANTILES.values())), strict=True):
        out[name] = row.tolist()
    return out


def exact_floats(values: Array) -> Array:
    """The same numbers as float32 where that holds every value of their type, else as float64.

    Raises:
        DataError: E208 for integers beyond 2**53, E232 for what is no number.
    """
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b" or (kind in "iu" and size <= 2) or (kind == "f" and size <= 4):
        return values.astype(np.float32, copy=False)
    if kind == "f" and size == 8:
        return values.astype(np.float64, copy=False)
    if kind in "iu":
        if values.size and (int(values.max()) > 1 << 53 or int(values.min()) < -(1 << 53)):
            raise DataError("E208", "an integer is beyond 2**53 and would be rounded")
        return values.astype(np.float64)
    raise DataError("E232", f"the values are {values.dtype}, not numbers")

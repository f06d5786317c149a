"""Statistics of all steps of a dataset as they are read, in bounded memory.

`VectorTotals` is for features of one dimension: every quantile is exact, and values that do not fit into memory go
to a nameless file. `ArrayStats` is for those of several, such as depth maps and matrices: as in lerobot's
``compute_stats``, the last axis is what statistics are of, and every other one, like the steps, is taken together:
a feature of shape ``(H, W, 1)`` has one mean, and one of shape ``(4, 4)`` has four. ``count`` is the number of
steps. Its quantiles are of all values while these are at most 2^24, and beyond that of every k-th step, with the
smallest k that keeps to it.

Values that are not finite, which depth cameras use for "nothing seen", count nowhere; where nothing is finite,
every statistic is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Array, Json
from vla_data.statistics import QUANTILES
from vla_data.statistics.runs import Column, Run, scratch_file

MOST: Final = 1 << 24
MEMORY: Final = 8 << 20
"""Bytes of one feature's values that are kept in memory."""
_BLOCK: Final = 1 << 20  # values that are converted to float64 at a time
MOMENTS: Final = ("min", "max", "mean", "std")
_WAITING: Final = 1 << 16  # values that are sorted at a time
_POOLED: Final = 1024  # episodes whose statistics are put together at a time


class _Moments:
    """Count, mean, spread and extremes of the finite values of ``C`` channels."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.n = np.zeros(channels)
        self._mean = np.zeros(channels)
        self._m2 = np.zeros(channels)
        self._low = np.full(channels, np.inf)
        self._high = np.full(channels, -np.inf)

    def add(self, table: Array) -> None:
        """More rows, ``(n, C)``."""
        rows = max(1, _BLOCK // self.channels)
        for at in range(0, len(table), rows):
            self._add(table[at : at + rows].astype(np.float64))

    def _add(self, table: NDArray[np.float64]) -> None:
        """One block, by the pairwise formula of Chan, Golub and LeVeque (1979)."""
        good = np.isfinite(table)
        n = good.sum(axis=0)
        mean = np.divide(table.sum(axis=0, where=good), n, out=np.zeros(self.channels), where=n > 0)
        m2 = np.where(good, table - mean, 0.0)
        m2 = np.square(m2, out=m2).sum(axis=0)
        total = self.n + n
        share = np.divide(n, total, out=np.zeros(self.channels), where=total > 0)
        delta = mean - self._mean
        self._mean = self._mean + delta * share
        self._m2 = self._m2 + m2 + delta**2 * self.n * share
        self.n = total
        self._low = np.minimum(self._low, table.min(axis=0, initial=np.inf, where=good))
        self._high = np.maximum(self._high, table.max(axis=0, initial=-np.inf, where=good))

    def to_json(self) -> dict[str, Json]:
        """``min``, ``max``, ``mean`` and ``std``, each of ``(C,)``."""
        some, constant = self.n > 0, self._low == self._high
        std = np.sqrt(np.divide(self._m2, self.n, out=np.zeros_like(self._m2), where=some))
        return {
            "min": np.where(some, self._low, 0.0).tolist(),
            "max": np.where(some, self._high, 0.0).tolist(),
            "mean": np.where(constant, self._low, self._mean).tolist(),
            "std": np.where(constant, 0.0, std).tolist(),
        }


class VectorTotals:
    """Counts the vectors of a feature as they come.

    Args:
        width: elements of a vector, ``D``.
        scratch: folder for values beyond `MEMORY`; None: the system's temporary one.
    """

    def __init__(self, width: int, scratch: Path | None = None) -> None:
        self._moments = _Moments(width)
        self._columns: list[Column | None] = [None] * width
        self._scratch = scratch
        self._waiting: list[Array] = []
        self._size = self._steps = 0

    def add(self, values: Array) -> None:
        """The next steps, ``(n,)`` or ``(n, D)``."""
        table = values.reshape(len(values), -1)
        self._moments.add(table)
        self._steps += len(table)
        # A copy: what is given may be a small part of something large.
        self._waiting.append(table.astype(_kept(table.dtype)))
        self._size += table.size
        if self._size >= _WAITING:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = np.concatenate(self._waiting)
        self._waiting, self._size = [], 0
        for i, old in enumerate(self._columns):
            values = table[:, i]
            values = np.sort(values[np.isfinite(values)])
            if len(values):
                new = Column((Run.of(values),))
                self._columns[i] = new if old is None else old + new
        if sum(column.nbytes for column in self._columns if column is not None) > MEMORY:
            with scratch_file(self._scratch) as file:
                self._columns = [column and column.spilled(file) for column in self._columns]

    def to_json(self) -> dict[str, Json]:
        """As `vla_data.statistics.vector_stats` gives them."""
        self._flush()
        levels = list(QUANTILES.values())
        columns = [[0.0] * len(levels) if c is None else c.quantiles(levels).tolist() for c in self._columns]
        return (
            self._moments.to_json()
            | {"count": [self._steps]}
            | {name: [column[i] for column in columns] for i, name in enumerate(QUANTILES)}
        )


def _kept(dtype: np.dtype[np.generic]) -> type[np.float32 | np.float64]:
    """The smaller of the two types that holds every value that this one can."""
    return np.float32 if dtype.kind == "b" or dtype.itemsize <= (4 if dtype.kind == "f" else 2) else np.float64


class ArrayStats:
    """Counts the values of a feature of several dimensions as they come.

    Args:
        steps: how many there will be, ``N``.
        shape: of one step, ``(..., C)``.
    """

    def __init__(self, steps: int, shape: tuple[int, ...]) -> None:
        self._steps = steps
        self._every = max(1, -(-steps * int(np.prod(shape)) // MOST))
        self._seen = 0
        self._moments = _Moments(shape[-1])
        self._sample: list[Array] = []

    def add(self, values: Array) -> None:
        """The next steps, ``(n, ..., C)``."""
        first = -self._seen % self._every
        self._sample.append(values[first :: self._every].copy())
        self._seen += len(values)
        self._moments.add(values.reshape(-1, self._moments.channels))

    def to_json(self) -> dict[str, Json]:
        """``min``, ``max``, ``mean``, ``std`` and quantiles, each of ``(C,)``, and ``count``."""
        if self._seen != self._steps:
            raise AssertionError(f"{self._seen} of {self._steps} steps were counted")
        sample = np.concatenate(self._sample).reshape(-1, self._moments.channels)
        columns = [_quantiles(sample[:, channel]) for channel in range(self._moments.channels)]
        return (
            self._moments.to_json()
            | {"count": [self._seen]}
            | {name: [column[i] for column in columns] for i, name in enumerate(QUANTILES)}
        )


def _quantiles(values: Array) -> list[float]:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if len(finite) == 0:
        return [0.0] * len(QUANTILES)
    found: list[float] = np.quantile(finite.astype(np.float64), list(QUANTILES.values())).tolist()
    return found


def array_stats(values: Array) -> dict[str, Json]:
    """The statistics of one episode's ``(T, ..., C)``."""
    stats = ArrayStats(len(values), values.shape[1:])
    stats.add(values)
    return stats.to_json()


class PooledStats:
    """The statistics of a camera's images from those of its episodes, where pixels are not counted again. They
    have no quantiles, which don't add up.

    Attributes:
        counted: whether the pixels of every episode so far were counted.
    """

    def __init__(self) -> None:
        self.counted = True
        self._rows: list[Mapping[str, Json]] = []

    def add(self, stats: Mapping[str, Json], *, counted: bool) -> None:
        """One more episode."""
        self.counted = self.counted and counted
        self._rows.append({name: stats[name] for name in (*MOMENTS, "count")})
        if len(self._rows) == _POOLED:
            self._rows = [self.to_json()]

    def to_json(self) -> dict[str, Json]:
        """``min``, ``max``, ``mean`` and ``std``, each ``(3, 1, 1)``, and ``count``."""
        count = np.asarray([row["count"][0] for row in self._rows], dtype=np.float64)
        low, high, means, stds = (np.asarray([row[key] for row in self._rows]) for key in MOMENTS)
        share = (count / count.sum()).reshape(-1, 1, 1, 1)
        mean = (share * means).sum(axis=0)
        variance = (share * (stds**2 + (means - mean) ** 2)).sum(axis=0)
        return {
            "min": low.min(axis=0).tolist(),
            "max": high.max(axis=0).tolist(),
            "mean": mean.tolist(),
            "std": np.sqrt(variance).tolist(),
            "count": [int(count.sum())],
        }

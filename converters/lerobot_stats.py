"""Statistics of features with several dimensions a step, such as depth maps and matrices, in bounded memory.

As in lerobot's ``compute_stats``, the last axis is what statistics are of, and every other one, like the steps,
is taken together: a feature of shape ``(H, W, 1)`` has one mean, and one of shape ``(4, 4)`` has four. ``count``
is the number of steps.

Moments and extremes are of all values. Quantiles are of all values too while these are at most 2^24, and beyond
that of every k-th step, with the smallest k that keeps to it. Values that are not finite, which depth cameras use
for "nothing seen", count nowhere; where nothing is finite, every statistic is 0.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Array, Json
from vla_data.statistics import QUANTILES

MOST: Final = 1 << 24
_BLOCK: Final = 1 << 20  # values that are converted to float64 at a time


class ArrayStats:
    """Counts the values of a feature as they come.

    Args:
        steps: how many there will be, ``N``.
        shape: of one step, ``(..., C)``.
    """

    def __init__(self, steps: int, shape: tuple[int, ...]) -> None:
        self._steps = steps
        self._every = max(1, -(-steps * int(np.prod(shape)) // MOST))
        self._channels = shape[-1]
        self._seen = 0
        self._n = np.zeros(self._channels)
        self._mean = np.zeros(self._channels)
        self._m2 = np.zeros(self._channels)
        self._low = np.full(self._channels, np.inf)
        self._high = np.full(self._channels, -np.inf)
        self._sample: list[Array] = []

    def add(self, values: Array) -> None:
        """The next steps, ``(n, ..., C)``."""
        first = -self._seen % self._every
        self._sample.append(values[first :: self._every].copy())
        self._seen += len(values)
        table = values.reshape(-1, self._channels)
        rows = max(1, _BLOCK // self._channels)
        for at in range(0, len(table), rows):
            self._add(table[at : at + rows].astype(np.float64))

    def _add(self, table: NDArray[np.float64]) -> None:
        """One block, by the pairwise formula of Chan, Golub and LeVeque (1979)."""
        good = np.isfinite(table)
        n = good.sum(axis=0)
        mean = np.divide(table.sum(axis=0, where=good), n, out=np.zeros(self._channels), where=n > 0)
        m2 = ((table - mean) ** 2).sum(axis=0, where=good)
        total = self._n + n
        share = np.divide(n, total, out=np.zeros(self._channels), where=total > 0)
        delta = mean - self._mean
        self._mean = self._mean + delta * share
        self._m2 = self._m2 + m2 + delta**2 * self._n * share
        self._n = total
        self._low = np.minimum(self._low, table.min(axis=0, initial=np.inf, where=good))
        self._high = np.maximum(self._high, table.max(axis=0, initial=-np.inf, where=good))

    def to_json(self) -> dict[str, Json]:
        """``min``, ``max``, ``mean``, ``std`` and quantiles, each of ``(C,)``, and ``count``."""
        if self._seen != self._steps:
            raise AssertionError(f"{self._seen} of {self._steps} steps were counted")
        some = self._n > 0
        out: dict[str, Json] = {
            "min": np.where(some, self._low, 0.0).tolist(),
            "max": np.where(some, self._high, 0.0).tolist(),
            "mean": self._mean.tolist(),
            "std": np.sqrt(np.divide(self._m2, self._n, out=np.zeros_like(self._m2), where=some)).tolist(),
            "count": [self._seen],
        }
        sample = np.concatenate(self._sample).reshape(-1, self._channels)
        columns = [_quantiles(sample[:, channel]) for channel in range(self._channels)]
        return out | {name: [column[i] for column in columns] for i, name in enumerate(QUANTILES)}


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

"""The values of one element of a feature, sorted and counted: exact ranks and quantiles of any number of pieces.

Runs need not be merged to answer a question, so they may as well lie on disk: the value of a rank is found by
bisection over the bits of a float64, and each try counts what lies below it in every run. A few MiB are merged.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Array
from vla_data.files.write import machine_errors

_FAN_IN: Final = 16
_MERGED: Final = 64 << 20  # bytes up to which sorting runs together is worth its memory
_SIGN: Final = np.int64(np.iinfo(np.int64).min)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Sorted finite values.

    Attributes:
        values: ``(m,)`` float32 or float64, ascending; distinct where ``ends`` is given.
        ends: ``(m,)`` int64, how many values there are up to and with each one; None where each counts once.
    """

    values: Array
    ends: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, ordered: Array) -> Run:
        """A run of sorted values, counted where that takes less memory."""
        last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
        if len(last) * (ordered.itemsize + 8) >= ordered.nbytes:
            return cls(ordered)
        return cls(ordered[last], last + 1)

    @property
    def count(self) -> int:
        """How many values there are, repeated ones included."""
        return len(self.values) if self.ends is None else int(self.ends[-1])

    @property
    def nbytes(self) -> int:
        """Bytes in memory; what lies on disk takes none."""
        parts = (self.values, self.ends)
        return sum(part.nbytes for part in parts if part is not None and not isinstance(part, np.memmap))

    def below(self, limits: NDArray[np.float64], *, inclusive: bool) -> NDArray[np.int64]:
        """How many values are less than each limit, or not more than it."""
        keys: Array = limits
        if self.values.dtype == np.float32:
            # The nearest float32 on the side that keeps the comparison; a float64 key would copy the run.
            with np.errstate(over="ignore"):
                keys = limits.astype(np.float32)
            wrong, to = (keys > limits, -np.inf) if inclusive else (keys < limits, np.inf)
            keys = np.where(wrong, np.nextafter(keys, np.float32(to)), keys)
        at = np.searchsorted(self.values, keys, side="right" if inclusive else "left")
        if self.ends is None:
            return at
        return np.where(at > 0, self.ends[np.maximum(at, 1) - 1], 0)

    def at(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """The values of some ranks, counted from 0."""
        places = ranks if self.ends is None else np.searchsorted(self.ends, ranks, side="right")
        return self.values[places].astype(np.float64)

    def between(self, low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The values from ``low`` to ``high``, both included, and how often there is each."""
        first = int(self.below(np.array([low]), inclusive=False)[0])
        stop = int(self.below(np.array([high]), inclusive=True)[0])
        if self.ends is None:
            found = self.values[first:stop].astype(np.float64)
            return found, np.ones(len(found), dtype=np.int64)
        counts = np.diff(self.ends, prepend=0)
        inside = (self.ends > first) & (self.ends <= stop)
        return self.values[inside].astype(np.float64), counts[inside]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """All values of one element, as runs in no particular order.

    Attributes:
        runs: at least one.
    """

    runs: tuple[Run, ...]

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(run.count for run in self.runs)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(run.nbytes for run in self.runs)

    @property
    def min(self) -> float:
        """The least value."""
        return min(float(run.values[0]) for run in self.runs) + 0.0

    @property
    def max(self) -> float:
        """The greatest value."""
        return max(float(run.values[-1]) for run in self.runs) + 0.0

    def __add__(self, other: Column) -> Column:
        return Column(_compact(self.runs + other.runs))

    def below(self, limits: Sequence[float] | NDArray[np.float64], *, inclusive: bool) -> NDArray[np.int64]:
        """How many values are less than each limit, or not more than it."""
        keys = np.asarray(limits, dtype=np.float64)
        total = np.zeros(len(keys), dtype=np.int64)
        for run in self.runs:
            total += run.below(keys, inclusive=inclusive)
        return total

    def at(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """The values of some ranks, counted from 0: what ``np.sort(values)[ranks]`` would give."""
        if len(self.runs) == 1 or (self.nbytes <= _MERGED and all(run.nbytes for run in self.runs)):
            return _merge(self.runs).at(ranks) + 0.0  # makes -0.0 a plain 0
        low, high = (np.repeat(_key(np.array([bound])), len(ranks)) for bound in (self.min, self.max))
        while (low < high).any():
            middle = (low >> 1) + (high >> 1) + (low & high & 1)  # a sum could overflow
            enough = self.below(_value(middle), inclusive=True) > ranks
            low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        return _value(low) + 0.0

    def quantiles(self, levels: Sequence[float]) -> NDArray[np.float64]:
        """`numpy.quantile` (linear) of the values, to the last bit."""
        last = self.count - 1
        positions = last * np.asarray(levels, dtype=np.float64)
        below = np.floor(positions).astype(np.int64)
        both = self.at(np.concatenate([below, np.minimum(below + 1, last)]))
        a, b = both[: len(below)], both[len(below) :]
        share = positions - below
        # From the nearer end, as NumPy does: what is between two equal values is that value.
        return np.where(share < 0.5, a + (b - a) * share, b - (b - a) * (1 - share))

    def between(self, low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The values from ``low`` to ``high``, both included, and how often there is each."""
        found = [run.between(low, high) for run in self.runs]
        return np.concatenate([values for values, _ in found]), np.concatenate([counts for _, counts in found])

    def spilled(self, file: IO[bytes]) -> Column:
        """The same values, those in memory moved to the end of a file that need not have a name."""
        here = [run for run in self.runs if run.nbytes]
        if not here:
            return self
        merged = _merge(here)
        values = _moved(merged.values, file)
        ends = None if merged.ends is None else _moved(merged.ends, file)
        return Column((*(run for run in self.runs if not run.nbytes), Run(values, ends)))


def weighted_quantiles(
    columns: Sequence[Column], weights: Sequence[Fraction], levels: Sequence[float]
) -> NDArray[np.float64]:
    """The least value that at least each share of the weight is not above (`numpy.quantile`'s ``inverted_cdf``).

    Args:
        columns: one for each dataset.
        weights: of whole datasets; all values of one share its weight equally.
        levels: shares, from 0 to 1.
    """
    total = sum(weights)
    shares = [weight / (total * column.count) for weight, column in zip(weights, columns, strict=True)]
    unit = math.lcm(*(share.denominator for share in shares))
    factors = [share.numerator * (unit // share.denominator) for share in shares]
    wanted = [Fraction(level) * unit for level in levels]
    low = np.repeat(_key(np.array([min(column.min for column in columns)])), len(wanted))
    high = np.repeat(_key(np.array([max(column.max for column in columns)])), len(wanted))
    while (low < high).any():
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        counts = [column.below(_value(middle), inclusive=True).tolist() for column in columns]
        enough = np.array(
            [
                sum(factor * n for factor, n in zip(factors, line, strict=True)) >= goal
                for goal, line in zip(wanted, zip(*counts, strict=True), strict=True)
            ]
        )
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    return _value(low) + 0.0


def scratch_file(folder: Path | None) -> IO[bytes]:
    """A file without a name, which is gone when nothing uses it."""
    with machine_errors("cannot make a temporary file"):
        return tempfile.TemporaryFile(dir=folder)


def _moved(array: Array, file: IO[bytes]) -> Array:
    with machine_errors("cannot write a temporary file"):
        start = -(-file.seek(0, 2) // 8) * 8
        file.seek(start)
        file.write(np.ascontiguousarray(array).data)
        file.flush()
        return np.memmap(file, dtype=array.dtype, mode="r", offset=start, shape=array.shape)


def _compact(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """Few runs of like sizes: each value is merged once for every factor of 16 that the whole grows by."""
    tiers: dict[int, list[Run]] = {}
    out: list[Run] = []
    for run in runs:
        if run.nbytes:
            tiers.setdefault((len(run.values).bit_length() - 1) // 4, []).append(run)
        else:
            out.append(run)
    for group in tiers.values():
        out += group if len(group) < _FAN_IN else [_merge(group)]
    return tuple(out)


def _merge(runs: Sequence[Run]) -> Run:
    """One run of the values of some; their type is the widest of theirs."""
    if len(runs) == 1:
        return runs[0]
    values = np.concatenate([run.values for run in runs])
    if all(run.ends is None for run in runs):
        values.sort()
        return Run.of(values)
    counts = np.concatenate(
        [np.ones(len(run.values), np.int64) if run.ends is None else np.diff(run.ends, prepend=0) for run in runs]
    )
    order = np.argsort(values, kind="stable")
    values, ends = values[order], np.cumsum(counts[order])
    last = np.append(values[1:] != values[:-1], True)
    return Run(values[last], ends[last])


def _key(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Integers that have the order of the values."""
    bits = values.view(np.int64)
    return np.where(bits >= 0, bits, _SIGN - bits)


def _value(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """The values that integers of `_key` stand for."""
    return np.ascontiguousarray(np.where(keys >= 0, keys, _SIGN - keys)).view(np.float64)

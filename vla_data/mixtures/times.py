"""Which rows of an episode are at which times: chunks ahead, history behind, at another rate.

Row ``t + i f / f'`` is ``i`` steps of rate f' from row ``t`` of rate f. It is brought into the episode, and marked
as padding where it was outside. ``nearest`` takes the nearest row, halves to the even one; ``linear`` mixes the
two around it. These are OpenTau's rules (`datasets/lerobot_dataset.py`), with two differences: rows count from the
start of the episode and not of the dataset, on which the even one would depend; and they are whole numbers and
fractions, where OpenTau's float32 can't tell rows apart beyond 16,777,216.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Array

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class At:
    """Places between rows, all of shape ``(n, k)``.

    Attributes:
        low: the row at or before the place.
        share: how far it is on the way to the next row, from 0 up to 1 (excluded).
        nearest: the nearest row, halves to the even one.
        is_pad: whether the place was outside of the episode.
    """

    low: Rows
    share: NDArray[np.float64]
    nearest: Rows
    is_pad: NDArray[np.bool_]

    def take(self, rows: Array, strategy: str) -> Array:
        """``(n, k, ...)``: the values there; only floating-point numbers are ever mixed."""
        if strategy == "nearest" or rows.dtype.kind != "f":
            return rows[self.nearest]
        share = self.share.reshape(*self.share.shape, *[1] * (rows.ndim - 1))
        mixed = (1 - share) * rows[self.low] + share * rows[self.low + (self.share > 0)]
        return np.asarray(mixed.astype(rows.dtype))


def places(start: Rows, steps: Rows, *, length: int, ratio: Fraction) -> At:
    """Where the steps lie.

    Args:
        start: ``(n,)``: rows to count from.
        steps: ``(k,)``: how many steps of the target rate from there; negative ones are before.
        length: rows of the episode.
        ratio: rows a step.
    """
    parts = ratio.denominator
    wanted = start[:, None] * parts + steps[None, :] * ratio.numerator
    inside = np.clip(wanted, 0, (length - 1) * parts)
    low, rest = np.divmod(inside, parts)
    up = (2 * rest > parts) | ((2 * rest == parts) & (low % 2 == 1))
    return At(low, rest / parts, low + up, wanted != inside)


def ratio_of(fps: float, target: float | None) -> Fraction:
    """Rows a step of the target rate; 1 without one."""
    if target is None:
        return Fraction(1)
    return Fraction(fps).limit_denominator(10**6) / Fraction(target).limit_denominator(10**6)

"""Value targets as distributions over bins of [-1, 0], in exact integer arithmetic.

Two schemes:

- ``grid`` (default): centres ``-1 + k/(b-1)``, and the nearest one, halves upwards. Decoding gives a value back
  within half a bin, and 0 exactly.
- ``opentau``: bin ``floor((R/N + 1) (b-1))`` and centres ``-1 + (k + 1/2)/b``, as OpenTau trains and decodes. The
  two do not fit each other: decoding is 0 (bin 0) to half a bin (bin 100) to a whole bin (bin 200) too low.

OpenTau computes the bin in floating point, which is one too low for 2 % of the integer returns, and does not
clamp. Here returns and normalisers are integers, and a return beyond the normaliser is refused or clamped, as you
say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from vla_data import options as checks
from vla_data.advantages.numbers.flat import Floats, Ints

SCHEMES: Final = ("grid", "opentau")
Scheme = Literal["grid", "opentau"]
_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True, kw_only=True)
class ValueBins:
    """Bins of values in [-1, 0].

    Attributes:
        count: how many, 201 upstream.
        scheme: "grid" or "opentau".
    """

    count: int = 201
    scheme: Scheme = "grid"

    def __post_init__(self) -> None:
        checks.whole("count", self.count, low=2, high=1 << 20)
        checks.one_of("scheme", self.scheme, SCHEMES)

    @property
    def centres(self) -> Floats:
        """(b,): the value of each bin."""
        k = np.arange(self.count)
        if self.scheme == "opentau":
            return -1 + (k + 0.5) / self.count
        return -1 + k / (self.count - 1)

    @property
    def width(self) -> float:
        """From centre to centre."""
        return 1 / (self.count if self.scheme == "opentau" else self.count - 1)

    def encode(self, returns: Any, normalizers: Any, *, clamp: bool = False) -> Ints:
        """The bin of each return, any shape.

        Args:
            returns: whole numbers of steps, at or below 0.
            normalizers: whole numbers, one or as many.
            clamp: put returns beyond the normaliser into the first bin, and those above 0 into the last.

        Raises:
            ValueError: a return is outside and ``clamp`` is False: the normaliser is too small.
        """
        r, norm = _whole("returns", returns), _whole("normalizers", normalizers)
        if (norm < 1).any():
            raise ValueError("a normalizer must be 1 or more")
        outside = int(np.count_nonzero((r < -norm) | (r > 0)))
        if outside and not clamp:
            raise ValueError(f"{outside} returns are not from -normalizer to 0 (lowest {int(r.min())})")
        steps = self.count - 1
        above = np.clip(r, -norm, 0) + norm
        if self.scheme == "opentau":
            return np.asarray(above * steps // norm)
        return np.asarray((2 * above * steps + norm) // (2 * norm))

    def encode_values(self, values: Any) -> Ints:
        """The bin of each value, any shape: as `encode`, for what is no whole number of steps; clamped.

        The value ``returns / normalizers``, in float64, has the bin that `encode` gives: a value so near to an
        edge that rounding alone can have put it there counts as on the edge.
        """
        value = np.clip(_finite(values), -1, 0)
        scaled = (value + 1) * (self.count - 1) + (0 if self.scheme == "opentau" else 0.5)
        # Quotient, sums and product together round by less than 1.5 eps a bin. Other quotients of whole numbers
        # to 10^9 are at least 1 / (2 * 10^9) from an edge, which is more, also of 2^20 bins.
        edge = np.rint(scaled)
        near = np.abs(scaled - edge) <= 2 * np.finfo(np.float64).eps * (self.count - 1)
        return np.where(near, edge, np.floor(scaled)).astype(np.int64)

    def decode(self, bins: Any) -> Floats:
        """The centre of each bin."""
        index = np.asarray(bins)
        if index.dtype.kind not in "iu" or (index.size and not 0 <= index.min() <= index.max() < self.count):
            raise ValueError(f"bins are not integers from 0 to {self.count - 1}")
        return np.asarray(self.centres[index])

    def expect(self, probabilities: Any) -> Floats:
        """The expected value, over the last axis."""
        return np.asarray(np.asarray(probabilities, dtype=np.float64) @ self.centres)

    def two_hot(self, values: Any) -> Floats:
        """(..., b): weight on the two nearest centres so that the mean is the value, clipped to the centres."""
        centres = self.centres
        value = np.clip(_finite(values), centres[0], centres[-1])
        at = np.clip(np.searchsorted(centres, value, side="right") - 1, 0, self.count - 2)
        upper = np.clip((value - centres[at]) / (centres[at + 1] - centres[at]), 0, 1)
        out = np.zeros((*value.shape, self.count))
        np.put_along_axis(out, at[..., None], (1 - upper)[..., None], axis=-1)
        np.put_along_axis(out, at[..., None] + 1, upper[..., None], axis=-1)
        return out

    def hl_gauss(self, values: Any, *, sigma: float = 0.75) -> Floats:
        """(..., b): a normal distribution around the value, cut to the bins (arXiv 2403.03950).

        ``sigma`` is in bins. Each bin reaches half a bin to both sides of its centre. Near the ends the cut moves
        the mean inwards.
        """
        sigma = checks.number("sigma", sigma, low=1e-3)
        centres = self.centres
        value = np.clip(_finite(values), centres[0], centres[-1])
        edges = np.append(centres - self.width / 2, centres[-1] + self.width / 2)
        z = (edges - value[..., None]) / (sigma * self.width * math.sqrt(2))
        cdf = np.asarray(_erf(z), dtype=np.float64)
        mass = np.diff(cdf, axis=-1)
        return np.asarray(mass / (cdf[..., -1:] - cdf[..., :1]))


def _whole(name: str, values: Any) -> Ints:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} are {array.dtype}, not whole numbers")
    if array.size and max(-int(array.min()), int(array.max())) > 10**9:
        raise ValueError(f"{name} are beyond 10^9")
    return array.astype(np.int64)


def _finite(values: Any) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite")
    return array

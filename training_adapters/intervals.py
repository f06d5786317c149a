"""Shares of successes with what they can tell."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` successes of ``total``.

    Attributes:
        count: successes.
        total: episodes, at least 1.
    """

    count: int
    total: int

    @property
    def rate(self) -> float:
        """The share, 0 to 1."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (E. B. Wilson, 1927, J. Am. Stat. Assoc. 22, 209-212)."""
        n, p, zz = self.total, self.rate, _Z95 * _Z95
        middle = (p + zz / (2 * n)) / (1 + zz / n)
        half = _Z95 * math.sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
        # At 0 and n of n rounding would leave a bound beside 0 or 1.
        low = 0.0 if self.count == 0 else max(0.0, middle - half)
        high = 1.0 if self.count == n else min(1.0, middle + half)
        return low, high

    def apart(self, other: Share) -> bool:
        """Whether the two intervals have no point in common."""
        return self.interval[1] < other.interval[0] or other.interval[1] < self.interval[0]

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count}/{self.total} {self.rate:.3f} ({low:.3f} to {high:.3f})"

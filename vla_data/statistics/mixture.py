"""Statistics of a mixture: a dataset is drawn by its weight, then one of its vectors, each as likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Json
from vla_data.statistics.runs import weighted_quantiles
from vla_data.statistics.vectors import Vector, VectorStats, describe


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Datasets with weights, which need not add up to 1.

    Quantiles are the least value that at least such a share of the mixture is not above: `numpy.quantile` with
    ``weights`` and ``inverted_cdf``. With weights there is no sample to interpolate in.

    Attributes:
        parts: statistics of each dataset, of vectors of one width.
        weights: above 0, one for each.
    """

    parts: tuple[VectorStats, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len({part.width for part in self.parts}) != 1 or len(self.parts) != len(self.weights):
            raise ValueError("a mixture needs datasets of one width and a weight for each")
        if not all(weight > 0 and np.isfinite(weight) for weight in self.weights):
            raise ValueError("weights must be above 0 and finite")

    @property
    def count(self) -> int:
        """Vectors seen in all datasets together."""
        return sum(part.count for part in self.parts)

    @property
    def min(self) -> Vector:
        """``(D,)``."""
        return np.asarray(np.min([part.min for part in self.parts], axis=0))

    @property
    def max(self) -> Vector:
        """``(D,)``."""
        return np.asarray(np.max([part.max for part in self.parts], axis=0))

    @property
    def mean(self) -> Vector:
        """``(D,)``."""
        mean: Vector = self._shares @ np.stack([part.mean for part in self.parts])
        return mean

    @property
    def std(self) -> Vector:
        """``(D,)``: within the datasets and between their means."""
        inside = np.stack([part.std for part in self.parts]) ** 2
        between = (np.stack([part.mean for part in self.parts]) - self.mean) ** 2
        std: Vector = np.sqrt(self._shares @ (inside + between))
        return std

    def quantiles(self, levels: Sequence[float]) -> NDArray[np.float64]:
        """``(len(levels), D)``."""
        weights = [Fraction(weight) for weight in self.weights]
        columns = zip(*(part.columns for part in self.parts), strict=True)
        return np.stack([weighted_quantiles(column, weights, levels) for column in columns], axis=1)

    def share_outside(self, low: Vector, high: Vector) -> Vector:
        """``(D,)``: the share of the mixture below ``low`` or above ``high``."""
        share: Vector = self._shares @ np.stack([part.share_outside(low, high) for part in self.parts])
        return share

    def to_json(self) -> dict[str, Json]:
        """As `VectorStats.to_json`; ``count`` is of vectors, not of weights."""
        return describe(self)

    @property
    def _shares(self) -> Vector:
        weights = np.asarray(self.weights, dtype=np.float64)
        whole = sum(self.weights)
        if not np.isfinite(whole):  # weights that a float holds, and their sum that none does
            weights, whole = weights / weights.max(), float((weights / weights.max()).sum())
        return weights / whole

"""Statistics of images by counting: a histogram of the 256 values of each channel says everything exactly.

Histograms add up, so the statistics of a dataset are as exact as those of an episode. As in LeRobot, images
are thinned out first (every n-th row and column, so that the longer side is near 150 pixels when it is 300 or
more), values are divided by 255, and the result has the shape ``(3, 1, 1)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Json
from vla_data.media.frames import Frames
from vla_data.media.images import Pixels
from vla_data.statistics.vectors import QUANTILES

_TARGET: Final = 150
_FROM: Final = 300
_LEVELS: Final = np.arange(256) / 255.0


def thinned(pixels: Pixels) -> Pixels:
    """Every n-th row and column of an image."""
    side = max(pixels.shape[:2])
    return pixels if side < _FROM else pixels[:: side // _TARGET, :: side // _TARGET]


@dataclass(frozen=True)
class ImageStats:
    """Counted pixels of any number of images.

    Attributes:
        counts: ``(3, 256)`` int64, how often each channel has each value.
        images: how many images were counted.
    """

    counts: NDArray[np.int64]
    images: int

    @classmethod
    def of(cls, frames: Frames) -> ImageStats:
        """Count every image of an episode."""
        counts = np.zeros((3, 256), dtype=np.int64)
        for i in range(len(frames)):
            pixels = thinned(frames.pixels(i))
            for channel in range(3):
                counts[channel] += np.bincount(pixels[..., channel].reshape(-1), minlength=256)
        return cls(counts, len(frames))

    def __add__(self, other: ImageStats) -> ImageStats:
        return ImageStats(self.counts + other.counts, self.images + other.images)

    def to_json(self) -> dict[str, Json]:
        """LeRobot's statistics of an image feature."""
        n = self.counts.sum(axis=1)
        mean = (self.counts * _LEVELS).sum(axis=1) / n
        variance = (self.counts * (_LEVELS - mean[:, None]) ** 2).sum(axis=1) / n
        present = self.counts > 0
        rows = {
            "min": [_LEVELS[line].min() for line in present],
            "max": [_LEVELS[line].max() for line in present],
            "mean": mean,
            "std": np.sqrt(variance),
        }
        ends = np.cumsum(self.counts, axis=1)
        for name, q in QUANTILES.items():
            rows[name] = [_quantile(line, q) for line in ends]
        out: dict[str, Json] = {name: [[[float(v)]] for v in row] for name, row in rows.items()}
        out["count"] = [self.images]
        return out


def _quantile(ends: NDArray[np.int64], q: float) -> float:
    """`numpy.quantile` (linear) of the values that these counts, added up, stand for."""
    position = q * (int(ends[-1]) - 1)
    below = math.floor(position)
    low = _LEVELS[ends.searchsorted(below, side="right")]
    high = _LEVELS[ends.searchsorted(min(below + 1, int(ends[-1]) - 1), side="right")]
    return float(low + (high - low) * (position - below))

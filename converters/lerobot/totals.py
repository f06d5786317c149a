"""What adds up over the episodes of a LeRobot dataset that is written: counts, and statistics of all frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from converters.lerobot import depth, values
from converters.lerobot.stats import ArrayStats, PooledStats, VectorTotals
from vla_data.core import Json, Published
from vla_data.files.write import files_below
from vla_data.statistics import ImageStats

LANGUAGE: Final = "language"
"""What ``info.json`` calls the type of lerobot's columns of language."""

_VALUES: Final = 1 << 16  # values of a feature that are read at a time
_MAPS: Final = 16  # depth maps that are read at a time


def is_numeric(feature: Mapping[str, Json]) -> bool:
    """Whether a feature has statistics over its values."""
    return feature["dtype"] not in ("image", "video", "string", LANGUAGE)


class Totals:
    """Counts episodes, frames and pixels; statistics of numbers are read back from the data files.

    Args:
        folder: the dataset.
    """

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self.frames = 0
        self._folder = folder
        self._images: dict[str, ImageStats] = {}
        self._pooled: dict[str, PooledStats] = {}

    def add_counts(
        self, episode: Published, length: int, counts: Mapping[str, Json], stats: Mapping[str, Json]
    ) -> None:
        """One more episode, its counted pixels and its statistics, which are all that is known of the pixels of
        videos whose packets were copied.
        """
        for name in sorted({*counts, *episode.summary["videos"]}):
            self._pooled.setdefault(name, PooledStats()).add(stats[name], counted=name in counts)
        for name, counted in counts.items():
            more = ImageStats(np.asarray(counted, dtype=np.int64), length)
            self._images[name] = self._images[name] + more if name in self._images else more
        self.count += 1
        self.frames += length

    def stats(self, features: Mapping[str, Json]) -> dict[str, Json]:
        """The content of ``meta/stats.json``, over all frames: read back from the data files, one feature and some
        rows at a time.
        """
        out: dict[str, Json] = {
            name: self._images[name].to_json() if pooled.counted else pooled.to_json()
            for name, pooled in self._pooled.items()
        }
        for name, feature in features.items():
            if is_numeric(feature):
                out[name] = self._totals(name, tuple(feature["shape"]))
            elif depth.is_declared(feature):
                out[name] = depth.stats_json(self._depth_totals(name, tuple(feature["shape"])))
        return dict(sorted(out.items()))

    def _totals(self, name: str, shape: tuple[int, ...]) -> dict[str, Json]:
        vector = len(shape) == 1
        # Beside the data, which is where there is room.
        counted = VectorTotals(shape[0], self._folder) if vector else ArrayStats(self.frames, shape)
        rows = max(1, _VALUES // math.prod(shape))
        for file in files_below(self._folder / "data", ".parquet"):
            for batch in pq.ParquetFile(file).iter_batches(rows, columns=[name]):
                column = pa.chunked_array([batch.column(0)])
                counted.add(values.array_of(column, name, {"shape": list(shape)})[0])
        return counted.to_json()

    def _depth_totals(self, name: str, shape: tuple[int, ...]) -> dict[str, Json]:
        counted = ArrayStats(self.frames, shape)
        for file in files_below(self._folder / "data", ".parquet"):
            for batch in pq.ParquetFile(file).iter_batches(_MAPS, columns=[name]):
                column = pa.chunked_array([batch.column(0)])
                counted.add(depth.from_images(column, name, _no_path))
        return counted.to_json()


def _no_path(path: str) -> bytes:
    raise AssertionError(f"{path} is not in the column")

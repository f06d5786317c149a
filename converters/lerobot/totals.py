"""What adds up over the episodes of a LeRobot dataset that is written: counts, and statistics of all frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from converters.lerobot import depth, values
from converters.lerobot.stats import ArrayStats, PooledStats, VectorTotals
from vla_data.core import Array, Json, Published
from vla_data.files import arrow
from vla_data.files.write import files_below
from vla_data.statistics import ImageStats

LANGUAGE: Final = "language"
"""What ``info.json`` calls the type of lerobot's columns of language."""

_VALUES: Final = 1 << 16  # values of a feature that are read at a time
_MAPS: Final = 16  # depth maps that are read at a time


def is_numeric(feature: Mapping[str, Json]) -> bool:
    """Whether a feature has statistics over its values."""
    return feature["dtype"] not in ("image", "video", "string", LANGUAGE)


class _Blocks:
    """Rows of one feature that come episode by episode, and are counted some thousands at a time.

    A block ends with a file, so that the sums, which are rounded, are those of reading the files in such blocks.

    Args:
        width: elements of a vector, ``D``.
        folder: for what does not fit into memory.
    """

    def __init__(self, width: int, folder: Path) -> None:
        self.counted = VectorTotals(width, folder)
        self._rows = max(1, _VALUES // width)
        self._waiting: list[Array] = []
        self._size = 0

    def add(self, values: Array) -> None:
        """The next rows, ``(n,)`` or ``(n, D)``."""
        self._waiting.append(values.copy())  # what is given is a small part of an episode's bytes
        self._size += len(values)
        if self._size >= self._rows:
            self._count(whole=True)

    def end(self) -> None:
        """A file is full."""
        self._count(whole=False)

    def _count(self, *, whole: bool) -> None:
        if not self._waiting:
            return
        table = np.concatenate(self._waiting)
        for at in range(0, len(table), self._rows):
            block = table[at : at + self._rows]
            if whole and len(block) < self._rows:
                self._waiting, self._size = [block.copy()], len(block)
                return
            self.counted.add(block)
        self._waiting, self._size = [], 0


class Totals:
    """Counts episodes, frames and pixels, and takes statistics of numbers as they are written; those of features
    of several dimensions and of depth are read back from the data files.

    Args:
        folder: the dataset.
    """

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self.frames = 0
        self._folder = folder
        self._images: dict[str, ImageStats] = {}
        self._pooled: dict[str, PooledStats] = {}
        self._vectors: dict[str, _Blocks] = {}

    def add_rows(self, table: pa.Table, features: Mapping[str, Json]) -> None:
        """One more episode's rows, as they are written."""
        for name, feature in features.items():
            if is_numeric(feature) and len(shape := feature["shape"]) == 1:
                if name not in self._vectors:
                    # Beside the data, which is where there is room.
                    self._vectors[name] = _Blocks(shape[0], self._folder)
                self._vectors[name].add(_plain(table[name]).reshape(len(table), -1))

    def end_file(self) -> None:
        """The data file that the rows are in is full."""
        for blocks in self._vectors.values():
            blocks.end()

    def add_counts(
        self,
        episode: Published,
        length: int,
        counts: Mapping[str, NDArray[np.int64]],
        stats: Mapping[str, Json],
    ) -> None:
        """One more episode, its counted pixels and its statistics, which are all that is known of the pixels of
        videos whose packets were copied.
        """
        for name in sorted({*counts, *episode.summary["videos"]}):
            self._pooled.setdefault(name, PooledStats()).add(stats[name], counted=name in counts)
        for name, counted in counts.items():
            more = ImageStats(counted, length)
            self._images[name] = self._images[name] + more if name in self._images else more
        self.count += 1
        self.frames += length

    def stats(self, features: Mapping[str, Json]) -> dict[str, Json]:
        """The content of ``meta/stats.json``, over all frames."""
        out: dict[str, Json] = {
            name: self._images[name].to_json() if pooled.counted else pooled.to_json()
            for name, pooled in self._pooled.items()
        }
        for name, feature in features.items():
            if name in self._vectors:
                out[name] = self._vectors[name].counted.to_json()
            elif is_numeric(feature):
                out[name] = self._totals(name, tuple(feature["shape"]))
            elif depth.is_declared(feature):
                out[name] = depth.stats_json(self._depth_totals(name, tuple(feature["shape"])))
        return dict(sorted(out.items()))

    def _totals(self, name: str, shape: tuple[int, ...]) -> dict[str, Json]:
        """Of a feature of several dimensions, some rows at a time."""
        counted = ArrayStats(self.frames, shape)
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


def _plain(column: pa.ChunkedArray) -> Array:
    """The numbers of a column that is of a data file's type, all in one dimension."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return arrow.to_numpy(array.flatten() if pa.types.is_fixed_size_list(array.type) else array)


def _no_path(path: str) -> bytes:
    raise AssertionError(f"{path} is not in the column")

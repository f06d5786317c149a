"""Columns as the arrays that were written, and statistics beside those that they must be: for the audit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from converters.lerobot import depth, language
from vla_data.core import Array, Json
from vla_data.files import arrow
from vla_data.statistics import QUANTILES

MOMENTS: Final = ("min", "max", "mean", "std")
# Statistics may come from another release of NumPy, which may add up in another order.
_RELATIVE: Final = 1e-6
ABSOLUTE: Final = 1e-9
# JPEG changes pixels, and statistics are of those before it: by so much of the range the mean may move.
_JPEG_MEAN: Final = 0.05


def array(table: pa.Table, name: str, feature: Mapping[str, Json]) -> Array:
    """A column as the array that was written."""
    if feature["dtype"] == "depth":
        return depth.from_images(table[name], name, lambda _: b"")
    if feature["dtype"] == "language":
        return language.read(table[name], name, arrow.to_numpy(table["timestamp"]).astype(np.float64))[0]
    return values(table[name], feature["shape"])


def as_stored(stats: dict[str, Json], feature: Mapping[str, Json]) -> dict[str, Json]:
    """Statistics in the form in which they are written."""
    return depth.stats_json(stats) if feature["dtype"] == "depth" else stats


def values(column: pa.ChunkedArray, shape: Sequence[int]) -> Array:
    """A column as the array of shape ``(N,)``, ``(N, D)`` or more that was written."""
    array = column.combine_chunks()
    n = len(array)
    if pa.types.is_string(array.type):
        return np.asarray(array.to_pylist(), dtype=np.str_)
    while pa.types.is_fixed_size_list(array.type) or pa.types.is_list(array.type):
        array = array.flatten()
    flat: Array = arrow.to_numpy(array)
    return flat if list(shape) == [1] else flat.reshape(n, *shape)


def fits(found: Json, want: Mapping[str, Json], *, lossy: bool) -> bool:
    """Whether statistics are the wanted ones; ``lossy``: of pixels that an encoder has changed since."""
    try:
        numbers = {key: np.asarray(found[key], dtype=np.float64) for key in want}
    except (KeyError, TypeError, ValueError):
        return False
    wanted = {key: np.asarray(value, dtype=np.float64) for key, value in want.items()}
    if any(numbers[key].shape != wanted[key].shape for key in want):
        return False
    equal = all(np.allclose(numbers[key], wanted[key], rtol=_RELATIVE, atol=ABSOLUTE) for key in want)
    if equal or not lossy:
        return equal
    order = ["min", *sorted(QUANTILES, key=lambda name: QUANTILES[name]), "max"]
    rising = all((numbers[a] <= numbers[b] + ABSOLUTE).all() for a, b in itertools.pairwise(order))
    near = np.abs(numbers["mean"] - wanted["mean"]).max() <= _JPEG_MEAN
    return bool(rising and near and np.array_equal(numbers["count"], wanted["count"]))


def pooled(rows: Sequence[Mapping[str, Json]]) -> dict[str, Json] | None:
    """The statistics of all images from those of each episode, where pixels can't be counted again; they have no
    quantiles, which don't add up. None when a row lacks some.
    """
    try:
        count = np.asarray([row["count"][0] for row in rows], dtype=np.float64)
        low, high, mean, std = (np.asarray([row[key] for row in rows], dtype=np.float64) for key in MOMENTS)
        weights = (count / count.sum()).reshape(-1, *[1] * (mean.ndim - 1))
    except (TypeError, ValueError, IndexError):
        return None
    pooled = (weights * mean).sum(axis=0)
    spread = (weights * (std**2 + mean**2)).sum(axis=0) - pooled**2
    return {
        "min": low.min(axis=0).tolist(),
        "max": high.max(axis=0).tolist(),
        "mean": pooled.tolist(),
        "std": np.sqrt(np.maximum(spread, 0)).tolist(),
        "count": [int(count.sum())],
    }


def is_count(found: Json) -> bool:
    """Whether this is how many images were counted, where it is not known how many that were."""
    return isinstance(found, list) and len(found) == 1 and type(found[0]) is int and found[0] >= 1

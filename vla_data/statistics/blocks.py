"""What the statistics files of several trainers are made of."""

from __future__ import annotations

from collections.abc import Mapping

from vla_data.core import Array, Json
from vla_data.errors import DataError, UsageError
from vla_data.statistics.vectors import Described


def block(stats: Described, quantiles: Mapping[str, float]) -> dict[str, Json]:
    """mean, std, max, min and the quantiles, name -> level."""
    out = {key: getattr(stats, key).tolist() for key in ("mean", "std", "max", "min")}
    return out | dict(zip(quantiles, stats.quantiles(list(quantiles.values())).tolist(), strict=True))


def mask_of(mask: tuple[bool, ...], stats: Described) -> dict[str, Json]:
    """``{"mask": [...]}``, or nothing.

    Raises:
        UsageError: E001, it is not as long as an action.
    """
    if mask and len(mask) != len(stats.mean):
        raise UsageError("E001", f"the mask has {len(mask)} elements, an action {len(stats.mean)}")
    return {"mask": list(mask)} if mask else {}


def only(entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
    """The entry of the only dataset.

    Raises:
        UsageError: E001, there are several.
    """
    if len(entries) != 1:
        raise UsageError("E001", f"this file holds one dataset, not {len(entries)}; write one file for each")
    return next(iter(entries.values()))


def as_vectors(array: Array, name: str) -> Array:
    """``(T, D)``; a plain number a step is a vector of one.

    Raises:
        DataError: E203 for anything with more axes.
    """
    if array.ndim > 2:
        raise DataError("E203", f"{name} has the shape {array.shape[1:]} a step; statistics need a vector")
    return array.reshape(len(array), -1) if len(array) else array.reshape(0, *(array.shape[1:] or (1,)))

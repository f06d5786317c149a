"""Small pictures of numbers in a line of text: eight heights of a block, as terminals have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from vla_data.actions import Convention
from vla_data.core import Array, Feature, Json
from vla_data.errors import UsageError
from vla_data.report.elements import labels, units
from vla_data.safety.text import show

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
BARS: Final = 16
_NAMES: Final = 22
_ROWS: Final = 14


def spark(values: Array) -> str:
    """How ``(N,)`` finite numbers are spread between the smallest and the largest: `BARS` characters.

    A bar that holds any is at least the lowest block; one that holds none is a blank.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return " " * (BARS // 2) + _BLOCKS[-1] + " " * (BARS - BARS // 2 - 1)
    counts = np.histogram(values.astype(np.float64), BARS, (low, high))[0]
    heights = np.ceil(counts / counts.max() * len(_BLOCKS)).astype(int)
    return "".join(_BLOCKS[height - 1] if height else " " for height in heights)


def rows(feature: Mapping[str, Json], values: Array) -> Sequence[str]:
    """A line a number of a feature: its name, how it is spread, from where to where, and its unit.

    Args:
        feature: as a schema's JSON has it.
        values: ``(N, width)`` of steps that were read; rows that are not finite are left out.
    """
    made = Feature(
        dtype=feature["dtype"],
        shape=tuple(feature["shape"]),
        names=feature["names"],
        convention=feature["convention"],
    )
    fine = values[np.isfinite(values).all(axis=1)] if values.dtype.kind == "f" else values
    if not len(fine):
        return ()
    try:
        convention = Convention.from_json(made.convention)
    except UsageError:
        convention = None
    names, told = labels(made), units(made, convention)
    wide = min(max(map(len, names)), _NAMES)
    lines = [
        f"    {show(name)[:wide]:<{wide}}  {spark(column)}  {column.min():>9.3g} to {column.max():<9.3g} {unit}"
        for name, unit, column in zip(names[:_ROWS], told, fine.T, strict=False)
    ]
    more = [f"    and {len(names) - _ROWS} more"] if len(names) > _ROWS else []
    return [line[:80].rstrip() for line in lines] + more

"""Statistics of numbers per step, over the first axis."""

from __future__ import annotations

from typing import Final

import numpy as np

from vla_data.core import Array, Json

QUANTILES: Final = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
"""LeRobot's names of the quantiles in its statistics."""


def vector_stats(values: Array) -> dict[str, Json]:
    """min, max, mean, std (ddof 0), count and quantiles (linear) of each element, as LeRobot names them.

    Args:
        values: ``(N, ...)`` with N of at least 1; booleans count as 0 and 1. Computed in float64.
    """
    if len(values) == 0:
        raise ValueError("there is nothing to take statistics of")
    table = values.astype(np.float64).reshape(len(values), -1)
    out: dict[str, Json] = {
        "min": table.min(axis=0).tolist(),
        "max": table.max(axis=0).tolist(),
        "mean": table.mean(axis=0).tolist(),
        "std": table.std(axis=0).tolist(),
        "count": [len(values)],
    }
    for name, row in zip(QUANTILES, np.quantile(table, list(QUANTILES.values()), axis=0), strict=True):
        out[name] = row.tolist()
    return out

"""Numbers that no robot can mean."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.safety.text import show

WIDE: Final = 1e6
"""Largest absolute value of an action whose unit is not known: servos count in ticks, and joints in degrees."""


def check_numbers(name: str, values: NDArray[Any], limit: float = math.inf) -> None:
    """That every value is finite and at most ``limit`` from 0.

    Args:
        name: of the feature, for the error.
        values: of any shape, the first axis being the steps; other types than numbers pass.
        limit: largest absolute value.

    Raises:
        DataError: E201 or E202, with the place of the first such value.
    """
    if values.dtype.kind not in "iuf" or not values.size:
        return
    bad, code, why = ~np.isfinite(values), "E201", ""
    if not bad.any() and limit < math.inf:
        values = values.astype(np.float32) if values.dtype == np.float16 else values  # which no limit fits
        # The two ends: the absolute value of the least integer does not fit its type.
        bad, code, why = (values > limit) | (values < -limit), "E202", f", beyond {limit:g} (--action-limit)"
    if bad.any():
        at = tuple(np.argwhere(bad)[0].tolist())
        where = "".join(f"[{i}]" for i in at)
        raise DataError(code, f"{show(name)}{where} is {values[at]:g}{why}")

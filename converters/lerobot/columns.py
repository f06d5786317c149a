"""The columns that say where a row stands: ``frame_index``, ``timestamp``, ``task_index`` and the like.

**Time.** ``frame_index`` counts up by one from 0, or from another number, with the note
``frame_index_starts_at:<number>``; ``timestamp`` grows by ``1 / fps``, each step within a quarter and
the whole within two per cent (and half a step), or the episode is refused (E221). Where it begins is free; an
episode that does not begin at 0 has the note ``time_starts_at:<seconds>``, because what is written does.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from converters.lerobot import values
from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.files import arrow

_STEP_TOLERANCE: Final = 0.25  # of 1 / fps
_RATE_TOLERANCE: Final = 0.02
_TICKS: Final = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
TOLERANCE: Final = 1e-4
"""Seconds by which lerobot's reader lets a time differ from a frame's."""


TIME: Final = "timestamp"
_WAY: Final = f"; --leave-out {TIME} takes rows as one step apart each"


def check_time(table: pa.Table, fps: float) -> NDArray[np.float64]:
    """That an episode's steps are those of a clock with this rate, where it says so.

    Returns:
        ``(T,)`` seconds: ``timestamp``, or what the rate gives where there is no such column.

    Raises:
        DataError: E221, with the first frame that is off.
    """
    length = len(table)
    check_count(numbers(table, "frame_index") if "frame_index" in table.column_names else None)
    if "timestamp" not in table.column_names:
        return np.arange(length) / fps
    time = _seconds(table)
    if not np.isfinite(time).all():
        raise DataError("E221", f"timestamp {np.flatnonzero(~np.isfinite(time))[0]} is not finite{_WAY}")
    steps = np.diff(time) * fps
    if (steps <= 0).any():
        raise DataError("E221", f"timestamps do not grow at frame {np.flatnonzero(steps <= 0)[0] + 1}{_WAY}")
    odd = np.flatnonzero(np.abs(steps - 1) > _STEP_TOLERANCE)
    if len(odd):
        step = f"{steps[odd[0]] / fps:g} s at frame {odd[0] + 1}"
        raise DataError("E221", f"timestamps grow by {step}, not by 1/{fps:g} s{_WAY}")
    if abs(steps.sum() - len(steps)) > 0.5 + _RATE_TOLERANCE * len(steps):
        raise DataError("E221", f"timestamps are of {len(steps) / (time[-1] - time[0]):g} Hz, not {fps:g}{_WAY}")
    return time


def _seconds(table: pa.Table) -> NDArray[np.float64]:
    """``timestamp`` as seconds: of numbers themselves, of durations, of a wall clock since the first row."""
    column = table["timestamp"]
    clock = pa.types.is_timestamp(column.type)
    if not clock and not pa.types.is_duration(column.type):
        return numbers(table, "timestamp").astype(np.float64)
    if column.null_count:
        raise DataError("E203", "timestamp is not a time in every step")
    ticks = arrow.to_numpy(column.cast(pa.int64()))
    if clock and len(ticks):
        ticks = ticks - ticks[0]
    return np.asarray(ticks / _TICKS[column.type.unit])


def check_count(found: Array | None) -> None:
    """That a ``frame_index``, where there is one, counts up by one.

    Raises:
        DataError: E221.
    """
    if found is not None and (np.diff(found.astype(np.float64)) != 1).any():
        raise DataError("E221", "frame_index does not count 0, 1, 2, ...")


def with_time(table: pa.Table, leave_out: Iterable[str]) -> pa.Table:
    """A table, without its times where these are left out: rows are one step apart then."""
    left = _is_left_out(leave_out) and TIME in table.column_names
    return table.drop_columns([TIME]) if left else table


def _is_left_out(patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(TIME, pattern) for pattern in patterns)


def start_notes(table: pa.Table, time: NDArray[np.float64], leave_out: Iterable[str]) -> list[str]:
    """The notes on an episode whose numbers or times do not begin at 0, or whose times are left out."""
    notes = [f"left_out:{TIME}"] if _is_left_out(leave_out) else []
    if len(time) and (first := numbers(table, "frame_index")[0]) != 0:
        notes.append(f"frame_index_starts_at:{first:g}")
    if len(time) and abs(time[0]) > TOLERANCE:
        notes.append(f"time_starts_at:{time[0]:g}")
    return notes


def numbers(table: pa.Table, name: str) -> Array:
    """A column of plain numbers without gaps, ``(T,)``; zeros where there is no such column.

    Raises:
        DataError: E203.
    """
    if name not in table.column_names:
        return np.zeros(len(table), dtype=np.int64)
    column = table[name]
    if values.holds_array(column.type):
        found, _ = values.array_of(column, name, {})
        if found.ndim == 1 and found.dtype.kind in "iuf":
            return found
    raise DataError("E203", f"{name} is not a number in every step")

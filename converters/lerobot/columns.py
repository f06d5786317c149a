"""Columns of LeRobot's data files as arrays, and what must hold of them.

**Time.** ``frame_index`` counts 0, 1, 2, ...; ``timestamp`` grows by ``1 / fps``, each step within a quarter and
the whole within two per cent (and half a step), or the episode is refused (E221). Where it begins is free; an
episode that does not begin at 0 has the note ``time_starts_at:<seconds>``, because what is written does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vla_data.core import Array
from vla_data.errors import DataError

_STEP_TOLERANCE: Final = 0.25  # of 1 / fps
_RATE_TOLERANCE: Final = 0.02
TOLERANCE: Final = 1e-4
"""Seconds by which lerobot's reader lets a time differ from a frame's."""


def check_time(table: pa.Table, fps: float) -> NDArray[np.float64]:
    """That an episode's steps are those of a clock with this rate, where it says so.

    Returns:
        ``(T,)`` seconds: ``timestamp``, or what the rate gives where there is no such column.

    Raises:
        DataError: E221, with the first frame that is off.
    """
    length = len(table)
    if "frame_index" in table.column_names and not np.array_equal(
        numbers(table, "frame_index"), np.arange(length)
    ):
        raise DataError("E221", "frame_index does not count 0, 1, 2, ...")
    if "timestamp" not in table.column_names:
        return np.arange(length) / fps
    time: NDArray[np.float64] = numbers(table, "timestamp").astype(np.float64)
    if not np.isfinite(time).all():
        raise DataError("E221", f"timestamp {np.flatnonzero(~np.isfinite(time))[0]} is not finite")
    steps = np.diff(time) * fps
    if (steps <= 0).any():
        raise DataError("E221", f"timestamps do not grow at frame {np.flatnonzero(steps <= 0)[0] + 1}")
    odd = np.flatnonzero(np.abs(steps - 1) > _STEP_TOLERANCE)
    if len(odd):
        raise DataError(
            "E221", f"timestamps grow by {steps[odd[0]] / fps:g} s at frame {odd[0] + 1}, not by 1/{fps:g} s"
        )
    if abs(steps.sum() - len(steps)) > 0.5 + _RATE_TOLERANCE * len(steps):
        raise DataError("E221", f"timestamps are of {len(steps) / (time[-1] - time[0]):g} Hz, not {fps:g}")
    return time


def start_note(time: NDArray[np.float64]) -> list[str]:
    """The note on an episode whose times do not begin at 0."""
    return [f"time_starts_at:{time[0]:g}"] if len(time) and abs(time[0]) > TOLERANCE else []


def numbers(table: pa.Table, name: str) -> Array:
    """A column of plain numbers without gaps; zeros where there is no such column.

    Raises:
        DataError: E203.
    """
    if name not in table.column_names:
        return np.zeros(len(table), dtype=np.int64)
    kind = table.schema.field(name).type
    if table[name].null_count or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError("E203", f"{name} is not a number in every step")
    return np.asarray(table[name].to_numpy())


def is_image(kind: pa.DataType) -> bool:
    """Whether a column holds images, as Hugging Face ``datasets`` stores them."""
    if not pa.types.is_struct(kind) or {kind.field(i).name for i in range(kind.num_fields)} != {"bytes", "path"}:
        return False
    stored = kind.field("bytes").type
    return bool(pa.types.is_binary(stored) or pa.types.is_large_binary(stored))


def values(column: pa.ChunkedArray, declared: Any) -> Array | None:
    """A column as an array with ``T`` rows, or None for what is no number and no text or has gaps.

    Raises:
        DataError: E212, a text has a NUL, at which NumPy's end.
    """
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of no chunk
        return None
    shape = [len(array)]
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    while _is_list(array.type) and not array.null_count:
        sizes = pc.unique(pc.list_value_length(array)).to_pylist()
        if len(sizes) != 1:
            return None
        shape.append(sizes[0])
        array = array.flatten()
    kind = array.type
    if array.null_count:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _texts(array.to_pylist()) if len(shape) == 1 else None
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        return None
    values: Array = array.to_numpy(zero_copy_only=False).reshape(shape)
    if len(shape) == 1:
        return values
    own = declared if isinstance(declared, list) and all(type(n) is int and n > 0 for n in declared) else None
    if own and int(np.prod(own)) == values[0].size:
        values = values.reshape(len(values), *own)
    return values[:, 0] if values.shape[1:] == (1,) else values


def _texts(items: Sequence[str]) -> Array:
    for step, text in enumerate(items):
        if "\0" in text:
            raise DataError("E212", f"the text of step {step} has a NUL at {text.index(chr(0))}")
    return np.asarray(items, dtype=np.str_)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def flat_names(names: Any) -> tuple[str, ...] | None:
    """``names`` of a feature, which is a list, or in older datasets a dictionary of lists."""
    if isinstance(names, dict):
        lists = [value for value in names.values() if isinstance(value, list)]
        names = lists[0] if len(lists) == 1 else None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None

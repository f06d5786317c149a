"""What an HDF5 file has for a demo, read by h5py alone, for whoever judges what came of it.

Names and rows follow from what ``docs/hdf5.md`` says, written down here once more, so that a dataset that the
reader passes over, mistakes or shifts shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from vla_data.errors import DataError
from vla_data.safety.files import opened
from vla_data.safety.hdf5 import plugins_off, reading
from vla_data.safety.hdf5_places import led_to

MOST: Final = 64 << 20
"""Bytes of numbers that are compared a second time; of more, only that they are there."""
_AFTER: Final = {"rewards": "next.reward", "dones": "next.done"}
_FLAGS: Final = ("success", "fail", "terminated", "truncated")
_SEEN: Final = ("obs", "observations")
_CALLED: Final = {"actions": "action", "qpos": "observation.state", "qvel": "observation.velocity"}
_RULED: Final = ("next_obs", "states", "initial_state", "env_states", "compress_len")
"""What stands under names that depend on its values, or is left out by a rule that the user is told."""
_CAMERA: Final = re.compile(r"sensor_data\.(.+)\.(?:rgb|Color)")
_RGB: Final = (b"\x08\x02", *(bytes((bits, kind)) for bits in (1, 2, 4, 8) for kind in (0, 3)))
"""Bits and colour type of a PNG file that a camera may write."""
_DERIVED: Final = "derived_by"
"""Attribute of what our robomimic sink writes because robomimic wants it, and that nobody recorded."""
_IN_DATA: Final = ("libero", "robomimic")
_TEXTS: Final = ("language", "instruction", "prompt", "lang", "task")


def evidence(
    path: Path, demo: str, *, layout: str, first: int, steps: int, left_out: Sequence[str]
) -> Mapping[str, Sequence[Any] | None]:
    """Feature -> its cells, one a step, or None for images, texts and what has no row a step.

    Args:
        path: the file.
        demo: the group in it, or "" for all of it.
        layout: of the file.
        first: actions that go because nobody saw what was before them.
        steps: of the episode.
        left_out: paths below the demo that were not to be read.

    Raises:
        DataError: E105 for a damaged file.
    """
    plugins_off()
    out: dict[str, Sequence[Any] | None] = {}
    with reading(path.name), opened(path) as there, h5py.File(there, "r") as file:
        group = next((file[where] for where in (f"data/{demo}", demo or "/") if where in file), file)
        for name, table in _tables(group, ""):
            top, _, below = name.partition("/")
            if top in _RULED or any(name == part or name.startswith(f"{part}/") for part in left_out):
                continue
            if layout in _IN_DATA and name in (*_AFTER, *_FLAGS) and _DERIVED in table.attrs:
                continue
            # LIBERO stores the robot's state with what was seen, beside the simulator's states.
            is_robot = layout == "libero" and name == "robot_states"
            seen = is_robot or (top in _SEEN and bool(below))
            key = (below if seen and not is_robot else name).replace("/", ".")
            called = _name(key, table, seen=seen)
            begin = 0 if seen else first
            if called is not None:
                out[called] = _cells(table, begin, begin + steps)
    return out


def _tables(group: h5py.Group, prefix: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """Path -> dataset of this file, as deep as 16 groups; groups by hard links alone."""
    for name in group if prefix.count("/") <= 16 else ():
        try:
            found = led_to(group, name, name)
        except DataError:
            continue
        if isinstance(found, h5py.Dataset):
            if found.is_virtual or found.external:  # which lead out of the file
                continue
            yield prefix + name, found
        elif isinstance(found, h5py.Group) and isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield from _tables(found, f"{prefix}{name}/")


def _name(key: str, table: h5py.Dataset, *, seen: bool) -> str | None:
    """The feature that a dataset is; None for one that is no feature by the documented rules."""
    if seen:
        camera = _CAMERA.sub(r"\1", key.removeprefix("images."))
        return _CALLED.get(key) or (f"observation.images.{camera}" if _is_camera(table) else f"observation.{key}")
    if key in _CALLED or key in _AFTER:
        return _CALLED.get(key) or _AFTER[key]
    if key.startswith("actions."):
        return f"action.{key.removeprefix('actions.')}"
    if key in _FLAGS and table.dtype.kind in "biu":
        return f"next.{key}"
    is_text = h5py.check_string_dtype(table.dtype) is not None
    return None if is_text and any(word in key for word in _TEXTS) else key


def _is_camera(table: h5py.Dataset) -> bool:
    """Pixels of three channels, or rows that begin as JPEG files do or as PNG files of 8 bits a channel."""
    if table.dtype == np.uint8 and table.ndim == 4:
        return bool(table.shape[3] == 3) or (table.shape[1] == 3 and min(table.shape[2:]) >= 16)
    if not table.shape or not len(table):
        return False
    row = table[0]
    data = row if isinstance(row, bytes) else row.tobytes() if isinstance(row, np.ndarray) else b""
    return data[:3] == b"\xff\xd8\xff" or (data[:4] == b"\x89PNG" and data[24:26] in _RGB)


def _cells(table: h5py.Dataset, start: int, stop: int) -> list[Any] | None:
    is_number = table.dtype.kind in "biuf" and table.ndim in (1, 2)
    if not is_number or len(table) < stop or table.size * table.dtype.itemsize > MOST:
        return None
    cells: list[Any] = table[start:stop].tolist()
    return cells

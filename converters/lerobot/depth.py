"""Depth as lerobot 0.6.1 has it (``configs/video.py``, ``datasets/depth_utils.py``), as arrays of numbers.

A feature is depth where ``info.json`` says ``is_depth_map`` of it. It is stored as TIFF images of uint16 (mm) or
float32 (m), or as grey video of 12 bits. Both become arrays ``(T, height, width, 1)``, whose convention
has ``depth_unit``: ``mm``, ``m``, or ``undeclared`` where ``info.json`` does not say.

**Images** are exact. **Video** has 4,096 levels ``q``, which stand for

    exp(q / 4095 (log(max + shift) - log(min + shift)) + log(min + shift)) - shift        with ``use_log``
    q / 4095 (max - min) + min                                                            without

metres, between ``min`` and ``max``; millimetres are rounded to whole ones. These are lerobot's numbers, computed
in float32 in the order of its reader: equal without ``use_log``; with it an exponential may differ in its last
place, and with that 2 of 4,096 levels by a millimetre. Depth that has been a video once is written as images, so
that no level is taken twice, with the note ``depth_from_video:<feature>``. A video without its four numbers in
``info.json`` is refused.

What has ``depth_unit`` is written as TIFF images, and opens as depth in lerobot 0.6.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from converters.lerobot import values
from vla_data.actions.convention import UNDECLARED
from vla_data.core import Array, Feature, Json
from vla_data.errors import DataError
from vla_data.media import tiff
from vla_data.safety.text import show

UNIT: Final = "depth_unit"
"""Key of a feature's convention."""

UNITS: Final = ("mm", "m", UNDECLARED)
"""Its words."""

MAX_BYTES: Final = 2 << 30  # of one camera of an episode
BITS: Final = 12
"""Of a level in a video."""

_LEVELS: Final = (1 << BITS) - 1
_MILLIMETRES: Final = 1000.0


# -- what is declared -------------------------------------------------------------------------------------------


def _facts(declared: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    told = [declared, declared.get("info"), declared.get("video_info")]
    return [fact for fact in told if isinstance(fact, dict)]


def is_declared(declared: Mapping[str, Any]) -> bool:
    """Whether ``info.json`` says that a camera sees distances, under any of the names that lerobot has used."""
    return any(
        fact.get(key) is True for fact in _facts(declared) for key in ("is_depth_map", "video.is_depth_map")
    )


def unit_of(declared: Mapping[str, Any]) -> str:
    """The unit that ``info.json`` says; millimetres of a video without any, which is what lerobot gives."""
    found = [str(fact[UNIT]) for fact in _facts(declared) if fact.get(UNIT) in UNITS]
    return found[0] if found else "mm" if has_levels(declared) else UNDECLARED


def has_levels(declared: Mapping[str, Any]) -> bool:
    """Whether ``info.json`` says what the levels of a depth video stand for."""
    return is_declared(declared) and _levels(declared) is not None


def _levels(declared: Mapping[str, Any]) -> tuple[float, float, float, bool] | None:
    """Nearest and furthest distance and the shift, in metres, and whether levels are logarithmic."""
    for facts in _facts(declared):
        low, high, shift = (facts.get(f"video.{name}") for name in ("depth_min", "depth_max", "shift"))
        log = facts.get("video.use_log")
        numbers = [n for n in (low, high, shift) if isinstance(n, int | float) and not isinstance(n, bool)]
        if len(numbers) == 3 and isinstance(log, bool) and all(map(math.isfinite, numbers)):
            low, high, shift = map(float, numbers)
            if low < high and (not log or low + shift > 0):
                return low, high, shift, log
    return None


def is_depth(feature: Feature) -> bool:
    """Whether an array of ours is written as depth."""
    known = feature.convention.get(UNIT) in UNITS and feature.dtype in ("uint16", "float32")
    return known and len(feature.shape) == 3 and feature.shape[2] == 1


def feature_json(feature: Feature) -> dict[str, Json]:
    """The feature in ``info.json``."""
    unit = feature.convention[UNIT]
    return {
        "dtype": "image",
        "shape": list(feature.shape),
        "names": ["height", "width", "channels"],
        "info": {"is_depth_map": True, UNIT: None if unit == UNDECLARED else unit},
    }


def stats_json(stats: Mapping[str, Json]) -> dict[str, Json]:
    """Statistics of one channel in the form of a picture's, ``(1, 1, 1)``, as lerobot wants them."""
    return {key: value if key == "count" else [[[number]] for number in value] for key, value in stats.items()}


# -- from files -------------------------------------------------------------------------------------------------


def is_tiff(column: pa.ChunkedArray) -> bool:
    """Whether a column of encoded images begins with a TIFF file."""
    cell = column[0].as_py() if len(column) else None
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    path = cell.get("path") if isinstance(cell, dict) else None
    if isinstance(data, bytes):
        return tiff.looks_encoded(data)
    return data is None and isinstance(path, str) and path.lower().endswith((".tiff", ".tif"))


def from_images(column: pa.ChunkedArray, name: str, read_path: Callable[[str], bytes]) -> Array:
    """A column of TIFF images as ``(T, height, width, 1)`` uint16 or float32.

    Raises:
        DataError: E109 for a row without a depth map, E203 for maps of several sizes or types, E107 for more than
            2 GiB.
    """
    maps: list[Array] = []
    size = 0
    for row, cell in enumerate(values.joined(column).to_pylist()):
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        path = cell.get("path") if isinstance(cell, dict) else None
        if data is None and not path:
            raise DataError("E109", f"{show(name)} has no image in row {row}; {values.way_out(name)}")
        try:
            found = tiff.decode(read_path(str(path)) if data is None else data)
        except DataError as error:
            where = f"{show(name)}, row {row}: {error.message}"
            raise DataError(error.code, f"{where}; {values.way_out(name)}") from None
        if maps and (found.shape, found.dtype) != (maps[0].shape, maps[0].dtype):
            raise DataError(
                "E203", f"depth maps of {show(name)} are unlike from row {row} on; {values.way_out(name)}"
            )
        size += found.nbytes
        _check_size(size, name)
        maps.append(found)
    return np.stack(maps)[..., None]


def from_levels(levels: Iterable[Array], name: str, declared: Mapping[str, Any]) -> Array:
    """The levels of a depth video as ``(T, height, width, 1)``, in the declared unit, or millimetres.

    Args:
        levels: of each frame, ``(height, width)`` uint16.
        name: of the feature.
        declared: the feature in ``info.json``, for which `has_levels`.

    Raises:
        DataError: E107 for more than 2 GiB.
    """
    facts = _levels(declared)
    assert facts is not None
    unit = unit_of(declared)
    out: list[Array] = []
    size = 0
    for codes in levels:
        found = distances(codes, *facts, unit=unit)
        size += found.nbytes
        _check_size(size, name)
        out.append(found)
    return np.stack(out)[..., None]


def distances(codes: Array, low: float, high: float, shift: float, log: bool, *, unit: str) -> Array:
    """What levels stand for, in float32 and in the order of lerobot's ``dequantize_depth``."""
    first, last = (math.log(low + shift), math.log(high + shift)) if log else (low, high)
    metres = np.multiply(codes, np.float32((last - first) / _LEVELS), dtype=np.float32)
    metres += np.float32(first)
    if log:
        metres = np.exp(metres) - np.float32(shift)
    metres = np.clip(metres, np.float32(low), np.float32(high))
    if unit == "m":
        return metres.astype(np.float32)
    return np.clip(np.rint(metres * np.float32(_MILLIMETRES)), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _check_size(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise DataError("E107", f"{show(name)} has more than 2 GiB of depth in an episode; {values.way_out(name)}")


# -- to files ---------------------------------------------------------------------------------------------------


def to_images(array: Array) -> list[bytes]:
    """``(T, height, width, 1)`` uint16 or float32 as a TIFF file a step."""
    return [tiff.encode(step[..., 0]) for step in array]

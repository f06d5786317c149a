"""Cameras in the columns of LeRobot data files: encoded images, paths of image files, or pixels as numbers.

Hugging Face ``datasets`` stores an image as a record of ``bytes`` and ``path``; others write the bytes alone, the
path alone, or nested lists of pixels, rows first or channels first, 0 to 255 or 0 to 1. Each of them is read where
``info.json`` declares an image, and so are numbers that are named as LeRobot names cameras (``observation.image``
and ``observation.images.<camera>``) where they are exactly an RGB image of 8 bits; those get the note
``camera_from_numbers:<name>``.

What RGB images of 8 bits can't hold (depth, opacity) is refused (E208).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from converters.lerobot import values
from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.media import images
from vla_data.media.camera import camera
from vla_data.media.frames import Frames, Stored
from vla_data.media.images import Pixels
from vla_data.safety.text import show

_CAMERA: Final = re.compile(r"observation\.images?(\..+)?")
_ROUNDING: Final = 1e-3  # of one of 255 levels; a float32 is nearer than that


def is_image(kind: pa.DataType, declared: Mapping[str, Any], column: pa.ChunkedArray) -> bool:
    """Whether a column of this plain type holds encoded images: as records; as bytes or paths where ``info.json``
    says image; as bytes that begin as images do where it says nothing.
    """
    if pa.types.is_struct(kind):
        names = {kind.field(i).name for i in range(kind.num_fields)}
        return "bytes" in names <= {"bytes", "path"} and values.is_bytes(
            values.plain_type(kind.field("bytes").type)
        )
    if declared.get("dtype") in ("image", "video"):
        return values.is_bytes(kind) or values.is_text(kind)
    return values.is_bytes(kind) and bool(len(column)) and images.looks_encoded(column[0].as_py() or b"")


def is_pixels(kind: pa.DataType, name: str, declared: Mapping[str, Any]) -> bool:
    """Whether a column may hold a camera's pixels as numbers."""
    if not values.is_number(values.elements(kind)) or not values.is_list(values.plain_type(kind)):
        return False
    shape = declared.get("shape")
    named = _CAMERA.fullmatch(name) is not None and isinstance(shape, list) and len(shape) == 3 and 3 in shape
    return declared.get("dtype") in ("image", "video") or named


def encoded(column: pa.ChunkedArray, name: str, read_path: Callable[[str], bytes]) -> Frames:
    """A column of encoded images.

    Args:
        column: for whose type `is_image` holds.
        name: of the feature.
        read_path: gives the bytes of an image file by its path in the dataset.

    Raises:
        DataError: E109 for a row without an image or with what is none, E203 for images of several sizes, E208 for
            depth and opacity, and what ``read_path`` raises.
    """
    items: list[Stored] = []
    sizes: set[tuple[int, int]] = set()
    for row, item in enumerate(values.joined(column).to_pylist()):
        data = item.get("bytes") if isinstance(item, dict) else item if isinstance(item, bytes) else None
        path = item.get("path") if isinstance(item, dict) else item if isinstance(item, str) else None
        if data is None and not path:
            raise DataError("E109", f"{show(name)} has no image in row {row}; {values.way_out(name)}")
        try:
            data = read_path(str(path)) if data is None else data
            item, *size = camera(data, exif="follow")
            items.append(item)
            sizes.add((size[0], size[1]))
        except DataError as error:
            where = f"{show(name)}, row {row}: {error.message}"
            raise DataError(error.code, f"{where}; {values.way_out(name)}") from None
    if len(sizes) != 1:
        raise DataError("E203", f"images of {show(name)} have {len(sizes)} sizes; {values.way_out(name)}")
    return Frames(tuple(items), *sizes.pop())


def pixels_of(array: Array, name: str, declared: Mapping[str, Any]) -> tuple[Frames | None, list[str]]:
    """A column of numbers as a camera's images, with notes; None where the numbers are declared as such and are
    not exactly an image.

    Args:
        array: ``(T, ...)``, for whose column `is_pixels` holds.
        name: of the feature.
        declared: the feature in ``info.json``.

    Raises:
        DataError: E203 or E208, it is declared as an image and is none that RGB of 8 bits can hold.
    """
    must = declared.get("dtype") in ("image", "video")
    try:
        pixels, exact = _rgb(array, name, declared.get("names"), one_channel=must)
    except DataError:
        if must:
            raise
        return None, []
    if not (must or exact):
        return None, []
    notes = [f"camera_from_numbers:{name}"] + ([] if exact else [f"rounded_to_uint8:{name}"])
    return Frames(tuple(pixels), pixels.shape[1], pixels.shape[2]), notes


def _rgb(array: Array, name: str, names: Any, *, one_channel: bool) -> tuple[Pixels, bool]:
    """``(T, height, width, 3)`` uint8, and whether that is exactly what the numbers said."""
    array = _channels_last(array, name, names)
    channels = array.shape[3]
    if channels not in ((1, 3, 4) if one_channel else (3,)):
        raise DataError("E203", f"{show(name)} has images of {channels} channels; {values.way_out(name)}")
    if max(array.shape[1:3]) > images.MAX_SIDE:
        raise DataError("E107", f"{show(name)} has images of {array.shape[2]:,}x{array.shape[1]:,} pixels")
    if channels == 1 and array.dtype.itemsize == 2:  # as cameras give distances; wider ones are lists of Python's
        what = f"{show(name)} is pixels of one channel and {8 * array.dtype.itemsize} bits"
        raise DataError("E208", f"{what}, which RGB images of 8 bits would cut; {values.way_out(name)}")
    levels, exact = _levels(array, name)
    if channels == 4:
        if (levels[..., 3] < 255).any():
            row = int(np.argwhere(levels[..., 3] < 255)[0][0])
            raise DataError("E208", f"{show(name)} has opacity in row {row}; {values.way_out(name)}")
        levels = levels[..., :3]
    elif channels == 1:
        levels = np.repeat(levels, 3, axis=3)
    return np.ascontiguousarray(levels), exact


def _channels_last(array: Array, name: str, names: Any) -> Array:
    if array.ndim == 3:
        return array[..., None]
    if array.ndim != 4:
        raise DataError(
            "E203", f"{show(name)} has {array.shape[1:]} numbers a row, not an image; {values.way_out(name)}"
        )
    told = str(names[0]).lower() if isinstance(names, list) and names else ""
    may_be_first, may_be_last = (array.shape[axis] in (1, 3, 4) for axis in (1, 3))
    if may_be_first and (told.startswith("c") or not may_be_last):
        return np.moveaxis(array, 1, 3)
    return array


def _levels(array: Array, name: str) -> tuple[Pixels, bool]:
    """Numbers as levels of 0 to 255: as they are, or 255 times those of 0 to 1."""
    if array.dtype == np.uint8:
        return array, True
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255), True
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):
        limits = f"{show(name)} goes from {low:g} to {high:g}, not 0 to 255"
        raise DataError("E208", f"{limits}; {values.way_out(name)}")
    times = 255 if array.dtype.kind == "f" and high <= 1 else 1
    levels, exact = np.empty(array.shape, np.uint8), True
    for step, image in enumerate(array):  # all of an episode in float64 may be gigabytes
        numbers = image.astype(np.float64) * times
        rounded = np.round(numbers)
        exact = exact and bool((np.abs(numbers - rounded) <= _ROUNDING).all())
        levels[step] = rounded
    if not exact and times == 1:
        raise DataError("E208", f"{show(name)} has pixels between levels of 0 to 255; {values.way_out(name)}")
    return levels, exact

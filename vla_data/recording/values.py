"""What a recorder was given as one value, made an array or a text; or the reason why it can't be."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import RecordError
from vla_data.media.images import MAX_SIDE, Pixels
from vla_data.safety.text import show

MAX_TEXT: Final = 1024
MAX_DIMENSIONS: Final = 7  # what an npy header may have, less the steps


def as_array(where: str, label: str, value: Any) -> NDArray[Any]:
    """A value as NumPy sees it, which may be the caller's own memory."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, and torch tensors on a GPU or with a gradient
        hint = "; for a torch tensor, give .detach().cpu().numpy()" if hasattr(value, "detach") else ""
        raise RecordError("E203", f"{where}: {label} is a {type(value).__name__}, not an array{hint}") from None


def as_numbers(where: str, label: str, value: Any) -> NDArray[Any]:
    """A value as numbers or flags that a file can hold, ``(...)``, which may be the caller's own memory."""
    raw = as_array(where, label, value)
    if raw.dtype.kind not in "biuf" or raw.dtype.itemsize > 8:
        hint = "; give float32" if raw.dtype.kind == "V" else ""  # bfloat16 and the like
        raise RecordError("E203", f"{where}: {label} is of {raw.dtype}, not of numbers{hint}")
    if raw.size == 0 or raw.ndim > MAX_DIMENSIONS:
        raise RecordError(
            "E203", f"{where}: {label} has shape {raw.shape}, which is empty; a feature has 1 number or more"
        )
    return raw.astype(raw.dtype.newbyteorder("="), copy=False)


def check_finite(where: str, label: str, array: NDArray[Any], given: NDArray[Any]) -> None:
    """That no number is NaN or infinite, also in the type in which it is kept."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        at = np.argwhere(~np.isfinite(array))[0]
        place = f"{label}[{', '.join(map(str, at))}]" if array.ndim else label
        raise RecordError("E201", f"{where}: {place} is {given[tuple(at)]}, not a finite {array.dtype}")


def cast(where: str, label: str, given: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A copy in another type. Floats are rounded; nothing else may change.

    Raises:
        RecordError: E203 for flags among numbers or the other way round, E208 for a number that does not fit.
    """
    if (given.dtype.kind == "b") != (dtype.kind == "b"):
        wanted = "flags" if dtype.kind == "b" else "numbers"
        raise RecordError("E203", f"{where}: {label} is of {given.dtype}, not of {wanted}")
    if given.dtype.kind == "f" and dtype.kind in "iu":
        raise RecordError("E208", f"{where}: {label} is of {given.dtype}, not of {dtype}")
    with np.errstate(over="ignore", invalid="ignore"):  # what became infinite is found by `check_finite`
        array = given.astype(dtype, order="C")
    if given.dtype.kind in "iu" and not (array.astype(given.dtype) == given).all():
        raise RecordError("E208", f"{where}: {label} of {given.dtype} does not fit {dtype}")
    return array


def as_pixels(where: str, label: str, value: Any, size: tuple[int, ...], *, origin: str) -> Pixels:
    """An image, ``(height, width, 3)`` uint8 RGB.

    Args:
        where: the step, for messages.
        label: the feature's name, for messages.
        value: what was given.
        size: height and width that it must have; empty: any.
        origin: who has that size, for messages.
    """
    pixels = as_array(where, label, value)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise RecordError(
            "E203",
            f"{where}: {label} is of {pixels.dtype} and shape {pixels.shape}, not uint8 and (height, width, 3)",
        )
    if not 1 <= min(pixels.shape[:2]) <= max(pixels.shape[:2]) <= MAX_SIDE:
        raise RecordError(
            "E203", f"{where}: {label} has shape {pixels.shape}; a side has 1 to {MAX_SIDE:,} pixels"
        )
    if size and pixels.shape[:2] != size:
        have, was = ("x".join(map(str, size)) for size in (pixels.shape[:2], size))
        raise RecordError("E203", f"{where}: {label} is {have}, and {origin} {was}")
    return pixels


def as_scalar(where: str, label: str, value: Any, kinds: str, wanted: str, *, code: str = "E203") -> Any:
    """One number or flag as a NumPy scalar, also from an array of one."""
    array = as_array(where, label, value)
    if array.size != 1 or array.dtype.kind not in kinds or array.itemsize > 8:
        what = f"of shape {array.shape}" if array.size != 1 else f"{show(repr(value))[:60]}"
        raise RecordError(code, f"{where}: {label} is {what}, not {wanted}")
    return array.flat[0]


def as_text(where: str, label: str, value: Any) -> str:
    """A text of at most 1,024 characters."""
    if not isinstance(value, str):
        raise RecordError("E203", f"{where}: {label} is a {type(value).__name__}, not a text")
    if len(value) > MAX_TEXT:
        raise RecordError("E212", f"{where}: {label} has {len(value):,} characters, more than {MAX_TEXT:,}")
    if "\0" in value or (not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)):
        raise RecordError(
            "E212", f"{where}: {label} has a NUL or a lone surrogate (half a character), which a file can't hold"
        )
    return str(value)

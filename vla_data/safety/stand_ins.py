"""What stands for the few classes that rollout pickles name; nothing of NumPy's or Pillow's own is ever called.

A stand-in collects a state and checks all of it: dtypes by their text, arrays and images by the number of bytes
that their shape needs. What it stands for is made here, from checked parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError

_DTYPE = re.compile(r"^(\?|b1|[iu][1248]|f[248]|O8?|[SU]\d{1,6})$")


@dataclass(frozen=True, slots=True)
class Image:
    """A pickled PIL image: ``data`` holds ``height * width * bands`` bytes, row by row."""

    mode: str
    width: int
    height: int
    data: memoryview
    palette: bytes | None = None


class Global:
    """Stand-in for one name on the allow-list; compared by identity, never called."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


RECONSTRUCT = Global("numpy._core.multiarray._reconstruct")
SCALAR = Global("numpy._core.multiarray.scalar")
NDARRAY = Global("numpy.ndarray")
DTYPE = Global("numpy.dtype")
IMAGE = Global("PIL.Image.Image")
SET = Global("builtins.set")
ENCODE = Global("_codecs.encode")

# numpy renamed its core package in 2.0 and Python its builtins in 3.0; both spellings mean the same thing.
ALLOWED: Final[dict[tuple[str, str], Global]] = {
    ("PIL.Image", "Image"): IMAGE,
    ("PIL.JpegImagePlugin", "JpegImageFile"): IMAGE,
    ("PIL.PngImagePlugin", "PngImageFile"): IMAGE,
    ("__builtin__", "set"): SET,
    ("_codecs", "encode"): ENCODE,
    ("builtins", "set"): SET,
    ("numpy", "dtype"): DTYPE,
    ("numpy", "ndarray"): NDARRAY,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "scalar"): SCALAR,
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): SCALAR,
}

_BANDS: Final = {"L": 1, "P": 1, "RGB": 3, "RGBA": 4}


class DTypeState:
    """A dtype under construction: its code from REDUCE, its byte order from BUILD."""

    __slots__ = ("byteorder", "code")

    def __init__(self, code: str) -> None:
        if not _DTYPE.match(code):
            raise DataError("E104", f"dtype {code[:40]!r} is not a plain one")
        self.code = code
        self.byteorder = "|"

    def build(self, state: Any) -> None:
        """Take what ``dtype.__setstate__`` would."""
        # (version, byte order, subdtype, names, fields, item size, alignment, flags)
        if not (type(state) is tuple and len(state) == 8 and state[0] == 3 and state[1] in ("<", ">", "=", "|")):
            raise DataError("E104", "the state of a dtype is malformed")
        # A plain dtype has no parts. Forged ones read foreign memory in NumPy.
        if any(part is not None for part in state[2:5]):
            raise DataError("E104", "structured dtypes are not allowed")
        expected = np.dtype(self.code).__reduce__()[2]
        if (state[5], state[7]) != (expected[5], expected[7]):
            raise DataError("E104", "the state of a dtype does not fit its type")
        self.byteorder = state[1]

    @property
    def is_object(self) -> bool:
        """Whether elements are Python objects."""
        return self.code.startswith("O")

    def numpy(self) -> np.dtype[Any]:
        """The dtype itself."""
        order = "" if self.byteorder == "|" else self.byteorder
        return np.dtype(order + self.code)


class ArrayState:
    """An ndarray under construction; ``value`` is set by BUILD."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        """Take what ``ndarray.__setstate__`` would."""
        if not (type(state) is tuple and len(state) == 5):
            raise DataError("E104", "the state of an array is malformed")
        version, shape, dtype, fortran, data = state
        if version != 1 or type(dtype) is not DTypeState or type(fortran) not in (bool, int):
            raise DataError("E104", "the state of an array is malformed")
        self.value = make_array(checked_shape(shape), dtype, data, fortran=bool(fortran))


class ImageState:
    """A PIL image under construction."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Image | None = None

    def build(self, state: Any) -> None:
        """Take what ``Image.__setstate__`` would."""
        # Image.__getstate__ is [info, mode, size, palette, data]; image files append what their version
        # of Pillow knows (file name, layers), which nothing here needs.
        if type(state) is tuple and len(state) == 2 and state[0] is None:
            state = state[1]
        if not (type(state) is list and 5 <= len(state) <= 12):
            raise DataError("E104", "the state of an image is malformed")
        _, mode, size, palette, data = state[:5]
        if type(mode) is not str or mode not in _BANDS:
            raise DataError("E104", f"image mode {str(mode)[:20]!r} is not one of {', '.join(_BANDS)}")
        if type(size) not in (tuple, list) or len(size) != 2 or any(type(n) is not int for n in size):
            raise DataError("E104", "the size of an image is malformed")
        width, height = size
        length = len(data) if isinstance(data, bytes | memoryview) else -1
        if min(width, height) < 1 or length != width * height * _BANDS[mode]:
            raise DataError("E104", f"an image of {width}x{height} {mode} has {max(length, 0):,} bytes")
        colours = None
        if mode == "P":
            if type(palette) is not list or len(palette) > 768 or any(type(n) is not int for n in palette):
                raise DataError("E104", "the palette of an image is malformed")
            if any(not 0 <= n <= 255 for n in palette):
                raise DataError("E104", "the palette of an image is malformed")
            colours = bytes(palette)
        self.value = Image(mode, width, height, memoryview(data), colours)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """A shape of at most eight sides."""
    if type(shape) is not tuple or len(shape) > 8 or any(type(n) is not int or n < 0 for n in shape):
        raise DataError("E104", "the shape of an array is malformed")
    return shape


def make_array(shape: tuple[int, ...], dtype: DTypeState, data: Any, *, fortran: bool) -> NDArray[Any]:
    """An array from its bytes, or from a list of its objects; E104 unless they are exactly as many as it needs."""
    count = 1
    for n in shape:
        count *= n
    order: Any = "F" if fortran else "C"
    if dtype.is_object:
        if type(data) is not list or len(data) != count:
            raise DataError("E104", "an object array does not hold as many items as its shape says")
        out = np.empty(count, dtype=object)
        for i, item in enumerate(data):
            out[i] = final(item)
        return _reshaped(out, shape, order)
    kind = dtype.numpy()
    if isinstance(data, str):  # protocol <= 2 stores bytes as latin-1 text
        try:
            data = data.encode("latin-1")
        except UnicodeEncodeError:
            raise DataError("E104", "the bytes of an array are malformed") from None
    if not isinstance(data, bytes | memoryview) or len(data) != count * kind.itemsize:
        raise DataError("E104", f"an array of {count:,} x {kind} does not have that many bytes")
    return _reshaped(plain_array(data, kind, count), shape, order)


def plain_array(data: bytes | memoryview, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """``count`` items of a plain dtype from exactly their bytes, without a copy.

    Raises:
        DataError: E104 for text beyond Unicode, of which NumPy makes strings that break Python.
    """
    if not len(data):
        return np.empty(count, dtype=dtype)
    flat = np.frombuffer(data, dtype=dtype)
    if dtype.kind == "U" and (flat.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder)) > 0x10FFFF).any():
        raise DataError("E104", "text beyond Unicode")
    return flat


def _reshaped(flat: NDArray[Any], shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    try:
        return flat.reshape(shape, order=order)
    except (ValueError, OverflowError):  # a zero-sized shape whose other sides are beyond NumPy's limit
        raise DataError("E104", "the shape of an array is malformed") from None


def final(item: Any) -> Any:
    """What a stand-in stands for, once it is complete."""
    kind = type(item)
    if kind is ArrayState or kind is ImageState:
        if item.value is None:
            raise DataError("E104", "an array or image has no content")
        return item.value
    if kind is DTypeState or kind is Global:
        raise DataError("E104", "a class or dtype where data should be")
    return item


def hashable(key: Any) -> Any:
    """A key that a dictionary or set of a rollout may have."""
    if type(key) not in (str, int, bool, float, bytes, tuple, type(None)) or (
        type(key) is tuple and any(type(k) not in (str, int) for k in key)
    ):
        raise DataError("E104", f"a {type(key).__name__} as dictionary key")
    return key

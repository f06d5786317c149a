"""HDF5 as we write it: the same bytes for the same content, a checksum on every dataset, failures that are told.

Objects have the oldest form that can hold them, so that every HDF5 from 1.8 on reads them; no times are stored.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.files.write import step
from vla_data.safety.text import show

LIBVER: Final = ("earliest", "v110")
# A row of this size, such as an image, is a chunk of its own, so that reading one row reads nothing else.
_ROW: Final = 4 << 10
_CHUNK: Final = 256 << 10
# Larger than any chunk may be.
_MAX_ROW: Final = (1 << 32) - 1


class _File(io.FileIO):
    """A new file whose writes are steps that a test may let fail.

    HDF5 does not survive a failing write: it tries again when it closes, and when the process ends. So after the
    first failure this swallows what comes, and `writing` raises it.
    """

    failure: BaseException | None = None

    def __init__(self, path: Path) -> None:
        step("open", path)
        super().__init__(path, "w+b")
        self._path = path

    def write(self, data: Any, /) -> int:
        """Write all of it."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.failure is None:
                step("write", self._path)
                rest = rest[super().write(rest) :]
        except BaseException as error:
            self.failure = error
        return size


@contextmanager
def writing(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file at ``path``, neither synced nor renamed: for a folder that is published as a whole.

    Raises:
        OSError: the first write that failed.
    """
    with _File(path) as handle:
        try:
            with h5py.File(handle, "w", libver=LIBVER) as file:
                yield file
        except Exception as error:
            if handle.failure is not None:
                raise handle.failure from error
            raise
        if handle.failure is not None:
            raise handle.failure


def dataset(group: h5py.Group, path: str, shape: tuple[int, ...], dtype: Any, *, gzip: int) -> h5py.Dataset:
    """A new dataset with a Fletcher-32 checksum on each chunk, compressed unless ``gzip`` is 0.

    Raises:
        DataError: E107 for rows of 4 GiB or more, which no chunk can hold.
    """
    row = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
    if row > _MAX_ROW:
        raise DataError("E107", f"a row of {show(path)} has {row:,} bytes")
    rows = 1 if row >= _ROW else max(1, min(shape[0], _CHUNK // max(row, 1)))
    return group.create_dataset(
        path,
        shape,
        dtype,
        chunks=(rows, *shape[1:]),
        compression="gzip" if gzip else None,
        compression_opts=gzip or None,
        # Bytes of one place in their numbers, next to each other, compress better; images have one byte.
        shuffle=bool(gzip) and np.dtype(dtype).itemsize > 1,
        fletcher32=True,
        track_times=False,
    )


def storable(name: str, array: Array) -> Array:
    """An array in a form that HDF5 holds and gives back: little-endian numbers, booleans, or text as UTF-8.

    Raises:
        DataError: E232 for another type or a dimension of size 0, E212 for text that is no Unicode.
    """
    if 0 in array.shape:
        raise DataError("E232", f"{show(name)} has the shape {array.shape}, which HDF5 can't hold in chunks")
    if array.dtype.kind == "U":
        try:
            text = np.char.encode(array, "utf-8")
        except UnicodeEncodeError:
            raise DataError("E212", f"{show(name)} has text that is not Unicode") from None
        # Of a fixed size, so that the checksum covers it.
        return text.astype(h5py.string_dtype("utf-8", max(1, text.dtype.itemsize)))
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise DataError("E232", f"HDF5 can't hold {show(name)} of type {show(array.dtype)}")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def rows_at_once(table: h5py.Dataset) -> int:
    """How many rows make about 16 MiB, and at least one."""
    row = int(np.prod(table.shape[1:], dtype=np.int64)) * int(table.dtype.itemsize)
    return max(1, (16 << 20) // max(row, 1))


def attribute(what: str, value: str) -> str:
    """A text that an attribute can hold.

    Raises:
        DataError: E212 for NUL and what is no Unicode.
    """
    try:
        if b"\0" not in value.encode("utf-8"):
            return value
    except UnicodeEncodeError:
        pass
    raise DataError("E212", f"{what} has a character that an HDF5 attribute can't hold")

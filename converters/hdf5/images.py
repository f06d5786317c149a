"""Images of an HDF5 file: pixels read a block at a time, encoded ones handed on as they are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.media import images
from vla_data.media.camera import camera
from vla_data.media.frames import Frames
from vla_data.media.images import Pixels
from vla_data.safety.hdf5 import Table
from vla_data.safety.text import show

BLOCK: Final = 8 << 20
MAX_BLOCK: Final = 64 << 20
MAX_ENCODED: Final = 1 << 30


def turned(pixels: NDArray[Any], orientation: str, channels: str = "rgb") -> NDArray[Any]:
    """An image, or many, ``(..., height, width, 3)``, upright and RGB.

    Args:
        pixels: as stored.
        orientation: what makes it upright: "none", "vflip" or "rot180".
        channels: the stored order, "rgb" or "bgr".
    """
    if orientation in ("vflip", "rot180"):
        pixels = pixels[..., ::-1, :, :]
    if orientation == "rot180":
        pixels = pixels[..., ::-1, :]
    return pixels[..., ::-1] if channels == "bgr" else pixels


class _Blocks:
    """Rows of a table, of which one block is in memory."""

    def __init__(self, table: Table) -> None:
        rows = max(1, BLOCK // max(1, table.row_bytes))
        stored = table.chunk_rows
        if stored <= rows:
            rows -= rows % stored
        elif stored * table.row_bytes <= MAX_BLOCK:  # else a stored chunk is inflated more than once
            rows = stored
        self._table, self._rows, self._start = table, rows, -1
        self._block: NDArray[Any] = np.empty(0)

    def row(self, at: int) -> NDArray[Any]:
        start = at - at % self._rows
        if start != self._start:
            self._start, self._block = -1, np.empty(0)  # freed before the next one is read
            self._table.file.check_unchanged()
            self._block = self._table.read(start, min(start + self._rows, len(self._table)))
            self._start = start
        row: NDArray[Any] = self._block[at - start]
        return row


class _Stored:
    """Pixels of one row, read when somebody looks. Not for another process: it holds an open file."""

    __slots__ = ("_at", "_blocks", "_how")

    def __init__(self, blocks: _Blocks, at: int, how: tuple[str, str]) -> None:
        self._blocks, self._at, self._how = blocks, at, how

    def pixels(self) -> Pixels:
        """``(height, width, 3)`` uint8 RGB, upright."""
        return np.array(turned(self._blocks.row(self._at), *self._how), order="C")


class _Encoded:
    """An encoded image that must be turned, or its channels swapped, when somebody looks."""

    __slots__ = ("_data", "_how")

    def __init__(self, data: bytes, how: tuple[str, str]) -> None:
        self._data, self._how = data, how

    def pixels(self) -> Pixels:
        """``(height, width, 3)`` uint8 RGB, upright."""
        return np.ascontiguousarray(turned(images.decode(self._data), *self._how))


def stored_frames(table: Table, orientation: str, channels: str) -> Frames:
    """All rows of ``(N, height, width, 3)`` uint8, lazily.

    Raises:
        DataError: E203 for no pixels, E107 for a side of more than 4,096.
    """
    _, height, width, _ = table.shape
    if height == 0 or width == 0:
        raise DataError("E203", f"images of {show(table.path)} have the shape {table.shape[1:]}")
    if max(height, width) > images.MAX_SIDE:
        raise DataError(
            "E107", f"images have {width:,}x{height:,} pixels; at most {images.MAX_SIDE:,} a side are read"
        )
    blocks, how = _Blocks(table), (orientation, channels)
    return Frames(tuple(_Stored(blocks, at, how) for at in range(len(table))), height, width)


def encoded_frames(table: Table, orientation: str, channels: str) -> Frames:
    """All rows of a table of JPEG or PNG files: bytes where nothing must be changed, else lazily.

    Zeros that pad a row are no part of its file. The files' headers are read, and the bytes of all rows are in
    memory together.

    Raises:
        DataError: E203 for images of several sizes or a table of something else, E107 for more than 1 GiB, and
            what `vla_data.media.camera.camera` raises.
    """
    try:
        found = [camera(data) for data in image_files(table)]
    except DataError as error:
        raise DataError(error.code, f"{show(table.path)}: {error.message}") from None
    files, sizes = [data for data, _, _ in found], {(height, width) for _, height, width in found}
    if len(sizes) != 1:
        raise DataError("E203", f"images of {show(table.path)} have {len(sizes)} sizes")
    if orientation == "none" and channels == "rgb":
        return Frames(tuple(files), *sizes.pop())
    how = (orientation, channels)
    return Frames(
        tuple(_Encoded(data if isinstance(data, bytes) else data.data, how) for data in files), *sizes.pop()
    )


def image_files(table: Table) -> list[bytes]:
    """The rows of a table as files.

    Raises:
        DataError: E203 for a table of something else, E107 for more than 1 GiB.
    """
    numbers = table.kind == "number"
    if len(table.shape) != (2 if numbers else 1) or (numbers and table.dtype != np.uint8):
        raise DataError(
            "E203", f"{show(table.path)} {table.shape} {table.dtype} holds neither images nor encoded image files"
        )
    step = max(1, BLOCK // max(1, table.row_bytes)) if table.kind != "bytes" else 1
    out: list[bytes] = []
    total = 0
    for start in range(0, len(table), step):
        for row in table.read(start, min(start + step, len(table))):
            data = row if isinstance(row, bytes) else np.asarray(row, dtype=np.uint8).tobytes()
            out.append(bytes(data).rstrip(b"\0"))
            total += len(out[-1])
        if total > MAX_ENCODED:
            raise DataError("E107", f"the images of {show(table.path)} have more than {MAX_ENCODED:,} bytes")
    return out

"""Images that are no 8-bit RGB: depth, masks and gray images are arrays here, and lossless PNG in RLDS.

TFDS's ``Image`` holds 8 and 16 bits with 1, 3 or 4 channels, and float32 with one channel as the four bytes of
each number in a PNG with four channels. Depth of 16 bits stays in its own unit, which nobody declares.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Sequence
from typing import Any, Final

import deflate
import numpy as np
import simplejpeg
from PIL import Image

from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.media import images
from vla_data.safety.text import show

_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_MODES: Final = {(8, 1): "L", (8, 4): "RGBA", (16, 1): "I;16"}
_COLOURS: Final = {1: 0, 4: 6}  # channels -> PNG's colour type
MAX_PIXELS: Final = 1 << 31  # bytes of one camera's decoded images in one episode


def is_plain_image(dtype: str, shape: Sequence[int]) -> bool:
    """Whether an array is written as images: uint16 ``(H, W)`` or ``(H, W, 1)``, uint8 ``(H, W, 1|4)``."""
    if not 2 <= len(shape) <= 3 or not all(1 <= n <= images.MAX_SIDE for n in shape[:2]):
        return False
    channels = shape[2] if len(shape) == 3 else 1
    return (dtype == "uint16" and channels == 1) or (dtype == "uint8" and len(shape) == 3 and channels in (1, 4))


def encode(pixels: Array) -> bytes:
    """One image of `is_plain_image` as PNG; the same bytes for the same pixels and versions."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    big = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">"), copy=False))
    rows = big.view(np.uint8).reshape(height, -1)
    lines = np.empty((height, 1 + rows.shape[1]), dtype=np.uint8)
    lines[0, 0] = 0
    lines[0, 1:] = rows[0]
    lines[1:, 0] = 2  # "Up": the difference to the line above
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, _COLOURS[channels], 0, 0, 0)
    body = deflate.zlib_compress(lines.data.cast("B"), 6)
    return b"".join((_PNG_MAGIC, _chunk(b"IHDR", head), _chunk(b"IDAT", bytes(body)), _chunk(b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", deflate.crc32(kind + data))


def decode_all(items: Sequence[memoryview], shape: Sequence[int | None], dtype: str, *, name: str) -> Array:
    """``(T, H, W, C)`` of the declared dtype.

    Args:
        items: encoded images, at least one.
        shape: declared; None for a size that the images have.
        dtype: ``uint8``, ``uint16`` or ``float32``.
        name: of the feature, for messages.

    Raises:
        DataError: E203 when an image is not what is declared, E107 or E109 for what can't be decoded.
    """
    channels = shape[2]
    bits, stored = (8, 4) if dtype == "float32" else (16 if dtype == "uint16" else 8, channels)
    size = (_size(items[0], name), channels)
    if (bits, stored) not in _MODES or (dtype == "float32" and channels != 1):
        raise DataError("E203", f"{show(name)}: images of {dtype} with {channels} channels are not read")
    if any(want not in (None, got) for want, got in zip(shape[:2], size[0], strict=True)):
        raise DataError("E203", f"{show(name)} has images of {size[0]}, not {tuple(shape[:2])}")
    total = len(items) * size[0][0] * size[0][1] * int(stored or 1) * bits // 8
    if total > MAX_PIXELS:
        raise DataError("E107", f"{show(name)} has {total:,} bytes of pixels in one episode")
    out = np.empty((len(items), *size[0], int(stored or 1)), dtype=np.uint16 if bits == 16 else np.uint8)
    for i, item in enumerate(items):
        if _size(item, name) != size[0]:
            raise DataError("E203", f"{show(name)} has images of several sizes")
        out[i] = _decode(item, _MODES[bits, int(stored or 1)], name).reshape(out.shape[1:])
    return out.view("<f4") if dtype == "float32" else out


def _size(data: memoryview, name: str) -> tuple[int, int]:
    """(height, width) from the header; `vla_data.media.images.header` speaks of 8 bits alone."""
    if bytes(data[:8]) == _PNG_MAGIC and len(data) >= 45:
        width, height = struct.unpack_from(">II", data, 16)
        if not (1 <= height <= images.MAX_SIDE and 1 <= width <= images.MAX_SIDE):
            raise DataError("E107", f"{show(name)} has an image of {width:,}x{height:,} pixels")
        return int(height), int(width)
    if len(data) == 0:
        raise DataError("E109", f"{show(name)} has an image of no bytes")
    head = images.header(data)
    return head.height, head.width


def _decode(data: memoryview, mode: str, name: str) -> Array:
    if bytes(data[:2]) == b"\xff\xd8":
        if mode != "L" or images.header(data).channels != 1:
            raise DataError("E203", f"{show(name)} has JPEG images of other channels than declared")
        try:
            pixels: Array = simplejpeg.decode_jpeg(data, colorspace="GRAY", fastdct=False, fastupsample=False)
        except ValueError as error:
            raise DataError("E109", f"a JPEG image is damaged ({error})") from None
        return pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                image.load()
                found: Any = image.mode
                values: Array = np.asarray(image)
    except Exception as error:  # Pillow raises SyntaxError, OSError, EOFError and others on damaged files
        raise DataError("E109", f"a PNG image is damaged ({type(error).__name__})") from None
    if found == "I" and mode == "I;16":  # older Pillow
        return values.astype(np.uint16)
    if found != mode:
        raise DataError("E203", f"{show(name)} has images of mode {found}, not {mode}")
    return values

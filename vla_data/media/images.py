"""Encoded images: JPEG and PNG headers, encoding and decoding, with limits set before any pixel exists.

JPEG goes through libjpeg-turbo (simplejpeg), with TFDS's settings (quality 95, 4:2:0). PNG is written here
with one filter an image and libdeflate, which is lossless and many times faster than the general encoders of
imaging libraries, whose speed would set that of a whole run.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

import deflate
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from vla_data.errors import DataError

Encoding = Literal["jpeg", "png"]
Pixels = NDArray[np.uint8]

MAX_SIDE: Final = 4096
JPEG_QUALITY: Final = 95
_PNG_HEAD: Final = 4096  # bytes, before which a table of transparent colours stands
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Header:
    """What an encoded image says of itself; sizes in pixels. ``channels`` is 0 for palette images. A channel has 8
    bits, or fewer in PNG images of gray or a palette.
    """

    encoding: Encoding
    height: int
    width: int
    channels: int


def header(data: bytes | memoryview) -> Header:
    """Read an image's header and check that it is whole, without decoding it.

    Raises:
        DataError: E109 when this is no PNG or JPEG or is cut, E107 when a side is over 4,096 pixels, E208 for PNG
            images of 16 bits a channel.
    """
    view = memoryview(data)
    if bytes(view[:2]) == b"\xff\xd8":
        found = _jpeg_header(view)
    elif bytes(view[:8]) == _PNG_MAGIC:
        found = _png_header(view)
    else:
        raise DataError("E109", "an encoded image is neither PNG nor JPEG")
    if not (1 <= found.height <= MAX_SIDE and 1 <= found.width <= MAX_SIDE):
        raise DataError(
            "E107", f"an image of {found.width:,}x{found.height:,} pixels; at most {MAX_SIDE:,} a side"
        )
    return found


def _jpeg_header(view: memoryview) -> Header:
    if bytes(view[-2:]) != b"\xff\xd9":
        raise DataError("E109", "a JPEG image is cut (no end marker)")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(view)
    except ValueError as error:
        raise DataError("E109", f"a JPEG image is damaged ({error})") from None
    return Header("jpeg", height, width, {"Gray": 1, "YCbCr": 3, "RGB": 3}.get(colours, 4))


def _png_header(view: memoryview) -> Header:
    if len(view) < 45 or bytes(view[12:16]) != b"IHDR" or bytes(view[-8:-4]) != b"IEND":
        raise DataError("E109", "a PNG image is cut")
    width, height, depth, colours = struct.unpack_from(">IIBB", view, 16)
    if depth == 16:
        raise DataError("E208", "a PNG image has 16 bits a channel, which RGB of 8 bits would cut")
    if depth not in (1, 2, 4, 8) or (depth < 8 and colours not in (0, 3)):
        raise DataError("E109", f"a PNG image is damaged: it has {depth} bits a channel")
    return Header("png", height, width, {0: 1, 2: 3, 4: 2, 6: 4}.get(colours, 0))


def has_exif(data: bytes | memoryview) -> bool:
    """Whether an image has EXIF data before its pixels."""
    view = memoryview(data)
    if bytes(view[:8]) == _PNG_MAGIC:
        head = bytes(view[:_PNG_HEAD])
        return head.find(b"eXIf", 0, max(head.find(b"IDAT"), 0) or None) >= 0
    at = 2
    while at + 10 <= len(view) and view[at] == 0xFF and (0xE0 <= view[at + 1] <= 0xEF or view[at + 1] == 0xFE):
        if view[at + 1] == 0xE1 and bytes(view[at + 4 : at + 8]) == b"Exif":
            return True
        at += 2 + int.from_bytes(view[at + 2 : at + 4], "big")
    return False


def looks_encoded(data: bytes) -> bool:
    """Whether bytes begin as a PNG or JPEG image does."""
    return data.startswith((_PNG_MAGIC, b"\xff\xd8"))


def has_alpha(data: bytes, found: Header) -> bool:
    """Whether an image with this header has opacity: a channel of it, or a colour that is transparent."""
    if found.encoding != "png":
        return False
    return found.channels in (2, 4) or data.find(b"tRNS", 0, data.find(b"IDAT", 0, _PNG_HEAD)) >= 0


def check_opaque(data: bytes | memoryview) -> None:
    """That no pixel of a PNG image is transparent, so that RGB holds all of it.

    Raises:
        DataError: E208 where one is, E109 for a damaged image.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            lowest = image.convert("RGBA").getchannel("A").getextrema()[0]
    except Exception as error:  # Pillow raises SyntaxError, OSError, EOFError and others on damaged files
        raise DataError("E109", f"a PNG image is damaged ({type(error).__name__})") from None
    if lowest != 255:
        raise DataError("E208", "a PNG image is transparent in places, which RGB can't hold")


def decode(data: bytes | memoryview, *, at_least: tuple[int, int] | None = None) -> Pixels:
    """The pixels of a PNG or JPEG image, ``(height, width, 3)`` uint8 RGB.

    Args:
        data: the encoded image.
        at_least: for JPEG, a smaller ``(height, width)`` that is enough; the result is the image scaled
            down by the smallest power of two that keeps it, which is cheaper than decoding it whole.

    Raises:
        DataError: E107 or E109.
    """
    found = header(data)
    if found.encoding == "png":
        return _decode_png(data)
    if found.channels == 4:
        raise DataError("E208", "a JPEG image is CMYK, which RGB does not hold exactly; re-save it as RGB")
    small = at_least or (0, 0)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, colorspace="RGB", min_height=small[0], min_width=small[1], fastdct=False, fastupsample=False
        )
    except ValueError as error:
        raise DataError("E109", f"a JPEG image is damaged ({error})") from None
    return pixels


def _decode_png(data: bytes | memoryview) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                image.load()
                return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises SyntaxError, OSError, EOFError and others on damaged files
        raise DataError("E109", f"a PNG image is damaged ({type(error).__name__})") from None


def encode(pixels: Pixels, encoding: Encoding, *, quality: int = JPEG_QUALITY) -> bytes:
    """Encode ``(height, width, 3)`` uint8 RGB pixels; the same bytes for the same pixels and versions."""
    if encoding == "png":
        return _encode_png(pixels)
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420", fastdct=False
    )
    return data


def _encode_png(pixels: Pixels) -> bytes:
    height, width, _ = pixels.shape
    rows = pixels.reshape(height, width * 3)
    lines = np.empty((height, 1 + width * 3), dtype=np.uint8)
    if _left_is_nearer(rows):
        lines[:, 0] = 1  # "Sub": the difference to the pixel on the left
        lines[:, 1:4] = rows[:, :3]
        np.subtract(rows[:, 3:], rows[:, :-3], out=lines[:, 4:])
    else:
        lines[0, 0] = 0
        lines[0, 1:] = rows[0]
        lines[1:, 0] = 2  # "Up": the difference to the line above
        np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    # Level 1 is twice as fast as 2 and 2 % larger; higher ones gain little on filtered images.
    body = deflate.zlib_compress(lines.data.cast("B"), 1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join((_PNG_MAGIC, _chunk(b"IHDR", head), _chunk(b"IDAT", body), _chunk(b"IEND", b"")))


def _left_is_nearer(rows: Pixels) -> bool:
    """Whether pixels are more like the one on their left than the one above, by every eighth row."""
    some = rows[8::8]
    left = np.abs((some[:, 3:] - some[:, :-3]).view(np.int8), dtype=np.int16)
    above = np.abs((some - rows[7:-1:8][: len(some)]).view(np.int8), dtype=np.int16)
    return bool(left.sum(dtype=np.int64) < above.sum(dtype=np.int64))


def _chunk(kind: bytes, data: Any) -> bytes:
    body = kind + bytes(data)
    return struct.pack(">I", len(data)) + body + struct.pack(">I", deflate.crc32(body))

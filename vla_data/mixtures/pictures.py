"""Images at the size of the contract, decoded no larger than that needs."""

from __future__ import annotations

import threading
from typing import Final

import numpy as np
from PIL import Image

from vla_data.media.frames import Frames
from vla_data.media.images import Pixels, decode
from vla_data.media.located import Located, LocatedPixels

_VIDEO: Final = threading.Lock()  # open videos are shared by all threads, and know one place at a time


def fitted(frames: Frames, row: int, size: tuple[int, int] | None, resize: str) -> Pixels:
    """Image ``row``, ``(height, width, 3)`` uint8 RGB of the wanted size.

    JPEG is decoded at half, a quarter or an eighth of its size where that is no smaller than what is wanted, which
    libjpeg does without making the whole image first.

    Args:
        frames: of a camera.
        row: which of its images.
        size: (height, width), or None for the image as it is.
        resize: ``pad`` or ``stretch``; see `vla_data.mixtures.Contract`.
    """
    inner = None if size is None else inside(frames.height, frames.width, size, resize)
    pixels = _decoded(frames, row, inner)
    if size is None or inner is None:
        return pixels
    if pixels.shape[:2] != inner:
        picture = Image.fromarray(pixels).resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture)
    if inner == size:
        return pixels
    out = np.zeros((*size, 3), dtype=np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    out[top : top + inner[0], left : left + inner[1]] = pixels
    return out


def inside(height: int, width: int, size: tuple[int, int], resize: str) -> tuple[int, int]:
    """(height, width) of the picture within ``size``; as openpi's ``resize_with_pad`` for ``pad``."""
    if resize == "stretch":
        return size
    ratio = max(height / size[0], width / size[1])
    return max(1, int(height / ratio)), max(1, int(width / ratio))


def scaled(height: int, width: int, wanted: tuple[int, int]) -> tuple[int, int]:
    """The smallest of whole, half, quarter and eighth that is at least as large as wanted."""
    # Only these: libjpeg's other eighths are slower than the next power of two.
    best = (height, width)
    for part in (2, 4, 8):
        small = (-(-height // part), -(-width // part))
        if small[0] >= wanted[0] and small[1] >= wanted[1]:
            best = small
    return best


def _decoded(frames: Frames, row: int, wanted: tuple[int, int] | None) -> Pixels:
    item = frames.items[row]
    if isinstance(item, np.ndarray):
        return item
    if isinstance(item, LocatedPixels):
        return item.pixels()
    if isinstance(item, bytes | memoryview | Located):
        at_least = None if wanted is None else scaled(frames.height, frames.width, wanted)
        return decode(item, at_least=at_least) if isinstance(item, bytes | memoryview) else item.pixels(at_least)
    with _VIDEO:
        return item.pixels()

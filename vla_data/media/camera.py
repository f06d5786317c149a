"""An encoded image as a camera's: RGB of 8 bits that holds all of it, or a refusal by name."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from PIL import Image

from vla_data.errors import DataError
from vla_data.media import images
from vla_data.media.images import Header, Pixels

Exif = Literal["follow", "ignore", "refuse"]
"""What becomes of an image that its EXIF data say to turn: LeRobot's reader follows them, TensorFlow's not."""

_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = 1
_LYING: Final = (5, 6, 7, 8)
"""Orientations whose rows are columns."""


@dataclass(frozen=True, slots=True)
class Cast:
    """An encoded image that is RGB only once it is decoded: it is not handed on as it is, since readers would find
    other channels than are declared, or turn it.
    """

    data: bytes
    orientation: int = _UPRIGHT

    def pixels(self) -> Pixels:
        """``(height, width, 3)`` uint8 RGB."""
        return _turned(images.decode(self.data), self.orientation)


def camera(
    data: bytes | memoryview, *, exif: Exif = "refuse", opacity: Literal["check", "drop"] = "check"
) -> tuple[bytes | Cast, int, int]:
    """The image, and its height and width.

    Args:
        data: PNG or JPEG.
        exif: what to do where it says how it is to be turned.
        opacity: whether one that is transparent in places is refused, or loses that.

    Raises:
        DataError: E208 for more than 8 bits, CMYK, transparency, or an orientation that readers do not agree on;
            E107 and E109 as `vla_data.media.images.header`.
    """
    data = bytes(data)
    head = images.header(data)
    if head.encoding == "jpeg" and head.channels == 4:
        raise DataError("E208", "a JPEG image is CMYK, which RGB does not hold exactly; re-save it as RGB")
    if opacity == "check" and images.has_alpha(data, head):
        images.check_opaque(data)
    orientation = orientation_of(data)
    if orientation != _UPRIGHT and exif == "refuse":
        raise DataError(
            "E208",
            f"an image says by EXIF that it is to be turned (orientation {orientation}), which some readers do "
            "and others do not; re-save it upright and without EXIF",
        )
    turn = orientation if exif == "follow" else _UPRIGHT
    height, width = (head.width, head.height) if turn in _LYING else (head.height, head.width)
    is_rgb = orientation == _UPRIGHT and _is_rgb(data, head)
    return data if is_rgb else Cast(data, turn), height, width


def _is_rgb(data: bytes, head: Header) -> bool:
    """Whether every reader finds what is declared; gray JPEG stays, which decoding again would change."""
    return head.encoding == "jpeg" or (head.channels == 3 and not images.has_alpha(data, head))


def orientation_of(data: bytes | memoryview) -> int:
    """How an image is to be turned by its EXIF data, 1 to 8 as EXIF counts; 1 where it does not say."""
    if not images.has_exif(data):
        return _UPRIGHT
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            found = image.getexif().get(_ORIENTATION, _UPRIGHT)
    except Exception as error:  # Pillow raises SyntaxError, OSError, EOFError and others on damaged files
        raise DataError("E109", f"the EXIF data of an image are damaged ({type(error).__name__})") from None
    return found if found in range(1, 9) else _UPRIGHT


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    if orientation in _LYING:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)

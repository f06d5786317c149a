"""The picture of a sample: both wrists' cameras, each cut to a square and brought to 384 pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from PIL import Image

from converters.rdt.cameras import choose
from converters.rdt2.shards import SIDE
from vla_data.errors import DataError
from vla_data.media.images import Pixels

CAMERAS: Final = {"cam_right_wrist": "camera0_rgb", "cam_left_wrist": "camera1_rgb"}
"""Place -> UMI's name of the camera there."""
_PREFIX: Final = "observation.images."


def cameras_of(names: Sequence[str], declared: Mapping[str, str | None]) -> tuple[str, str]:
    """The left and the right wrist's camera, by declaration, UMI's names, or what names say.

    Raises:
        DataError: E206 where one is lacking, E231 where names don't tell.
    """
    umi = {slot: name for slot, name in CAMERAS.items() if f"{_PREFIX}{name}" in names}
    wanted = {slot: declared.get(slot) or umi.get(slot) for slot in CAMERAS}
    found = choose(names, {"cam_high": "none", **wanted})
    for slot in CAMERAS:
        if slot not in found:
            option = slot.replace("_", "-")
            raise DataError("E206", f"RDT2 needs a camera on each wrist; there is none for --{option}")
    return found["cam_left_wrist"], found["cam_right_wrist"]


def joined(left: Pixels, right: Pixels) -> Pixels:
    """``(384, 768, 3)``: the left wrist, then the right one."""
    return np.concatenate([square(left), square(right)], axis=1)


def square(pixels: Pixels) -> Pixels:
    """The middle of an image as ``(384, 384, 3)``, by the mean of the pixels (of smaller ones, bilinear)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    if side == SIDE:
        return cut
    way = Image.Resampling.BOX if side > SIDE else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(cut).resize((SIDE, SIDE), way))

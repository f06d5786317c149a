"""The images of a rollout, in every form that collectors have stored them in."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np

from vla_data.errors import DataError
from vla_data.media import images
from vla_data.media.camera import orientation_of
from vla_data.media.frames import Frames, Stored
from vla_data.safety.stand_ins import Image

Allowed = Literal["gray", "rgba", "chw", "palette"]
_FIXES: Final[dict[int, Allowed]] = {0: "palette", 1: "gray", 2: "rgba", 4: "rgba"}


def read_images(
    value: Any,
    *,
    encoded: bool,
    allowed: frozenset[Allowed],
    size: tuple[int, int] | None,
    notes: list[str],
) -> Frames:
    """All images of one rollout. Encoded ones are checked and stay encoded.

    Args:
        value: the rollout's ``image``.
        encoded: the rollout's ``is_image_encode``.
        allowed: fixes that may be applied.
        size: ``(height, width)`` to insist on, or None.
        notes: fixes that were applied are appended.

    Raises:
        DataError: E203 for a form, type or size that is not allowed, E109 and E107 for damaged or huge ones.
    """
    if not isinstance(value, list | tuple | np.ndarray) or (
        isinstance(value, np.ndarray) and value.ndim not in (1, 3, 4)
    ):
        what = f"of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise DataError("E203", f"image is {what}, not a list of images")
    if len(value) == 0:
        raise DataError("E204", "there are no images")
    found: dict[str, None] = {}
    items = tuple(_one(item, t, encoded, allowed, found) for t, item in enumerate(value))
    shapes = [_size(item) for item in items]
    want = size or shapes[0]
    for t, shape in enumerate(shapes):
        if shape != want:
            raise DataError("E203", f"image[{t}] is {shape[0]}x{shape[1]}, not {want[0]}x{want[1]}")
    notes.extend(found)
    return Frames(items, *want)


def _size(item: Stored) -> tuple[int, int]:
    if isinstance(item, np.ndarray):
        return item.shape[0], item.shape[1]
    head = images.header(item)  # type: ignore[arg-type]  # a rollout has nothing lazy
    return head.height, head.width


def _one(item: Any, t: int, encoded: bool, allowed: frozenset[Allowed], found: dict[str, None]) -> Stored:
    if isinstance(item, Image):
        if item.mode == "P":
            _allow("palette", t, allowed, found)
        item = _pixels(item, t)
    if isinstance(item, np.ndarray) and encoded and item.ndim == 3 and 1 in item.shape[:2]:
        # With is_image_encode, RL4VLA's collector wraps the JPEG bytes into a one-line gray picture and
        # converts that to RGB: the bytes are still there, three times.
        data = item[..., 0].tobytes()
        if data[:2] == b"\xff\xd8":
            found["encoded_image_recovered"] = None
            item = data[: data.rfind(b"\xff\xd9") + 2]
    if isinstance(item, np.ndarray) and item.ndim == 1 and item.dtype == np.uint8:
        item = item.tobytes()
    if isinstance(item, bytes | memoryview):
        head = images.header(item)
        if (turned := orientation_of(item)) != 1:
            raise DataError("E208", f"image[{t}] says by EXIF that it is to be turned (orientation {turned})")
        if head.channels == 3:
            images.decode(item, at_least=(1, 1))  # finds damage behind a healthy header
            return item
        if head.encoding == "jpeg" and head.channels == 4:
            raise DataError("E203", f"image[{t}] is a CMYK JPEG, not RGB")
        fix = _FIXES[head.channels]
        _allow(fix, t, allowed, found)
        return images.decode(item)
    if not isinstance(item, np.ndarray) or item.dtype != np.uint8:
        what = f"an array of {item.dtype}" if isinstance(item, np.ndarray) else f"a {type(item).__name__}"
        raise DataError("E203", f"image[{t}] is {what}, not of uint8 or encoded")
    return _array(item, t, allowed, found)


def _array(item: images.Pixels, t: int, allowed: frozenset[Allowed], found: dict[str, None]) -> images.Pixels:
    shape = item.shape
    if max(shape, default=0) > images.MAX_SIDE or item.size == 0:
        raise DataError("E107" if item.size else "E203", f"image[{t}] has shape {shape}")
    if len(shape) == 3 and shape[2] == 3:
        return item
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        gray = item.reshape(shape[0], shape[1], 1)
        _allow("gray", t, allowed, found)
        return np.repeat(gray, 3, axis=2)
    if len(shape) == 3 and shape[2] == 4:
        _allow("rgba", t, allowed, found)
        return np.ascontiguousarray(item[..., :3])
    if len(shape) == 3 and shape[0] == 3:
        _allow("chw", t, allowed, found)
        return np.ascontiguousarray(item.transpose(1, 2, 0))
    raise DataError("E203", f"image[{t}] has shape {shape}, not (height, width, 3)")


def _allow(fix: Allowed, t: int, allowed: frozenset[Allowed], found: dict[str, None]) -> None:
    """Note a fix, if it may be applied."""
    if fix not in allowed:
        raise DataError("E203", f"image[{t}] is {fix}; --allow-images {fix} converts such images")
    found[f"image_{fix}_to_rgb"] = None


def _pixels(image: Image, t: int) -> images.Pixels:
    if max(image.width, image.height) > images.MAX_SIDE:
        raise DataError("E107", f"image[{t}] has {image.width:,}x{image.height:,} pixels")
    data = np.frombuffer(image.data, dtype=np.uint8)
    if image.mode == "P":
        colours = np.zeros((256, 3), dtype=np.uint8)
        known = np.frombuffer(image.palette or b"", dtype=np.uint8)
        colours.reshape(-1)[: len(known) // 3 * 3] = known[: len(known) // 3 * 3]
        return colours[data.reshape(image.height, image.width)]
    if image.mode == "L":
        return data.reshape(image.height, image.width)
    return data.reshape(image.height, image.width, -1)

"""The cameras of a demonstration: which tables they are, and their images upright and RGB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.hdf5.declared import Told
from converters.hdf5.dialects.base import RGB, Demo, file_of, is_images
from converters.hdf5.dialects.odd import Odd, gather
from converters.hdf5.images import encoded_frames, image_files, stored_frames, turned
from converters.rlds.images import decode_all
from vla_data.core import Json
from vla_data.errors import DataError
from vla_data.media.frames import Frames
from vla_data.safety.hdf5 import Table
from vla_data.safety.text import show

Array = NDArray[Any]
_ARRAYS = {(16, 1): "uint16", (8, 4): "uint8"}


class Pictures:
    """What is known of the tables of a demo that hold pictures.

    Attributes:
        pixels: cameras that are stored as pixels.
        files: cameras whose rows are JPEG or PNG files.
        flat: other image files, such as depth -> (bits, channels).
    """

    def __init__(self, demo: Demo) -> None:
        self._demo = demo
        self.pixels = [key for key, table in demo.seen.items() if key not in demo.encoded and is_images(table)]
        found = {key: file_of(table) for key, table in demo.seen.items() if key not in self.pixels}
        self.files = [key for key, kind in found.items() if kind == RGB or (kind is None and key in demo.encoded)]
        self.flat = {key: kind for key, kind in found.items() if kind is not None and key not in self.files}

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras, in the demo's order."""
        return [key for key in self._demo.seen if key in self.pixels or key in self.files]

    def meta(self, told: Told) -> dict[str, Json]:
        """What was decided about the images, and by which rule."""
        if not self.cameras:
            return {}
        channels = told.channels if self.pixels else told.file_channels
        facts = {
            "image_orientation": told.orientation.value,
            "image_orientation_rule": told.orientation.rule,
            "channel_order": channels.value,
            "channel_order_rule": channels.rule,
        }
        out = {key: fact for key, fact in facts.items() if facts[f"{key.removesuffix('_rule')}_rule"]}
        if self.pixels and self.files and told.file_channels.rule:
            out["file_channel_order"] = told.file_channels.value
        return out

    def frames(self, told: Told, steps: int, odd: list[Odd]) -> tuple[dict[str, Frames], dict[str, Frames]]:
        """Images of all steps, and the one after the last action where the file has it. ``odd`` takes cameras that
        can't be read.
        """
        frames, final = {}, {}
        for key in self.cameras:
            with gather(odd, self._demo.seen[key].path):
                made = self._made(key, self._demo.seen[key], told)
                frames[key] = made.take(range(steps))
            if key not in frames:
                continue
            if len(made) > steps:
                final[key] = made.take([steps])
            elif key in self._demo.following:
                after = self._demo.following[key]
                if is_images(after) and after.shape == self._demo.seen[key].shape:
                    final[key] = self._made(key, after, told).take([len(after) - 1])
        return frames, final

    def decoded(self, key: str) -> Array:
        """Depth or a mask of image files, ``(N, height, width, channels)``.

        Raises:
            DataError: E203 for PNG files of other bits and channels than an array is made of.
        """
        kind, table = self.flat[key], self._demo.seen[key]
        if kind not in _ARRAYS:
            raise DataError(
                "E203",
                f"{show(table.path)} has PNG files of {kind[0]} bits and {kind[1]} channels, which are not read",
            )
        items = [memoryview(data) for data in image_files(table)]
        if not items:
            raise DataError("E203", f"{show(table.path)} has no images")
        return decode_all(items, (None, None, kind[1]), _ARRAYS[kind], name=table.path)

    def upright(self, array: Array, told: Told, frames: Mapping[str, Frames]) -> Array:
        """Depth and masks, ``(T, height, width[, C])`` of a camera's size, are turned as its images are."""
        sizes = {(camera.height, camera.width) for camera in frames.values()}
        if array.ndim not in (3, 4) or array.shape[1:3] not in sizes or told.orientation.value == "none":
            return array
        whole = array if array.ndim == 4 else array[..., None]
        return np.ascontiguousarray(turned(whole, told.orientation.value).reshape(array.shape))

    def _made(self, key: str, table: Table, told: Told) -> Frames:
        if key in self.files:
            return encoded_frames(table, told.orientation.value, told.file_channels.value)
        return stored_frames(table, told.orientation.value, told.channels.value)

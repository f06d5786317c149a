"""One camera's images, kept as they came: encoded bytes stay encoded, pixels exist only while looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_data.media import images
from vla_data.media.images import Encoding, Pixels


class Lazy(Protocol):
    """An image that is made when somebody looks at it, such as a frame of a video."""

    def pixels(self) -> Pixels:
        """``(height, width, 3)`` uint8 RGB."""
        ...


Stored = bytes | memoryview | Pixels | Lazy


@dataclass(frozen=True, slots=True)
class Frames:
    """``T`` images of one size. Selecting some costs nothing; encoded ones pass through untouched.

    Attributes:
        items: each image as PNG or JPEG bytes, as ``(height, width, 3)`` uint8 RGB pixels, or lazily.
        height: in pixels.
        width: in pixels.
        stats: gives LeRobot's statistics of exactly these images, where the source has them; else None.
    """

    items: tuple[Stored, ...]
    height: int
    width: int
    stats: Callable[[], Mapping[str, Any] | None] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.items)

    def take(self, index: NDArray[np.int64] | Sequence[int]) -> Frames:
        """The images at these positions, in this order."""
        if np.array_equal(index, np.arange(len(self))):
            return self
        return Frames(tuple(self.items[i] for i in index), self.height, self.width)

    def pixels(self, i: int, *, at_least: tuple[int, int] | None = None) -> Pixels:
        """Image ``i`` as ``(height, width, 3)`` uint8 RGB; see `vla_data.media.images.decode` for ``at_least``."""
        item = self.items[i]
        if isinstance(item, np.ndarray):
            return item
        if isinstance(item, bytes | memoryview):
            return images.decode(item, at_least=at_least)
        return item.pixels()

    def encoded(self, encoding: Encoding, *, quality: int = images.JPEG_QUALITY) -> Iterator[bytes]:
        """Each image in ``encoding``. Bytes that are already in it are handed on as they are."""
        for i, item in enumerate(self.items):
            if isinstance(item, bytes | memoryview) and images.header(item).encoding == encoding:
                yield bytes(item)
            else:
                yield images.encode(self.pixels(i), encoding, quality=quality)

    def kept(self) -> Iterator[bytes]:
        """Each image as the bytes that it came as; what came as pixels or in a video, as PNG."""
        for i, item in enumerate(self.items):
            yield bytes(item) if isinstance(item, bytes | memoryview) else images.encode(self.pixels(i), "png")

    def lossless_as(self, encoding: Encoding) -> bool:
        """Whether `encoded` gives back every pixel that is stored here."""
        return encoding == "png" or all(
            isinstance(item, bytes | memoryview) and images.header(item).encoding == encoding
            for item in self.items
        )


class Run(Protocol):
    """What gives frames by their number."""

    def frame(self, number: int) -> Pixels:
        """Frame ``number``, ``(height, width, 3)`` uint8 RGB."""


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One frame of a clip of video, decoded when somebody looks at it."""

    clip: Run
    number: int

    def pixels(self) -> Pixels:
        """``(height, width, 3)`` uint8 RGB."""
        return self.clip.frame(self.number)

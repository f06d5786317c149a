"""What the first, middle and last picture of each camera say: frozen, black, damaged, and what they look like."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_data.core import Array, Episode
from vla_data.errors import DataError
from vla_data.media.frames import ClipFrame, Frames, Stored
from vla_data.media.images import Pixels

DARK: Final = 16
"""Brightness, of 255, below which nothing is to be seen."""
BRIGHTER: Final = 1
"""Of 255; a smaller difference between neighbours is none."""
_ROWS: Final = 8
_COLUMNS: Final = 9
_ENOUGH: Final = (4 * _ROWS, 4 * _COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The cameras of an episode.

    Attributes:
        frozen: names of those whose picture never changes.
        black: names of those that show nothing.
        damaged: names of those with a picture that can't be decoded.
        hashes: name -> hashes of the first, middle and last picture, see `difference_hash`; without cameras
            whose pictures were not looked at.
    """

    frozen: tuple[str, ...] = ()
    black: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    hashes: tuple[tuple[str, tuple[int, int, int]], ...] = ()

    def count(self, names: tuple[str, ...]) -> int | None:
        """How many cameras; None where none was looked at."""
        return len(names) if self.hashes or self.damaged else None

    def __str__(self) -> str:
        odd = {"frozen": self.frozen, "black": self.black, "damaged": self.damaged}
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in odd.items() if names)


def look(episode: Episode, *, video: bool = False) -> Seen:
    """Look at three pictures of each camera.

    Args:
        episode: any.
        video: also at pictures inside of videos, which takes decoding them.
    """
    frozen, black, damaged, hashes = [], [], [], []
    for name, frames in sorted(episode.frames.items()):
        at = _three(len(frames))
        if not at or (not video and any(_is_in_video(frames.items[i]) for i in at)):
            continue
        try:
            cells = {i: brightness(frames.pixels(i, at_least=_ENOUGH)) for i in sorted(set(at))}
        except DataError:
            damaged.append(name)
            continue
        if len(frames) > 2 and len({_bytes(frames, i) for i in at}) == 1:
            frozen.append(name)
        if all((cell < DARK).all() for cell in cells.values()):
            black.append(name)
        first, middle, last = (difference_hash(cells[i]) for i in at)
        hashes.append((name, (first, middle, last)))
    return Seen(frozen=tuple(frozen), black=tuple(black), damaged=tuple(damaged), hashes=tuple(hashes))


def brightness(pixels: Pixels) -> Array:
    """``(8, 9)`` float64 of 0..255: means of the cells of a grid over ``(height, width, 3)`` pixels."""
    grey = pixels.mean(axis=2)
    for axis, cells in ((0, _ROWS), (1, _COLUMNS)):
        size = grey.shape[axis]
        starts = np.arange(cells) * size // cells
        counts = np.maximum(np.diff(np.append(starts, size)), 1)
        grey = np.add.reduceat(grey, starts, axis=axis) / counts.reshape((-1, 1) if axis == 0 else (1, -1))
    return np.asarray(grey)


def difference_hash(cells: Array) -> int:
    """64 bits, row by row: whether each cell is brighter than the one on its left (by more than `BRIGHTER`).

    It stays nearly the same when a picture is scaled or compressed; Krawetz, "Kind of Like That", 2013, describes
    it without the margin, which is here so that noise on an even surface says nothing.
    """
    bits = np.diff(cells, axis=1) > BRIGHTER
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def contents(frames: Frames) -> list[bytes]:
    """The first, middle and last image: its bytes as stored, or its pixels where it is no file of its own; nothing
    of images inside of a video, and of damaged ones.
    """
    out = []
    for i in sorted(set(_three(len(frames)))):
        if not _is_in_video(frames.items[i]):
            with contextlib.suppress(DataError):
                out.append(_bytes(frames, i))
    return out


def _three(length: int) -> tuple[int, ...]:
    return (0, length // 2, length - 1) if length else ()


def _bytes(frames: Frames, i: int) -> bytes:
    item = frames.items[i]
    return bytes(item) if isinstance(item, bytes | memoryview) else frames.pixels(i).tobytes()


def _is_in_video(item: Stored) -> bool:
    return isinstance(item, ClipFrame)

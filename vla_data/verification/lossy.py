"""What a sink's encoder loses of a source's images, so that nothing else is taken for its loss.

How much an encoder loses depends on the picture: noise comes out of JPEG at 13 dB, a still kitchen at 45 dB. No
one limit tells that from a damage, so the image is encoded again with the recorded settings:

- Where the recorded versions of the encoding packages are those that are installed, the result must be the same,
  pixel for pixel. JPEG and both video encoders, on one thread, are deterministic.
- Elsewhere an image may lose a little more than the encoding here does: its mean squared error to the source at
  most 3 dB more, and that of any block of 16x16 pixels at most 6 dB more than the same block's or the whole
  image's, whichever is larger. Errors below 4 (two levels of 255, 42 dB) count as 4, since encoders that lose next
  to nothing differ much in how little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Sink
from vla_data.core.base import traits_of
from vla_data.core.traits import Pictures
from vla_data.jobs.job import versions
from vla_data.media import images
from vla_data.media.frames import ClipFrame, Frames
from vla_data.media.images import Pixels
from vla_data.media.video_settings import VideoCopy, settings_of

# Packages that make pixels of bytes and bytes of pixels.
_PACKAGES: Final = ("av", "pillow", "simplejpeg")
_BLOCK: Final = 16
_FLOOR: Final = 4.0
_FRAME_MORE: Final = 10**0.3
_BLOCK_MORE: Final = 10**0.6


@dataclass(frozen=True)
class Encoder:
    """A sink's encoder of images.

    Attributes:
        sink: with its settings: ``video``, ``images``, ``jpeg_quality`` and ``channel_order``; one without them
            stores pixels as they are.
        made: versions of packages with which the dataset was made, from its manifest.
    """

    sink: Sink
    made: Mapping[str, str]

    @property
    def is_lossless(self) -> bool:
        """Whether every pixel of every camera is stored."""
        return self._pictures.video is None and self._pictures.encoding in (None, "png")

    def is_exact(self, frames: Frames) -> bool:
        """Whether encoding ``frames`` here must give what the dataset has."""
        lazy = any(not isinstance(item, bytes | memoryview | np.ndarray) for item in frames.items)
        if lazy and "av" not in self.made:  # images of a video or a file, whose reader's version nobody noted
            return False
        here = versions(self.sink)
        return all(self.made.get(name) == here.get(name) for name in _PACKAGES)

    def hands_on(self, frames: Frames, t: int) -> bool:
        """Whether image ``t`` is stored as it is, because it has the sink's encoding already."""
        item = frames.items[t]
        pictures = self._pictures
        if pictures.video is not None or pictures.swapped or not isinstance(item, bytes | memoryview):
            return False
        return images.header(item).encoding == pictures.encoding

    def again(self, frames: Frames, name: str, *, fps: float) -> Frames:
        """``frames`` of a camera as they come out of this encoder. Those of a video can be looked at in order,
        each once.
        """
        settings = settings_of(self._pictures.video, name)
        if settings is None:
            items: tuple[Any, ...] = tuple(_Still(self, frames, t) for t in range(len(frames)))
        else:
            from vla_data.media import clips, video  # load a video library, which images need not

            copy = isinstance(self._pictures.video, VideoCopy)
            clip = _Clip(video.decode(clips.encode(frames, settings, fps=fps, copy=copy).clip.data))
            items = tuple(ClipFrame(clip, t) for t in range(len(frames)))
        return Frames(items, frames.height, frames.width)

    def still(self, pixels: Pixels) -> Pixels:
        """One image as it comes out of this encoder."""
        order = slice(None, None, -1 if self._pictures.swapped else 1)
        data = images.encode(pixels[..., order], "jpeg", quality=self._pictures.jpeg_quality)
        return images.decode(data)[..., order]

    @property
    def _pictures(self) -> Pictures:
        return traits_of(self.sink).pictures


@dataclass(frozen=True, slots=True)
class _Still:
    """An image that is encoded and decoded when somebody looks at it."""

    encoder: Encoder
    frames: Frames
    number: int

    def pixels(self) -> Pixels:
        return self.encoder.still(self.frames.pixels(self.number))


class _Clip:
    """A video whose frames are decoded as far as somebody looks."""

    def __init__(self, decoded: Iterator[Pixels]) -> None:
        self._decoded = enumerate(decoded)

    def frame(self, number: int) -> Pixels:
        return next(pixels for t, pixels in self._decoded if t == number)


def is_plausible(source: Pixels, again: Pixels, found: Pixels) -> bool:
    """Whether ``found`` may be what another version makes of ``source``, of which this one makes ``again``."""
    ours, theirs = _errors(source, again), _errors(source, found)
    whole = max(_mean(source, again), _FLOOR)
    if _mean(source, found) > _FRAME_MORE * whole:
        return False
    return bool((theirs <= _BLOCK_MORE * np.maximum(ours, whole)).all())


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio of two 8-bit images, in dB; 100 for equal ones."""
    error = _mean(a, b)
    return 100.0 if error == 0 else float(10 * np.log10(255.0**2 / error))


def _squares(a: Pixels, b: Pixels) -> NDArray[np.float32]:
    squares: NDArray[np.float32] = (a.astype(np.float32) - b.astype(np.float32)) ** 2
    return squares


def _mean(a: Pixels, b: Pixels) -> float:
    return float(np.mean(_squares(a, b), dtype=np.float64))


def _errors(a: Pixels, b: Pixels) -> NDArray[np.float64]:
    """Mean squared error of each block; those at the right and the bottom may be smaller."""
    squares = _squares(a, b).mean(axis=2, dtype=np.float64)
    rows, columns = (np.arange(0, side, _BLOCK) for side in squares.shape)
    sums = np.add.reduceat(np.add.reduceat(squares, rows, axis=0), columns, axis=1)
    heights, widths = (np.diff([*np.arange(0, side, _BLOCK), side]) for side in squares.shape)
    errors: NDArray[np.float64] = sums / np.outer(heights, widths)
    return errors

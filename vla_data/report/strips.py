"""Contact strips: a few small pictures of an episode side by side, inside the page."""

from __future__ import annotations

import base64
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_data.core import Episode
from vla_data.media import images
from vla_data.media.images import Pixels
from vla_data.report.words import escaped

PICTURES: Final = 8
CAMERAS: Final = 2
MOST_BYTES: Final = 4 << 20
"""Of all pictures of a page; strips beyond are left out, and the page says so."""
_SIDE: Final = 160
_QUALITY: Final = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Pictures of one camera of an episode.

    Attributes:
        episode: its id.
        note: what else is said of it, such as why it was dropped.
        camera: name of the feature.
        steps: where the pictures are from, positions in the episode.
        pictures: a JPEG each.
        size: of each, width and height in pixels.
    """

    episode: str
    note: str
    camera: str
    steps: tuple[int, ...]
    pictures: tuple[bytes, ...]
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of the pictures, before they are written as text."""
        return sum(map(len, self.pictures))

    def to_html(self) -> str:
        """A figure; everything of strangers in it is escaped."""
        note = f" · {escaped(self.note)}" if self.note else ""
        caption = f"<b>{escaped(self.episode)}</b> · {escaped(self.camera)}{note}"
        return f"<figure class=strip><figcaption>{caption}</figcaption>{self.film()}</figure>"

    def film(self, marked: Container[int] = ()) -> str:
        """The pictures side by side; those of ``marked`` steps have a frame."""
        width, height = self.size
        shown = "".join(
            f'<img{" class=marked" if step in marked else ""} width="{width}" height="{height}" '
            f'alt="step {step}{", positive" if step in marked else ""}" title="step {step}" '
            f'src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
            for step, data in zip(self.steps, self.pictures, strict=True)
        )
        name = f"pictures of {escaped(self.episode)}"
        return f'<div class=film tabindex=0 role=group aria-label="{name}">{shown}</div>'


def strips_of(episode: Episode, note: str = "") -> list[Strip]:
    """A strip for each of the first `CAMERAS` cameras, `PICTURES` pictures evenly from the first to the last step.

    Raises:
        DataError: an image can't be decoded.
    """
    if not len(episode):
        return []
    steps = np.unique(np.linspace(0, len(episode) - 1, min(PICTURES, len(episode))).round().astype(int))
    out = []
    for camera in sorted(episode.frames)[:CAMERAS]:
        frames = episode.frames[camera]
        small = [
            thumbnail(frames.pixels(int(step), at_least=_least(frames.height, frames.width))) for step in steps
        ]
        out.append(
            Strip(
                episode=episode.id,
                note=note,
                camera=camera,
                steps=tuple(map(int, steps)),
                pictures=tuple(images.encode(one, "jpeg", quality=_QUALITY) for one in small),
                size=(small[0].shape[1], small[0].shape[0]),
            )
        )
    return out


def thumbnail(pixels: Pixels) -> Pixels:
    """``(height, width, 3)`` uint8, at most 160 pixels a side: the mean of blocks of whole pixels."""
    block = -(-max(pixels.shape[:2]) // _SIDE)
    if block <= 1:
        return pixels
    height, width = (max(side // block, 1) for side in pixels.shape[:2])
    cut = pixels[: height * block, : width * block]
    rows, columns = min(block, cut.shape[0]), min(block, cut.shape[1])
    blocks = cut.reshape(height, rows, width, columns, 3)
    small: Pixels = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
    return small


def _least(height: int, width: int) -> tuple[int, int]:
    """The size that a JPEG decoder may scale down to."""
    scale = min(1.0, _SIDE / max(height, width, 1))
    return max(int(height * scale), 1), max(int(width * scale), 1)

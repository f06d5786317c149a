"""An image that lies somewhere in a file, encoded or as pixels, and is read from there when it is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import google_crc32c
import numpy as np

from vla_data.errors import DataError
from vla_data.media.images import Pixels, decode
from vla_data.safety.pieces import Pieces


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """The place of an image; its bytes are checked each time that it is looked at.

    Attributes:
        file: where it is.
        start: its first byte.
        size: bytes of it.
        crc: their CRC-32C when they were found.
    """

    file: Pieces
    start: int
    size: int
    crc: int

    def data(self) -> bytes:
        """The bytes.

        Raises:
            DataError: E109 when they are others by now, E105 or E133 when they are not there.
        """
        data = self.file.read(self.start, self.size)
        if google_crc32c.value(data) != self.crc:
            raise DataError("E109", "an image on disk has changed since the mixture was opened")
        return data

    def pixels(self, at_least: tuple[int, int] | None = None) -> Pixels:
        """``(height, width, 3)`` uint8 RGB; see `vla_data.media.images.decode`.

        Raises:
            DataError: as `data`.
        """
        return decode(self.data(), at_least=at_least)


@dataclass(frozen=True, slots=True, eq=False)
class LocatedPixels:
    """An image that lies in a file as its pixels.

    Attributes:
        place: of its bytes.
        height: in pixels.
        width: in pixels.
    """

    place: Located
    height: int
    width: int

    def pixels(self, at_least: tuple[int, int] | None = None) -> Pixels:
        """``(height, width, 3)`` uint8 RGB, of this size whatever is enough.

        Raises:
            DataError: as `Located.data`.
        """
        return np.frombuffer(self.place.data(), dtype=np.uint8).reshape(self.height, self.width, 3)

"""An encoded image that lies somewhere in a file, and is read from there when it is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import google_crc32c

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

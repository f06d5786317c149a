"""An encoded image that lies somewhere in a file, which is mapped into memory."""

from __future__ import annotations

from dataclasses import dataclass

import google_crc32c

from vla_data.errors import DataError
from vla_data.media.images import Pixels, decode


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """The bytes of an image in a map; they are checked each time that the image is looked at.

    Attributes:
        data: the bytes.
        crc: their CRC-32C when they were found.
    """

    data: memoryview
    crc: int

    def pixels(self, at_least: tuple[int, int] | None = None) -> Pixels:
        """``(height, width, 3)`` uint8 RGB; see `vla_data.media.images.decode`.

        Raises:
            DataError: E109 when the bytes are others by now.
        """
        data = bytes(self.data)
        if google_crc32c.value(data) != self.crc:
            raise DataError("E109", "an image on disk has changed since the mixture was opened")
        return decode(data, at_least=at_least)

"""A camera's video files, read as the packets that they hold: `converters.lerobot.check` looks at those."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converters.lerobot.check_info import video_files


@dataclass(frozen=True)
class Piece:
    """The frames of an episode in a video file: numbers in it, and the digests of their packets."""

    file: str
    start: int
    stop: int
    packets: list[bytes]


class Track:
    """A camera's files, episode after episode."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._left = iter(video_files(root, name))
        self._file = ""
        self._packets: list[bytes] = []
        self._at = 0
        self.readable = True

    def take(self, count: int) -> Piece:
        """The next ``count`` frames, which no file's end divides."""
        from vla_data.media import packets  # loads a video library, which other datasets need not

        if self._at == len(self._packets):
            path = next(self._left, None)
            self._at, self._packets = 0, []
            try:
                if path is not None:
                    self._file = path.relative_to(self._root).as_posix()
                    self._packets = packets.packet_digests(str(path))
            except Exception:  # FFmpeg's errors are of many classes; `_examine_videos` names the file
                self.readable = False
        start, self._at = self._at, min(self._at + count, len(self._packets))
        return Piece(self._file, start, start + count, self._packets[start : self._at])

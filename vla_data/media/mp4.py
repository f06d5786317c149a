"""Opening an mp4 file: what it says of itself is looked at before FFmpeg believes it.

A few kilobytes may hold a header of gigabytes (``cmov``, a compressed one, which QuickTime knew and no writer of
today makes), or say that a track has more samples than the file has bytes. Boxes: ISO/IEC 14496-12.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any, Final

import av

from vla_data.errors import DataError
from vla_data.safety.files import opened

FORMAT: Final = "mp4"
_ALONE: Final = {"enable_drefs": "0", "use_absolute_path": "0"}
"""What a file says of data in other files is not followed. It is FFmpeg's default too."""
MAX_HEADER: Final = 256 << 20
"""Bytes of all boxes but those with frames; a frame takes about 20."""
MAX_BOXES: Final = 1_000_000
_FRAMES: Final = b"mdat"
_COMPRESSED: Final = re.compile(rb"cmov.{4}dcom", re.DOTALL)
_COUNTS: Final = re.compile(rb"(?:stsz.{8}|trun.{4})(.{4})", re.DOTALL)


def open_video(source: Any) -> Any:
    """A video file (a path or a readable stream) to read from, as mp4 whatever it holds.

    FFmpeg would otherwise guess the format, and several formats are lists of other files or addresses to read.

    Raises:
        DataError: E131 or E133, the path is of no regular file; E107 or E109 for a header that means far more than
            it holds.
    """
    if not isinstance(source, str | Path):
        return av.open(source, "r", format=FORMAT, options=dict(_ALONE))
    with opened(Path(source)) as name:
        check(int(name.rpartition("/")[2]), Path(source).name)
        return av.open(name, "r", format=FORMAT, options={**_ALONE, "protocol_whitelist": "file"})


def check(handle: int, name: str) -> None:
    """Refuse a file whose header means far more than it holds. What is no mp4 file is left to FFmpeg.

    Args:
        handle: descriptor of the file.
        name: of it, for messages.

    Raises:
        DataError: E109 for a compressed header, E107 for one that is too large or has more samples than bytes.
    """
    size = os.fstat(handle).st_size
    at = taken = 0
    for _ in range(MAX_BOXES):
        head = os.pread(handle, 16, at)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # to the end of the file
            length = size - at
        if kind != _FRAMES:  # FFmpeg looks for a header in ``free`` boxes too
            here = min(length, size - at)
            taken += here
            if taken > MAX_HEADER:
                raise DataError("E107", f"{name} has a header of more than {MAX_HEADER:,} bytes")
            _check_header(os.pread(handle, here, at), size, name)
        at += length
    raise DataError("E107", f"{name} has more than {MAX_BOXES:,} boxes")


def _check_header(data: bytes, size: int, name: str) -> None:
    if _COMPRESSED.search(data):
        raise DataError("E109", f"{name} has a compressed header (cmov), which is not read")
    for found in _COUNTS.finditer(data):
        (count,) = struct.unpack(">I", found[1])
        if count > size:
            raise DataError("E107", f"{name} says that it has {count:,} samples in {size:,} bytes")

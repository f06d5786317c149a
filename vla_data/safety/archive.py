"""Zip archives as ``np.savez`` writes them, read without trust.

Members are read into memory by exact name and never extracted. An archive that two zip readers could
understand differently (overlapping or repeated members, other names in local and central headers, data
before, between or after the members) is refused as odd.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any, Final

import deflate

from vla_data.errors import DataError
from vla_data.safety.text import show

MAX_MEMBERS: Final = 1024
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_END: Final = struct.Struct("<4s4H2IH")
_END_MARK: Final = b"PK\x05\x06"
_IN_EXTRA: Final = 0xFFFFFFFF
_STREAMED: Final = 0x8
_FLAGS: Final = 0x6 | _STREAMED | 0x800  # compression level, streamed, UTF-8 name: what NumPy may write
_DESCRIPTOR: Final = 24  # the longest data descriptor that may follow a streamed member


class Archive:
    """A zip file in memory whose structure has been checked; ``names`` are its members in file order."""

    def __init__(self, data: bytes | memoryview, *, name: str, max_bytes: int) -> None:
        self._view = memoryview(data)
        self._name = name
        self._max_bytes = max_bytes
        self._check_end()
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                infos = archive.infolist()
                start = archive.start_dir
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, UnicodeError) as error:
            raise DataError("E108", f"{name} is not a sound zip archive ({show(error, escaped=True)})") from None
        self._infos = {info.filename: info for info in infos}
        self._offsets = self._check(infos, start)
        self.names = tuple(self._infos)

    def _check_end(self) -> None:
        # np.savez writes no comment, so the end record is the last 22 bytes; the zipfile module would
        # search backwards and accept others. This also bounds the number of members before they are read.
        tail = bytes(self._view[-_END.size :])
        if len(tail) < _END.size or tail[:4] != _END_MARK:
            window = bytes(self._view[-65_558:])
            at = window.rfind(_END_MARK)
            if 0 <= at <= len(window) - _END.size:
                raise DataError("E108", f"{self._name} has data after its end")
            raise DataError("E105", f"{self._name} has no end record: the file is cut or is not a zip archive")
        _, disk, first, here, total, *_, comment = _END.unpack(tail)
        if disk or first or here != total or comment:
            raise DataError("E108", f"{self._name} is not a single plain archive")
        if total > MAX_MEMBERS:
            raise DataError("E108", f"{self._name} has {total:,} members, more than {MAX_MEMBERS:,}")
        self._count = total

    def _check(self, infos: list[zipfile.ZipInfo], start: int) -> dict[str, int]:
        """Offset of each member's data, if the archive can be understood in one way only."""
        if len(infos) != self._count:
            raise DataError("E108", f"{self._name} has another number of members than it declares")
        if len(self._infos) != len(infos):
            raise DataError("E108", f"{self._name} has two members of one name")
        if sum(info.file_size for info in infos) > self._max_bytes:
            raise DataError("E107", f"{self._name} declares more than {self._max_bytes:,} bytes")
        at = gap_allowed = 0
        offsets = {}
        for number, info in enumerate(sorted(infos, key=lambda info: info.header_offset)):
            what = f"member {number} of {self._name}"
            if info.flag_bits & ~_FLAGS:
                raise DataError("E108", f"{what} is encrypted, patched or otherwise odd")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError("E108", f"{what} is neither stored nor deflated")
            if not 0 <= info.header_offset - at <= gap_allowed:
                raise DataError("E108", f"{what} overlaps another one or follows stray bytes")
            data_at = self._local_header(info, start, what)
            at = data_at + info.compress_size
            if at > start:
                raise DataError("E108", f"{what} lies outside of the archive")
            offsets[info.filename] = data_at
            gap_allowed = _DESCRIPTOR if info.flag_bits & _STREAMED else 0
        if start - at > gap_allowed:
            raise DataError("E108", f"{self._name} has stray bytes after its members")
        return offsets

    def _local_header(self, info: zipfile.ZipInfo, start: int, what: str) -> int:
        """Check that a member's own header says what the directory says; returns where its data starts."""
        if info.header_offset + _LOCAL.size > start:
            raise DataError("E108", f"{what} lies outside of the archive")
        fields: tuple[Any, ...] = _LOCAL.unpack_from(self._view, info.header_offset)
        magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = fields
        name_at = info.header_offset + _LOCAL.size
        extra_at = name_at + name_length
        extra = bytes(self._view[extra_at : extra_at + extra_length])
        if (packed, size) == (_IN_EXTRA, _IN_EXTRA) and extra[:4] == b"\x01\x00\x10\x00" and len(extra) >= 20:
            size, packed = struct.unpack_from("<QQ", extra, 4)  # np.savez always writes this zip64 form
        same = (flags, method) == (info.flag_bits, info.compress_type)
        if not info.flag_bits & _STREAMED:
            same &= (crc, packed, size) == (info.CRC, info.compress_size, info.file_size)
        name = bytes(self._view[name_at:extra_at])
        same &= info.filename == info.orig_filename
        same &= name == info.orig_filename.encode("utf-8" if flags & 0x800 else "cp437", "replace")
        if magic != b"PK\x03\x04" or not same:
            raise DataError("E108", f"{what} is described in two ways")
        return int(extra_at + extra_length)

    def read(self, name: str) -> bytes | memoryview:
        """The content of one member, checked against its declared size and CRC.

        Raises:
            DataError: E105 when the content is damaged or not as long as declared.
        """
        info = self._infos[name]
        member = show(name)
        at = self._offsets[name]
        raw = self._view[at : at + info.compress_size]
        data: bytes | memoryview
        if info.compress_type == zipfile.ZIP_STORED:
            if info.compress_size != info.file_size:
                raise DataError("E108", f"{member} of {self._name} declares two sizes")
            data = raw
        else:
            # Deflate expands at most 1032 times, so a larger claim is a lie: refused before allocating.
            if info.file_size > 1032 * max(info.compress_size, 1) + 64:
                raise DataError("E105", f"{member} of {self._name} can't hold {info.file_size:,} bytes")
            try:
                data = memoryview(deflate.deflate_decompress(raw, info.file_size)) if info.file_size else b""
            except Exception as error:  # the binding raises its own DeflateError, and ValueError
                raise DataError("E105", f"{member} of {self._name} is damaged ({error})") from None
        if len(data) != info.file_size or deflate.crc32(data) != info.CRC:
            raise DataError("E105", f"{member} of {self._name} is damaged (checksum)")
        return data

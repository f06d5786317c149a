"""The two places of a zarr store: a folder, and a zip archive. Both give a file's bytes by its name."""

from __future__ import annotations

import io
import os
import weakref
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from vla_data.errors import DataError, UsageError
from vla_data.files.folders import is_hidden
from vla_data.safety.files import LINKED, open_binary, read_file, state_of
from vla_data.safety.text import show
from vla_data.safety.zarr_array import MAX_CHUNK

MAX_PACKED: Final = MAX_CHUNK + (64 << 20)  # of a chunk that does not compress
MAX_MEMBERS: Final = 10_000_000
_DIGITS: Final = 18
_PLAIN: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Store(Protocol):
    """Where the files of a store are."""

    def read(self, name: str) -> bytes | None:
        """A file; None: it is not there.

        Raises:
            DataError: it can't be read.
        """
        ...

    def folders(self, name: str) -> list[str]:
        """Names of the folders right below a folder, sorted.

        Raises:
            UsageError: one of them is a link.
        """
        ...

    def state(self, name: str) -> object:
        """What tells a file, as it is now, from another in its place."""
        ...

    def chunks(self, name: str) -> Callable[[int, int], object]:
        """First of chunks, and the one after the last -> what tells these, as they are now, from others."""
        ...


class FolderStore:
    """A folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        try:
            path, is_chunk = self._root / name, not name.rpartition("/")[2].startswith(".")
            return read_file(path, root=self._root, max_bytes=MAX_PACKED, anything=is_chunk)[0]
        except DataError as error:
            if error.code == "E133":
                return None
            raise

    def folders(self, name: str) -> list[str]:
        """See `Store`."""
        out = []
        try:
            entries = sorted(os.scandir(self._root / name), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_symlink():
                raise UsageError("E131", f"{show(name)}/{show(entry.name)} is {LINKED}")
            if entry.is_dir():
                out.append(entry.name)
        return out

    def state(self, name: str) -> object:
        """See `Store`."""
        return state_of(self._root / name)

    def chunks(self, name: str) -> Callable[[int, int], object]:
        """See `Store`. Files that are there are looked at, since metadata may promise any number of them."""
        found: dict[int, int] = {}
        todo: list[tuple[str, int | None]] = [(str(self._root / name), None)]
        while todo:
            folder, first = todo.pop()
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    number = _first(entry.name) if first is None else first
                    if entry.is_dir(follow_symlinks=False):
                        todo.append((entry.path, number))
                    elif number >= 0:
                        facts = entry.stat(follow_symlinks=False)
                        mark = (entry.path, facts.st_ino, facts.st_size, facts.st_mtime_ns)
                        found[number] = found.get(number, 0) ^ hash(mark)
        numbers = sorted(found)

        def told(start: int, stop: int) -> object:
            there = numbers[bisect_left(numbers, start) : bisect_left(numbers, stop)]
            return hash(tuple((number, found[number]) for number in there))

        return told


class ZipStore:
    """A zip archive, as zarr's ``ZipStore`` writes it: never unpacked, its members read by their exact names.

    Args:
        path: the archive.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.BufferedReader = open_binary(path, root=None)
        weakref.finalize(self, self._file.close)  # as long as somebody reads, it is open
        try:
            self._zip = zipfile.ZipFile(self._file)
            infos = self._zip.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeError, EOFError, OSError) as error:
            raise UsageError("E108", f"{show(path)} is no sound zip archive ({show(str(error))[:120]})") from None
        self._infos = {info.filename: info for info in infos}
        self._folders: dict[str, list[str]] = {}
        size = os.fstat(self._file.fileno()).st_size
        odd = next((why for info in infos if (why := _odd(info, size))), None)
        if len(self._infos) != len(infos):
            odd = "it has two members of one name"
        if len(infos) > MAX_MEMBERS:
            odd = f"it has {len(infos):,} members"
        if odd:
            raise UsageError("E108", f"{show(path)}: {odd}")

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        info = self._infos.get(name)
        if info is None:
            return None
        if info.file_size > MAX_PACKED:
            raise DataError("E107", f"{show(name)} has {info.file_size:,} bytes, more than {MAX_PACKED:,}")
        try:
            with self._zip.open(info) as member:
                data = member.read(info.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
            raise DataError("E105", f"{show(name)} is damaged ({show(str(error))[:120]})") from None
        if len(data) != info.file_size:
            raise DataError("E105", f"{show(name)} has {len(data):,} bytes, not {info.file_size:,}")
        return data

    def folders(self, name: str) -> list[str]:
        """See `Store`."""
        if name not in self._folders:  # of all folders there may be more than memory holds: 32,000 in one name
            above = f"{name}/"
            below = (member.removeprefix(above) for member in self._infos if member.startswith(above))
            self._folders[name] = sorted(
                {
                    first
                    for first, slash, _ in (one.partition("/") for one in below)
                    if slash and not is_hidden(first)
                }
            )
        return self._folders[name]

    def state(self, name: str) -> object:
        """See `Store`: the archive's."""
        del name
        return state_of(self._path)

    def chunks(self, name: str) -> Callable[[int, int], object]:
        """See `Store`: the archive's."""
        state = self.state(name)
        return lambda _start, _stop: state


def _first(name: str) -> int:
    """The first number in the name of a chunk; -1 in that of anything else."""
    first = name.partition(".")[0]
    return int(first) if first.isascii() and first.isdecimal() and len(first) <= _DIGITS else -1


def _odd(info: zipfile.ZipInfo, size: int) -> str | None:
    """What is wrong with a member of an archive of this size."""
    name = show(info.filename)[:80]
    if info.flag_bits & 0x1 or info.compress_type not in _PLAIN:
        return f"{name} is encrypted, or neither stored nor deflated"
    if info.filename != info.orig_filename or info.header_offset + info.compress_size > size:
        return f"{name} is described in two ways or lies outside"
    return None


def open_store(path: Path) -> FolderStore | ZipStore:
    """The store at a path.

    Raises:
        UsageError: E003 where nothing is, E108 for a file that is no sound archive.
    """
    if path.is_dir():
        return FolderStore(path)
    try:
        return ZipStore(path)
    except DataError as error:
        raise UsageError(
            "E003" if error.code == "E133" else error.code, f"{show(path)}: {error.message}"
        ) from None

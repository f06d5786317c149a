"""Seals: a ``SHA256SUMS`` beside rollouts, written when they are collected.

A flipped bit in an ``.npy`` file can't be noticed by anyone afterwards; with a seal it is. The file is in the
format of ``sha256sum``, so ``sha256sum -c SHA256SUMS`` checks it without this package.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from vla_data.errors import DataError, UsageError
from vla_data.files.write import files_below, write_file
from vla_data.names import natural
from vla_data.safety.files import read_file
from vla_data.safety.text import show

SEAL: Final = "SHA256SUMS"
_LINE: Final = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")


def read_seal(folder: Path) -> Mapping[str, str] | None:
    """Relative path -> SHA-256 from the seal of a folder, or None where there is no seal.

    Raises:
        UsageError: E001 when the seal is not in ``sha256sum``'s format.
    """
    path = folder / SEAL
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    return _parse(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=4)
def _parse(path: Path, _mtime: int, _size: int) -> Mapping[str, str]:
    try:
        data, _ = read_file(path, root=path.parent)
    except DataError as error:
        raise UsageError("E001", f"{SEAL}: {error.message}") from None
    return dict(parse_sums(data))


def parse_sums(data: bytes) -> Iterable[tuple[str, str]]:
    """(relative path, SHA-256) of each line of a ``sha256sum`` file."""
    lines = os.fsdecode(data).split("\n")
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError("E001", f"line {number} of {SEAL} is not in the format of sha256sum")
        name = match[3]
        if match[1]:
            name = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], name)
        yield name, match[2]


def format_sums(sums: Mapping[str, str]) -> bytes:
    """The lines of a ``sha256sum`` file, in natural order; names with newlines are escaped as it does."""
    lines = []
    for name in sorted(sums, key=natural):
        escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"{chr(92) if escaped != name else ''}{sums[name]}  {escaped}\n")
    return os.fsencode("".join(lines))


def hash_tree(path: Path, *, without: Collection[str] = ()) -> str:
    """SHA-256 of a file, or over the names and SHA-256 of a folder's files, sorted by their paths.

    Args:
        path: of either.
        without: names of files and folders in it that do not count.

    Raises:
        OSError: it is not there, or can't be read.
    """
    if not path.is_dir():
        return hash_file(path)
    files = [one for one in files_below(path) if one.is_file()]
    inside = [(one, one.relative_to(path)) for one in files]
    lines = [f"{hash_file(one)}  {name.as_posix()}\n" for one, name in inside if not {*name.parts} & {*without}]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a regular file's content, in hexadecimal.

    Raises:
        OSError: it can't be read; EINVAL for a FIFO, a device and the like, for which nobody waits.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_seal(folder: Path, names: Iterable[str]) -> int:
    """Write the seal of these files, given relative to ``folder``; returns how many there are.

    Raises:
        DataError: E132 when a file that an earlier seal covers has changed since, E133 when it is gone, E131
            for what is no regular file; nothing is written.
    """
    old = read_seal(folder) or {}
    sums = {}
    for name in names:
        try:
            sums[name] = read_file(folder / name, root=folder)[1]
        except DataError as error:
            raise DataError(error.code, f"{show(name)}: {error.message}") from None
    for name, digest in sums.items():
        if old.get(name, digest) != digest:
            raise DataError(
                "E132",
                f"{show(name)} differs from its line in {SEAL}; get the file back, or remove {SEAL} and "
                "seal again",
            )
    write_file(folder / SEAL, format_sums({**old, **sums}))
    return len(sums)

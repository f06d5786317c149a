"""Opening files that a stranger named or placed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final

from vla_data.errors import DataError

MAX_FILE: Final = 2 << 30
Facts = tuple[int, int, int, int]
LINKED: Final = (
    "a link to a file outside of the folder; what leads outside is not followed: copy it there (cp -rL), or "
    "download with hf download --local-dir"
)
_BLOB: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_POINTER: Final = b"version https://git-lfs.github.com/spec/"


def is_own(real: Path, path: Path, root: Path) -> bool:
    """Whether a file that ``path`` leads to belongs to the folder ``root``.

    It does if it lies there, or if ``root`` is a snapshot in the cache of huggingface_hub and the file is one of
    that cache's blobs: ``<repository>/snapshots/<revision>/...`` -> ``<repository>/blobs/<digest>``.

    Args:
        real: ``path`` with all links followed.
        path: as it was named.
        root: the folder.
    """
    whole = root.resolve()
    if real.is_relative_to(whole):
        return True
    if real.parent.name != "blobs" or not _BLOB.fullmatch(real.name):
        return False
    snapshots = real.parent.parent / "snapshots"
    return path.parent.resolve().is_relative_to(whole) and whole.is_relative_to(snapshots) and whole != snapshots


def pointer(head: bytes) -> str:
    """What is wrong with a file that begins so, if it is a pointer of Git LFS instead of data; else nothing."""
    if not head.startswith(_POINTER):
        return ""
    return "a pointer of Git LFS, not the data; fetch them with: git lfs pull"


def open_regular(path: Path, *, root: Path) -> tuple[int, Facts]:
    """A file descriptor of a regular file under ``root``, and what tells this file from another.

    Raises:
        DataError: E131 for anything else, E133 when it is gone.
    """
    try:
        real = path.resolve(strict=True)
        if not is_own(real, path, root):
            raise DataError("E131", LINKED)
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DataError("E133", "the file is not there") from None
    except RuntimeError:  # before Python 3.13
        raise DataError("E131", "a loop of links") from None
    except OSError as error:
        raise DataError("E131", f"it can't be opened ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError("E131", "not a regular file")
    return handle, facts_of(handle)


def facts_of(handle: int) -> Facts:
    """What tells an open file, in its present state, from another: device, inode, size and time of change."""
    found = os.fstat(handle)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read_file(path: Path, *, root: Path, max_bytes: int = MAX_FILE) -> tuple[bytes, str]:
    """The bytes of a regular file and their SHA-256, read once so that both speak of the same bytes.

    Args:
        path: the file; a link is followed only to a file under ``root``.
        root: the folder that the user named.
        max_bytes: larger files are refused before they are read.

    Raises:
        DataError: E131 for anything but a regular file under ``root``, E133 when it is gone, E107 when it is
            too large, E105 when it shrinks while it is read or is a pointer of Git LFS.
    """
    handle, _ = open_regular(path, root=root)
    try:
        facts = os.fstat(handle)
        if facts.st_size > max_bytes:
            raise DataError("E107", f"a file of {facts.st_size:,} bytes, more than {max_bytes:,}")
        pieces = [os.read(handle, facts.st_size)]
        while missing := facts.st_size - sum(map(len, pieces)):
            pieces.append(os.read(handle, missing))
            if not pieces[-1]:
                raise DataError("E105", f"the file ends {missing:,} bytes before its size")
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    finally:
        os.close(handle)
    if told := pointer(data[:64]):
        raise DataError("E105", told)
    return data, hashlib.sha256(data).hexdigest()

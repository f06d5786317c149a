"""Opening files that a stranger named or placed."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

MAX_FILE: Final = 2 << 30
MAX_CONFIG: Final = 16 << 20
_ODD: Final = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENAMETOOLONG, errno.EINVAL)
Facts = tuple[int, int, int, int]
LINKED: Final = (
    "a link to a file outside of the folder; what leads outside is not followed: copy it there (cp -rL), or "
    "download with hf download --local-dir"
)
_BLOB: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# O_NONBLOCK: opening a FIFO must not wait for a writer.
_REGULAR: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PASSED: Final = getattr(os, "O_PATH", os.O_RDONLY)
"""How a folder is opened that is only passed through: with O_PATH it need not be readable."""
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_GZIP: Final = b"\x1f\x8b\x08"
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
_PAGE: Final = 16


def is_own(real: Path, path: Path, root: Path) -> bool:
    """Whether a file that ``path`` leads to belongs to the folder ``root``.

    It does if it lies there, or if ``root`` is a snapshot in the cache of huggingface_hub and the file is one of
    that cache's blobs: ``<repository>/snapshots/<revision>/...`` -> ``<repository>/blobs/<digest>``.

    Args:
        real: ``path`` with all links followed.
        path: as it was named.
        root: the folder.
    """
    whole = Path(os.path.realpath(root))
    if real.is_relative_to(whole):
        return True
    if real.parent.name != "blobs" or not _BLOB.fullmatch(real.name):
        return False
    snapshots = real.parent.parent / "snapshots"
    return path.parent.resolve().is_relative_to(whole) and whole.is_relative_to(snapshots) and whole != snapshots


def no_data(head: bytes) -> str:
    """What a file is that begins so, where it can't be the data that its name promises; else nothing.

    That is a pointer of Git LFS, the page that a server sent instead of the file, or a file within gzip.
    """
    if head.startswith(_POINTER):
        return "a Git LFS pointer, not the data; get the data with: git lfs pull"
    if head.lstrip(_BLANK)[:_PAGE].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page, not the data: what a server sent instead of the file; fetch it again"
    if head.startswith(_GZIP):
        return "compressed by gzip; unpack it first (gunzip)"
    return ""


def damage(path: Path, error: BaseException) -> str:
    """What to say of a file that a library can't read: what it is instead of data, or the library's error by its
    name.
    """
    try:
        with open_binary(path, root=None) as file:
            head = file.read(64)
    except DataError as other:
        return "not there" if other.code == "E133" else other.message
    except OSError as other:
        return f"not readable ({other.strerror})"
    return no_data(head) or (f"damaged ({type(error).__name__})" if head else "an empty file, of 0 bytes")


def open_regular(path: Path, *, root: Path | None) -> tuple[int, Facts]:
    """A file descriptor of a regular file under ``root``, and what tells this file from another.

    Args:
        path: the file; a link is followed only to a file under ``root``.
        root: the folder that the user named; None: whoever names ``path`` has decided where it may lead.

    Raises:
        DataError: E131 for anything else, E133 when it is gone.
    """
    try:
        real = path.resolve(strict=True)
        if root is not None and not is_own(real, path, root):
            raise DataError("E131", LINKED)
        handle = os.open(real, _REGULAR) if root is None else _open_below(real, root)
    except FileNotFoundError:
        raise DataError("E133", "the file is not there") from None
    except RuntimeError:  # before Python 3.13
        raise DataError("E131", "its links lead in a circle") from None
    except ValueError:
        raise DataError("E131", "a name with a NUL in it") from None
    except OSError as error:
        # The machine's failure, as the cause, is told from an odd file.
        raise DataError("E131", f"it can't be opened ({error.strerror})") from (
            None if error.errno in _ODD else error
        )
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError("E131", "not a regular file")
    return handle, facts_of(handle)


def _open_below(real: Path, root: Path) -> int:
    """Open a path that has no links, folder by folder, so that none that becomes a link meanwhile is followed."""
    whole = Path(os.path.realpath(root))
    if real == whole or not real.is_relative_to(whole):  # the file itself was named, or is a blob of a cache
        return os.open(real, _REGULAR)
    *folders, name = real.relative_to(whole).parts
    at = os.open(whole, _PASSED | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, _PASSED | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, _REGULAR, dir_fd=at)
    finally:
        os.close(at)


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path leads to something under ``root``, whatever links are on the way. Loops of links lead nowhere
    and raise nothing; opening them does.
    """
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def read_config(path: Path) -> bytes:
    """The bytes of a file that somebody wrote by hand, and may have got from anybody.

    Raises:
        UsageError: E003, it is not there, or is no regular file of at most 16 MiB.
    """
    try:
        return read_file(path, root=None, max_bytes=MAX_CONFIG)[0]
    except (DataError, OSError) as error:
        raise UsageError("E003", f"{show(path)} can't be read ({machine_said(error)})") from None


def machine_said(error: DataError | OSError) -> str:
    """Why a file can't be read, in the system's words where they are the reason."""
    found = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return found.message if isinstance(found, DataError) else found.strerror or str(found)


def facts_of(handle: int) -> Facts:
    """What tells an open file, in its present state, from another: device, inode, size and time of change."""
    found = os.fstat(handle)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def state_of(path: Path) -> Facts | None:
    """What tells a file, in its present state, from another in its place; None where nothing can be looked at."""
    try:
        found = path.stat()
    except (OSError, RuntimeError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def opened(path: Path, *, root: Path | None = None) -> Iterator[str]:
    """A path that leads to the very file that was checked, for libraries that open by name; see `open_regular`.

    Whoever exchanges the file meanwhile changes nothing; the descriptor behind it is closed in the end.

    Raises:
        DataError: as `open_regular`.
    """
    handle, _ = open_regular(path, root=root)
    try:
        yield f"/dev/fd/{handle}"
    finally:
        os.close(handle)


def open_binary(path: Path, *, root: Path | None) -> io.BufferedReader:
    """A regular file, open for reading; see `open_regular`."""
    return os.fdopen(open_regular(path, root=root)[0], "rb")


_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def folder_below(path: Path, *, root: Path, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder at or below ``root`` to which no link leads. ``root`` itself may be reached by one.

    Args:
        path: the folder.
        root: what the user named.
        make: create what is missing.

    Raises:
        UsageError: E131, a link or no folder is in the way, or ``path`` leads out of ``root``.
        OSError: the machine failed.
    """
    names = path.relative_to(root).parts if path.is_relative_to(root) else ("..",)
    if ".." in names:
        raise UsageError("E131", f"{show(path)} leads out of its folder, and is not written through")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
            try:
                below = os.open(name, _FOLDER, dir_fd=at)
            except OSError as error:
                facts = os.stat(name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISDIR(facts.st_mode):
                    raise
                kind = "a link" if stat.S_ISLNK(facts.st_mode) else "no folder"
                raise UsageError(
                    "E131", f"{show(path)}: {show(name)} is {kind}; it is not written to, so remove it first"
                ) from error
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def hash_regular(path: Path, *, root: Path | None) -> str:
    """SHA-256 of a regular file under ``root``, in hexadecimal; see `open_regular`.

    Raises:
        DataError: as `open_regular`.
    """
    with open_binary(path, root=root) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_file(
    path: Path, *, root: Path | None, max_bytes: int = MAX_FILE, anything: bool = False
) -> tuple[bytes, str]:
    """The bytes of a regular file and their SHA-256, read once so that both speak of the same bytes.

    Args:
        path: the file; a link is followed only to a file under ``root``.
        root: the folder that the user named.
        max_bytes: larger files are refused before they are read.
        anything: whether it may begin as a file does that is sent in the place of another (see `no_data`), because
            its name promises nothing.

    Raises:
        DataError: E131 for anything but a regular file under ``root``, E133 when it is gone, E107 when it is
            too large, E105 when it shrinks while it is read or is a pointer of Git LFS.
    """
    handle, _ = open_regular(path, root=root)
    try:
        facts = os.fstat(handle)
        if facts.st_size > max_bytes:
            raise DataError("E107", f"the file has {facts.st_size:,} bytes, more than {max_bytes:,}")
        pieces = [os.read(handle, facts.st_size)]
        while missing := facts.st_size - sum(map(len, pieces)):
            pieces.append(os.read(handle, missing))
            if not pieces[-1]:
                raise DataError("E105", f"the file ends {missing:,} bytes before its size")
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    finally:
        os.close(handle)
    if not anything and (told := no_data(data[:64])):
        raise DataError("E105", told)
    return data, hashlib.sha256(data).hexdigest()

"""Every write of a job goes through here, so that each can be made to fail in a test.

A file is written beside its name, synced and renamed; a reader never meets half of one.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vla_data.errors import MachineError
from vla_data.safety.text import show

Piece = bytes | bytearray | memoryview

hook: Callable[[str, Path], None] | None = None
"""Called before each step of a write with its name and path. For fault-injection tests only."""


def step(name: str, path: Path) -> None:
    """A place where a test may let the machine fail."""
    if hook is not None:
        hook(name, path)


@contextmanager
def machine_errors(what: str) -> Any:
    """Turn the operating system's errors into a `MachineError` with exit code 7."""
    try:
        yield
    except OSError as error:
        reason = f"{what}: {error.strerror or error}"
        if error.filename:
            reason += f" ({show(Path(os.fsdecode(error.filename)).name)})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise MachineError("E701", reason) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise MachineError("E702", reason) from error
        raise MachineError("E703", reason) from error


def write_file(path: Path, data: Piece | Iterable[Piece], *, sync: bool = True, alone: bool = True) -> int:
    """Write a whole file atomically; returns its size.

    Args:
        path: the file.
        data: its content, or pieces of it.
        sync: False for what may be lost but not wrong.
        alone: False where another process may write the same file at the same time, with the same content.
    """
    pieces = (data,) if isinstance(data, bytes | bytearray | memoryview) else data
    beside = path.with_name(f".{path.name}.{'' if alone else uuid.uuid4().hex + '.'}tmp")
    size = 0
    try:
        step("open", beside)
        with open(beside, "wb") as file:
            for piece in pieces:
                step("write", beside)
                size += file.write(piece)
            file.flush()
            if sync:
                step("fsync", beside)
                os.fsync(file.fileno())
        step("rename", path)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            beside.unlink(missing_ok=True)
        raise
    return size


class open_file(io.FileIO):  # noqa: N801 - it is used as `open` is
    """A new file for a library that writes to an open one, with each of its writes a step.

    It is neither synced nor renamed: this is for files of a folder that is published as a whole.
    """

    def __init__(self, path: Path) -> None:
        step("open", path)
        super().__init__(path, "wb")
        self._path = path

    def write(self, data: Any, /) -> int:
        """Write all of it: a raw file may write less, which libraries don't look at."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            step("write", self._path)
            rest = rest[super().write(rest) :]
        return size


def make_folder(path: Path) -> None:
    """Create a folder and its parents."""
    step("mkdir", path)
    path.mkdir(parents=True, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    step("fsync", path)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Make every file and every name below ``root`` durable, contents before names."""
    for folder, _, files in os.walk(root, topdown=False, onerror=_fail):
        for name in files:
            path = Path(folder, name)
            step("fsync", path)
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(folder))


def _fail(error: OSError) -> None:
    raise error


def files_below(root: Path, suffix: str = "") -> list[Path]:
    """Every file below a folder whose name ends so, sorted; none below one that is not there.

    A folder that can't be listed is an error; `Path.rglob` would leave it out without a word.
    """
    walk = os.walk(root, onerror=_fail) if root.exists() else ()
    return sorted(Path(folder, name) for folder, _, names in walk for name in names if name.endswith(suffix))


def remove_tree(path: Path) -> None:
    """Remove a folder of ours; nothing happens when it is gone already."""
    if path.exists():
        step("remove", path)
        shutil.rmtree(path)


def check_space(folder: Path, wanted: int) -> None:
    """Refuse to begin what can't end.

    Raises:
        MachineError: E701, the disk of ``folder`` has less than ``wanted`` bytes left.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise MachineError("E701", f"{wanted:,} bytes are needed beside the target, and {free:,} are free")

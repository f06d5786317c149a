"""Every write of a job goes through here, so that each can be made to fail in a test.

A file is written beside its name, synced and renamed; a reader never meets half of one.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import contextmanager
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


def write_file(path: Path, data: Piece | Iterable[Piece], *, sync: bool = True) -> int:
    """Write a whole file atomically; returns its size. ``sync=False`` for what may be lost but not wrong."""
    pieces = (data,) if isinstance(data, bytes | bytearray | memoryview) else data
    beside = path.with_name(f".{path.name}.tmp")
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
        beside.unlink(missing_ok=True)
        raise
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
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Make every file and every name below ``root`` durable, contents before names."""
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            path = Path(folder, name)
            step("fsync", path)
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(folder))


def remove_tree(path: Path) -> None:
    """Remove a folder of ours; nothing happens when it is gone already."""
    step("remove", path)
    shutil.rmtree(path, ignore_errors=False) if path.exists() else None

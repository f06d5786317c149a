"""The hidden folder beside a target in which its parts wait, the lock on it, and publishing."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vla_data.core.manifest import MANIFEST, is_manifest
from vla_data.errors import LockedError, MachineError, TargetExistsError, UsageError
from vla_data.files.write import (
    machine_errors,
    make_folder,
    remove_tree,
    step,
    sync_folder,
    sync_tree,
    write_file,
)
from vla_data.formats.tables import SIDECARS
from vla_data.safety.text import show

_MARK: Final = "published"
"""File in the work folder that says which folder, by its inode, is being published."""
_OLD: Final = "replaced"

# From <fcntl.h> and <linux/fs.h>.
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)


def work_folder(target: Path) -> Path:
    """Where the parts of ``target`` wait: ``.<name>.vla-data`` beside it, so that one rename publishes."""
    return target.parent / f".{target.name}.vla-data"


@contextmanager
def workspace(target: Path) -> Iterator[Path]:
    """Hold the work folder of ``target``.

    The lock is the kernel's, on the folder itself: it dies with the process and leaves nothing behind.

    Raises:
        LockedError: E801, another run holds it.
        MachineError: what will be written later can't be written here.
    """
    folder = work_folder(target)
    with machine_errors("cannot write beside the target"):
        handle = _lock(folder, target)
    try:
        with machine_errors("cannot write beside the target"):
            _restore(folder, target)
            _probe(folder, target)
        yield folder
    finally:
        # Whether it is published is decided by now; and parts may wait in the folder.
        with suppress(OSError):
            if _is_same(handle, folder):
                folder.rmdir()
        with suppress(OSError):
            os.close(handle)


def _lock(folder: Path, target: Path) -> int:
    while True:
        make_folder(folder)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # the run that held it finished and removed it in between
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if isinstance(error, BlockingIOError):
                raise LockedError("E801", f"another run is writing {show(target)}") from None
            if error.errno in _NO_LOCKS:
                reason = "no folder can be locked there, as on some network file systems"
                raise MachineError("E703", f"{reason}; write to a local disk and copy the result") from error
            raise
        if _is_same(handle, folder):
            return handle
        os.close(handle)


def _probe(folder: Path, target: Path) -> None:
    """Find out before any work what publishing would find out after it."""
    write_file(folder / "probe", b"", sync=False)
    (folder / "probe").unlink()
    for path in (target.parent, target):
        if path.exists() and not os.access(path, os.W_OK | os.X_OK):
            raise MachineError("E702", f"{show(path)} may not be written")
    if target.exists() and target.stat().st_dev != target.parent.stat().st_dev:
        raise MachineError(
            "E703", f"{show(target)} is a mount point, which can't be replaced; name a folder in it"
        )


def _is_same(handle: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False


@machine_errors("cannot look at the target")
def check_target(target: Path, sources: Iterable[Path], *, replace: bool) -> None:
    """Refuse a target that can't be published to, before any work.

    Raises:
        UsageError: E001 when it is one of the sources, or one lies inside the other.
        TargetExistsError: E411 when it exists and may not be replaced.
        MachineError: it can't be looked at.
    """
    real = target.resolve()
    for source in sources:
        root = source.resolve()
        if real == root or real.is_relative_to(root) or root.is_relative_to(real):
            raise UsageError("E001", f"the target {show(target)} and the input lie inside one another")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise TargetExistsError("E411", f"{show(target)} exists and is not a folder")
    if target.exists() and any(target.iterdir()):
        if not replace:
            _tidy(target)
            raise TargetExistsError("E411", f"{show(target)} exists; --replace replaces it")
        if not is_ours(target):
            raise TargetExistsError("E411", f"{show(target)} was not made by vla-data; it is not replaced")


def is_ours(folder: Path) -> bool:
    """Whether a folder is a dataset of ours, and so may be replaced when asked."""
    for side in (*SIDECARS, "."):
        try:
            facts = json.loads((folder / side / MANIFEST).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            continue
        if is_manifest(facts):
            return True
    return False


def publish(staging: Path, target: Path) -> None:
    """Make ``staging`` the target by one rename, after everything in it is on the disk.

    The names are exchanged with those of an old target, which is removed last, with the work folder. When
    anything fails before the new names are on the disk, the old target is put back.
    """
    work = staging.parent
    with machine_errors("cannot publish"):
        sync_tree(staging)
        write_file(work / _MARK, str(staging.stat().st_ino).encode())
        sync_folder(work)
        try:
            _place(staging, target)
            sync_folder(work)
            sync_folder(target.parent)
            for folder in target.parent.parents:  # a run may have made some of them
                if folder.stat().st_dev != work.stat().st_dev:
                    break
                with suppress(PermissionError):  # then it made none here
                    sync_folder(folder)
        except BaseException:
            with suppress(OSError):
                _take_back(staging, target)
            raise
    with suppress(OSError):  # what can't be removed now, the next run removes
        discard(work)


def _place(staging: Path, target: Path) -> None:
    step("rename", target)
    if not target.exists():
        os.rename(staging, target)
    elif not _exchange(staging, target):
        old = staging.with_name(_OLD)
        remove_tree(old)
        os.rename(target, old)
        step("rename", target)
        os.rename(staging, target)


def _take_back(staging: Path, target: Path) -> None:
    if _is_published(staging.parent, target) and not (staging.exists() and _exchange(staging, target)):
        os.rename(target, staging)
    _restore(staging.parent, target)


def _restore(work: Path, target: Path) -> None:
    """Put back an old target that was moved aside by a run that could not exchange names, and died."""
    if (work / _OLD).exists() and not target.exists():
        os.rename(work / _OLD, target)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system can't."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))


def _is_published(work: Path, target: Path) -> bool:
    """Whether the target is what was being published from this work folder."""
    try:
        return (work / _MARK).read_bytes() == str(target.stat().st_ino).encode()
    except OSError:
        return False


def _tidy(target: Path) -> None:
    """Remove what a run left that was killed after it published."""
    folder = work_folder(target)
    with suppress(OSError, LockedError):
        if folder.exists():
            handle = _lock(folder, target)
            try:
                if _is_published(folder, target):
                    discard(folder)
                else:
                    folder.rmdir()  # if it is empty; else parts wait in it
            finally:
                os.close(handle)


def discard(work: Path) -> None:
    """Remove a work folder, the mark last, so that one that was left half removed is known for what it is."""
    for path in list(work.iterdir()):
        if path.name != _MARK:
            remove_tree(path)
    remove_tree(work)

"""Publishing: a finished folder becomes the target in one step, and nothing that came there meanwhile is lost."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from vla_data.errors import TargetExistsError
from vla_data.files.write import machine_errors, remove_tree, step, sync_folder, sync_tree, write_file
from vla_data.jobs.targets import Seen
from vla_data.jobs.workspace import ASIDE, MARK, OLD, discard, is_published, restore
from vla_data.safety.text import show

# From <fcntl.h> and <linux/fs.h>.
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2


def publish(staging: Path, target: Path, seen: Seen) -> None:
    """Make ``staging`` the target by one rename, after everything in it is on the disk.

    Without an old target the rename is one that replaces nothing. With one, the names are exchanged, if it is
    still what was ``seen`` when the run began; it is removed last, with the work folder. When anything fails
    before the new names are on the disk, the old target is put back.

    Raises:
        TargetExistsError: E411, the target is not what it was: something came there meanwhile.
    """
    work = staging.parent
    with machine_errors("cannot publish"):
        sync_tree(staging)
        write_file(work / MARK, str(staging.stat().st_ino).encode())
        sync_folder(work)
        try:
            _place(staging, target, seen)
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


def _place(staging: Path, target: Path, seen: Seen) -> None:
    step("rename", target)
    if seen.folder is None:
        _name(staging, target)
    elif not seen.entries:
        try:
            os.rename(staging, target)  # onto an empty folder, and nothing else
        except (NotADirectoryError, FileExistsError):
            raise _meanwhile(target, "it is not the empty folder that it was") from None
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            raise _meanwhile(target, "it is no longer empty") from None
    else:
        _require(seen, target, target)
        if _exchange(staging, target):
            try:
                _require(seen, staging, target)
            except TargetExistsError:
                _exchange(staging, target)
                raise
        else:
            _move_aside(staging, target, seen)


def _move_aside(staging: Path, target: Path, seen: Seen) -> None:
    """Publish by two renames, where names can't be exchanged."""
    old = staging.with_name(OLD)
    remove_tree(old)
    write_file(staging.with_name(ASIDE), str(target.lstat().st_ino).encode())
    os.rename(target, old)
    _require(seen, old, target)
    step("rename", target)
    _name(staging, target)


def _require(seen: Seen, folder: Path, target: Path) -> None:
    if what := seen.difference(folder):
        raise _meanwhile(target, what)


def _meanwhile(target: Path, what: str) -> TargetExistsError:
    return TargetExistsError("E411", f"{show(target)} changed meanwhile: {what}; nothing there is touched")


def _name(staging: Path, target: Path) -> None:
    """Rename a folder to a name that nothing has."""
    try:
        if not _rename(staging, target, _RENAME_NOREPLACE):
            target.mkdir()  # fails where anything is; what comes into it makes the rename fail
            try:
                os.rename(staging, target)
            except OSError as error:
                with suppress(OSError):  # what came into it stays, with it
                    target.rmdir()
                if error.errno == errno.ENOTEMPTY:
                    raise FileExistsError from None
                raise
    except FileExistsError:
        raise _meanwhile(target, "it came into being") from None


def _take_back(staging: Path, target: Path) -> None:
    if is_published(staging.parent, target) and not (staging.exists() and _exchange(staging, target)):
        os.rename(target, staging)
    restore(staging.parent, target)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system can't."""
    return _rename(one, other, _RENAME_EXCHANGE)


def _rename(one: Path, other: Path, flag: int) -> bool:
    """Rename with a flag of Linux's own; False where the system or the file system can't."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), flag) == 0:
        return True
    if ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))

"""The hidden folder beside a target in which its parts wait, and the lock on it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vla_data.core.manifest import MANIFEST, is_manifest
from vla_data.errors import DataError, LockedError, MachineError, TargetExistsError, UsageError
from vla_data.files.write import (
    MAX_NAME,
    NEW_FILE,
    is_unforeseen,
    machine_errors,
    make_folder,
    remove_tree,
    step,
    sync_folder,
    unforeseen,
    write_file,
)
from vla_data.formats.tables import SIDECARS
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show

MARK: Final = "published"
"""File in the work folder that says which folder, by its inode, is being published."""
OLD: Final = "replaced"
ASIDE: Final = "aside"
"""File that says which folder, by its inode, was moved to `OLD`."""
_MADE: Final = "made"
_STAMP: Final = "stamp"
"""File that says of `_MADE` and the folder what no archive and no copy can have: inodes and time of change."""
_OURS: Final = ("parts", "staging", "repair", OLD, ASIDE, MARK, _STAMP, _MADE)
"""What a run makes in its work folder, in the order in which it is removed; the marks last, so that a folder that
was left half removed is known for what it is."""

_SHORT: Final = 1 << 10
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)


def work_folder(target: Path) -> Path:
    """Where the parts of ``target`` wait: ``.<name>.vla-data`` beside it, so that one rename publishes."""
    name = f".{target.name}.vla-data"
    if len(os.fsencode(name)) > MAX_NAME:
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:32]}.vla-data"
    return target.parent / name


@contextmanager
def workspace(target: Path) -> Iterator[Path]:
    """Hold the work folder of ``target``.

    The lock is the kernel's, on the folder itself: it dies with the process and leaves nothing behind. What is in
    the folder is believed later, so it has to be one that a run of this user made here: no link, of the same owner
    as what this process makes, not writable for others, and not unpacked or copied.

    Raises:
        LockedError: E801, another run holds it.
        MachineError: what will be written later can't be written here, or E702, the folder is not ours.
    """
    folder = work_folder(target)
    with machine_errors("cannot write beside the target"):
        handle, new = _lock(folder, target)
    try:
        with machine_errors("cannot write beside the target"):
            _check_private(folder)
            restore(folder, target)
            _probe(folder, target)
        yield folder
    except Exception as error:
        with suppress(OSError):
            if not _is_same(handle, folder):
                gone = f"{show(folder)} was moved or deleted while the run worked: run it again"
                raise MachineError("E703", gone) from error
        raise
    finally:
        # Whether it is published is decided by now; and parts may wait in the folder.
        with suppress(OSError):
            if _is_same(handle, folder):
                _leave(folder, new=new)
        with suppress(OSError):
            os.close(handle)


def _lock(folder: Path, target: Path) -> tuple[int, bool]:
    """A descriptor of the locked folder, and whether it was made here just now."""
    if len(os.fsencode(target.name)) > MAX_NAME:
        raise UsageError("E001", f"the name {show(target.name[:40])}... has more than {MAX_NAME} bytes")
    make_folder(folder.parent)
    while True:
        step("mkdir", folder)
        new = False
        with suppress(FileExistsError):
            folder.mkdir(0o700)
            new = True
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if not folder.parent.exists():
                raise
            continue  # the run that held it finished and removed it in between
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise MachineError("E702", f"{show(folder)} is not a plain folder, {_REMOVE}") from None
            raise
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
            return handle, new
        os.close(handle)


_REMOVE: Final = "so it is not used; look into it, and remove it"


def _check_private(folder: Path) -> None:
    """Refuse a work folder that others might have filled; mark a new one as made here."""
    facts, probe = folder.lstat(), _probed(folder)
    if facts.st_uid != probe.st_uid:
        raise MachineError("E702", f"{show(folder)} is another user's, {_REMOVE}")
    # Some file systems give every file the same mode: there nothing can be private.
    if facts.st_mode & ~probe.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise MachineError("E702", f"{show(folder)} may be written by others, {_REMOVE}")
    check_made_here(folder)


def _probed(folder: Path) -> os.stat_result:
    """What a private file is like that this process makes there."""
    probe = unforeseen(folder / "probe")
    step("open", probe)
    handle = os.open(probe, NEW_FILE, 0o600)
    try:
        step("write", probe)
        return os.fstat(handle)
    finally:
        os.close(handle)
        probe.unlink()


def check_made_here(folder: Path) -> None:
    """Mark a new folder as made by a run, and refuse one that holds what none made here.

    Raises:
        MachineError: E702.
    """
    if not is_made_here(folder):
        if _waiting(folder):
            raise MachineError("E702", f"{show(folder)} holds files that no run made here, {_REMOVE}")
        mark_made(folder)


def mark_made(folder: Path) -> None:
    """Note that a work folder was made by a run, here."""
    made = folder / _MADE
    made.unlink(missing_ok=True)
    os.close(os.open(made, NEW_FILE, 0o600))
    write_file(folder / _STAMP, _stamp(folder))
    sync_folder(folder)


def is_made_here(folder: Path) -> bool:
    """Whether `mark_made` marked this very folder, and not one that it was copied or packed from."""
    try:
        return _read(folder / _STAMP) == _stamp(folder)
    except FileNotFoundError:
        return False


def _stamp(folder: Path) -> bytes:
    made = (folder / _MADE).lstat()
    return f"{folder.lstat().st_ino} {made.st_ino} {made.st_ctime_ns}".encode()


def _read(path: Path) -> bytes:
    """A short file of the work folder; nothing for what is none."""
    try:
        return read_file(path, root=path.parent, max_bytes=_SHORT)[0]
    except DataError:
        return b""


def _leave(folder: Path, *, new: bool) -> None:
    """Remove the work folder if runs made it and nothing waits in it."""
    if (new or is_made_here(folder)) and not _waiting(folder):
        discard(folder)


def _waiting(folder: Path) -> set[str]:
    """What is in a work folder besides its mark and what a killed process was about to name."""
    return {name for name in os.listdir(folder) if name not in (_MADE, _STAMP) and not _is_half(name)}


def _is_half(name: str) -> bool:
    return any(is_unforeseen(name, of) for of in (*_OURS, "probe"))


def _probe(folder: Path, target: Path) -> None:
    """Find out before any work what publishing would find out after it."""
    for path in (target.parent, target):
        if path.exists() and not os.access(path, os.W_OK | os.X_OK):
            raise MachineError("E702", f"{show(path)} may not be written")
    if not target.is_dir() or target.is_symlink():
        return
    if target.stat().st_dev != target.parent.stat().st_dev:
        raise MachineError("E703", f"{show(target)} is a mount point, {_ELSEWHERE}")
    # No folder can be renamed onto one that is not empty; what else stands in the way is said before that.
    blocker = unforeseen(folder / "probe")
    step("mkdir", blocker)
    (blocker / "full").mkdir(parents=True)
    try:
        os.rename(target, blocker)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EBUSY):
            why = "is of a layer of an overlay" if error.errno == errno.EXDEV else "is in use as a mount point"
            raise MachineError("E703", f"{show(target)} {why}, {_ELSEWHERE}") from None
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    else:
        os.rename(blocker, target)
    finally:
        remove_tree(blocker)


_ELSEWHERE: Final = "which can't be replaced; name another folder"


def _is_same(handle: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), folder.lstat())
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
    real = Path(os.path.realpath(target))
    for source in sources:
        root = Path(os.path.realpath(source))
        if real == root or real.is_relative_to(root) or root.is_relative_to(real):
            raise UsageError("E001", f"the target {show(target)} and the input must not lie inside one another")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise TargetExistsError("E411", f"{show(target)} exists and is not a folder")
    if target.exists() and any(target.iterdir()):
        if not replace:
            _tidy(target)
            raise TargetExistsError("E411", f"{show(target)} exists; --replace replaces it")
        if not is_ours(target):
            raise TargetExistsError(
                "E411", f"{show(target)} was not made by vla-data and is not replaced; choose another target"
            )


def is_ours(folder: Path) -> bool:
    """Whether a folder is a dataset of ours, and so may be replaced when asked."""
    for side in (*SIDECARS, "."):
        try:
            facts = strict_json.read(folder / side / MANIFEST, root=folder)
        except DataError as error:
            if isinstance(error.__cause__, OSError):  # what can't be looked at may be ours
                raise error.__cause__ from None
            continue
        if is_manifest(facts):
            return True
    return False


def restore(work: Path, target: Path) -> None:
    """Put back an old target that was moved aside by a run that could not exchange names, and died."""
    old = work / OLD
    if _has_inode(old, work / ASIDE) and not os.path.lexists(target):
        os.rename(old, target)


def _has_inode(folder: Path, mark: Path) -> bool:
    try:
        return _read(mark) == str(folder.lstat().st_ino).encode()
    except OSError:
        return False


def is_published(work: Path, target: Path) -> bool:
    """Whether the target is what was being published from this work folder."""
    return _has_inode(target, work / MARK)


def _tidy(target: Path) -> None:
    """Remove what a run left that was killed after it published."""
    folder = work_folder(target)
    with suppress(OSError, LockedError, MachineError):
        if folder.is_dir():
            handle, new = _lock(folder, target)
            try:
                _check_private(folder)
                if is_published(folder, target):
                    discard(folder)
                else:
                    _leave(folder, new=new)  # parts may wait in it
            finally:
                os.close(handle)


def discard(work: Path) -> None:
    """Remove from a work folder what runs made in it, and the folder if nothing else is there."""
    left = [name for name in os.listdir(work) if _is_half(name)]
    for name in (*left, *_OURS):
        remove_tree(work / name)
    work.rmdir()

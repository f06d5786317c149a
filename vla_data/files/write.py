"""Every write of a job goes through here, so that each can be made to fail in a test.

A file is written beside its name, synced and renamed; a reader never meets half of one.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from vla_data.errors import DataError, MachineError, UsageError
from vla_data.files.folders import folders_below, has_hidden
from vla_data.safety.files import folder_below
from vla_data.safety.text import show

Piece = bytes | bytearray | memoryview

MAX_NAME: Final = 255
"""Bytes of a file's name on the file systems that count."""
NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a file is opened that must not be there yet."""
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_UNFORESEEN: Final = re.compile(r"\.(.+\.)?[0-9a-f]{32}\.tmp", re.DOTALL)

hook: Callable[[str, Path], None] | None = None
"""Called before each step of a write with its name and path. For fault-injection tests only."""


def step(name: str, path: Path) -> None:
    """A place where a test may let the machine fail."""
    if hook is not None:
        hook(name, path)


@contextmanager
def machine_errors(what: str, *, own: bool = False) -> Any:
    """Turn the operating system's errors into a `MachineError` with exit code 7.

    Args:
        what: can't be done then.
        own: the files are our own, so that one that the system does not let us read is no fault of its content.
    """
    try:
        yield
    except DataError as error:
        if own and isinstance(error.__cause__, OSError):
            _refuse(what, error.__cause__)
        raise
    except OSError as error:
        _refuse(what, error)


def _refuse(what: str, error: OSError) -> NoReturn:
    reason = f"{what}: {error.strerror or error}"
    if error.filename:
        reason += f" ({show(Path(os.fsdecode(error.filename)).name)})"
    if error.errno == errno.ENAMETOOLONG:
        raise UsageError("E001", f"{what}: a name is too long for the file system") from error
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise MachineError("E701", reason) from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise MachineError("E702", reason) from error
    raise MachineError("E703", reason) from error


def write_file(
    path: Path, data: Piece | Iterable[Piece], *, sync: bool = True, root: Path | None = None, new: bool = False
) -> int:
    """Write a whole file atomically; returns its size.

    The file beside it has a name that nobody can foresee and is made by this call alone, so that nothing that was
    put there is written through; a link at ``path`` itself is replaced, not followed.

    Args:
        path: the file.
        data: its content, or pieces of it.
        sync: False for what may be lost but not wrong.
        root: a folder of a stranger that ``path`` is in; no link below it is followed. None: whoever names
            ``path`` is trusted.
        new: nothing that is at ``path``, or comes there meanwhile, is replaced. Where the file system has no hard
            links, what comes at the very end is.

    Raises:
        UsageError: E131, a link below ``root`` leads there, or a device is there.
        FileExistsError: something is there that may not be replaced.
    """
    pieces = (data,) if isinstance(data, bytes | bytearray | memoryview) else data
    if root is None:
        return _write(path, pieces, sync, new, None)
    with folder_below(path.parent, root=root) as folder:
        return _write(path, pieces, sync, new, folder)


def _write(path: Path, pieces: Iterable[Piece], sync: bool, new: bool, folder: int | None) -> int:
    _check_device(path)
    beside = unforeseen(path)
    own, temporary = (path, beside) if folder is None else (Path(path.name), Path(beside.name))
    size = 0
    made = False
    try:
        step("open", beside)
        handle = os.open(temporary, NEW_FILE, 0o666, dir_fd=folder)
        made = True
        with open(handle, "wb") as file:
            for piece in pieces:
                step("write", beside)
                size += file.write(piece)
            file.flush()
            if sync:
                step("fsync", beside)
                os.fsync(file.fileno())
        step("rename", path)
        if not (new and _named(temporary, own, folder)):
            os.replace(temporary, own, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        if made:
            with suppress(OSError):  # the first error is the one to tell
                os.unlink(temporary, dir_fd=folder)
        raise
    return size


def _check_device(path: Path) -> None:
    """Whoever may write in ``/dev`` would lose the device to a file of its name.

    Raises:
        UsageError: E131.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # nothing is there, or it is an error of what comes next
        return
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise UsageError("E131", f"{show(path)} is a device, which is not replaced; name a file")


def _named(temporary: Path, own: Path, folder: int | None) -> bool:
    """Give a file a name that nothing has; False where the file system can't.

    Raises:
        FileExistsError: something has it.
    """
    try:
        os.link(temporary, own, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    os.unlink(temporary, dir_fd=folder)
    return True


def unforeseen(path: Path) -> Path:
    """A name beside ``path`` that nobody can guess, for what will be renamed to it."""
    name = f".{path.name}.{uuid.uuid4().hex}.tmp"
    if len(os.fsencode(name)) > MAX_NAME:
        name = f".{uuid.uuid4().hex}.tmp"
    return path.with_name(name)


def is_unforeseen(name: str, of: str) -> bool:
    """Whether a name is one that `unforeseen` gave for a file called ``of``: left by a process that was killed."""
    return _UNFORESEEN.fullmatch(name) is not None and name[1:-36] in (f"{of}.", "")


class open_file(io.FileIO):  # noqa: N801 - it is used as `open` is
    """A new file for a library that writes to an open one, with each of its writes a step.

    It is neither synced nor renamed: this is for files of a folder that is published as a whole.
    """

    def __init__(self, path: Path) -> None:
        step("open", path)
        super().__init__(path, "wb", opener=_no_link)
        self._path = path

    def write(self, data: Any, /) -> int:
        """Write all of it: a raw file may write less, which libraries don't look at."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            step("write", self._path)
            rest = rest[super().write(rest) :]
        return size


def open_append(path: Path) -> io.FileIO:
    """The end of a file, which is made if it is not there. No link is followed, and nothing is waited for.

    Raises:
        OSError: the machine failed, or something else than a regular file is there.
    """
    step("append", path)
    handle = os.open(path, _APPEND, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(handle, "ab", buffering=0)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def make_folder(path: Path, *, root: Path | None = None) -> None:
    """Create a folder and its parents; see `write_file` for ``root``."""
    step("mkdir", path)
    if root is None:
        path.mkdir(parents=True, exist_ok=True)
    else:
        with folder_below(path, root=root, make=True):
            pass


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
    for folder, files in reversed(list(folders_below(root, onerror=_fail))):
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


def data_below(root: Path, suffix: str) -> list[Path]:
    """`files_below` without what `vla_data.files.folders.is_hidden`."""
    return [file for file in files_below(root, suffix) if not has_hidden(file.relative_to(root).as_posix())]


def files_below(root: Path, suffix: str = "") -> list[Path]:
    """Every file below a folder whose name ends so, sorted; none below one that is not there.

    A folder that can't be listed is an error; `Path.rglob` would leave it out without a word.
    """
    found = folders_below(root, onerror=_fail) if root.exists() else ()
    return sorted(Path(folder, name) for folder, names in found for name in names if name.endswith(suffix))


def remove_tree(path: Path) -> None:
    """Remove a folder of ours; nothing happens when it is gone already. Of a link, the link alone is removed."""
    if path.is_dir() and not path.is_symlink():
        step("remove", path)
        shutil.rmtree(path)
    elif os.path.lexists(path):
        step("remove", path)
        path.unlink()


def hold_standard() -> None:
    """Put the null device where standard input, output or error is closed.

    The next file that is opened would get that number, and what a library prints would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def check_space(folder: Path, wanted: int) -> None:
    """Refuse to begin what can't end.

    Raises:
        MachineError: E701, the disk of ``folder`` has less than ``wanted`` bytes left.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise MachineError("E701", f"{wanted:,} bytes are needed beside the target, and {free:,} are free")

"""A copy of a remote dataset on this machine, for formats whose readers need files."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from vla_data.errors import DataError, MachineError, UsageError
from vla_data.files.write import MAX_NAME, check_space, machine_errors, make_folder, unforeseen, write_file
from vla_data.remote.cache import ADDRESS, folder_of, own_folder
from vla_data.remote.storage import Storage
from vla_data.safety import strict_json
from vla_data.safety.files import folder_below
from vla_data.safety.text import show

_LISTING: Final = "listing.json"
_State = tuple[int, str, int, int]
"""Size and mark of change there, size and time of change here."""
_THREADS: Final = 4
"""Objects at a time: each waits for the network most of the time."""


def fetch(storage: Storage) -> Path:
    """Copy what lies at an address into the cache, or find that it is there; the folder or file on this machine.

    Objects whose size and mark of change (ETag, generation, time of change, whichever the store has) are as they
    were are not fetched again, unless the copy here was changed.

    Raises:
        UsageError: E003 when nothing is there.
        MachineError: the store or this machine's disk fails; what was fetched is kept.
    """
    one = storage.is_file()
    found = {storage.name: storage.state()} if one else storage.states()
    if not found:
        raise UsageError("E003", f"{show(storage.url)} is not there")
    for name in found:
        check_name(storage, name, found)
    folder = folder_of("fetched", storage)
    root = folder.parent if one else folder
    with machine_errors("cannot write to the cache"), own_folder(root), _held(folder.parent):
        write_file(folder.parent / ADDRESS, storage.url.encode(), sync=False)
        have = _listing(folder.parent)
        stale = [name for name in found if have.get(name) != (*found[name], *_local(root / name))]
        check_space(folder.parent, sum(found[name][0] for name in stale))
        for name in sorted(have.keys() - found.keys()):
            if not one:
                _remove(root / name, root)
        have = {name: state for name, state in have.items() if name in found and name not in stale}
        _note(folder.parent, have)
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                fetched = pool.map(lambda name: _fetch_one(storage, name, root, one=one), stale)
                for name, _ in zip(stale, fetched, strict=True):
                    have[name] = (*found[name], *_local(root / name))
        finally:
            _note(folder.parent, have)
    return folder


def _fetch_one(storage: Storage, name: str, root: Path, *, one: bool) -> None:
    file = root / name
    beside = unforeseen(file)
    try:
        make_folder(file.parent, root=root)
        storage.download("" if one else name, beside)
        os.replace(beside, file)
    except DataError as error:
        raise MachineError("E703", f"{show(storage.url)}: {show(name)}: {error.message}") from None
    finally:
        beside.unlink(missing_ok=True)


def _remove(file: Path, root: Path) -> None:
    """Remove what is no longer in the store; what others made a link on the way to it stays."""
    with suppress(FileNotFoundError, UsageError), folder_below(file.parent, root=root) as folder:
        os.unlink(file.name, dir_fd=folder)


def check_name(storage: Storage, name: str, found: Collection[str]) -> None:
    """An object may have any name; a file in our cache may not."""
    path = PurePosixPath(name)
    odd = name.startswith("/") or "\0" in name or ".." in path.parts or not path.parts or str(path) != name
    if odd or max(len(os.fsencode(part)) for part in path.parts) > MAX_NAME:
        raise UsageError("E001", f"{show(storage.url)}: {show(name)} can't be the name of a file here")
    if above := next((str(folder) for folder in path.parents if str(folder) in found), None):
        raise UsageError("E001", f"{show(storage.url)}: {show(above)} is an object and a folder of others")


def _local(file: Path) -> tuple[int, int]:
    """What shows that a file here is as it was fetched: size and time of change."""
    try:
        facts = file.stat()
    except OSError:
        return -1, 0
    return facts.st_size, facts.st_mtime_ns


def _listing(folder: Path) -> dict[str, _State]:
    try:
        facts = strict_json.read(folder / _LISTING, root=folder)
        return {name: (size, mark, here, changed) for name, (size, mark, here, changed) in facts.items()}
    except (DataError, OSError, ValueError, TypeError, AttributeError):
        return {}


def _note(folder: Path, have: dict[str, _State]) -> None:
    write_file(folder / _LISTING, json.dumps(have).encode(), sync=False)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Only one process at a time fetches a dataset; the others wait, and find it there."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

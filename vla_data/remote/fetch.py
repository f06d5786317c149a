"""A copy of a remote dataset on this machine, for formats whose readers need files."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from vla_data.errors import DataError, MachineError, UsageError
from vla_data.files.write import check_space, machine_errors, write_file
from vla_data.remote.cache import ADDRESS, folder_of
from vla_data.remote.storage import Storage
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
        check_name(storage, name)
    folder = folder_of("fetched", storage)
    root = folder.parent if one else folder
    with machine_errors("cannot write to the cache"):
        root.mkdir(parents=True, exist_ok=True)
        with _held(folder.parent):
            write_file(folder.parent / ADDRESS, storage.url.encode(), sync=False)
            have = _listing(folder.parent)
            stale = [name for name in found if have.get(name) != (*found[name], *_local(root / name))]
            check_space(folder.parent, sum(found[name][0] for name in stale))
            for name in sorted(have.keys() - found.keys()):
                if not one:
                    (root / name).unlink(missing_ok=True)
            have = {name: state for name, state in have.items() if name in found and name not in stale}
            _note(folder.parent, have)
            try:
                with ThreadPoolExecutor(_THREADS) as pool:
                    fetched = pool.map(lambda name: _fetch_one(storage, "" if one else name, root / name), stale)
                    for name, _ in zip(stale, fetched, strict=True):
                        have[name] = (*found[name], *_local(root / name))
            finally:
                _note(folder.parent, have)
    return folder


def _fetch_one(storage: Storage, name: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.part")
    try:
        storage.download(name, beside)
        os.replace(beside, file)
    except DataError as error:
        raise MachineError("E703", f"{show(storage.url)}: {show(name)}: {error.message}") from None
    finally:
        beside.unlink(missing_ok=True)


def check_name(storage: Storage, name: str) -> None:
    """An object may have any name; a file in our cache may not."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\0" in name or ".." in parts or not parts or str(PurePosixPath(name)) != name:
        raise UsageError("E001", f"{show(storage.url)}: {show(name)} can't be the name of a file here")


def _local(file: Path) -> tuple[int, int]:
    """What shows that a file here is as it was fetched: size and time of change."""
    try:
        facts = file.stat()
    except OSError:
        return -1, 0
    return facts.st_size, facts.st_mtime_ns


def _listing(folder: Path) -> dict[str, _State]:
    try:
        facts = json.loads((folder / _LISTING).read_bytes())
        return {name: (size, mark, here, changed) for name, (size, mark, here, changed) in facts.items()}
    except (OSError, ValueError, TypeError, AttributeError):
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

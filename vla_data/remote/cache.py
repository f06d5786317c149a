"""The folder in which this machine keeps what belongs to remote datasets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vla_data.errors import DataError, MachineError
from vla_data.safety.files import folder_below, read_file
from vla_data.safety.text import show

if TYPE_CHECKING:
    from vla_data.remote.storage import Storage

_LONGEST: Final = 1 << 16
ADDRESS: Final = "address"
"""File beside what was fetched: from where."""


def cache_folder() -> Path:
    """Where this machine keeps what belongs to remote datasets: ``$VLA_DATA_CACHE``, or
    ``$XDG_CACHE_HOME/vla-data``, or ``~/.cache/vla-data``.
    """
    own = os.environ.get("VLA_DATA_CACHE")
    if own:
        return Path(own)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "vla-data"


def folder_of(kind: str, storage: Storage) -> Path:
    """The cache's folder for an address."""
    return cache_folder() / kind / hashlib.sha256(storage.url.encode()).hexdigest()[:16] / storage.name


def origin(path: Path) -> str | None:
    """The address that a path in the cache was fetched from; None for any other path."""
    try:
        if not path.is_relative_to(cache_folder()):
            return None
        return read_file(path.parent / ADDRESS, root=path.parent, max_bytes=_LONGEST)[0].decode()
    except (DataError, OSError, RuntimeError, ValueError):
        return None


@contextmanager
def own_folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder in the cache, which is made where it is missing.

    Raises:
        MachineError: E702, the cache is another user's.
        UsageError: E131, a link leads there: what others put there is not written through.
        OSError: the machine failed.
    """
    cache = cache_folder()
    cache.mkdir(0o700, parents=True, exist_ok=True)
    if os.geteuid() and cache.stat().st_uid not in (os.geteuid(), 0):
        raise MachineError("E702", f"the cache {show(cache)} is another user's; name your own with VLA_DATA_CACHE")
    with folder_below(path, root=cache, make=True) as handle:
        yield handle

"""The folder in which this machine keeps what belongs to remote datasets."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vla_data.remote.storage import Storage

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
        return (path.parent / ADDRESS).read_text() if path.is_relative_to(cache_folder()) else None
    except (OSError, RuntimeError, ValueError):
        return None

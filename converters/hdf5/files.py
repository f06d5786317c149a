"""Which HDF5 files lie in a folder, and what they are: names, sizes and digests."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vla_data.core import EpisodeRef
from vla_data.errors import DataError
from vla_data.files.folders import begins_with, walk
from vla_data.safety import text
from vla_data.safety.files import Facts, facts_of, open_regular

SUFFIXES: Final = (".hdf5", ".h5", ".hdf")
_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"


def sizes(root: Path) -> dict[str, int]:
    """Relative path -> size of every file below ``root`` with a suffix of HDF5, and of those without one that
    begin as HDF5 does: LIBERO's script writes such. Links to folders, which are not followed, are in it too.
    """
    links: list[Path] = []
    found = {
        Path(entry.path).relative_to(root).as_posix(): entry.stat(follow_symlinks=False).st_size
        for entry in walk(root, links)
        if entry.name.lower().endswith(SUFFIXES)
        or ("." not in entry.name and begins_with(Path(entry.path), _SIGNATURE))
    }
    return {**found, **{link.relative_to(root).as_posix(): 0 for link in links}}


def make_ref(name: str, demo: str, size: int) -> EpisodeRef:
    """A file and a demo in it, or "" for all of it, as one episode.

    The id is the file's path, a slash and the demo's name, in which whatever is no plain character is ``%XX``.
    """
    file = text.portable(name)
    plain = f"{file}/{urllib.parse.quote(os.fsencode(demo), safe=' +,=@()')}" if demo else file
    return EpisodeRef(plain, size, json.dumps([name, demo]))


def place(ref: EpisodeRef) -> tuple[str, str]:
    """The file and the demo that `make_ref` was given."""
    name, demo = json.loads(ref.where)
    return name, demo


def digest(path: Path, *, root: Path) -> tuple[str, Facts]:
    """SHA-256 of a regular file under ``root``, and the state in which it was. Each state is hashed once a
    process, however many demonstrations lie in it.

    Raises:
        DataError: see `open_regular`; E105 when the file changes meanwhile.
    """
    handle, facts = open_regular(path, root=root)
    os.close(handle)
    return _hashed(path, root, facts), facts


@functools.lru_cache(maxsize=256)
def _hashed(path: Path, root: Path, facts: Facts) -> str:
    handle, _ = open_regular(path, root=root)
    with os.fdopen(handle, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if facts_of(handle) != facts:
            raise DataError("E105", "the file changed while it was read")
    return found


def combined(digest: str, beside: Sequence[str], demo: str) -> str:
    """One digest of a file, the files beside it that are read with it, and the demo."""
    return hashlib.sha256("\n".join([digest, *beside, demo]).encode("utf-8", "surrogateescape")).hexdigest()

"""The files of a folder of rollouts, on this machine or on an object store."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vla_data.errors import DataError, UsageError
from vla_data.files.folders import LINKED_FOLDER, has_hidden, walk
from vla_data.files.sums import SEAL, parse_sums, read_seal
from vla_data.safety.files import MAX_FILE, read_file, state_of
from vla_data.safety.text import show

if TYPE_CHECKING:
    from vla_data.remote.storage import Storage


class LinkedFolderError(DataError):
    """A folder that only a link leads to: it is left alone, not quarantined."""

    ignore = True


@dataclass(frozen=True)
class LocalFiles:
    """A folder, or one file, on this machine."""

    root: Path

    @property
    def folder(self) -> Path:
        """The folder that names are relative to."""
        return self.root if self.root.is_dir() else self.root.parent

    def sizes(self, suffixes: tuple[str, ...]) -> dict[str, int] | None:
        """Relative name -> size of every file with one of the ``suffixes``, or of the one file; None: nothing.
        Links to folders, which are not followed, are in it too.
        """
        if not self.root.exists():
            return None
        if not self.root.is_dir():
            return {self.root.name: self.root.stat().st_size}
        links: list[Path] = []
        found = {
            Path(entry.path).relative_to(self.root).as_posix(): entry.stat(follow_symlinks=False).st_size
            for entry in walk(self.root, links)
            if entry.name.lower().endswith(suffixes)
        }
        return {**found, **{link.relative_to(self.root).as_posix(): 0 for link in links}}

    def states(self, names: Sequence[str]) -> Mapping[str, object]:
        """What tells each file, as it is now, from another in its place."""
        folder = self.folder
        return {name: state_of(folder / name) for name in names}

    def read(self, name: str) -> tuple[bytes, str]:
        """A file's bytes and their SHA-256.

        Raises `LinkedFolderError` for a link to a folder, which is left alone.

        Raises:
            DataError: see `vla_data.safety.files.read_file`.
        """
        if (self.folder / name).is_symlink() and (self.folder / name).is_dir():
            raise (DataError if "." in name else LinkedFolderError)("E131", LINKED_FOLDER)
        return read_file(self.folder / name, root=self.folder)

    def seal(self) -> Mapping[str, str] | None:
        """Name -> SHA-256 from the folder's seal, or None."""
        return read_seal(self.folder)


@dataclass(frozen=True)
class RemoteFiles:
    """A folder, or one object, of an object store."""

    storage: Storage

    def sizes(self, suffixes: tuple[str, ...]) -> dict[str, int] | None:
        """See `LocalFiles`."""
        if self.storage.is_file():
            return {self.storage.name: self.storage.state()[0]}
        found = self.storage.files()
        if not found:
            return None
        return {name: n for name, n in found.items() if name.lower().endswith(suffixes) and not has_hidden(name)}

    def states(self, names: Sequence[str]) -> Mapping[str, object]:
        """See `LocalFiles`."""
        one = self.storage.is_file()
        found = {self.storage.name: self.storage.state()} if one else self.storage.states()
        return {name: found.get(name) for name in names}

    def read(self, name: str) -> tuple[bytes, str]:
        """See `LocalFiles`."""
        one = name == self.storage.name and self.storage.is_file()
        data = self.storage.read("" if one else name, max_bytes=MAX_FILE)
        return data, hashlib.sha256(data).hexdigest()

    def seal(self) -> Mapping[str, str] | None:
        """See `LocalFiles`; read once by each process."""
        return _remote_seal(self.storage)


@functools.lru_cache(maxsize=4)
def _remote_seal(storage: Storage) -> Mapping[str, str] | None:
    if not storage.exists(SEAL):
        return None
    try:
        return dict(parse_sums(storage.read(SEAL)))
    except DataError as error:
        raise UsageError("E001", f"{show(storage)}: {SEAL}: {error.message}") from None

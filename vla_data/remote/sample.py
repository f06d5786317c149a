"""A part of a remote dataset on this machine, enough to say what lies there: metadata and the files of an episode.

All other objects are empty files of the same names, so that whatever lists a dataset finds it whole; none of their
episodes is read.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vla_data.errors import UsageError
from vla_data.names import natural
from vla_data.remote.fetch import check_name
from vla_data.remote.storage import Storage
from vla_data.safety.text import show

_MOST: Final = 100_000  # objects
_METADATA: Final = 256 << 20  # bytes
_ENDINGS: Final = (".json", ".jsonl")


@dataclass
class Sample:
    """Objects of a store of which some are here.

    Attributes:
        storage: where all are.
        folder: where those that were fetched are, with empty files in place of the others.
        sizes: name -> bytes, of all.
        here: names of those that were fetched.
    """

    storage: Storage
    folder: Path
    sizes: dict[str, int]
    here: set[str] = field(default_factory=set)

    def fetch(self, names: Iterator[str] | list[str]) -> None:
        """Fetch these objects, where they are not here yet."""
        for name in names:
            if name in self.sizes and name not in self.here:
                self.storage.download(name, self.folder / name)
                self.here.add(name)

    def first(self, endings: tuple[str, ...]) -> list[str]:
        """The first object in natural order that has one of these endings and is not empty, if there is one."""
        found = sorted((n for n, size in self.sizes.items() if size and n.lower().endswith(endings)), key=natural)
        return [name for name in found if not Path(name).name.startswith("._")][:1]

    def told(self) -> dict[str, int]:
        """How much of it is here, for a person."""
        return {
            "files": len(self.here),
            "of_files": len(self.sizes),
            "bytes": sum(self.sizes[name] for name in self.here),
            "of_bytes": sum(self.sizes.values()),
        }


@contextlib.contextmanager
def sample(storage: Storage) -> Iterator[Sample]:
    """The names of everything at an address, with the metadata; gone afterwards.

    Raises:
        UsageError: E003 when nothing is there, E107 for more than can be listed.
        MachineError: the store or this machine's disk fails.
    """
    sizes = storage.files()
    if not sizes:
        raise UsageError("E003", f"{show(storage.url)} is not there")
    if len(sizes) > _MOST:
        raise UsageError("E107", f"{show(storage.url)} has {len(sizes):,} objects, more than {_MOST:,}")
    for name in sizes:
        check_name(storage, name, sizes)
    with tempfile.TemporaryDirectory(prefix="vla-data-") as top:
        found = Sample(storage, Path(top).resolve() / storage.name, sizes)
        for name in sizes:
            place = found.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        metadata = [
            name for name in sizes if name.startswith("meta/") or "/meta/" in name or name.endswith(_ENDINGS)
        ]
        if sum(sizes[name] for name in metadata) <= _METADATA:
            found.fetch(metadata)
        yield found

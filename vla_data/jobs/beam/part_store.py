"""Where workers of somebody else's machinery find the plan, and leave the parts that they made.

A folder that all of them reach, or an object store. A part counts once its worker has said, in a file of its own
that names the run, that its receipt is of the present sources; so a receipt of an earlier run is believed only
after a worker has looked at the sources again, and the driver reads no source at all.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from vla_data.core import EpisodeRef
from vla_data.errors import CODES, DataError, VlaDataError
from vla_data.files.write import write_file
from vla_data.jobs.job import Job
from vla_data.jobs.packed import Packed
from vla_data.jobs.part import Part, blob_file, is_whole, read_part, receipt_file
from vla_data.jobs.pool import Limits, make_parts

if TYPE_CHECKING:
    from vla_data.remote.storage import Storage

STOPPED: Final[list[BaseException]] = []
"""Interrupts that came while a part was made in the driver's own process."""
_PLAN: Final = "plan.jsonl"
_INDEX: Final = "plan.index"
_WORD: Final = 8


class Depot(Protocol):
    """Picklable: workers get a copy."""

    @property
    def threads(self) -> int:
        """How many parts a driver should collect at a time."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, whole or not at all."""
        ...

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """A file or the range of one; None when it is not there."""
        ...

    def make(self, job: Job, digest: str, part: Part, limits: Limits) -> None:
        """Make a part, unless what is here is of the present sources. Runs in a worker."""
        ...

    def collect(self, job: Job, digest: str, part: Part) -> bool:
        """Bring a part into ``job.work``; False when it is not here. Runs in the driver."""
        ...

    def clear(self) -> None:
        """Remove everything, once the dataset is published."""
        ...


@dataclass(frozen=True)
class FolderDepot:
    """The work folder itself."""

    folder: Path

    @property
    def threads(self) -> int:
        """See `Depot`."""
        return 1

    def write(self, name: str, data: bytes) -> None:
        """See `Depot`."""
        write_file(self.folder / name, data, sync=False)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """See `Depot`."""
        try:
            with (self.folder / name).open("rb") as file:
                file.seek(start or 0)
                return file.read(-1 if end is None else end - (start or 0))
        except FileNotFoundError:
            return None

    def make(self, job: Job, digest: str, part: Part, limits: Limits) -> None:
        """See `Depot`."""
        for _ in make_parts(job, digest, [part], workers=1, limits=limits):
            pass

    def collect(self, job: Job, digest: str, part: Part) -> bool:
        """See `Depot`."""
        return read_part(job, digest, part) is not None

    def clear(self) -> None:
        """Nothing: the folder is that of the target, and goes with it."""


@dataclass(frozen=True)
class StorageDepot:
    """A folder of an object store, for workers that share no file system."""

    storage: Storage

    @property
    def threads(self) -> int:
        """See `Depot`: each waits for answers of the store most of the time."""
        return 16

    def write(self, name: str, data: bytes) -> None:
        """See `Depot`."""
        self.storage.write(name, data)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """See `Depot`."""
        try:
            if end is not None:
                return self.storage.read_range(name, start or 0, end)
            return self.storage.read(name) if self.storage.exists(name) else None
        except DataError:
            return None

    def make(self, job: Job, digest: str, part: Part, limits: Limits) -> None:
        """See `Depot`."""
        with tempfile.TemporaryDirectory(prefix="vla-data-") as folder:
            here = replace(job, work=Path(folder))
            names = (blob_file(here, part), receipt_file(here, part))
            known = self._fetch(names)
            for _ in make_parts(here, digest, [part], workers=1, limits=limits):
                pass
            if known != [file.read_bytes() for file in names[1:]]:
                for file in names:  # the receipt last
                    self.storage.upload(file, file.name)

    def collect(self, job: Job, digest: str, part: Part) -> bool:
        """See `Depot`."""
        if is_whole(job, digest, part):
            return True
        self._fetch((blob_file(job, part), receipt_file(job, part)))
        return is_whole(job, digest, part)

    def _fetch(self, names: Sequence[Path]) -> list[bytes]:
        """Bring a part's blob and receipt here, as far as they exist; the receipt's content."""
        blob, receipt = names
        found = self.read(receipt.name)
        if found is None:
            return []
        try:
            self.storage.download(blob.name, blob)
        except DataError:
            return []
        write_file(receipt, found, sync=False)
        return [found]

    def clear(self) -> None:
        """See `Depot`."""
        for name in self.storage.files():
            self.storage.remove(name)


def depot_of(job: Job, digest: str, parts: Sequence[Part], work: str | None) -> Depot:
    """The depot of a job, in its work folder, or below the URL or folder ``work`` by a name that is its own."""
    if work is None:
        return FolderDepot(job.work)
    from vla_data.formats import storage_of

    plan = hashlib.sha256(f"{digest} {job.sink.target.absolute()}".encode("utf-8", "surrogateescape"))
    for line in _lines(parts):
        plan.update(line)
    return StorageDepot(storage_of(work).below(f"{job.sink.target.name}-{plan.hexdigest()[:16]}"))


def write_plan(depot: Depot, parts: Sequence[Part]) -> None:
    """Write all parts into one file, and where each begins into another; no worker reads either as a whole."""
    lines = list(_lines(parts))
    ends = [0]
    for line in lines:
        ends.append(ends[-1] + len(line))
    depot.write(_PLAN, b"".join(lines))
    depot.write(_INDEX, b"".join(end.to_bytes(_WORD, "little") for end in ends))


def read_plan(depot: Depot, number: int) -> Part:
    """One part of a plan."""
    words = depot.read(_INDEX, number * _WORD, (number + 2) * _WORD) or b""
    start, end = (int.from_bytes(words[at : at + _WORD], "little") for at in (0, _WORD))
    found, refs = json.loads(depot.read(_PLAN, start, end) or b"[null, []]")
    if found != number:
        raise AssertionError(f"part {number} of the plan is part {found}")
    return Part(number, tuple(EpisodeRef(name, size, where) for name, size, where in refs))


def make_number(packed: Packed, digest: str, limits: Limits, depot: Depot, token: str, number: int) -> int:
    """Make one part of a plan, unless it is made; its number again. Runs in a worker.

    What goes wrong as a whole is left for the driver, since a runner would only retry it.
    """
    part = read_plan(depot, number)
    try:
        depot.make(packed.open(mine=False), digest, part, limits)
        depot.write(_ok(number), token.encode())
    except (KeyboardInterrupt, SystemExit) as stop:
        STOPPED.append(stop)
        raise
    except VlaDataError as error:
        facts = {"code": error.code, "message": error.message, "kind": type(error).__name__, "run": token}
        depot.write(_trouble(number), json.dumps(facts).encode())
    return number


def is_confirmed(depot: Depot, token: str, part: Part) -> bool:
    """Whether a worker of this run has made the part or found it as it should be."""
    return depot.read(_ok(part.number)) == token.encode()


def raise_trouble(depot: Depot, token: str, parts: Iterable[Part]) -> None:
    """Raise what a worker of this run has left instead of one of these parts."""
    for part in parts:
        found = depot.read(_trouble(part.number))
        facts = json.loads(found) if found is not None else {}
        if facts.get("run") == token:
            kind = next(c for c in _kinds(VlaDataError) if c.__name__ == facts["kind"])
            raise kind(facts["code"] if facts["code"] in CODES else "E703", facts["message"])


def _kinds(kind: type[VlaDataError]) -> Iterator[type[VlaDataError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _kinds(sub)


def _lines(parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        yield json.dumps([part.number, [[ref.id, ref.size, ref.where] for ref in part.refs]]).encode() + b"\n"


def _ok(number: int) -> str:
    return f"{number:08d}.ok"


def _trouble(number: int) -> str:
    return f"{number:08d}.error"

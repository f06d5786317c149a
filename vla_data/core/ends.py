"""The two ends of a run: a `Source` yields episodes, a `Sink` publishes all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from vla_data.core.episode import Episode, Json, Schema


class Place(Protocol):
    """Where a dataset lies that is not on this machine, such as a folder of an object store."""

    def __str__(self) -> str:
        """The address, for people."""
        ...

    def above(self, levels: int) -> Place:
        """The folder so many levels above."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write one file below it, whole or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class EpisodeRef:
    """One episode that a source can read.

    Attributes:
        id: the same on every machine; valid Unicode.
        size: in the source, in bytes.
        where: how the source finds it, where that is not the id.
    """

    id: str
    size: int
    where: str = ""


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of an episode that was not read: its length in steps, and its first instruction."""

    steps: int
    task: str


@runtime_checkable
class Source(Protocol):
    """Something that lists episodes and reads one. Frozen and picklable: workers get a copy.

    The ``repr`` is provenance, so it names every option and no machine path.
    """

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every episode, in the source's natural order. Cheap: contents are not read."""
        ...

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 of the bytes that `read` would read, so that a finished part can be trusted or redone."""
        ...

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one whole episode. Its ``meta`` has ``source`` (the format's name), ``source_length`` (steps) and
        ``source_sha256`` (of the exact bytes that it came from).

        Raises:
            DataError: the episode can't be used.
        """
        ...

    def schema(self, episode: Episode) -> Schema:
        """What the arrays and frames of ``episode`` mean."""
        ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """One episode in a sink's own form.

    Attributes:
        blob: opaque bytes, in pieces.
        summary: what assembling needs to know without reading the blob; JSON.
        content: digest of what the episode holds, whatever it is called; see `vla_data.core.content`.
        notes: on how it was encoded, for the ledger.
    """

    blob: Sequence[bytes | memoryview]
    summary: Mapping[str, Json]
    content: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """One encoded episode that will be in the dataset, as `Sink.assemble` gets it."""

    id: str
    content: str
    summary: Mapping[str, Json]
    blob_sha256: str
    read: Callable[[], bytes]


@runtime_checkable
class Sink(Protocol):
    """Something that writes datasets of one format. Frozen and picklable; the ``repr`` is provenance."""

    @property
    def target(self) -> Path:
        """The folder that will hold the dataset; it is not part of the ``repr``."""
        ...

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """Encode one episode. Expensive and pure: it runs in a worker and depends on its input alone."""
        ...

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write the whole dataset into the empty ``folder`` from encoded episodes. Cheap; runs once."""
        ...

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read the dataset back and compare it with what was encoded.

        Raises:
            VerifyError: it differs.
        """
        ...

    @property
    def holds_empty(self) -> bool:
        """Whether an episode without steps can be written."""
        ...

    @property
    def one_schema(self) -> bool:
        """Whether all episodes of a dataset must have the same features and sizes."""
        ...

    @property
    def sidecar(self) -> str:
        """Folder inside the dataset, relative, for what the format has no field for."""
        ...


@runtime_checkable
class Elsewhere(Protocol):
    """What a `Sink` has besides whose dataset does not stay on this machine; its ``target`` is never made."""

    @property
    def place(self) -> Place:
        """Where the dataset will be; ``str()`` of it is for people."""
        ...

    def check_place(self, *, replace: bool) -> None:
        """Refuse a place that can't be published to.

        Raises:
            TargetExistsError: E411 when it exists and may not be replaced.
        """
        ...

    def publish(self, staging: Path, *, replace: bool) -> None:
        """Bring the finished dataset there, all at once as far as a reader can see.

        Raises:
            TargetExistsError: E411 when another run has published there meanwhile, and it may not be replaced.
        """
        ...

"""What sources and sinks may say beyond the few methods that they must have, each with its default.

A `Source` of four methods and a `Sink` of seven members are enough for a run. What derives from `BaseSource` or
`BaseSink` says more where it can: where it reads, its times without its images, files of others beside its own.
`WrappedSource` and `WrappedSink` hand everything on, so that a wrapper answers as what it wraps does. `whole` and
`traits_of` give the full contract of those that have the short one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vla_data.core.ends import Encoded, EpisodeRef, Outline, Place, Published, Sink, Source
from vla_data.core.episode import Array, Episode, Schema
from vla_data.core.traits import Traits
from vla_data.core.wanted import Unwanted
from vla_data.errors import DataError
from vla_data.media.frames import Frames
from vla_data.media.located import Located
from vla_data.media.video_settings import VideoCopy

if TYPE_CHECKING:
    from vla_data.core.curate import Step

Columns = Mapping[str, Array]
Root = Path | Place


class ExtraFile(Protocol):
    """A file beside a dataset's own, which a copy of the dataset keeps."""

    @property
    def path(self) -> str:
        """Relative to the dataset."""
        ...

    def target(self, *, unchanged: bool) -> str:
        """Where a copy keeps it; another place where the copy has not the same frames."""
        ...

    def read(self, root: Path) -> bytes:
        """Its bytes.

        Raises:
            DataError: it can't be read.
        """
        ...


class BaseSource:
    """The defaults of everything that a source may say besides its four methods."""

    @property
    def roots(self) -> tuple[Root, ...]:
        """The folders, files or addresses that it reads; no run may publish into them."""
        return ()

    @property
    def is_whole(self) -> bool:
        """Whether it has every episode of what it reads."""
        return True

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """Id of each episode -> what tells the files that it is read from, as they are now, from others; empty
        where that is not known. A run whose source changed meanwhile publishes nothing.
        """
        return {}

    def time_steps(self, refs: Sequence[EpisodeRef]) -> NDArray[np.float64]:
        """Seconds between steps as they were recorded, read without images; empty where no times were."""
        return np.zeros(0)

    def extra_files(self) -> Sequence[ExtraFile]:
        """Files of others beside the dataset's own."""
        return ()

    def videos(self) -> VideoCopy | None:
        """Its cameras that are video, for a sink that copies packets; UsageError E002 for a codec not written."""
        return None

    def steps_of(self, ref: EpisodeRef) -> Sequence[Step]:
        """What an episode goes through before the steps of a run."""
        return ()

    def without(self, unwanted: Unwanted) -> Source | None:
        """The same source, which does not read what nobody will look at, and notes it as ``left_out:<name>``; None
        where it reads everything.
        """
        return None

    def not_asking(self, facts: Collection[str]) -> Source | None:
        """The same source, which also reads what lacks these of `vla_data.core.unneeded.FACTS`, at which nobody
        will look; None where it never asks. The schema's ``fps`` is 0 then, a task empty, images are as stored.
        """
        return None

    def evidence(self, ref: EpisodeRef) -> Mapping[str, Sequence[Any] | None] | None:
        """Every feature that the files have or declare for an episode, found without the rules by which `read`
        reads.

        Returns:
            Feature -> its values as plain Python objects, one a step, or None for one of images, or of nothing at
            all. None where the source can't say.
        """
        return None

    def files_of(self, ref: EpisodeRef) -> Sequence[str]:
        """Names, below the root, of the files that an episode is read from besides those of metadata; none where
        that is not known.
        """
        return ()

    def outlines(self, refs: Sequence[EpisodeRef]) -> Mapping[str, Outline]:
        """Id -> what metadata say of an episode; nothing of those of which that takes reading them."""
        return {}

    def columns(
        self, refs: Sequence[EpisodeRef], names: Collection[str] | None
    ) -> Iterator[tuple[str, Columns | DataError]] | None:
        """The arrays of numbers of each episode, read without an image; None where whole episodes must be read.

        Args:
            refs: the episodes.
            names: of arrays; None for all.
        """
        return None

    def locate_images(self, ref: EpisodeRef, frames: Mapping[str, Frames]) -> Mapping[str, tuple[Located, ...]]:
        """Where encoded images of an episode lie in a file on this machine.

        Args:
            ref: the episode.
            frames: feature -> its images.

        Returns:
            Feature -> its images in a map of the file; only features of which every image was found.
        """
        return {}


class RootedSource(BaseSource):
    """A source that reads one folder, file or address."""

    root: Any

    @property
    def roots(self) -> tuple[Root, ...]:
        """Its one root."""
        return (self.root,)


@dataclass(frozen=True)
class WrappedSource(BaseSource):
    """A source that answers as another does; a wrapper overrides what differs.

    Attributes:
        source: any source.
    """

    source: Source

    def episodes(self) -> Sequence[EpisodeRef]:
        """See `Source`."""
        return self.source.episodes()

    def fingerprint(self, ref: EpisodeRef) -> str:
        """See `Source`."""
        return self.source.fingerprint(ref)

    def read(self, ref: EpisodeRef) -> Episode:
        """See `Source`."""
        return self.source.read(ref)

    def schema(self, episode: Episode) -> Schema:
        """See `Source`."""
        return self.source.schema(episode)

    @property
    def roots(self) -> tuple[Root, ...]:
        """See `BaseSource`."""
        return whole(self.source).roots

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `BaseSource`."""
        return whole(self.source).states(refs)

    @property
    def is_whole(self) -> bool:
        """See `BaseSource`."""
        return whole(self.source).is_whole

    def time_steps(self, refs: Sequence[EpisodeRef]) -> NDArray[np.float64]:
        """See `BaseSource`."""
        return whole(self.source).time_steps(refs)

    def extra_files(self) -> Sequence[ExtraFile]:
        """See `BaseSource`."""
        return whole(self.source).extra_files()

    def videos(self) -> VideoCopy | None:
        """See `BaseSource`."""
        return whole(self.source).videos()

    def steps_of(self, ref: EpisodeRef) -> Sequence[Step]:
        """See `BaseSource`."""
        return whole(self.source).steps_of(ref)

    def without(self, unwanted: Unwanted) -> Source | None:
        """See `BaseSource`."""
        return replace(self, source=narrowed(self.source, unwanted.steps))

    def not_asking(self, facts: Collection[str]) -> Source | None:
        """See `BaseSource`."""
        return replace(self, source=whole(self.source).not_asking(facts) or self.source)

    def evidence(self, ref: EpisodeRef) -> Mapping[str, Sequence[Any] | None] | None:
        """See `BaseSource`."""
        return whole(self.source).evidence(ref)

    def files_of(self, ref: EpisodeRef) -> Sequence[str]:
        """See `BaseSource`."""
        return whole(self.source).files_of(ref)

    def outlines(self, refs: Sequence[EpisodeRef]) -> Mapping[str, Outline]:
        """See `BaseSource`."""
        return whole(self.source).outlines(refs)

    def columns(
        self, refs: Sequence[EpisodeRef], names: Collection[str] | None
    ) -> Iterator[tuple[str, Columns | DataError]] | None:
        """See `BaseSource`."""
        return whole(self.source).columns(refs, names)

    def locate_images(self, ref: EpisodeRef, frames: Mapping[str, Frames]) -> Mapping[str, tuple[Located, ...]]:
        """See `BaseSource`."""
        return whole(self.source).locate_images(ref, frames)


@runtime_checkable
class _HasRoot(Protocol):
    root: Any


@dataclass(frozen=True)
class _Short(BaseSource):
    """A source that has the four methods and, perhaps, a ``root``."""

    source: Source

    @property
    def roots(self) -> tuple[Root, ...]:
        """Its root, if it has one."""
        return (self.source.root,) if isinstance(self.source, _HasRoot) else ()


def refresh(source: object, state: object, names: Sequence[str]) -> None:
    """Forget what a source has read of its metadata, by an earlier call, if that was of another state.

    Args:
        source: whose cached properties are meant.
        state: what changes with the metadata.
        names: of the cached properties.
    """
    kept = vars(source)
    if kept.get("_read_at", state) != state:
        for name in names:
            kept.pop(name, None)
    kept["_read_at"] = state


def whole(source: Source) -> BaseSource:
    """What a source says beyond its four methods: itself, or the defaults."""
    return source if isinstance(source, BaseSource) else _Short(source)


def narrowed(source: Source, steps: Sequence[Any]) -> Source:
    """A source that does not read what these steps drop unseen; the same one where it reads everything.

    So a camera that can't be decoded costs nothing where it is not wanted.
    """
    return whole(source).without(Unwanted(tuple(steps))) or source


def paths_of(source: Source) -> tuple[Path, ...]:
    """The folders or files on this machine that a source reads, as far as it tells."""
    return tuple(root for root in whole(source).roots if isinstance(root, Path))


class BaseSink:
    """The defaults of all that a sink may say besides ``target``, ``encode``, ``assemble`` and ``check``."""

    @property
    def traits(self) -> Traits:
        """What a run must know of it."""
        return Traits()

    @property
    def holds_empty(self) -> bool:
        """See `Traits`."""
        return self.traits.holds_empty

    @property
    def one_schema(self) -> bool:
        """See `Traits`."""
        return self.traits.one_schema

    @property
    def sidecar(self) -> str:
        """See `Traits`."""
        return self.traits.sidecar

    def split_of(self, episodes: Sequence[Published]) -> Mapping[str, str | None]:
        """Episode id -> the split that it is in, or None for none."""
        return dict.fromkeys((episode.id for episode in episodes), "train")


@dataclass(frozen=True, repr=False)
class WrappedSink(BaseSink):
    """A sink that answers as another does; a wrapper overrides what differs.

    Attributes:
        sink: any sink.
    """

    sink: Sink

    def __repr__(self) -> str:
        return repr(self.sink)

    @property
    def target(self) -> Path:
        """See `Sink`."""
        return self.sink.target

    @property
    def traits(self) -> Traits:
        """See `BaseSink`."""
        return traits_of(self.sink)

    def split_of(self, episodes: Sequence[Published]) -> Mapping[str, str | None]:
        """See `BaseSink`."""
        return split_of(self.sink, episodes)

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """See `Sink`."""
        return self.sink.encode(episode, schema)

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """See `Sink`."""
        self.sink.assemble(episodes, schema, folder)

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """See `Sink`."""
        self.sink.check(folder, episodes)


def traits_of(sink: Sink) -> Traits:
    """The traits of any sink."""
    if isinstance(sink, BaseSink):
        return sink.traits
    return Traits(holds_empty=sink.holds_empty, one_schema=sink.one_schema, sidecar=sink.sidecar)


def split_of(sink: Sink, episodes: Sequence[Published]) -> Mapping[str, str | None]:
    """The split of each episode by any sink's rule."""
    return (sink if isinstance(sink, BaseSink) else BaseSink()).split_of(episodes)

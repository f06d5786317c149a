"""The episodes of a source for several threads at a time: those that people look at come first.

Readers of videos and HDF5 files keep their place in open files, so that one thread reads at a time. A thread in
the background reads what the list of episodes lacks, and steps aside whenever somebody waits.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from vla_data.core import Episode, EpisodeRef, Schema, Source
from vla_data.core.base import whole
from vla_data.errors import VlaDataError
from vla_data.safety.text import show

_KEPT: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the list of episodes.

    Attributes:
        position: as ``--episodes`` counts.
        id: of the episode.
        steps: None as long as it was not read.
        task: its instruction, or empty.
        success: whether a flag is set; None where that is not known.
        error: why it can't be read, or empty.
    """

    position: int
    id: str
    steps: int | None = None
    task: str = ""
    success: bool | None = None
    error: str = ""


class Shelf:
    """Lists and reads the episodes of a source.

    Args:
        source: any.
        solved: id -> whether the episode is solved, where that is known without reading it.
    """

    def __init__(self, source: Source, solved: dict[str, bool] | None = None) -> None:
        self._source = source
        self._refs: Sequence[EpisodeRef] = source.episodes()
        self._lock, self._count = threading.Lock(), threading.Lock()
        self._free = threading.Event()
        self._free.set()
        self._waiting = 0
        self._kept: OrderedDict[int, tuple[Episode, Schema]] = OrderedDict()
        self._stopped = threading.Event()
        told, known = whole(source).outlines(self._refs), solved or {}
        self.entries = [
            Entry(position=at, id=ref.id, success=known.get(ref.id))
            if ref.id not in told
            else Entry(
                position=at,
                id=ref.id,
                steps=told[ref.id].steps,
                task=told[ref.id].task,
                success=known.get(ref.id),
            )
            for at, ref in enumerate(self._refs)
        ]
        self._missing = [entry.position for entry in self.entries if entry.steps is None]
        self.found: list[Entry] = []
        """Entries that were not known at first, in the order in which they were."""

    @property
    def is_complete(self) -> bool:
        """Whether every entry is known."""
        return len(self.found) == len(self._missing)

    def __len__(self) -> int:
        return len(self._refs)

    def read(self, position: int) -> tuple[Episode, Schema]:
        """An episode, and its schema.

        Raises:
            VlaDataError: it can't be read.
        """
        with self.turn():
            if position not in self._kept:
                episode = self._source.read(self._refs[position])
                self._kept[position] = (episode, self._source.schema(episode))
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(position)
            return self._kept[position]

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """The right to read, before the thread in the background."""
        with self._count:
            self._waiting += 1
            self._free.clear()
        try:
            with self._lock:
                yield
        finally:
            with self._count:
                self._waiting -= 1
                if not self._waiting:
                    self._free.set()

    @contextlib.contextmanager
    def aside(self) -> Iterator[bool]:
        """The right to read, for a thread in the background: whenever nobody waits. False: it shall end."""
        self._free.wait()
        with self._lock:
            yield not self._stopped.is_set()

    def start(self) -> threading.Thread:
        """Begin to read what the list lacks."""
        thread = threading.Thread(target=self._fill, daemon=True, name="vla-data view: list")
        thread.start()
        return thread

    def stop(self) -> None:
        """End the thread in the background after the episode that it reads."""
        self._stopped.set()
        self._free.set()

    def _fill(self) -> None:
        for position in self._missing:
            with self.aside() as goes_on:
                if not goes_on:
                    return
                entry = self._entry(position)
            self.entries[position] = entry
            self.found.append(entry)

    def _entry(self, position: int) -> Entry:
        ref = self._refs[position]
        try:
            episode = self._source.read(ref)
        except Exception as error:  # whatever a reader raises, the list goes on
            told = str(error) if isinstance(error, VlaDataError) else f"{type(error).__name__}: {error}"
            return Entry(position=position, id=ref.id, steps=0, error=show(told, escaped=True))
        solved = self.entries[position].success
        if solved is None:
            solved = episode.succeeded
        return Entry(position=position, id=ref.id, steps=len(episode), task=episode.task, success=solved)

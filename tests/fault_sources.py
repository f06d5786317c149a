"""Sources for fault tests. Importable by spawned workers."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.odd_sources import DEEDS, OddSource
from vla_data import open_source
from vla_data.core import Episode, EpisodeRef, Schema, Source


@dataclass(frozen=True, kw_only=True)
class CountedSource:
    """Another source, with every read noted in a file."""

    root: Path = field(repr=False)
    format: str = "ppo_rollout"
    reads: Path | None = field(default=None, repr=False)

    @functools.cached_property
    def _inner(self) -> Source:
        return open_source(f"{self.format}:{self.root}")

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._inner.episodes()

    def fingerprint(self, ref: EpisodeRef) -> str:
        return self._inner.fingerprint(ref)

    def read(self, ref: EpisodeRef) -> Episode:
        if self.reads is not None:
            note(self.reads, ref.id)
        return self._inner.read(ref)

    def schema(self, episode: Episode) -> Schema:
        return self._inner.schema(episode)


@dataclass(frozen=True, kw_only=True)
class NotedSource(OddSource):
    """An `OddSource` whose every read notes the worker's process id, so that a test can murder it; and takes time.

    Attributes:
        pids: file of "<pid> <episode>" lines.
        pause: seconds of each read.
    """

    pids: Path = field(repr=False)
    pause: float = 0.0

    def read(self, ref: EpisodeRef) -> Episode:
        note(self.pids, f"{os.getpid()} {ref.id}")
        time.sleep(self.pause)
        deed = dict(self.poison).get(int(ref.id))
        if deed is not None:
            DEEDS[deed]()
        # Of the same few contents: in `OddSource` an episode has more steps the higher its number.
        few = OddSource().read(replace(ref, id=str(int(ref.id) % 7)))
        return replace(few, id=ref.id, meta={**few.meta, "source_sha256": self.fingerprint(ref)})


def note(path: Path, line: str) -> None:
    """Append one line in one write, which other processes never split."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)

"""Some episodes of a source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Episode, EpisodeRef, Schema, Source
from vla_data.curate import Step
from vla_data.errors import UsageError


@dataclass(frozen=True)
class Selection:
    """The episodes of a source at some positions.

    Attributes:
        source: any source.
        positions: positions in its list of episodes, each once.
    """

    source: Source
    positions: tuple[int, ...]

    @property
    def root(self) -> Path | None:
        """The source's root."""
        return getattr(self.source, "root", None)

    def episodes(self) -> Sequence[EpisodeRef]:
        """The selected episodes, in the source's order."""
        every = self.source.episodes()
        missing = [n for n in self.positions if n >= len(every)]
        if missing:
            raise UsageError("E007", f"there are {len(every):,} episodes, 0 to {len(every) - 1}; no {missing[0]}")
        return [every[n] for n in sorted(self.positions)]

    def fingerprint(self, ref: EpisodeRef) -> str:
        """The source's."""
        return self.source.fingerprint(ref)

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode."""
        return self.source.read(ref)

    def schema(self, episode: Episode) -> Schema:
        """The source's."""
        return self.source.schema(episode)

    def time_steps(self, refs: Sequence[EpisodeRef]) -> NDArray[np.float64]:
        """The source's; none where it has no times."""
        known: Callable[[Sequence[EpisodeRef]], NDArray[np.float64]] | None
        known = getattr(self.source, "time_steps", None)
        return known(refs) if known is not None else np.zeros(0)

    def extra_files(self) -> Sequence[Any]:
        """The source's files that are not of its format, if it lists them."""
        listed: Callable[[], Sequence[Any]] | None = getattr(self.source, "extra_files", None)
        return listed() if listed is not None else ()

    def steps_of(self, ref: EpisodeRef) -> Sequence[Step]:
        """The source's own steps, if it has any."""
        own: Callable[[EpisodeRef], Sequence[Step]] | None = getattr(self.source, "steps_of", None)
        return own(ref) if own is not None else ()


def parse_positions(text: str) -> tuple[int, ...]:
    """``0,3,5-9`` -> (0, 3, 5, 6, 7, 8, 9).

    Raises:
        UsageError: E001 for anything else.
    """
    out: dict[int, None] = {}
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UsageError("E001", f"{text!r} is no list of episodes like 0,3,5-9")
        for n in range(int(first), int(last or first) + 1):
            out[n] = None
    return tuple(out)


def select(source: Source, episodes: str | None) -> Source:
    """The episodes at the positions that a text like ``0,3,5-9`` names; all for None."""
    return source if episodes is None else Selection(source, parse_positions(episodes))

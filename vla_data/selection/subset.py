"""Some episodes of a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vla_data.core import EpisodeRef, Source
from vla_data.core.base import WrappedSource
from vla_data.errors import UsageError
from vla_data.safety.text import show


@dataclass(frozen=True)
class Selection(WrappedSource):
    """The episodes of a source at some positions.

    Attributes:
        source: any source.
        positions: positions in its list of episodes, each once.
    """

    positions: tuple[int, ...]

    def episodes(self) -> Sequence[EpisodeRef]:
        """The selected episodes, in the source's order."""
        every = self.source.episodes()
        missing = [n for n in self.positions if n >= len(every)]
        if missing:
            raise UsageError(
                "E007",
                f"there is no episode {missing[0]}; the source has {len(every):,}, from 0 to {len(every) - 1}",
            )
        return [every[n] for n in sorted(self.positions)]

    @property
    def is_whole(self) -> bool:
        """No: others are left out."""
        return False


_MOST: Final = 10_000_000
_DIGITS: Final = 18
_SHOWN: Final = 60


def parse_positions(text: str) -> tuple[int, ...]:
    """``0,3,5-9`` -> (0, 3, 5, 6, 7, 8, 9).

    Raises:
        UsageError: E001 for anything else, for a position that is named twice and for over 10,000,000 of them.
    """
    out: dict[int, None] = {}
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if max(len(first), len(last)) > _DIGITS or not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError("E001", f"{show(text[:_SHOWN])!r} is not a list of episodes like 0,3,5-9")
        start, stop = int(first), int(last or first) + 1
        if stop <= start:
            raise UsageError("E001", f"{show(text[:_SHOWN])!r} is not a list of episodes like 0,3,5-9")
        if len(out) + stop - start > _MOST:
            raise UsageError("E001", f"{show(text[:_SHOWN])!r} names more than {_MOST:,} episodes")
        for n in range(start, stop):
            if n in out:
                raise UsageError("E001", f"{show(text[:_SHOWN])!r} names {n} twice")
            out[n] = None
    return tuple(out)


def select(source: Source, episodes: str | None) -> Source:
    """The episodes at the positions that a text like ``0,3,5-9`` names; all for None."""
    return source if episodes is None else Selection(source, parse_positions(episodes))

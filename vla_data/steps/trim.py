"""The part of an episode that a person chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vla_data.core import Episode
from vla_data.errors import UsageError
from vla_data.safety.text import show

Range = tuple[str, int, int | None]


@dataclass(frozen=True, kw_only=True)
class Trim:
    """Keeps a range of steps of some episodes; the others stay whole.

    Attributes:
        ranges: id of the episode, its first step and the last one, both kept; None: to its end. Each id once.
    """

    ranges: tuple[Range, ...]

    bucket: ClassVar[str] = "truncated"
    reason: ClassVar[str] = "trimmed"

    def __post_init__(self) -> None:
        ids = [name for name, _, _ in self.ranges]
        if len(set(ids)) != len(ids):
            raise ValueError("ranges names an episode twice")
        for name, first, last in self.ranges:
            if first < 0 or (last is not None and last < first):
                raise ValueError(f"{name}: steps {first} to {last} are no range")

    def apply(self, episode: Episode) -> Episode:
        """The steps that are kept.

        Raises:
            UsageError: E001, the episode is too short to have the range: a word mistyped must not cost an episode.
        """
        for name, first, last in self.ranges:
            if name == episode.id:
                stop = len(episode) if last is None else last + 1
                if stop > len(episode) or first >= stop:
                    said = f"{first}-{'' if last is None else last}"
                    raise UsageError("E001", f"{show(name)} has {len(episode):,} steps, from 0; trim names {said}")
                return episode.take(np.arange(first, stop))
        return episode

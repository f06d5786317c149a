"""Whole datasets as flat arrays: every frame of every episode in one row, and how long each episode is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Episodes:
    """Where the episodes of flat arrays begin and end. Frame ``t`` of episode ``e`` is row ``starts[e] + t``.

    Attributes:
        lengths: (E,) int64, frames of each episode, each at least 1.
    """

    lengths: Ints

    def __post_init__(self) -> None:
        lengths = np.asarray(self.lengths)
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
            raise ValueError(f"lengths are {lengths.dtype} of shape {lengths.shape}, not (E,) integers")
        if len(lengths) and lengths.min() < 1:
            raise ValueError("an episode has no frames")
        object.__setattr__(self, "lengths", lengths.astype(np.int64))

    @classmethod
    def from_starts(cls, starts: Sequence[int] | Ints, total: int) -> Episodes:
        """From the first row of each episode, ascending from 0, and the number of rows."""
        edges = np.append(np.asarray(starts, dtype=np.int64), total)
        if len(edges) > 1 and edges[0] != 0:
            raise ValueError("the first episode does not start at row 0")
        return cls(np.diff(edges))

    @classmethod
    def from_numbers(cls, episode_index: NDArray[Any]) -> Episodes:
        """From the episode number of each row; rows of an episode stand together, in order.

        Raises:
            ValueError: an episode's rows are in two places.
        """
        numbers = np.asarray(episode_index)
        first = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)])
        if len(np.unique(numbers[first])) != len(first):
            raise ValueError("the rows of an episode are not together")
        return cls.from_starts(first, len(numbers))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def total(self) -> int:
        """Frames in all."""
        return int(self.lengths.sum())

    @cached_property
    def ends(self) -> Ints:
        """(E,): the row after each episode's last."""
        return np.cumsum(self.lengths)

    @cached_property
    def starts(self) -> Ints:
        """(E,): each episode's first row."""
        return self.ends - self.lengths

    @cached_property
    def last(self) -> Ints:
        """(E,): each episode's last row."""
        return self.ends - 1

    def per_frame(self, of_episodes: NDArray[Any] | Sequence[Any]) -> NDArray[Any]:
        """(N,) from (E,): every frame gets what its episode has."""
        values = np.asarray(of_episodes)
        if len(values) != len(self):
            raise ValueError(f"{len(values)} values for {len(self)} episodes")
        return np.asarray(np.repeat(values, self.lengths))

    def frame_index(self) -> Ints:
        """(N,): 0, 1, 2, ... in each episode."""
        return np.asarray(np.arange(self.total) - self.per_frame(self.starts))

    def steps_left(self) -> Ints:
        """(N,): frames after this one in its episode; 0 at the last."""
        return np.asarray(self.per_frame(self.last) - np.arange(self.total))

    def column(self, name: str, values: Any) -> Floats:
        """``values`` as (N,) float64.

        Raises:
            ValueError: another length, or a value that is not finite.
        """
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (self.total,):
            raise ValueError(f"{name} has shape {array.shape}, not ({self.total},)")
        if not np.isfinite(array).all():
            at = int(np.argmin(np.isfinite(array)))
            raise ValueError(f"{name} is {array[at]} at frame {at}")
        return array

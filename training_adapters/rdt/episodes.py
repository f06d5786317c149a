"""The episodes of a source as RDT trains on them, listed once and read when asked for."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.rdt.sample import Rules, Trajectory, trajectory
from vla_data.core import EpisodeRef, Source
from vla_data.errors import DataError, RefusedError


class Episodes:
    """Episodes that can be trained on, each step with a number.

    Every episode is read once to see how long it is and where it begins to move; those that can't be used are in
    `left_out`, by name. `sides` has the sides of all images, padded to squares. Picklable: a worker of a loader
    gets a copy with an empty cache.

    Args:
        source: any source.
        rules: how samples are cut.
        cached: episodes that are kept in memory.
        **options: of `converters.rdt.sample.trajectory`: layout, action_convention, state_convention,
            opening, cameras.

    Raises:
        RefusedError: E402 when no episode is left.
    """

    def __init__(self, source: Source, *, rules: Rules | None = None, cached: int = 8, **options: Any) -> None:
        self.rules = rules or Rules()
        self.left_out: dict[str, str] = {}
        self.sides: set[int] = set()
        self.fps = 0.0
        self._source, self._options, self._cached = source, options, cached
        self._process = os.getpid()
        self._cache: OrderedDict[int, Trajectory] = OrderedDict()
        self._refs: list[EpisodeRef] = []
        lengths, self._firsts = [], []
        for ref in source.episodes():
            try:
                whole = self._read(ref)
            except DataError as error:
                if not error.ignore:
                    self.left_out[ref.id] = str(error)
                continue
            self._refs.append(ref)
            self.sides |= {max(frames.height, frames.width) for frames in whole.frames.values()}
            self._firsts.append(whole.first)
            lengths.append(len(whole) - whole.first)
        if not self._refs:
            why = next(iter(self.left_out.values()), "the source has none")
            raise RefusedError("E402", f"no episode can be trained on: {why}")
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        """Episodes."""
        return len(self._refs)

    @property
    def refs(self) -> list[EpisodeRef]:
        """Of the episodes, in order."""
        return list(self._refs)

    @property
    def steps(self) -> int:
        """Steps of all episodes together. Drawn evenly they are RDT's: an episode by its length, then a step."""
        return int(self._ends[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """The episode and the step in it of a number from 0 to ``steps``."""
        if not 0 <= index < self.steps:
            raise IndexError(f"step {index} of {self.steps:,}")
        at = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[at - 1]) if at else 0
        return at, index - before + self._firsts[at]

    def __getitem__(self, at: int) -> Trajectory:
        """One episode."""
        if self._process != os.getpid():  # forked: an open file must not be shared
            self._process, self._cache = os.getpid(), OrderedDict()
        if at in self._cache:
            self._cache.move_to_end(at)
            return self._cache[at]
        whole = self._read(self._refs[at])
        self._cache[at] = whole
        while len(self._cache) > self._cached:
            self._cache.popitem(last=False)
        return whole

    def _read(self, ref: Any) -> Trajectory:
        episode = self._source.read(ref)
        schema = self._source.schema(episode)
        self.fps = self.fps or schema.fps
        if schema.fps != self.fps:
            raise DataError("E221", f"{schema.fps:g} steps a second, others have {self.fps:g}")
        return trajectory(episode, schema, rules=self.rules, **self._options)

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}  # cached images may hold open files

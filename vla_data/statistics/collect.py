"""One pass over the numbers of a source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from vla_data.core import Array, Json, Source
from vla_data.errors import DataError, RefusedError
from vla_data.statistics.columns import Columns, read_columns
from vla_data.statistics.vectors import LARGEST, Described, VectorStats, exact_floats

MEMORY: Final = 512 << 20
"""Bytes of values that are kept in memory; more go to a temporary file."""

WIDEST: Final = 4096
"""Arrays with more elements a step, such as depth images, are left out where all are asked for."""

_CHUNK: Final = 1 << 21

Rows = Callable[[Columns], Columns]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An episode that could not be used, and why."""

    id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a dataset, or a mixture of some, holds.

    Attributes:
        features: name -> statistics.
        episodes: that were counted.
        steps: of these episodes.
        left_out: episodes that could not be used.
        too_wide: arrays with more than `WIDEST` elements a step, which were not asked for by name.
    """

    features: Mapping[str, Described]
    episodes: int
    steps: int
    left_out: tuple[LeftOut, ...] = ()
    too_wide: tuple[str, ...] = ()

    def exact(self, name: str) -> VectorStats:
        """Statistics of a feature of one dataset, whose values are known."""
        stats = self.features[name]
        if not isinstance(stats, VectorStats):
            raise TypeError(f"{name} is of a mixture")
        return stats


def collect(
    source: Source,
    *,
    names: Collection[str] | None = None,
    rows: Rows = lambda arrays: arrays,
    memory: int = MEMORY,
    scratch: Path | None = None,
) -> Summary:
    """Exact statistics of a source's arrays, in one pass that decodes no image.

    Memory: at most ``memory`` bytes of values, twice one element's share of them while runs are merged, and 16 MiB
    and one episode for each feature; beyond that, values go to a nameless file.

    Args:
        source: any source; of a published dataset this is what it holds, and nothing that curation dropped.
        names: arrays to read; None for all numbers.
        rows: what of an episode is counted: its arrays -> name -> ``(n, ...)``; by default every step.
        memory: in bytes.
        scratch: folder for values that do not fit; by default the system's.

    Raises:
        RefusedError: E402, no episode could be used.
    """
    return summarize(read_columns(source, names), rows=rows, memory=memory, scratch=scratch, every=names is None)


def summarize(
    given: Iterable[tuple[str, Columns | DataError]],
    *,
    rows: Rows = lambda arrays: arrays,
    memory: int = MEMORY,
    scratch: Path | None = None,
    every: bool = False,
) -> Summary:
    """As `collect`, of arrays that somebody else reads.

    Args:
        given: ids of episodes, and their arrays or why there are none.
        rows: see `collect`.
        memory: see `collect`.
        scratch: see `collect`.
        every: leave arrays with more than `WIDEST` elements out.

    Raises:
        RefusedError: E402, no episode could be used.
    """
    parts: dict[str, _Part] = {}
    widths: dict[str, int] = {}
    left_out: list[LeftOut] = []
    too_wide: set[str] = set()
    episodes = steps = 0
    for name, read in given:
        try:
            if isinstance(read, DataError):
                raise read
            wide = [key for key, array in read.items() if every and _width(array) > WIDEST]
            too_wide.update(wide)
            length = min((len(array) for array in read.values()), default=0)
            tables = _tables(rows({key: array for key, array in read.items() if key not in wide}))
            found = {key: table.shape[1] for key, table in tables.items()}
            widths = widths or found
            if found != widths:
                other = next(key for key in widths.keys() | found.keys() if widths.get(key) != found.get(key))
                here, before = found.get(other, "no"), widths.get(other, "no")
                raise DataError("E203", f"{other} has {here} elements, but {before} in the episodes before")
        except DataError as error:
            left_out.append(LeftOut(name, error.code, error.message))
            continue
        episodes += 1
        steps += length
        for key, table in tables.items():
            parts.setdefault(key, _Part()).add(table)
        if sum(part.nbytes for part in parts.values()) > memory:
            for part in parts.values():
                part.spill(scratch)
    features = {key: part.done() for key, part in parts.items() if part.rows}
    if not features:
        why = f"; the first: {left_out[0].id}: {left_out[0].message}" if left_out else ""
        raise RefusedError("E402", f"no episode is left to take statistics of{why}")
    return Summary(
        features=features,
        episodes=episodes,
        steps=steps,
        left_out=tuple(left_out),
        too_wide=tuple(sorted(too_wide)),
    )


@dataclass(slots=True)
class _Part:
    """Rows of one feature on their way into its statistics: sorting many at once is faster."""

    stats: VectorStats | None = None
    waiting: list[Array] = field(default_factory=list)
    size: int = 0
    rows: int = 0

    def add(self, table: Array) -> None:
        if len(table):
            self.waiting.append(table)
            self.size += table.size
            self.rows += len(table)
            if self.size >= _CHUNK:
                self._flush()

    @property
    def nbytes(self) -> int:
        return self.stats.nbytes if self.stats is not None else 0

    def spill(self, folder: Path | None) -> None:
        if self.stats is not None and self.stats.nbytes:
            self.stats = self.stats.spilled(folder)

    def done(self) -> VectorStats:
        self._flush()
        if self.stats is None:
            raise ValueError("there are no rows")
        return self.stats

    def _flush(self) -> None:
        if self.waiting:
            more = VectorStats.of(np.concatenate(self.waiting))
            self.stats = more if self.stats is None else self.stats.merge(more)
            self.waiting, self.size = [], 0


def _width(array: Array) -> int:
    return int(np.prod(array.shape[1:]))


def _tables(arrays: Columns) -> dict[str, Array]:
    """Each array as ``(n, D)`` finite floats."""
    out = {}
    for name, array in arrays.items():
        table = exact_floats(array).reshape(len(array), -1) if len(array) else np.zeros((0, _width(array)))
        if table.size:
            low, high = float(table.min()), float(table.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise DataError("E201", f"{name} has a value that is not finite")
            if max(-low, high) > LARGEST:
                raise DataError("E202", f"{name} has a value beyond {LARGEST:g}")
        out[name] = table
    return out


def report(summary: Summary) -> dict[str, Json]:
    """How much was counted, and what was not."""
    return {
        "episodes": summary.episodes,
        "steps": summary.steps,
        "left_out": [{"id": e.id, "code": e.code, "message": e.message} for e in summary.left_out],
        "too_wide": list(summary.too_wide),
    }

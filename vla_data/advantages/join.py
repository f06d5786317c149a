"""Putting a table of (episode, frame) rows onto a dataset: every frame exactly once, or a refusal with counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.numbers.flat import Bools, Ints
from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.safety.text import show


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How the rows of a file meet the frames of a dataset.

    Attributes:
        frames: of the dataset.
        rows: of the file.
        matched: frames with exactly one row.
        missing: frames with none.
        repeated: rows beyond the first of their frame.
        unknown: rows of no frame of the dataset.
        inexact: rows that we can match and the format's own reader would not find.
        first_missing: (episode, frame) of the first frame without a row.
    """

    frames: int
    rows: int
    matched: int
    missing: int
    repeated: int
    unknown: int
    inexact: int = 0
    first_missing: tuple[int, int] | None = None

    @property
    def complete(self) -> bool:
        """Every frame once, and nothing else."""
        return self.matched == self.frames == self.rows and not self.inexact

    def require(self, name: str) -> None:
        """Refuse what is not complete.

        Raises:
            UsageError: E301 when rows are of frames that the dataset does not have, which is what a file of
                another or an older dataset looks like; E302 when frames are without a row or have several.
        """
        if self.complete:
            return
        counts = f"{self.matched:,} of {self.frames:,} frames have one row of {self.rows:,}"
        if self.unknown:
            raise UsageError(
                "E301", f"{show(name)} is of other data: {self.unknown:,} rows are of no frame here; {counts}"
            )
        parts = []
        if self.missing and self.first_missing is not None:
            episode, frame = self.first_missing
            parts.append(f"{self.missing:,} frames have no row (as episode {episode}, frame {frame})")
        if self.repeated:
            parts.append(f"{self.repeated:,} rows repeat a frame")
        if self.inexact:
            parts.append(f"{self.inexact:,} keys would not be found by its own reader")
        raise UsageError("E302", f"{show(name)}: {'; '.join(parts)}; {counts}")

    def to_json(self) -> dict[str, Json]:
        """JSON-ready."""
        return {
            "frames": self.frames,
            "rows": self.rows,
            "matched": self.matched,
            "missing": self.missing,
            "repeated": self.repeated,
            "unknown": self.unknown,
            "inexact": self.inexact,
            "complete": self.complete,
        }


def cover(table: FrameTable, rows: Ints, *, inexact: Bools | None = None) -> Coverage:
    """The coverage of rows as `FrameTable.rows` gives them: the frame of each, -1 for none."""
    counts = np.bincount(rows[rows >= 0], minlength=len(table))
    missing = counts == 0
    first = None
    if missing.any():
        at = int(np.argmax(missing))
        episode = int(np.searchsorted(table.episodes.ends, at, side="right"))
        first = (int(table.numbers[episode]), at - int(table.episodes.starts[episode]))
    return Coverage(
        frames=len(table),
        rows=len(rows),
        matched=int(np.count_nonzero(counts == 1)),
        missing=int(np.count_nonzero(missing)),
        repeated=int((counts - 1)[counts > 1].sum()),
        unknown=int(np.count_nonzero(rows < 0)),
        inexact=0 if inexact is None else int(np.count_nonzero(inexact & (rows >= 0))),
        first_missing=first,
    )


def place(rows: Ints, values: Any, total: int) -> Any:
    """(N,): the values by frame, NaN (or False) where there is none; of several the last."""
    given = np.asarray(values)
    empty: Any = False if given.dtype == np.bool_ else np.nan
    dtype = np.bool_ if given.dtype == np.bool_ else np.float64
    out: Any = np.full(total, empty, dtype=dtype)
    known = rows >= 0
    out[rows[known]] = given[known]
    return out

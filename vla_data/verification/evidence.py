"""A dataset beside what its source's files have, whatever the source's reader made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from vla_data.core import Array, Episode
from vla_data.core.curate import Step
from vla_data.core.wanted import Names, name_after
from vla_data.safety.text import show
from vla_data.steps.actions import ConvertActions

_ABSENT: Final = ("no_column_of", "no_video_of", "not_declared")


class Evidence:
    """One episode of a source, as `vla_data.core.base.BaseSource.evidence` gives it, and the recipe's steps."""

    def __init__(self, found: Mapping[str, Sequence[Any] | None] | None, steps: Sequence[Step]) -> None:
        named = {name: name_after(name, steps) for name in found or {}}
        self._cells = {new: (found or {})[name] for name, new in named.items() if new is not None}
        self._names = {new: name for name, new in named.items() if new is not None}
        self._is_unchanged = all(
            isinstance(step, Names) and not isinstance(step, ConvertActions) for step in steps
        )

    def lost(self, stored: Episode) -> list[str]:
        """What the source has or declares, the recipe keeps and the dataset lacks, by its name in the dataset."""
        return sorted(self._names.keys() - {*stored.arrays, *stored.frames})

    def problems(self, stored: Episode, notes: Sequence[str], differing: Collection[str]) -> Iterator[str]:
        """What differs, a sentence each.

        Args:
            stored: the episode as it is in the dataset.
            notes: that the ledger has on it; what a note names was left out with a word.
            differing: arrays of which it is known that they differ, which is not told again.
        """
        told = {name for code, _, name in (note.partition(":") for note in notes) if _is_absent(code)}
        told |= {name.removeprefix("steps/").replace("/", ".") for name in told}  # notes of RLDS have paths
        for name in self.lost(stored):
            if self._names[name] not in told:
                yield f"lacks {show(name)}, which the source has or declares, and no note says why"
        if not self._is_unchanged:
            return
        for name in sorted((self._cells.keys() & stored.arrays.keys()) - set(differing)):
            cells = self._cells[name]
            if cells is not None and (problem := _difference(cells, stored.arrays[name])):
                yield f"{show(name)} {problem}"


def _is_absent(code: str) -> bool:
    """Whether a note is on something that is not there."""
    return ("left_out" in code and code != "names_left_out") or code in _ABSENT


def _difference(cells: Sequence[Any], stored: Array) -> str | None:
    """How the cells of a column differ from an array, if they do. Records have no order and are passed over."""
    if len(cells) != len(stored):
        return f"has {len(stored):,} rows, in the files of its source {len(cells):,}"
    for row, cell in enumerate(cells):
        flat = list(_flat(cell))
        if any(isinstance(value, dict) for value in flat):
            return None
        if any(value is None for value in flat):
            return f"has no value in row {row} of its source"
        mine = stored[row].reshape(-1) if stored.ndim > 1 else stored[row : row + 1]
        if mine.dtype.kind == "U":
            same = flat == mine.tolist()
        else:
            with np.errstate(all="ignore"):
                numbers = np.asarray([value if isinstance(value, bool | int) else float(value) for value in flat])
                same = len(numbers) == len(mine) and np.array_equal(
                    numbers.astype(mine.dtype), mine, equal_nan=_nan(mine)
                )
        if not same:
            return f"differs from the files of its source in row {row}"
    return None


def _nan(values: Array) -> bool:
    return values.dtype.kind == "f"


def _flat(cell: Any) -> Iterator[Any]:
    if isinstance(cell, list):
        for item in cell:
            yield from _flat(item)
    else:
        yield cell

"""A simulator's states beside the actions of a demo, and whether they are of before or after them.

A flat table ``states`` is robosuite's, of before each action. Groups ``states/**`` are Isaac Lab's
(``isaaclab/envs/mdp/recorders``): recorded after each step, with ``initial_state/**`` (1, ...) from before the
first one. Which it is shows in the first rows: states of after the actions differ from the initial one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from vla_data.safety.hdf5 import Array, Table

NAME: Final = "observation.sim_state"


class Earlier(Table):
    """Rows of before each action, from those of after it: an initial row, and all rows of a table but the last."""

    def __init__(self, first: Table, table: Table) -> None:
        self.file, self._item, self.path = table.file, table._item, table.path
        self.shape, self.kind, self.dtype, self._row = table.shape, table.kind, table.dtype, table.row_bytes
        self._varies = table._varies
        self._first = first

    def read(self, start: int = 0, stop: int | None = None) -> Array:
        """See `Table`."""
        end = len(self) if stop is None else min(stop, len(self))
        rows = super().read(max(start - 1, 0), max(end - 1, 0))
        return np.concatenate([self._first.read(0, 1), rows]) if start == 0 < end else rows


def states_of(tables: dict[str, Table], *, ours: bool = False) -> tuple[dict[str, Table], list[str]]:
    """The states as features of before each action, taken out of ``tables``; and notes.

    Args:
        tables: path below the demo, with dots -> dataset.
        ours: the file is of this package, whose states are all of before the actions.
    """
    out: dict[str, Table] = {}
    notes: list[str] = []
    if (flat := tables.pop("states", None)) is not None:
        out[NAME] = flat
    nested = {key: tables.pop(key) for key in tuple(tables) if key.startswith("states.")}
    if not nested:
        return out, notes
    initial = {key: tables.get(f"initial_state.{key.removeprefix('states.')}") for key in nested}
    firsts = {key: first for key, first in initial.items() if first is not None and _fits(first, nested[key])}
    time = "before" if ours else _time(nested, firsts)
    for key, table in nested.items():
        name = f"{NAME}.{key.removeprefix('states.')}"
        if time == "before":
            out[name] = table
        elif time == "after" and key in firsts:
            out[name] = Earlier(firsts[key], table)
            del tables[f"initial_state.{key.removeprefix('states.')}"]
        else:
            notes.append(f"left_out_as_of_unknown_time:{key}")
    if time == "after":
        notes.append("states_are_of_after_the_action")
    return out, notes


def _fits(first: Table, table: Table) -> bool:
    same = first.kind == table.kind == "number" and first.shape[1:] == table.shape[1:]
    return same and len(first) == 1 and len(table) > 0 and len(table.shape) > 0 and len(first.shape) > 0


def _time(tables: Mapping[str, Table], firsts: Mapping[str, Table]) -> str:
    """Of "before" or "after", or nothing where that does not show: without initial states, or where nothing
    moves.
    """
    begins = [np.array_equal(first.read(), tables[key].read(0, 1)) for key, first in firsts.items()]
    if not all(begins):
        return "after"
    moves = any(
        not np.array_equal(tables[key].read(0, 1), tables[key].read(1, 2))
        for key in firsts
        if len(tables[key]) > 1
    )
    return "before" if moves else ""

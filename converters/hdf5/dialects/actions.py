"""The actions of a demo: one table, or a table for each part, which `vla_data.steps.Join` puts together."""

from __future__ import annotations

from collections import Counter
from typing import Final

from converters.hdf5.dialects.base import collect, required
from converters.hdf5.dialects.odd import Odd, refuse
from vla_data.errors import DataError
from vla_data.safety.hdf5 import Group, Table
from vla_data.safety.text import show

_PARTS: Final = "action_dict"
"""robomimic's group of the same actions in other forms: the actions themselves where there is nothing else."""


def actions_of(demo: Group, name: str, odd: list[Odd]) -> dict[str, Table]:
    """Feature -> table of one row an action: ``action``, or ``action.<part>`` where they are a group.

    Args:
        demo: the group of a demo.
        name: of its actions.
        odd: takes parts that can't be read, and those of another length than most.

    Raises:
        DataError: E206 without actions.
    """
    where = next((key for key in (name, _PARTS) if key in demo), name)
    if where == name and (where not in demo or isinstance(demo[where], Table)):
        return {"action": required(demo, name)}
    parts, _ = collect(demo.group(where), odd=(mine := list[Odd]()))
    if not parts:
        refuse(mine)
        raise DataError("E206", f"{show(demo.path)}/{where} has no actions in it")
    counts = Counter(len(table) for table in parts.values() if table.shape)
    count = counts.most_common(1)[0][0] if counts else 1
    out = {}
    for key, table in parts.items():
        if table.shape and len(table) == count:
            out[f"action.{key}"] = table
        else:
            rows = f"{len(table):,}" if table.shape else "no"
            message = f"{show(table.path)} has {rows} rows, other parts of the actions {count:,}"
            mine.append(("E204", message, table.path))
    odd += mine
    if not out:
        refuse(mine)
    return out

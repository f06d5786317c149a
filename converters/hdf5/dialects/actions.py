"""The actions of a demo: one table, or a table for each part, which `vla_data.steps.Join` puts together."""

from __future__ import annotations

from typing import Final

from converters.hdf5.dialects.base import collect, required
from converters.hdf5.dialects.odd import without
from vla_data.errors import DataError
from vla_data.safety.hdf5 import Group, Table
from vla_data.safety.text import show

_PARTS: Final = "action_dict"
"""robomimic's group of the same actions in other forms: the actions themselves where there is nothing else."""


def actions_of(demo: Group, name: str) -> dict[str, Table]:
    """Feature -> table of one row an action: ``action``, or ``action.<part>`` where they are a group.

    Args:
        demo: the group of a demo.
        name: of its actions.

    Raises:
        DataError: E206 without actions, E204 for parts of unequal length.
    """
    where = next((key for key in (name, _PARTS) if key in demo), name)
    if where == name and (where not in demo or isinstance(demo[where], Table)):
        return {"action": required(demo, name)}
    parts, _ = collect(demo.group(where))
    if not parts:
        raise DataError("E206", f"{show(demo.path)}/{where} has no actions in it")
    count = len(next(iter(parts.values())))
    for table in parts.values():
        if not table.shape or len(table) != count:
            raise DataError(
                "E204",
                f"{show(table.path)} has {len(table):,} rows, other parts of the actions {count:,}"
                f"{without(table.path)}",
            )
    return {f"action.{key}": table for key, table in parts.items()}

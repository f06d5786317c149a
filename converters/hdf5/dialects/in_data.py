"""What LIBERO's and robomimic's layouts have in common: demos are groups in ``data``, of the same datasets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from converters.hdf5.dialects.actions import actions_of
from converters.hdf5.dialects.base import Demo, collect
from converters.hdf5.dialects.odd import Odd, beside
from converters.hdf5.dialects.sim_states import states_of
from converters.robomimic.names import DERIVED, ID
from vla_data.safety.hdf5 import Group, Table
from vla_data.safety.text import show

CAMERAS: Final = frozenset({"agentview_rgb", "eye_in_hand_rgb"})
"""LIBERO's names of cameras."""
_TRUTHS: Final = ("success", "fail", "terminated", "truncated")


class InData:
    """A `converters.hdf5.dialects.base.Layout` whose demos are in ``data``."""

    def demos(self, top: Group) -> list[str]:
        """The names in ``data``, or E206."""
        return top.group("data").names()

    def read(self, top: Group, name: str, path: Path, root: Path) -> Demo:
        """One demo. See `converters.hdf5.dialects.base.Layout`."""
        data = top.group("data")
        return self.demo(data, data.group(name), path)

    @abstractmethod
    def demo(self, data: Group, demo: Group, path: Path) -> Demo:
        """One demo of ``data``, of the file ``path``."""
        ...


def steps(demo: Group, odd: list[Odd]) -> Demo:
    """What a demo has beside its observations: its actions; rewards, dones and truth values (see `_flags`) as
    ``next.*``; the simulator's states; everything else; and notes. What can't be read is put into ``odd``.
    """
    with beside(odd):
        actions = actions_of(demo, "actions", odd)
    number = len(next(iter(actions.values())))
    skip = ("obs", "next_obs", "actions", *(() if "action" in actions else ("action_dict",)))
    extra, notes = collect(demo, odd=odd, skip=skip, extra=True)
    results = {}
    for key, name in (("rewards", "next.reward"), ("dones", "next.done"), *_flags(extra, number)):
        table = extra.pop(key, None)
        if table is not None and DERIVED in table.attributes():
            notes.append(f"left_out_as_derived:{key}")
        elif table is not None:
            results[name] = table
    before, more = states_of(extra, ours=ID in demo.attributes())
    notes += more
    count = demo.attributes().get("num_samples")
    if count is not None and count != number:
        odd.append(
            (
                "E204",
                f"{number:,} actions, where num_samples is {show(str(count)[:20])}: the demo is cut, or the "
                "attribute is wrong (h5py: del demo.attrs['num_samples'] takes all rows)",
                "",
            )
        )
    return Demo(actions=actions, results=results, before=before, seen={}, extra=extra, notes=tuple(notes))


def _flags(tables: Mapping[str, Table], count: int) -> list[tuple[str, str]]:
    """(dataset, feature) of the truth values beside the actions: `_TRUTHS` of booleans or integers, one a step.

    Booleans and integers by their type, so that all demos of a file are of one kind; integers other than 0 and 1
    are refused when they are read. Floats where each is 0 or 1; others may be a score, and stay what they are
    called.
    """
    return [
        (key, f"next.{key}")
        for key, table in tables.items()
        if key in _TRUTHS
        and f"next.{key}" not in tables
        and table.kind == "number"
        and table.shape in ((count,), (count, 1))
        and (table.dtype.kind in "biu" or bool(np.isin(table.read(), (0, 1)).all()))
    ]


def success_of(attributes: Mapping[str, Any]) -> bool | None:
    """Attribute ``success`` of a demo, as Isaac Lab's recorder writes it: whether the task was solved in the end;
    None where there is none, or another value than true, false, 1 and 0.
    """
    value = np.asarray(attributes.get("success"))
    told = value.size == 1 and value.dtype.kind in "biuf" and value.item() in (0, 1)
    return bool(value.item()) if told else None


def robot_of(kwargs: Any) -> str | None:
    """Robosuite's ``robots``, one name or a list of them, in small letters; with the gripper where it is not the
    robot's own.
    """
    robots = kwargs.get("robots") if isinstance(kwargs, dict) else None
    names = [robots] if isinstance(robots, str) else robots if isinstance(robots, list) else []
    known = all(isinstance(name, str) and name.isidentifier() and len(name) < 64 for name in names)
    gripper = kwargs.get("gripper_types") if isinstance(kwargs, dict) else None
    found = {str(each).lower() for each in (gripper if isinstance(gripper, list) else [gripper])}
    if not known or found <= {"none", "default", *(f"{name}gripper".lower() for name in names)}:
        more = []
    else:
        more = [
            name if name.isidentifier() and name.endswith("gripper") else "othergripper" for name in sorted(found)
        ]
    return "_".join(name.lower() for name in [*names, *more]) if names and known else None

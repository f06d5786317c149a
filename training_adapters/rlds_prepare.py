"""What OpenVLA and Octo share: an RLDS dataset with all step fields, below the folder that they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vla_data.actions import Convention
from vla_data.actions.convention import quantity
from vla_data.preparing import Prepared
from vla_data.safety.text import show
from vla_data.statistics.make import Statistics, make
from vla_data.statistics.trainers import writer

FORMAT: Final = "rlds"


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of the RLDS sink."""
    images = {key: value for key, value in given.items() if key == "images"}
    return {"name": name, "step_fields": "rlds", "float32": True, **images}


def place(name: str) -> str:
    """Where the dataset is, below the folder of everything, which is the trainers' ``data_dir``."""
    return f"{name}/1.0.0"


def meanings(prepared: Prepared) -> list[str]:
    """In what actions are declared to be other than both trainers' own data: motions of a hand, 1 open, 0 closed.

    Source: `prismatic/vla/datasets/rlds/oxe/transforms.py` and `octo/data/oxe/oxe_standardization_transforms.py`,
    which bring every dataset to that.
    """
    convention, own = Convention.from_json(prepared.feature("action").convention), "where this trainer's own data"
    if not convention.layout:
        return [f"what action means is undeclared, {own} are motions of the hand and a gripper, 1 open"]
    out = []
    if not any(quantity(name) == "translation" for name in convention.layout):
        out.append(f"action is {', '.join(map(show, convention.layout))}, {own} are motions of the hand")
    elif convention.kind != "delta":
        out.append(f"action is of kind {convention.kind}, {own} are deltas")
    ends = convention.gripper_open, convention.gripper_closed
    if any(quantity(name) == "gripper" for name in convention.layout) and ends != (1.0, 0.0):
        told = "undeclared" if None in ends else f"{ends[0]:g} open and {ends[1]:g} closed"
        out.append(f"the gripper is {told}, {own} have 1 open and 0 closed (--actions, --declare)")
    return out


def statistics(prepared: Prepared, trainer: str) -> Statistics:
    """The trainer's own statistics file; the state is in it where there is one."""
    there = "observation.state" in prepared.schema.features
    state = {"state": "observation.state"} if there else {}
    return make({prepared.name: prepared.source}, writer(trainer, **state))

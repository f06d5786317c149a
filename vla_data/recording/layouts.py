"""An ended episode as the members of its file, in the layout that can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_data.core import Json, Schema
from vla_data.recording import npz, recorded
from vla_data.recording.columns import Column
from vla_data.recording.keywords import CAMERA, STATE
from vla_data.recording.npz import Member

_PLAIN = {
    CAMERA: "image",
    "action": "action",
    STATE: "state",
    "next.success": "info.success",
    "next.reward": "info.reward",
}


def plain_members(
    columns: Mapping[str, Column], last: Mapping[str, Any], *, task: str, fps: float
) -> dict[str, Member]:
    """Of an episode whose steps were given by keywords: the layout of `vla_data.recording.npz`."""
    steps = len(columns["action"].rows)
    members: dict[str, Member] = {
        # The reader tells by this that infos are of after the action, also where there is no last image.
        "info.elapsed_steps": np.arange(1, steps + 1),
        "fps": np.asarray(fps),
        "instruction": np.asarray(task),
    }
    for name, column in columns.items():
        member = column.member(last.get(name))
        members |= npz.image_members(member) if name == CAMERA else {_PLAIN.get(name, name): member}  # type: ignore[arg-type]
    return members


def recorded_members(
    columns: Mapping[str, Column], last: Mapping[str, Any], *, task: str, facts: Mapping[str, Json], schema: Schema
) -> dict[str, Member]:
    """Of any episode: the layout of `vla_data.recording.recorded`."""
    header = recorded.Header(
        schema=schema, steps=len(next(iter(columns.values())).rows), task=task, facts=facts, final=tuple(last)
    )
    return recorded.members(header, {name: column.member(last.get(name)) for name, column in columns.items()})

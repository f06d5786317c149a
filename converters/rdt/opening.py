"""How far apart the fingers of an open gripper are, in metres: declared, the robot's, or measured.

The robot tells it where the source names one whose gripper is known. Otherwise it is measured where the gripper
was told to be open for so long that it came to rest: what is not open there is not told to be. To the millimetre.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions import Convention
from vla_data.actions.convention import quantity
from vla_data.core import Schema
from vla_data.errors import UsageError
from vla_data.safety.text import show

PANDA_OPENING: Final = 0.08
"""Metres between the fingers of an open Panda gripper."""
_OPENINGS: Final[Mapping[str, float]] = dict.fromkeys(
    (
        *("panda", "panda_wristcam", "mountedpanda", "onthegroundpanda"),
        *("franka", "franka_panda", "franka_emika_panda"),
    ),
    PANDA_OPENING,
)
"""Robot, in small letters -> metres between the fingers of its open gripper."""
_FURTHER: Final = 1.05
"""Of the opening: fingers that are further apart are of another gripper."""
_RESTS: Final = 20
"""Steps that a gripper is told to be open before it is taken for open, the last five of which it stands still."""
_STILL: Final = 5e-4
"""Metres that fingers at rest move."""

Floats = NDArray[np.float64]


def opening_of(schema: Schema) -> float | None:
    """Metres between the fingers of the open gripper of the robot that a schema names."""
    return _OPENINGS.get((schema.robot or "").lower())


def width(
    fingers: Floats, schema: Schema, declared: float | None, actions: Floats, convention: Convention
) -> float:
    """Metres between the fingers of the open gripper.

    Args:
        fingers: ``(T, 2)`` metres, which move apart.
        schema: which may name the robot.
        declared: what the user says; None: nothing.
        actions: ``(T, D)``.
        convention: theirs.

    Raises:
        UsageError: E231 where nothing tells it, E202 for fingers that are further apart.
    """
    apart = fingers[:, 0] - fingers[:, 1]
    found = declared if declared is not None else opening_of(schema)
    if found is None:
        found = _measured(apart, actions, convention)
    if found is None:
        robot = f" of a {show(schema.robot)}" if schema.robot else ", and of which robot"
        raise UsageError(
            "E231",
            f"how far apart the fingers of the open gripper are{robot}; declare it with --gripper-opening METRES "
            "(a Panda's: 0.08)",
        )
    most = float(apart.max(initial=0.0))
    if most > found * _FURTHER:
        raise UsageError(
            "E202", f"the fingers are {most:.4g} m apart, further than the {found:g} m of the open gripper"
        )
    return found


def _measured(apart: Floats, actions: Floats, convention: Convention) -> float | None:
    """Where fingers rest that are told to be open; None where they never do, or where nobody says what opens."""
    at = [positions for name, positions in convention.layout.items() if quantity(name) == "gripper"]
    opens, closes = convention.gripper_open, convention.gripper_closed
    if len(at) != 1 or len(at[0]) != 1 or opens is None or closes is None or len(apart) != len(actions):
        return None
    command = actions[:, at[0][0]]
    is_told = np.abs(command - opens) < 0.1 * abs(opens - closes)
    found, run = [], 0
    for step, told in enumerate(is_told):  # what is measured at a step is of before its command
        if run >= _RESTS and np.ptp(apart[step - 4 : step + 1]) < _STILL:
            found.append(float(apart[step]))
        run = run + 1 if told else 0
    best = round(max(found), 3) if found else 0.0
    return best if best > 0 else None

"""What the actions of an episode say: idle steps, steps out of range, gripper switches, how far they ask to go."""

from __future__ import annotations

from typing import Final

import numpy as np

from vla_data.actions import Convention
from vla_data.actions.convention import quantity
from vla_data.actions.units import translation_from
from vla_data.core import Array
from vla_data.errors import VlaDataError
from vla_data.steps.gripper import gripper_events

STILL: Final = 0.01
"""Share of a number's range below which it asks for no motion."""
_MOVES: Final = ("translation", "rotation", "joints")
_SLACK: Final = 1e-6


def idle_steps(action: Array, convention: Convention, spans: Array) -> Array | None:
    """``(T,)`` bool, or None where the convention doesn't say what would be no motion.

    Args:
        action: ``(T, width)``.
        convention: of it.
        spans: ``(width,)``: q99 - q01 of each number, with 0 included for deltas.
    """
    at = [
        i
        for part, positions in convention.layout.items()
        if quantity(part) in _MOVES and (quantity(part) != "rotation" or _angles(convention))
        for i in positions
        if i < action.shape[1]
    ]
    if convention.kind not in ("delta", "absolute", "velocity") or not at or not len(action):
        return None
    asked = action[:, at].astype(np.float64)
    if convention.kind == "absolute":
        asked = np.diff(asked, axis=0, prepend=asked[:1])
    still: Array = np.asarray((np.abs(asked) <= STILL * spans[at]).all(axis=1))
    if convention.kind == "absolute":
        still[:1] = False  # nothing is known of the target before
    return still


def _angles(convention: Convention) -> bool:
    """Numbers that are 0 where nothing turns, or whose change is."""
    return convention.kind == "absolute" or convention.rotation == "rotvec" or "euler" in convention.rotation


def outside_steps(action: Array, convention: Convention) -> int | None:
    """How many steps are out of the declared range; None where none is declared."""
    wrong, told = np.zeros(len(action), dtype=bool), False
    ends = _ends(convention)
    units = {"translation": convention.translation_unit, "rotation": convention.rotation_unit}
    for part, positions in convention.layout.items():
        columns = action[:, [i for i in positions if i < action.shape[1]]].astype(np.float64)
        if units.get(quantity(part)) == "controller":
            wrong |= (np.abs(columns) > 1 + _SLACK).any(axis=1)
            told = True
        elif quantity(part) == "gripper" and ends is not None and convention.gripper_control == "position":
            wrong |= ((columns < min(ends) - _SLACK) | (columns > max(ends) + _SLACK)).any(axis=1)
            told = True
    return int(wrong.sum()) if told else None


def gripper_at(convention: Convention, width: int) -> int | None:
    """Position of the first gripper, or None."""
    at = [i for part, positions in convention.layout.items() if quantity(part) == "gripper" for i in positions]
    return at[0] if at and at[0] < width else None


def switches(gripper: Array, convention: Convention, low: float, high: float) -> tuple[int, ...]:
    """Steps at which a gripper, ``(T,)``, switches.

    Args:
        gripper: its commands.
        convention: with the values of open and closed, where declared.
        low: smallest value of all episodes, used where nothing is declared.
        high: the largest.
    """
    ends = _ends(convention) or (low, high)
    if not max(ends) > min(ends):
        return ()
    quarter = (max(ends) - min(ends)) / 4
    states = (min(ends) + quarter, max(ends) - quarter)
    events = gripper_events(gripper.astype(np.float64), initial=None, hysteresis=states)
    return tuple(np.flatnonzero(events).tolist())


def asked_path(action: Array, convention: Convention) -> float | None:
    """Metres that deltas or velocities ask the first arm to go, step by step; None where that is not declared."""
    at = translation_at(convention, action.shape[1])
    if at is None or convention.kind not in ("delta", "velocity"):
        return None
    try:
        metres = translation_from(action[:, at].astype(np.float64), convention)
    except VlaDataError:  # a unit or a rate is undeclared, or input is beyond the controller's range
        return None
    return float(np.linalg.norm(metres, axis=1).sum())


def translation_at(convention: Convention, width: int) -> list[int] | None:
    """Positions of the first arm's x, y and z, or None."""
    for part, positions in convention.layout.items():
        if quantity(part) == "translation" and len(positions) == 3 and max(positions) < width:
            return list(positions)
    return None


def _ends(convention: Convention) -> tuple[float, float] | None:
    opened, closed = convention.gripper_open, convention.gripper_closed
    return None if opened is None or closed is None else (float(opened), float(closed))

"""Gripper events: the steps at which the gripper is told to do something else than before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gripper_events(
    gripper: NDArray[np.floating],
    *,
    initial: float | None,
    hysteresis: tuple[float, float] | None = None,
) -> NDArray[np.bool_]:
    """``(T,)``: whether the command at a step differs from the one before.

    Args:
        gripper: ``(T,)`` commands, of every step of the source.
        initial: the command in force before step 0; None: step 0 is never an event.
        hysteresis: None compares commands exactly, which is right for two-valued ones. ``(low, high)``:
            at or below ``low`` and at or above ``high`` are the two states, between them the last one
            holds, and only a change of state is an event, so that noise on a continuous gripper is none.
    """
    if len(gripper) == 0:
        return np.zeros(0, dtype=np.bool_)
    if gripper.dtype.kind != "f":  # whose types may have no such number as the one before
        gripper = gripper.astype(np.float64)
    start = gripper[0] if initial is None else gripper.dtype.type(initial)
    line = np.concatenate(([start], gripper))
    if hysteresis is not None:
        line = _states(line, *hysteresis)
    changed: NDArray[np.bool_] = line[1:] != line[:-1]
    return changed


def _states(line: NDArray[np.floating], low: float, high: float) -> NDArray[np.floating]:
    """-1 or +1 by hysteresis, 0 until the first command that is one of the two."""
    if not low < high:
        raise ValueError(f"hysteresis needs low < high, not {low} and {high}")
    states = np.where(line <= low, -1.0, np.where(line >= high, 1.0, 0.0))
    last = np.maximum.accumulate(np.where(states != 0, np.arange(len(states)), 0))
    held = states[last]
    # A first definite command after an indefinite start is not a change of anything that was known.
    definite = np.flatnonzero(held)
    if len(definite):
        held[: definite[0]] = held[definite[0]]
    return held

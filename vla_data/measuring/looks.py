"""Which episodes deserve a look, and why, by the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from vla_data.measuring.row import COLUMNS, Row

MUCH: Final = 0.5
SHORT: Final = 1 / 3
LONG: Final = 3.0
OFTEN: Final = 4
JERKY: Final = 5.0

TOLD: Final[Mapping[str, str]] = {
    "outside": "Told where there is one.",
    "copies": "Told where there is one, as a duplicate.",
    "near_copies": "Told where there is one.",
    "idle": f"Told above {MUCH:.0%}.",
    "still": f"Told above {MUCH:.0%}.",
    "jerk": f"Told above {JERKY:g} times the median.",
    "length_ratio": f"Told below a third, as very short, and above {LONG:g}, as very long.",
    "frozen": "Told where there is one.",
    "black": "Told where there is one.",
    "damaged": "Told where there is one.",
    "switches": f"Told above {OFTEN} times the median, and at least 8.",
}
"""Column -> when an episode is named for it."""

DEFINITIONS: Final[Mapping[str, str]] = {
    name: f"{name}: {COLUMNS[name].meaning} {told}" for name, told in TOLD.items()
}


def looks(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Episodes that deserve a look, those with most reasons first, each with its reasons."""
    usual = {name: _median([row.number(name) for row in rows]) for name in ("steps", "switches", "jerk")}
    found = [(row.episode, list(_reasons(row, usual))) for row in rows]
    return sorted(((id, why) for id, why in found if why), key=lambda entry: -len(entry[1]))


def _reasons(row: Row, usual: Mapping[str, float]) -> list[str]:
    why = []
    if row.outside:
        why.append(f"{row.outside:,} steps out of range")
    if row.copies:
        why.append(f"duplicate of {row.copy_of}" + (" and others" if row.copies > 1 else ""))
    if row.near_copies:
        why.append(f"nearly {row.near_copy_of}" + (" and others" if row.near_copies > 1 else ""))
    if row.idle is not None and row.idle > MUCH:
        why.append(f"{row.idle:.0%} of the steps idle")
    if row.still is not None and row.still > MUCH:
        why.append(f"{row.still:.0%} of the steps still")
    if row.jerk is not None and row.jerk > JERKY * usual["jerk"] > 0:
        why.append(f"jerk {row.jerk:.3g} ranges/s³, the median is {usual['jerk']:.3g}")
    if row.steps is not None and row.steps < SHORT * usual["steps"]:
        why.append(f"very short: {row.steps:,} steps, the median is {usual['steps']:g}")
    if row.steps is not None and row.steps > LONG * usual["steps"]:
        why.append(f"very long: {row.steps:,} steps, the median is {usual['steps']:g}")
    if row.cameras:
        why.append(f"camera {row.cameras}")
    if row.switches is not None and row.switches > max(OFTEN * usual["switches"], 8):
        why.append(f"{row.switches:,} gripper switches")
    return why


def _median(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else 0.0

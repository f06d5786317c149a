"""What is measured of each episode that is read, in plain definitions, and which deserve a look."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_data.actions import Convention
from vla_data.actions.convention import quantity
from vla_data.core import Array, Episode, Feature
from vla_data.media.frames import Frames
from vla_data.statistics.health import is_judged
from vla_data.steps.gripper import gripper_events

STILL: Final = 0.01
MUCH_IDLE: Final = 0.5
SHORT: Final = 1 / 3
LONG: Final = 3.0
OFTEN: Final = 4
_MOVES: Final = ("translation", "rotation", "joints")
_SLACK: Final = 1e-6

DEFINITIONS: Final[Mapping[str, str]] = {
    "idle": (
        f"Idle step: every number of the action but the gripper's asks for almost no motion. Of deltas and "
        f"velocities that is less than {STILL:.0%} of the number's range q01..q99 (0 included) away from 0; of "
        "absolute targets, away from the step before. Rotations that are no angles are left out. Told above "
        f"{MUCH_IDLE:.0%} of the steps."
    ),
    "outside": (
        "Out of range: a step whose action has an input beyond -1..1 of a declared controller, or a gripper "
        "position beyond the two values declared as open and closed."
    ),
    "duplicate": (
        "Duplicate: SHA-256 of the instruction, of every number of every step (apart from counters and times) and "
        "of the first, middle and last image as stored is that of another episode. Images inside of a video are "
        "not compared."
    ),
    "short": "Very short: less than a third of the median number of steps.",
    "long": "Very long: more than three times the median number of steps.",
    "frozen": (
        "Frozen camera: its first, middle and last image as stored are the same bytes, in an episode of three "
        "steps or more. Images inside of a video are not compared."
    ),
    "gripper": (
        f"Gripper switch: the command passes from one quarter of its way between open and closed to the other "
        f"end's quarter (without declared values: of its range in the episodes that were read). More than {OFTEN} "
        "times the median, and at least 8, is told."
    ),
}
"""Measure -> what it is, as the page says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One episode. ``idle``, ``switches`` and ``outside`` are None where they can't be told.

    Attributes:
        id: of the episode.
        length: in steps.
        solved: whether a success flag is set; None where there is none.
        digest: of its content, see `digest`.
        task: its instruction.
        idle: share of idle steps.
        switches: steps at which the gripper is told to do something else, of the first gripper.
        outside: steps with an action out of its declared range.
        frozen: cameras whose picture never changes.
    """

    id: str
    length: int
    solved: bool | None
    digest: str
    task: str = ""
    idle: float | None = None
    switches: tuple[int, ...] | None = None
    outside: int | None = None
    frozen: tuple[str, ...] = ()


def digest(episode: Episode) -> str:
    """SHA-256 of an episode's content, see `DEFINITIONS`."""
    sha256 = hashlib.sha256(episode.task.encode("utf-8", "surrogatepass"))
    for name in sorted(filter(is_content, episode.arrays)):
        array = np.ascontiguousarray(episode.arrays[name])
        sha256.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode("utf-8", "surrogatepass"))
        sha256.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
    for name in sorted(episode.frames):
        for image in _three(episode.frames[name]):
            sha256.update(image)
    return sha256.hexdigest()


def frozen(episode: Episode) -> tuple[str, ...]:
    """Cameras whose picture never changes, see `DEFINITIONS`."""
    return tuple(
        name
        for name, frames in sorted(episode.frames.items())
        if len(frames) > 2 and len(images := _three(frames)) == 3 and len(set(images)) == 1
    )


def _three(frames: Frames) -> list[bytes]:
    """The first, middle and last image as stored; nothing of images inside of a video."""
    items = [frames.items[at] for at in sorted({0, len(frames) // 2, len(frames) - 1} if len(frames) else ())]
    return [
        np.ascontiguousarray(item).tobytes() if isinstance(item, np.ndarray) else bytes(item)
        for item in items
        if isinstance(item, bytes | memoryview | np.ndarray)
    ]


def is_content(name: str) -> bool:
    """Whether an array is what was seen or done, not a counter or a time."""
    return is_judged(name) or name.startswith("next.")


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


def _ends(convention: Convention) -> tuple[float, float] | None:
    opened, closed = convention.gripper_open, convention.gripper_closed
    return None if opened is None or closed is None else (float(opened), float(closed))


def width_of(feature: Feature) -> int:
    """Numbers of a step."""
    return int(np.prod(feature.shape, dtype=np.int64))


def looks(episodes: Sequence[Measured]) -> list[tuple[str, list[str]]]:
    """Episodes that deserve a look, those with most reasons first, each with its reasons."""
    if not episodes:
        return []
    same: dict[str, list[str]] = defaultdict(list)
    for one in episodes:
        same[one.digest].append(one.id)
    usual = float(np.median([one.length for one in episodes]))
    often = [len(one.switches) for one in episodes if one.switches is not None]
    many = max(OFTEN * float(np.median(often)), 8) if often else np.inf
    found = []
    for one in episodes:
        why = []
        if one.outside:
            why.append(f"{one.outside:,} steps out of range")
        if len(same[one.digest]) > 1:
            other = next((name for name in same[one.digest] if name != one.id), one.id)
            why.append(f"duplicate of {other}" + (" and others" if len(same[one.digest]) > 2 else ""))
        if one.idle is not None and one.idle > MUCH_IDLE:
            why.append(f"{one.idle:.0%} of the steps idle")
        if one.length < SHORT * usual:
            why.append(f"very short: {one.length:,} steps, the median is {usual:g}")
        if one.length > LONG * usual:
            why.append(f"very long: {one.length:,} steps, the median is {usual:g}")
        if one.frozen:
            why.append(f"frozen camera: {', '.join(one.frozen)}")
        if one.switches is not None and len(one.switches) > many:
            why.append(f"{len(one.switches):,} gripper switches")
        if why:
            found.append((one.id, why))
    return sorted(found, key=lambda entry: -len(entry[1]))

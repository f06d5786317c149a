"""What is wrong with data for RDT, by name: the documented checks, and the mistakes that are known to be made.

Judged from the numbers alone:

======================  =====================================================================================
``not_a_rotation``      a 6-D rotation whose two columns are not of unit length and at right angles
``gripper_range``       an opening outside of [0, 1]
``gripper_in_metres``   a finger's position or the width between them in metres, never above 0.05, or 0.16 if open
``wrong_unit``          a motion of more than 0.2 in a step: controller input, or centimetres
``inverted_gripper``    the gripper opens where slot 10 says close: ``(g + 1) / 2`` of an action whose -1 opens
``observation_shift``   states are of after their actions, as LIBERO's files have them
``wrong_scale``         the arm moves far more, or less, of each command than robosuite's controller makes it
``wrong_sign``          the arm moves against its commands
``wrong_axes``          the arm's x, y and z follow the commands of other axes
``euler_state``         a rotation vector was read as Euler angles; told from the seven joints of a Panda
``wrong_orientation``   the orientation is not the one that those joints give, of what moves as a Panda does
``wrong_rotation``      another form of rotation explains the motion better: of the action, or rows for columns
``wrong_offset``        poses are commanded that are a constant turn or shift away from those that are measured
``loose_indicator``     a mask is 1 where nothing is, or 0 where something is
======================  =====================================================================================

and exactly, where the source is at hand, by `converters.rdt.beside`.
The fork of RDT for LIBERO (zxy6677, 2025) has the first four of these in one dataset or another; see
``docs/rdt.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.rdt import slots as rdt_slots
from converters.rdt.panda import is_panda, panda_orientation
from converters.rdt.vectors import POSE, Layout, slotted
from vla_data.actions import Convention, preset, resolve
from vla_data.actions.rotations import angle_between, convert_rotation, inverse, multiply, to_quaternion
from vla_data.core import Json
from vla_data.dynamics import check_dynamics
from vla_data.errors import DataError, UsageError

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]

POSITION: Final = slice(rdt_slots.POSITION, rdt_slots.POSITION + 3)
ROTATION: Final = slice(rdt_slots.ROTATION, rdt_slots.ROTATION + 6)
GRIPPER: Final = rdt_slots.GRIPPER
_JOINTS: Final = slice(0, 7)

GROUP: Final = 64
"""Episodes that are judged together: enough to see how an arm moves, and few enough for any memory."""

LARGEST_STEP: Final = 0.2
"""Metres in a step. At 5 Hz that is 1 m/s, more than any of these arms does."""
_FINGER: Final = 0.05
_WIDTH: Final = 0.16
"""Metres. The widest of the usual grippers opens by 0.14; an opening that is told to be 1 comes farther."""
_OPEN: Final = 0.9
_OFTEN: Final = 0.05
_OPENS: Final = 10
"""Steps that the slowest gripper takes to open by more than metres could say."""
_ASKED: Final = 8
"""Episodes whose positions are asked for the kind of arm."""
UNIT: Final = 1e-3
"""How far a rotation's columns may be off length 1 and right angles."""
_SAME_TURN: Final = 0.02
"""Radians. LIBERO's joints and orientations, read at slightly different times, differ by up to 0.0035."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """Something that a model should not learn from.

    Attributes:
        code: a published word; see this module.
        message: one line with the figures.
    """

    code: str
    message: str

    def to_json(self) -> dict[str, Json]:
        """A plain dictionary."""
        return asdict(self)


def find(
    pairs: Sequence[Pair],
    *,
    convention: Convention | None = None,
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
    fps: float | None = None,
) -> list[Bug]:
    """What the numbers show, without the source they came from.

    Args:
        pairs: state and action ``(T, 128)`` of each episode.
        convention: of the actions; None: LIBERO's, as ``pose_delta`` or ``velocity``, by the slots that are used.
        masks: of the slots of states and actions that are declared to be filled.
        fps: steps per second; None: the convention's.
    """
    states, actions = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    bugs = [*_ranges("state", states), *_ranges("action", actions), *_openings(states, actions)]
    if masks is not None:
        bugs += _indicator("state", states, masks[0])
        bugs += _indicator("action", actions, masks[1])
    bugs += _orientation(pairs)
    if not any(bug.code in ("not_a_rotation", "wrong_unit") for bug in bugs):
        moved = _dynamics(pairs, convention or _guess(actions), fps)
        if any(bug.code in ("euler_state", "wrong_orientation") for bug in bugs):
            # Turns of a wrong orientation say nothing more.
            moved = (bug for bug in moved if "rotation" not in bug.message or "translation" in bug.message)
        bugs += moved
    return bugs


def find_all(pairs: Iterable[Pair], group: int = GROUP, **known: Any) -> list[Bug]:
    """`find` for any number of episodes, ``group`` of them at a time, each code once."""
    bugs: dict[str, Bug] = {}
    rest = iter(pairs)
    while some := list(islice(rest, group)):
        for bug in find(some, **known):
            bugs.setdefault(bug.code, bug)
    return list(bugs.values())


def stat_bugs(entry: Mapping[str, Json]) -> list[Bug]:
    """What an entry of ``dataset_stat.json`` shows, for LIBERO: the check that its guide has, and ranges.

    Commands are up to 0.05 m a step, so ``action_std[30]`` is near 0.014 m (people) to 0.025 m (scripts).
    """
    bugs = []
    ends: dict[str, Floats] = {}
    for part in ("state", "action"):
        rows = {key: entry.get(f"{part}_{key}") for key in ("mean", "std", "min", "max")}
        known = {key: np.asarray(row, dtype=np.float64) for key, row in rows.items() if row is not None}
        if any(row.shape != (rdt_slots.SIZE,) for row in known.values()):
            bugs.append(Bug(code="wrong_size", message=f"{part} has entries of other lengths than 128"))
            continue
        if "max" in known and "min" in known:
            ends[part] = np.stack([known["min"], known["max"]])
            bugs += _ranges(part, ends[part], rotations=False)
        if part == "action" and "std" in known:
            bugs += _step_size(known["std"])
    if "state" in ends:
        told = np.ones_like(ends["state"])  # statistics of many episodes, in some of which it was
        bugs += _openings(ends["state"], ends.get("action", told))
    return bugs


def _step_size(std: Floats) -> Iterator[Bug]:
    size = float(std[POSITION].max())
    # A person's demonstrations on LIBERO-90: 0.014 to 0.021; the fork's other factors make that 0.004 and 0.5.
    if size > 0.1:
        yield Bug(
            code="wrong_unit", message=f"action_std[30:33] is up to {size:.3g}: not metres (0.014 to 0.03 is)"
        )
    elif 0 < size < 0.008:
        yield Bug(
            code="wrong_scale", message=f"action_std[30:33] is up to {size:.3g} m; x0.05 m gives 0.014 to 0.03"
        )


def _ranges(part: str, rows: Floats, *, rotations: bool = True) -> Iterator[Bug]:
    for side, at in (("right", 0), ("left", rdt_slots.LEFT)):
        opening = rows[:, at + GRIPPER]
        if opening.min() < -1e-6 or opening.max() > 1 + 1e-6:
            text = (
                f"{part}: {side} gripper_open is {opening.min():.3g} to {opening.max():.3g}, not 0 (closed) to 1"
            )
            yield Bug(code="gripper_range", message=text)
        elif part == "action" and 0 < opening.max() <= _WIDTH and np.ptp(opening) > 0:
            text = f"action: {side} gripper_open is never told to be above {opening.max():.3g}: metres, no opening"
            yield Bug(code="gripper_in_metres", message=text)
        position = rows[:, at + rdt_slots.POSITION : at + rdt_slots.POSITION + 3]
        if part == "action" and _is_motion(rows, at) and np.abs(position).max() > LARGEST_STEP:
            text = f"action: {side} moves are up to {np.abs(position).max():.3g} in a step, which no metres are"
            yield Bug(code="wrong_unit", message=text)
        six = rows[:, at + rdt_slots.ROTATION : at + rdt_slots.ROTATION + 6]
        if rotations and six.any() and (off := off_rotation(six)) > UNIT:
            text = f"{part}: {side} eef_angle is off a rotation's two columns by up to {off:.3g}"
            yield Bug(code="not_a_rotation", message=text)


def _openings(states: Floats, actions: Floats) -> Iterator[Bug]:
    """Whether a gripper that is told to open is measured in metres: of a finger, or between two.

    A gripper that is never told to open, or has just been, is as narrow in any unit.
    """
    for side, at in (("right", 0), ("left", rdt_slots.LEFT)):
        opening, told = states[:, at + GRIPPER], actions[:, at + GRIPPER] >= _OPEN
        top = float(opening.max())
        if len(told) > _OPENS:  # for so long that it must be open by now
            told = np.convolve(told, np.ones(_OPENS), mode="valid") > _OPENS - 0.5
        if 0 < top <= _WIDTH and np.ptp(opening) > 0 and told.mean() >= _OFTEN:
            what = "a finger's metres, not an opening" if top <= _FINGER else "metres"
            text = f"state: {side} gripper_open is never above {top:.3g}, though it is told to be open: {what}"
            yield Bug(code="gripper_in_metres", message=text)


def _is_motion(rows: Floats, at: int) -> bool:
    """Whether the pose slots hold motions: their rotations are all near none."""
    six = rows[:, at + rdt_slots.ROTATION : at + rdt_slots.ROTATION + 6]
    return bool(six.any()) and float(np.median(six[:, 0] + six[:, 4])) > 1.9


def off_rotation(six: Floats) -> float:
    """How far ``(T, 6)`` numbers are from two columns of unit length at right angles."""
    x, y = six[:, :3], six[:, 3:]
    unit = np.maximum(np.abs((x * x).sum(1) - 1), np.abs((y * y).sum(1) - 1))
    return float(np.maximum(unit, np.abs((x * y).sum(1))).max())


def _indicator(part: str, rows: Floats, mask: NDArray[np.bool_]) -> Iterator[Bug]:
    used = (rows != 0).any(axis=0)
    if (used & ~mask).any():
        text = f"{part}: the indicator is 0 in slots {np.flatnonzero(used & ~mask).tolist()}, which are filled"
        yield Bug(code="loose_indicator", message=text)
    named = np.isin(np.arange(rdt_slots.SIZE), list(rdt_slots.NAMES.values()))
    if (mask & ~named).any() or mask.sum() > 2 * max(used.sum(), 1):
        text = f"{part}: the indicator is 1 in {mask.sum()} slots, and {used.sum()} are ever filled"
        yield Bug(code="loose_indicator", message=text)


def _guess(actions: Floats) -> Convention:
    moving = bool(actions[:, rdt_slots.VELOCITY : rdt_slots.VELOCITY + 6].any())
    return resolved(preset("libero"), "velocity" if moving else "pose_delta")


def resolved(source: Convention, layout: Layout) -> Convention:
    """What actions of ``source`` mean in RDT's slots."""
    return resolve(source, slotted(source, layout))


def _dynamics(pairs: Sequence[Pair], convention: Convention, fps: float | None) -> Iterator[Bug]:
    """By `vla_data.actions.check_dynamics`, where the vectors have a pose and its motions."""
    names = {
        "wrong_gripper": "inverted_gripper",
        "off_by_one": "observation_shift",
        "wrong_scale": "wrong_scale",
        "wrong_sign": "wrong_sign",
        "wrong_axes": "wrong_axes",
        "wrong_rotation": "wrong_rotation",
        "wrong_offset": "wrong_offset",
    }
    try:
        report = check_dynamics(
            [action for _, action in pairs],
            [state for state, _ in pairs],
            convention,
            fps or convention.control_rate or 20.0,
            state_convention=replace(POSE, frame=convention.frame),
        )
    except (UsageError, DataError):
        return  # joints, one arm of two, or numbers that another check has named
    if convention.kind == "absolute":
        # Poses that were made of a controller's deltas are never reached, and their share is that controller's.
        del names["wrong_scale"]
    for finding in report.findings:
        if finding.code in names and not (finding.code == "off_by_one" and report.lag > 0):
            yield Bug(code=names[finding.code], message=finding.message)


def _orientation(pairs: Sequence[Pair]) -> Iterator[Bug]:
    """Whether a Panda's orientation is the one that its joints give, or was read as Euler angles.

    Seven numbers may be any arm's joints. An orientation that is the joints' once it is read as a rotation vector
    tells by itself; any other one is judged where positions prove the arm to be a Panda, and is right where only
    the base or the tool is turned.
    """
    states = np.concatenate([state for state, _ in pairs])
    joints, six = states[:, _JOINTS], states[:, ROTATION]
    if not joints.any(axis=0).all() or not six.any() or states[:, 7:10].any() or off_rotation(six) > UNIT:
        return
    want = panda_orientation(joints)
    found = to_quaternion(six, "6d_columns")
    off = float(np.median(angle_between(found, want)))
    if off < _SAME_TURN:
        return
    angles = convert_rotation(six, "6d_columns", "euler_extrinsic_xyz")
    again = np.full(len(six), np.pi)
    # One rotation has two triples of Euler angles, up to full turns; LIBERO's vectors are up to one turn long.
    for triple in (angles, angles * [1, -1, 1] + np.pi):
        for turns in product((-1, 0, 1), repeat=3):
            vector = triple + 2 * np.pi * np.asarray(turns)
            again = np.minimum(again, angle_between(to_quaternion(vector, "rotvec"), want))
    if np.median(again) < _SAME_TURN:
        text = f"{off:.3g} rad off what the joints give, and {np.median(again):.2g} as a rotation vector"
        yield Bug(code="euler_state", message=f"state: Euler angles were made of a rotation vector: {text}")
        return
    constant = any(
        float(np.median(angle_between(turn, np.broadcast_to(turn[:1], turn.shape)))) < _SAME_TURN
        for turn in (multiply(found, inverse(want)), multiply(inverse(want), found))
    )
    if constant or not all(is_panda(state[:, _JOINTS], state[:, POSITION]) for state, _ in pairs[:_ASKED]):
        return
    text = f"state: {off:.3g} rad off what the joints of a Panda give"
    if np.median(angle_between(to_quaternion(six, "6d_rows"), want)) < _SAME_TURN:
        text = f"{text}: the rows of the rotation matrix are where its columns belong"
    yield Bug(code="wrong_orientation", message=text)

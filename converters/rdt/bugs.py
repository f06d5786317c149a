"""What is wrong with data for RDT, by name: the documented checks, and the mistakes that are known to be made.

Judged from the numbers alone:

======================  =====================================================================================
``not_a_rotation``      a 6-D rotation whose two columns are not of unit length and at right angles
``gripper_range``       an opening outside of [0, 1]
``gripper_in_metres``   the state's gripper is a finger's position in metres, never above 0.05
``wrong_unit``          a motion of more than 0.2 in a step: controller input, or centimetres
``inverted_gripper``    the gripper opens where slot 10 says close: ``(g + 1) / 2`` of an action whose -1 opens
``observation_shift``   states are of after their actions, as LIBERO's files have them
``wrong_scale``         the arm moves far more, or less, of each command than robosuite's controller makes it
``wrong_sign``          the arm moves against its commands
``wrong_axes``          the arm's x, y and z follow the commands of other axes
``euler_state``         a rotation vector was read as Euler angles; told from the seven joints of a Panda
``wrong_orientation``   the orientation is not the one that those joints give
``wrong_rotation``      another form of rotation explains the motion better
``loose_indicator``     a mask is 1 where nothing is, or 0 where something is
======================  =====================================================================================

and exactly, where the source is at hand (`compare`): the same, ``euler_action``, and the factor of a wrong scale.
The fork of RDT for LIBERO (zxy6677, 2025) has the first four of these in one dataset or another; see
``docs/rdt.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, permutations, product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.rdt import slots as rdt_slots
from converters.rdt.vectors import Layout, Vectors, slotted
from vla_data.actions import Convention, preset, resolve
from vla_data.actions.rotations import angle_between, convert_rotation, multiply, to_quaternion
from vla_data.core import Episode, Json
from vla_data.dynamics import check_dynamics
from vla_data.errors import DataError, UsageError

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]

_POSITION: Final = slice(rdt_slots.POSITION, rdt_slots.POSITION + 3)
_ROTATION: Final = slice(rdt_slots.ROTATION, rdt_slots.ROTATION + 6)
_GRIPPER: Final = rdt_slots.GRIPPER
_JOINTS: Final = slice(0, 7)

GROUP: Final = 64
"""Episodes that are judged together: enough to see how an arm moves, and few enough for any memory."""

LARGEST_STEP: Final = 0.2
"""Metres in a step. At 5 Hz that is 1 m/s, more than any of these arms does."""
_FINGER: Final = 0.05
_UNIT: Final = 1e-3
# The Panda's joint axes, as turns about x between them, and its hand in robosuite, a turn about the last one.
_TWISTS: Final = (0.0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2)
_HAND: Final = -0.785891
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
    bugs = [*_ranges("state", states), *_ranges("action", actions)]
    if masks is not None:
        bugs += _indicator("state", states, masks[0])
        bugs += _indicator("action", actions, masks[1])
    bugs += _orientation(states)
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


def compare(pairs: Sequence[Pair], truth: Sequence[Vectors], episodes: Sequence[Episode]) -> list[Bug]:
    """What the numbers show beside those that the source leads to, episode by episode.

    Args:
        pairs: state and action ``(T, 128)`` of each episode, of whatever dataset is judged; its layout is
            ``pose_delta``.
        truth: of the same episodes, from `converters.rdt.vectors.vectors`.
        episodes: the same, as the source has them.
    """
    bugs: dict[str, Bug] = {}
    for (state, action), want, episode in zip(pairs, truth, episodes, strict=True):
        for bug in _beside(state, action, want, episode):
            bugs.setdefault(bug.code, bug)
    return list(bugs.values())


def stat_bugs(entry: Mapping[str, Json]) -> list[Bug]:
    """What an entry of ``dataset_stat.json`` shows, for LIBERO: the check that its guide has, and ranges.

    Commands are up to 0.05 m a step, so ``action_std[30]`` is near 0.014 m (people) to 0.025 m (scripts).
    """
    bugs = []
    for part in ("state", "action"):
        rows = {key: entry.get(f"{part}_{key}") for key in ("mean", "std", "min", "max")}
        known = {key: np.asarray(row, dtype=np.float64) for key, row in rows.items() if row is not None}
        if any(row.shape != (rdt_slots.SIZE,) for row in known.values()):
            bugs.append(Bug(code="wrong_size", message=f"{part} has entries of other lengths than 128"))
            continue
        if "max" in known and "min" in known:
            bugs += _ranges(part, np.stack([known["min"], known["max"]]), rotations=False)
        if part == "action" and "std" in known:
            bugs += _step_size(known["std"])
    return bugs


def _step_size(std: Floats) -> Iterator[Bug]:
    size = float(std[_POSITION].max())
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
        opening = rows[:, at + _GRIPPER]
        if opening.min() < -1e-6 or opening.max() > 1 + 1e-6:
            text = (
                f"{part}: {side} gripper_open is {opening.min():.3g} to {opening.max():.3g}, not 0 (closed) to 1"
            )
            yield Bug(code="gripper_range", message=text)
        elif part == "state" and 0 < opening.max() <= _FINGER and np.ptp(opening) > 0:
            text = (
                f"state: {side} gripper_open is never above {opening.max():.3g}: a finger's metres, not an opening"
            )
            yield Bug(code="gripper_in_metres", message=text)
        position = rows[:, at + rdt_slots.POSITION : at + rdt_slots.POSITION + 3]
        if part == "action" and _is_motion(rows, at) and np.abs(position).max() > LARGEST_STEP:
            text = f"action: {side} moves are up to {np.abs(position).max():.3g} in a step, which no metres are"
            yield Bug(code="wrong_unit", message=text)
        six = rows[:, at + rdt_slots.ROTATION : at + rdt_slots.ROTATION + 6]
        if rotations and six.any() and (off := _off_rotation(six)) > _UNIT:
            text = f"{part}: {side} eef_angle is off a rotation's two columns by up to {off:.3g}"
            yield Bug(code="not_a_rotation", message=text)


def _is_motion(rows: Floats, at: int) -> bool:
    """Whether the pose slots hold motions: their rotations are all near none."""
    six = rows[:, at + rdt_slots.ROTATION : at + rdt_slots.ROTATION + 6]
    return bool(six.any()) and float(np.median(six[:, 0] + six[:, 4])) > 1.9


def _off_rotation(six: Floats) -> float:
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
    pose = Convention(
        layout={"gripper": (_GRIPPER,), "translation": (30, 31, 32), "rotation": tuple(range(33, 39))},
        size=rdt_slots.SIZE,
        kind="absolute",
        frame=convention.frame,
        translation_unit="m",
        rotation_unit="rad",
        rotation="6d_columns",
        gripper_control="position",
        gripper_open=1.0,
        gripper_closed=0.0,
    )
    names = {
        "wrong_gripper": "inverted_gripper",
        "off_by_one": "observation_shift",
        "wrong_scale": "wrong_scale",
        "wrong_sign": "wrong_sign",
        "wrong_axes": "wrong_axes",
        "wrong_rotation": "wrong_rotation",
    }
    try:
        report = check_dynamics(
            [action for _, action in pairs],
            [state for state, _ in pairs],
            convention,
            fps or convention.control_rate or 20.0,
            state_convention=pose,
        )
    except (UsageError, DataError):
        return  # joints, one arm of two, or numbers that another check has named
    if convention.kind == "absolute":
        # Poses that were made of a controller's deltas are never reached, and their share is that controller's.
        del names["wrong_scale"]
    for finding in report.findings:
        if finding.code in names and not (finding.code == "off_by_one" and report.lag > 0):
            yield Bug(code=names[finding.code], message=finding.message)


def _orientation(states: Floats) -> Iterator[Bug]:
    """Whether a Panda's orientation is the one that its joints give, or was read as Euler angles."""
    joints, six = states[:, _JOINTS], states[:, _ROTATION]
    if not joints.any(axis=0).all() or not six.any() or states[:, 7:10].any() or _off_rotation(six) > _UNIT:
        return
    want = panda_orientation(joints)
    off = float(np.median(angle_between(to_quaternion(six, "6d_columns"), want)))
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
    else:
        yield Bug(code="wrong_orientation", message=f"state: {off:.3g} rad off what the joints of a Panda give")


def panda_orientation(joints: Floats) -> Floats:
    """``(T, 4)`` xyzw: robosuite's end effector of a Panda whose base is not turned, from ``(T, 7)`` rad.

    The axes of Franka's documented Denavit-Hartenberg table, and robosuite's fixed turn of the hand.
    """
    count = len(joints)
    out = np.zeros((count, 4))
    out[:, 3] = 1.0
    for i, twist in enumerate(_TWISTS):
        out = multiply(out, np.broadcast_to(_about("x", np.asarray(twist)), (count, 4)))
        out = multiply(out, _about("z", joints[:, i]))
    return multiply(out, np.broadcast_to(_about("z", np.asarray(_HAND)), (count, 4)))


def _about(axis: str, angle: Floats) -> Floats:
    out = np.zeros((*np.shape(angle), 4))
    out[..., "xyz".index(axis)] = np.sin(angle / 2)
    out[..., 3] = np.cos(angle / 2)
    return out


def _beside(state: Floats, action: Floats, want: Vectors, episode: Episode) -> Iterator[Bug]:
    """One episode beside what it must be. Its rows may begin earlier or later than ours."""
    at_state = _offset(state[:, _POSITION], want.state[:, _POSITION])
    at_action = _offset(_direction(action[:, _POSITION]), _direction(want.action[:, _POSITION]))
    if at_state is None or at_action is None:
        return
    if at_action != at_state:
        text = f"state t belongs to action t{at_action - at_state:+d}: it is of after action t, not of before"
        yield Bug(code="observation_shift", message=text)
    rows = np.arange(len(want.state))
    i = rows[(rows + at_state >= 0) & (rows + at_state < len(state))]
    j = rows[(rows + at_action >= 0) & (rows + at_action < len(action))]
    s, a = state[i + at_state], action[j + at_action]
    right = want.action[j]
    order = _order(a[:, _POSITION], right[:, _POSITION])
    if order != (0, 1, 2):
        listed = " ".join("xyz"[axis] for axis in order)
        yield Bug(code="wrong_axes", message=f"action: x y z are the {listed} that are commanded")
    right_moves = right[:, _POSITION][:, order]
    scale = _scale(a[:, _POSITION], right_moves)
    if scale is not None and abs(scale - 1) > 1e-3:
        per = scale * 0.05 if want.source.controller is None else scale * want.source.controller.translation_scale
        text = f"action: moves are {scale:.4g} times the metres that are commanded ({per:.4g} for an input of 1)"
        yield Bug(code="wrong_unit" if abs(per) > LARGEST_STEP else "wrong_scale", message=text)
    same = np.abs(a[:, _GRIPPER] - right[:, _GRIPPER]).max() < 1e-6
    if not same and np.abs(1 - a[:, _GRIPPER] - right[:, _GRIPPER]).max() < 1e-6:
        yield Bug(code="inverted_gripper", message="action: gripper_open is 1 where the gripper is told to close")
    yield from _euler("state", s[:, _ROTATION], _wrong_state(episode, want)[i], want.state[i, _ROTATION])
    yield from _euler("action", a[:, _ROTATION], _wrong_action(episode, want)[j], right[:, _ROTATION])


def _wrong_state(episode: Episode, want: Vectors) -> Floats:
    """A vector and its longer twin are one rotation, but two triples of angles: the source's own numbers count."""
    vector = np.asarray(episode.arrays.get("observation.ee_ori", ()), dtype=np.float64)
    if vector.shape != (len(want.state), 3):
        vector = convert_rotation(want.state[:, _ROTATION], "6d_columns", "rotvec")
    return convert_rotation(vector, "euler_extrinsic_xyz", "6d_columns")


def _wrong_action(episode: Episode, want: Vectors) -> Floats:
    raw = np.asarray(episode.arrays["action"], dtype=np.float64)
    controller = want.source.controller
    scale = 1.0 if controller is None else controller.rotation_scale
    angles = np.clip(raw[:, list(want.source.layout["rotation"])], -1, 1) * scale
    return convert_rotation(angles, "euler_extrinsic_xyz", "6d_columns")


def _euler(part: str, found: Floats, wrong: Floats, right: Floats) -> Iterator[Bug]:
    """Whether rotations are those of the wrong reading and not of the right one."""
    if not found.any() or _off_rotation(found) > _UNIT or np.abs(found - right).max() < 1e-5:
        return
    as_is = angle_between(to_quaternion(found, "6d_columns"), to_quaternion(right, "6d_columns"))
    as_euler = angle_between(to_quaternion(found, "6d_columns"), to_quaternion(wrong, "6d_columns"))
    if np.median(as_euler) < 0.1 * np.median(as_is):
        text = f"{part}: a rotation vector was read as Euler angles; off by up to {as_is.max():.3g} rad"
        yield Bug(code=f"euler_{part}", message=text)


def _direction(moves: Floats) -> Floats:
    size = float(np.sqrt((moves**2).mean()))
    return moves / size if size > 0 else moves


def _offset(rows: Floats, want: Floats) -> int | None:
    """The row of ``rows`` that is the first of ``want``, from -1 (which was cut off) to 2; None: they are too few.

    Moves may be of the other sign.
    """
    best: tuple[float, int] | None = None
    for at in range(-1, 3):
        mine, theirs = rows[max(at, 0) :], want[max(-at, 0) :]
        n = min(len(mine), len(theirs))
        if n >= max(4, min(len(rows), len(want)) // 2):
            off = min(float(np.abs(sign * mine[:n] - theirs[:n]).mean()) for sign in (1, -1))
            best = min(best or (off, at), (off, at))
    return None if best is None else best[1]


def _order(found: Floats, want: Floats) -> tuple[int, ...]:
    """The axes of ``want`` that those of ``found`` are, scale apart; as they should be where no order is exact."""
    size = float(np.abs(found).max())
    for order in permutations(range(3)):
        moves = want[:, order]
        scale = _scale(found, moves)
        if scale and np.abs(found - scale * moves).max() < 1e-6 * size:
            return order
    return 0, 1, 2


def _scale(found: Floats, want: Floats) -> float | None:
    size = float((want * want).sum())
    return float((found * want).sum()) / size if size > 0 else None

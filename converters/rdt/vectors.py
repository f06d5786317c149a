"""An episode's states and actions in RDT's 128 slots, and the way back to what a simulator executes.

**States** are put together by the first of these rules that applies; ``rdt.json`` names it:

- ``declared``: the convention that was given for ``observation.state``
- ``libero``: arrays joint_states, gripper_states, ee_pos and ee_ori (a rotation vector), by LIBERO's names
- ``robomimic``: arrays robot0_joint_pos, robot0_gripper_qpos, robot0_eef_pos and robot0_eef_quat (xyzw)
- ``feature``: the convention that ``observation.state`` carries; its part ``fingers`` are two positions

How far apart the fingers of the open gripper are is told by `converters.rdt.opening`. ``libero`` and
``robomimic`` of seven joints fill 17 slots: 0-6 joints in rad, 10 gripper_open, 30-32 position in m, 33-38 the
first two columns of the rotation matrix.

**Actions** mean what was given (``declared``) or what their feature says (``feature``); of LIBERO that is x0.05 m,
x0.5 rad of a rotation vector, -1 opens. They are written by one of four layouts:

=====================  =====================================================================================
``pose_delta``         the motion of a step in the pose slots 30-38 (m, 6-D): what LIBERO users of RDT train
``velocity``           the motion in a second in slots 39-44 (m/s, rad/s): what RDT's authors advise (issue 14)
``velocity_per_step``  the motion of a step in slots 39-44 (m, rad)
``absolute``           the commanded pose in slots 30-38: what RDT was pretrained on
=====================  =====================================================================================

Joints are always positions, in slots 0-9 and 50-59. The gripper is slot 10 (60): 1 open, 0 closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from converters.rdt import slots as rdt_slots
from converters.rdt.opening import width
from vla_data.actions import UNDECLARED, Convention, convert, gripper_opening, preset, resolve
from vla_data.actions.convention import arm, quantity
from vla_data.actions.rotations import convert_rotation
from vla_data.core import Array, Episode, Schema
from vla_data.core.notes import no_action
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

Layout = Literal["pose_delta", "velocity", "velocity_per_step", "absolute"]
LAYOUTS: Final = get_args(Layout)
Floats = NDArray[np.float64]
Opened = Callable[[Floats], Floats]
"""How far open a gripper is, ``(T,)`` in [0, 1], from the positions ``(T, 2)`` of its fingers."""

POSE: Final = preset("rdt_absolute")
"""A pose and a gripper in their slots: metres, columns of the rotation matrix, 1 open."""

_STATES: Final[Mapping[str, tuple[str, str, str, str, str]]] = {
    "libero": ("joint_states", "gripper_states", "ee_pos", "ee_ori", "rotvec"),
    "robomimic": (
        "robot0_joint_pos",
        "robot0_gripper_qpos",
        "robot0_eef_pos",
        "robot0_eef_quat",
        "quaternion_xyzw",
    ),
}
_HOW: Final = (
    'declare it: --declare \'observation.state:layout={"translation": [0, 1, 2], "rotation": [3, 4, 5, 6], '
    '"gripper": [7]}\' and its other facts, for a gripper gripper_control, gripper_open and gripper_closed'
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors:
    """An episode of ``T`` steps in RDT's slots.

    Attributes:
        state: ``(T, 128)``, before each action.
        action: ``(T, 128)``.
        state_mask: ``(128,)``: the slots of the state that are filled; the others are 0.
        action_mask: the same of the action.
        action_convention: of ``action``: what `to_actions` needs.
        state_convention: of ``state``.
        source: of the actions as the dataset had them.
        rules: "state" and "action" -> the rule by which it was told what they mean.
    """

    state: Floats
    action: Floats
    state_mask: NDArray[np.bool_]
    action_mask: NDArray[np.bool_]
    action_convention: Convention
    state_convention: Convention
    source: Convention
    rules: Mapping[str, str]


def vectors(
    episode: Episode,
    schema: Schema,
    *,
    layout: Layout = "pose_delta",
    action_convention: Convention | str | None = None,
    state_convention: Convention | str | None = None,
    opening: float | None = None,
) -> Vectors:
    """States and actions in the slots; see this module.

    Args:
        episode: with ``action`` and states.
        schema: what they mean.
        layout: of the actions.
        action_convention: what the actions mean, or the name of a preset; None: by the rules.
        state_convention: what ``observation.state`` means, or the name of a preset; None: by the rules.
        opening: metres between the fingers of the open gripper; None: see `converters.rdt.opening`.

    Raises:
        DataError: E206 without actions or states, E231 and E232 for such whose meaning is not known or does not
            lead to RDT's, E201 and E202 for numbers that mean nothing.
    """
    if "action" not in episode.arrays:
        raise DataError("E206", no_action(episode.arrays))
    try:
        source, action_rule = _action_convention(schema, action_convention)
        numbers = np.asarray(episode.arrays["action"], np.float64)

        def opened(fingers: Floats) -> Floats:
            return gripper_opening(fingers, width=width(fingers, schema, opening, numbers, source))

        state, meaning, state_rule = _state(episode, schema, state_convention, opened)
        target = slotted(source, layout)
        action = convert(
            episode.arrays["action"], source, target, state=state, state_convention=_framed(meaning, source)
        )
    except UsageError as error:  # what one episode can't tell concerns that episode
        raise DataError(error.code, error.message) from None
    return Vectors(
        state=state,
        action=action,
        state_mask=mask_of(meaning),
        action_mask=mask_of(target),
        action_convention=resolve(source, target),
        state_convention=meaning,
        source=source,
        rules={"state": state_rule, "action": action_rule},
    )


def to_actions(
    values: NDArray[Any],
    convention: Convention,
    target: Convention,
    *,
    state: NDArray[Any] | None = None,
    state_convention: Convention | None = None,
) -> Floats:
    """What a simulator executes, from RDT's vectors: the way back, for evaluation.

    A predicted gripper between open and closed goes to the nearer; a motion that is beyond the controller's range
    is what it can do of it.

    Args:
        values: ``(T, 128)``, or ``(N, H, 128)`` chunks.
        convention: theirs: `Vectors.action_convention`, or `slotted` of what they were made from.
        target: of the simulator, for example ``preset("libero")``.
        state: for layout ``absolute``: the measured states, ``(T, 128)``, or ``(N, 128)`` at the start of chunks.
        state_convention: of these.
    """
    return convert(values, convention, target, state=state, state_convention=state_convention, saturate=True)


def slotted(source: Convention, layout: Layout) -> Convention:
    """The convention of RDT's vectors that are made from actions (or states) of ``source``.

    Raises:
        UsageError: E231 for a source without a layout, E232 for parts that RDT has no slots for.
    """
    if not source.layout:
        raise UsageError("E231", "what the elements of the action are")
    moving = layout in ("velocity", "velocity_per_step")
    where = {}
    for name, positions in source.layout.items():
        where[name] = _slots(name, len(positions), moving=moving)
    has_pose = any(quantity(name) in ("translation", "rotation") for name in where)
    has_joints = any(quantity(name) == "joints" for name in where)
    if has_pose and has_joints and layout != "absolute":
        raise UsageError("E232", "actions of joints and poses at once have the layout absolute alone")
    kinds = {"pose_delta": "delta", "velocity": "velocity", "velocity_per_step": "delta", "absolute": "absolute"}
    kind = kinds[layout] if has_pose else "absolute"
    return replace(
        POSE,
        layout=where,
        kind=kind,
        joint_unit="rad",
        rotation="rotvec" if moving else "6d_columns",
        rotation_delta="rotation" if has_pose and kind != "absolute" else UNDECLARED,
        control_rate=source.control_rate,
        # Kept for the way back, and for the gain that a check of the dynamics expects.
        controller=source.controller,
    )


def mask_of(convention: Convention) -> NDArray[np.bool_]:
    """``(128,)``: the slots that a convention fills."""
    mask = np.zeros(rdt_slots.SIZE, dtype=np.bool_)
    for positions in convention.layout.values():
        mask[list(positions)] = True
    return mask


def _action_convention(schema: Schema, given: Convention | str | None) -> tuple[Convention, str]:
    if given is not None:
        return (preset(given) if isinstance(given, str) else given), "declared"
    facts = schema.features["action"].convention if "action" in schema.features else {}
    try:
        convention = Convention.from_json(facts)
    except UsageError:
        convention = Convention()
    if not convention.layout:
        raise UsageError("E231", "what the actions mean is not known; declare it with --action-convention")
    return convention, "feature"


def _state(
    episode: Episode, schema: Schema, given: Convention | str | None, opened: Opened
) -> tuple[Floats, Convention, str]:
    if given is not None:
        convention = preset(given) if isinstance(given, str) else given
        return *_converted(episode, convention, opened), "declared"
    odd: list[str] = []
    for rule, (joints, fingers, position, rotation, form) in _STATES.items():
        names = [f"observation.{name}" for name in (joints, fingers, position, rotation)]
        if all(name in episode.arrays for name in names):
            parts = [_rows(episode.arrays[name], name) for name in names]
            if parts[1].shape[1] == 2:
                return *_arm(parts, form, opened), rule
            odd.append(f"{show(names[1])} has {parts[1].shape[1]} numbers, not two fingers that move apart; ")
    feature = schema.features.get("observation.state")
    if feature is None:
        raise UsageError("E206", "there is no observation.state, and RDT needs one")
    layout = feature.convention.get("layout")
    if layout and not (odd and "fingers" in layout):
        convention = Convention.from_json(feature.convention)
        return *_converted(episode, convention, opened), "feature"
    raise UsageError("E231", f"{''.join(odd)}what observation.state means is not known; {_HOW}")


def _converted(episode: Episode, convention: Convention, opened: Opened) -> tuple[Floats, Convention]:
    if "observation.state" not in episode.arrays:
        raise UsageError("E206", "missing key 'observation.state'")
    values = _rows(episode.arrays["observation.state"], "observation.state")
    fingers = convention.layout.get("fingers")
    if fingers is not None and values.shape[1] == convention.width:
        if len(fingers) != 2 or any(quantity(name) == "gripper" for name in convention.layout):
            raise UsageError("E232", "fingers must be two positions, and the only gripper")
        # In the place of the first finger; the other says the same.
        values = values.copy()
        values[:, fingers[0]] = opened(values[:, list(fingers)])
        layout = {name: positions for name, positions in convention.layout.items() if name != "fingers"}
        convention = replace(
            convention,
            layout={**layout, "gripper": fingers[:1]},
            size=values.shape[1],
            gripper_control="position",
            gripper_open=1.0,
            gripper_closed=0.0,
        )
    if values.shape[1] > convention.width > 0:  # numbers of no part at its end
        convention = replace(convention, size=values.shape[1])
    target = replace(slotted(convention, "absolute"), controller=None)
    return convert(values, convention, target), resolve(convention, target)


def _arm(parts: Sequence[Floats], form: str, opened: Opened) -> tuple[Floats, Convention]:
    joints, fingers, position, rotation = parts
    count = joints.shape[1]
    if position.shape[1] != 3 or count > rdt_slots.ARM_JOINTS:
        raise DataError(
            "E203",
            f"the arm has {count} joints and a position of {position.shape[1]} numbers; RDT has slots for "
            f"{rdt_slots.ARM_JOINTS} joints and 3 numbers",
        )
    state = np.zeros((len(joints), rdt_slots.SIZE))
    layout = {"joints": tuple(range(count)), **POSE.layout}
    meaning = replace(POSE, layout=layout, frame="world", joint_unit="rad")
    state[:, meaning.layout["joints"]] = joints
    state[:, rdt_slots.GRIPPER] = opened(fingers)
    state[:, meaning.layout["translation"]] = position
    state[:, meaning.layout["rotation"]] = convert_rotation(rotation, form, "6d_columns")
    return state, meaning


def _rows(array: Array, name: str) -> Floats:
    values = np.asarray(array, dtype=np.float64).reshape(len(array), -1)
    if not np.isfinite(values).all():
        raise DataError(
            "E201", f"{show(name)} is not finite at step {int(np.argwhere(~np.isfinite(values))[0][0])}"
        )
    return values


def _slots(name: str, count: int, *, moving: bool) -> tuple[int, ...]:
    side = {"": 0, "right": 0, "left": rdt_slots.LEFT}.get(arm(name))
    kind = quantity(name)
    room = {
        "joints": (rdt_slots.JOINTS, rdt_slots.ARM_JOINTS),
        "gripper": (rdt_slots.GRIPPER, 1),
        "translation": (rdt_slots.VELOCITY if moving else rdt_slots.POSITION, 3),
        "rotation": (rdt_slots.ANGULAR_VELOCITY if moving else rdt_slots.ROTATION, 3 if moving else 6),
    }
    if side is None or kind not in room:
        raise UsageError("E232", f"RDT has no slots for {show(name)}: arms are called right and left, or nothing")
    first, size = room[kind]
    size = size if kind in ("translation", "rotation") else count
    if size > room[kind][1]:
        raise UsageError("E232", f"{show(name)} has {count} elements, RDT has slots for {room[kind][1]}")
    return tuple(range(first + side, first + side + size))


def _framed(state: Convention, source: Convention) -> Convention:
    """The state's pose in the action's frame where the state does not say: the only frame it can be in."""
    if state.frame == UNDECLARED and source.frame != UNDECLARED:
        return replace(state, frame=source.frame)
    return state

"""Units: controller input, metres, radians, gripper openings; and the way back.

**How exact a round trip is.** Everything is computed in float64. A float32 input of a controller comes back from
float64 metres or radians bit for bit, once it is cast to float32 again. A float64 input comes back to within one
unit in its last place, which is the best that any float64 can do: times 0.05 takes the floats in [0.625, 1) to 0.8
times as many, so some of them must meet. Metres that were stored as float32 give the input back to within one
float32 unit, for the same reason. Numbers that need no conversion are copied.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions.convention import UNDECLARED, Convention, missing
from vla_data.actions.rotations import Floats, is_angles
from vla_data.errors import DataError, UsageError

METRES: Final = {"m": 1.0, "cm": 0.01, "mm": 0.001}

# How far above 1 a controller's input may come out because of rounding, also if it went through float32.
_ROUNDING: Final = 1e-6
_BEYOND: Final = 0.25
"""Share of the way from open to closed by which a position may be beyond: ALOHA's leading hands go some 0.1."""


def translation_from(values: Floats, convention: Convention) -> Floats:
    """Metres a step, or metres, from ``(..., 3)`` values of a convention."""
    unit = _declared(convention.translation_unit, "translation_unit")
    if unit == "controller":
        values = _reached(values, convention, "translation")
    elif unit != "m":
        values = values * METRES[unit]
    return values / _rate(convention) if convention.kind == "velocity" else values


def translation_to(metres: Floats, convention: Convention, *, saturate: bool) -> Floats:
    """The way back from `translation_from`.

    Raises:
        DataError: E202 for what is beyond the controller's range, unless ``saturate``.
    """
    unit = _declared(convention.translation_unit, "translation_unit")
    if convention.kind == "velocity":
        metres = metres * _rate(convention)
    if unit == "controller":
        return _input(metres, convention, "translation", saturate=saturate)
    return metres if unit == "m" else metres / METRES[unit]


def angles_from(values: Floats, convention: Convention) -> Floats:
    """Values of a rotation, in radians a step, or radians; numbers that are no angles as they are."""
    if convention.rotation == UNDECLARED:
        raise missing("rotation")
    if not is_angles(convention.rotation):
        return values
    unit = _declared(convention.rotation_unit, "rotation_unit")
    if unit == "controller":
        values = _reached(values, convention, "rotation")
    elif unit == "deg":
        values = np.deg2rad(values)
    return values / _rate(convention) if convention.kind == "velocity" else values


def angles_to(values: Floats, convention: Convention, *, saturate: bool) -> Floats:
    """The way back from `angles_from`; see `translation_to`."""
    if not is_angles(convention.rotation):
        return values
    unit = _declared(convention.rotation_unit, "rotation_unit")
    if convention.kind == "velocity":
        values = values * _rate(convention)
    if unit == "controller":
        return _input(values, convention, "rotation", saturate=saturate)
    return values if unit == "rad" else np.rad2deg(values)


def joints_from(values: Floats, convention: Convention) -> Floats:
    """Radians a step, or radians, from joint values of a convention."""
    unit = _declared(convention.joint_unit, "joint_unit")
    values = np.deg2rad(values) if unit == "deg" else values
    return values / _rate(convention) if convention.kind == "velocity" else values


def joints_to(radians: Floats, convention: Convention) -> Floats:
    """The way back from `joints_from`."""
    unit = _declared(convention.joint_unit, "joint_unit")
    radians = radians * _rate(convention) if convention.kind == "velocity" else radians
    return np.rad2deg(radians) if unit == "deg" else radians


def clip(values: Floats, how: str) -> Floats:
    """What a controller makes of an input: each number within [-1, 1], or a vector of length 1 at most."""
    if how == "box":
        return np.clip(values, -1.0, 1.0)
    if how == "norm":
        length = np.linalg.norm(values, axis=-1, keepdims=True)
        return np.where(length > 1, values / np.maximum(length, 1.0), values)
    return values


def gripper(values: Floats, source: Convention, target: Convention, *, saturate: bool) -> Floats:
    """``(..., T, n)`` gripper values of one convention in another, along the steps of the last but one axis.

    Positions are mapped in a straight line, open to open and closed to closed. A direction becomes the position
    that it leads to, and one that holds (0) the position before. A position becomes a direction only where
    it is fully open or closed, or with ``saturate`` by the nearer of the two.

    Raises:
        UsageError: E231 for what is not declared.
        DataError: E202 for values that have no counterpart, or that are no positions between the declared two.
    """
    if not saturate:
        check_gripper(values, source)
    if _gripper_facts(source) == _gripper_facts(target):
        return values
    if source.gripper_open is None or source.gripper_closed is None:
        raise missing("the source's gripper_open and gripper_closed")
    if target.gripper_open is None or target.gripper_closed is None:
        raise missing("the target's gripper_open and gripper_closed")
    ends = (source.gripper_open, source.gripper_closed)
    if source.gripper_control == UNDECLARED and not np.isin(values, ends).all():
        raise missing("the source's gripper_control (there are values between open and closed)")
    if source.gripper_control == "direction" and target.gripper_control != "direction":
        values = _arrived(values, source.gripper_open, source.gripper_closed)
    # Exactly 0 and 1 at the two ends, and from there exactly the ends of the target.
    share = (values - source.gripper_closed) / (source.gripper_open - source.gripper_closed)
    if target.gripper_control == "direction" and source.gripper_control != "direction":
        off = np.minimum(np.abs(share), np.abs(share - 1))
        if not saturate and (off > _ROUNDING).any():
            raise DataError("E202", f"{_first(off > _ROUNDING)}: a gripper position between open and closed")
        share = np.where(share > 0.5, 1.0, 0.0)
    return np.asarray(target.gripper_closed * (1 - share) + target.gripper_open * share)


def check_gripper(values: Floats, convention: Convention) -> None:
    """That ``(..., T, n)`` gripper positions lie between the two that are declared, or a little beyond.

    Raises:
        DataError: E202 for what is farther beyond than `_BEYOND` of their distance: it is in another unit.
    """
    far = beyond_ends(values, convention)
    if far.any():
        raise DataError(
            "E202",
            f"{_first(far)}: a gripper position of {values[far][0]:g}, where {convention.gripper_open:g} is "
            f"declared to be open and {convention.gripper_closed:g} closed (gripper_open, gripper_closed)",
        )


def beyond_ends(values: Floats, convention: Convention) -> NDArray[np.bool_]:
    """Where gripper positions are beyond the two ends by more than `_BEYOND` of their distance; the same shape."""
    opened, closed = convention.gripper_open, convention.gripper_closed
    if convention.gripper_control != "position" or opened is None or closed is None:
        return np.zeros(values.shape, dtype=np.bool_)
    low, high = sorted((opened, closed))
    return np.asarray((values < low - _BEYOND * (high - low)) | (values > high + _BEYOND * (high - low)))


def gripper_opening(fingers: NDArray[Any], *, width: float) -> Floats:
    """``(...,)`` in [0, 1], 1 open, from the positions ``(..., 2)`` of two fingers that move apart.

    Args:
        fingers: for example robosuite's ``gripper_qpos``, [+q, -q] in metres.
        width: between the fingers of the open gripper; 0.08 m for the Panda's.
    """
    fingers = np.asarray(fingers, dtype=np.float64)
    return np.asarray(np.clip((fingers[..., 0] - fingers[..., 1]) / width, 0.0, 1.0))


def _arrived(values: Floats, opened: float, closed: float) -> Floats:
    """The end that each command leads to; a command of 0 stays with the one before."""
    if np.sign(opened) == np.sign(closed):
        raise UsageError(
            "E232",
            "a gripper with gripper_control direction needs one of gripper_open and gripper_closed "
            "above 0 and one below",
        )
    steps = np.arange(values.shape[-2])[:, None]
    last = np.maximum.accumulate(np.where(values != 0, steps, -1), axis=-2)
    if (last < 0).any():
        raise DataError(
            "E202",
            f"{_first(last < 0)}: the gripper is told to hold (0) at the first step, so its position is not known",
        )
    held = np.take_along_axis(values, last, axis=-2)
    return np.where(np.sign(held) == np.sign(opened), opened, closed)


def _gripper_facts(convention: Convention) -> tuple[object, ...]:
    return convention.gripper_control, convention.gripper_open, convention.gripper_closed


def _reached(values: Floats, convention: Convention, what: str) -> Floats:
    """What a controller makes of its input: metres of a ``translation``, radians of a ``rotation``."""
    clipping, scale = _controlled(convention, what)
    return clip(values, clipping) * scale


def _input(values: Floats, convention: Convention, what: str, *, saturate: bool) -> Floats:
    """The way back from `_reached`."""
    how, scale = _controlled(convention, what)
    values = values / scale
    if how == "none":
        return values
    size = np.abs(values) if how == "box" else np.linalg.norm(values, axis=-1, keepdims=True)
    if not saturate and (size > 1 + _ROUNDING).any():
        over = size > 1 + _ROUNDING
        raise DataError(
            "E202", f"{_first(over)}: the {what} needs a controller input of {size[over].max():.6g}, above 1"
        )
    return clip(values, how)


def _first(bad: NDArray[np.bool_]) -> str:
    return f"step {int(np.argwhere(bad)[0][-2])}"


def _declared(unit: str, name: str) -> str:
    if unit == UNDECLARED:
        raise missing(name)
    return unit


def _controlled(convention: Convention, what: str) -> tuple[str, float]:
    """How a controller clips this, and what its input of 1 is."""
    known = convention.controller
    if known is None:  # the convention itself refuses this combination
        raise missing("controller")
    if what == "translation":
        return known.translation_clip, known.translation_scale
    return known.rotation_clip, known.rotation_scale


def _rate(convention: Convention) -> float:
    if convention.control_rate is None:
        raise missing("control_rate (a velocity is a motion in a step times the steps per second)")
    return convention.control_rate

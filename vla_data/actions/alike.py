"""In what two conventions are alike: the same motion, the same numbers, the same axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_data.actions.convention import UNDECLARED, Convention
from vla_data.actions.motion import FIXED
from vla_data.actions.rotations import Floats, is_angles, to_quaternion


def motion_of(convention: Convention, kind: str) -> tuple[object, ...]:
    """What must be alike for motions to be alike, numbers and units apart."""
    if convention.kind == "absolute":
        facts: tuple[object, ...] = ("absolute",)
    else:
        of = "delta" if convention.kind == "velocity" else convention.kind
        facts = (of, convention.reference, convention.chunk if convention.reference == "chunk_start" else None)
    if kind == "joints":
        return facts
    if kind == "translation":
        return (*facts, convention.frame)
    facts = (*facts, convention.rotation_frame or convention.frame)
    if convention.kind != "absolute" and convention.rotation_delta == "angle_difference":
        facts = (*facts, convention.rotation)
    return facts


def numbers_of(convention: Convention, unit: str) -> tuple[object, ...]:
    """What must be alike for numbers of one motion to be alike."""
    rate = convention.control_rate if convention.kind == "velocity" else None
    return unit, convention.kind == "velocity", rate, convention.controller if unit == "controller" else None


def same_angles(source: Convention, result: Convention) -> bool:
    """Whether both write a rotation by the same numbers."""
    numbers = numbers_of(source, source.rotation_unit) == numbers_of(result, result.rotation_unit)
    return source.rotation == result.rotation and numbers


def only_frames(source: Convention, result: Convention) -> bool:
    """Whether one fixed frame for another is all that changes."""

    def rest(convention: Convention) -> tuple[object, ...]:
        difference = convention.kind != "absolute" and convention.rotation_delta == "angle_difference"
        axes = convention.frame in FIXED and convention.rotation_frame is None
        return (*motion_of(convention, "joints"), difference, axes)

    return rest(source) == rest(result) and rest(source)[-1] is True and rest(source)[-2] is False


def fixed_frame(convention: Convention) -> str | None:
    """The fixed frame that a convention's numbers are in, or None."""
    for frame in (convention.frame, convention.rotation_frame):
        if frame in FIXED:
            return frame
    return None


def turns_nothing(values: Floats, convention: Convention) -> NDArray[np.bool_]:
    """``(...,)``: where a rotation's numbers say exactly that nothing turns."""
    if convention.rotation == UNDECLARED or is_angles(convention.rotation):
        return np.asarray((values == 0).all(axis=-1))
    return np.asarray((to_quaternion(values, convention.rotation)[..., :3] == 0).all(axis=-1))


def holds(convention: Convention) -> bool:
    """Whether a rotation of zero makes the controller hold its pose."""
    return convention.controller is not None and convention.controller.zero_rotation == "holds"

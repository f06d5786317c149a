"""Names and units of the numbers of a vector, as declared."""

from __future__ import annotations

from vla_data.actions import Convention
from vla_data.actions.convention import UNDECLARED, quantity
from vla_data.actions.rotations import is_angles
from vla_data.core import Feature
from vla_data.report.looked import width_of

_NO_UNIT = "unit undeclared"


def labels(feature: Feature) -> list[str]:
    """A name for each number: the declared one, or its position."""
    width = width_of(feature)
    if feature.names is not None and len(feature.names) == width:
        return list(feature.names)
    return [str(i) for i in range(width)] if width > 1 else [""]


def units(feature: Feature, convention: Convention | None) -> list[str]:
    """A unit, or what else is declared of each number; nothing of numbers that no convention speaks of."""
    out = [_NO_UNIT if convention is not None and convention.layout else ""] * width_of(feature)
    if convention is None:
        return out
    for part, positions in convention.layout.items():
        text = _unit(quantity(part), convention)
        for i in positions:
            if i < len(out):
                out[i] = text
    return out


def _unit(kind: str, convention: Convention) -> str:
    if kind == "gripper":
        return _gripper(convention)
    if kind == "rotation" and convention.rotation != UNDECLARED and not is_angles(convention.rotation):
        return convention.rotation
    unit = {
        "translation": convention.translation_unit,
        "rotation": convention.rotation_unit,
        "joints": convention.joint_unit,
    }.get(kind, UNDECLARED)
    if unit == UNDECLARED:
        return _NO_UNIT
    if unit == "controller":
        return _input(kind, convention)
    return f"{unit}/s" if convention.kind == "velocity" else unit


def _input(kind: str, convention: Convention) -> str:
    controller = convention.controller
    if controller is None:
        return "controller input"
    scale = (
        f"{controller.translation_scale:g} m" if kind == "translation" else f"{controller.rotation_scale:g} rad"
    )
    return f"controller input, 1 = {scale}"


def _gripper(convention: Convention) -> str:
    if convention.gripper_open is None or convention.gripper_closed is None:
        return "gripper, undeclared"
    how = "" if convention.gripper_control == "position" else f", {convention.gripper_control}"
    return f"open {convention.gripper_open:g}, closed {convention.gripper_closed:g}{how}"

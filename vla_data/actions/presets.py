"""Conventions of well-known controllers, datasets and trainers, by name.

What a preset leaves ``undeclared`` is not stated anywhere by those who made the data. The sources of each are
listed in ``docs/conventions.md``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from vla_data.actions.convention import Controller, Convention
from vla_data.errors import UsageError
from vla_data.safety.text import show


def _run(start: int, length: int) -> tuple[int, ...]:
    return tuple(range(start, start + length))


_SEVEN: Final = {"translation": _run(0, 3), "rotation": _run(3, 3), "gripper": _run(6, 1)}

# Gains are measured on recorded episodes (docs/conventions.md); the theory of a critically damped controller with
# kp = 150 at 20 Hz says sqrt(150) / 2 / 20 = 0.306 for a motion that has lasted long enough.
_OSC: Final = Controller(translation_scale=0.05, rotation_scale=0.5, translation_gain=0.25, rotation_gain=0.2)
_CONTROLLED: Final = Convention(
    layout=_SEVEN,
    kind="delta",
    reference="current_state",
    frame="robot_base",
    translation_unit="controller",
    rotation_unit="controller",
    rotation="euler_extrinsic_xyz",
    rotation_delta="rotation",
    gripper_control="position",
    gripper_open=1.0,
    gripper_closed=0.0,
    controller=_OSC,
)
_METRIC: Final = replace(
    _CONTROLLED, reference="previous_target", translation_unit="m", rotation_unit="rad", controller=None
)

_ROBOSUITE_15: Final = replace(
    _CONTROLLED,
    rotation="rotvec",
    gripper_control="direction",
    gripper_open=-1.0,
    gripper_closed=1.0,
    control_rate=20.0,
)
_ROBOSUITE_14: Final = replace(_ROBOSUITE_15, frame="world", controller=replace(_OSC, zero_rotation="holds"))
_RL4VLA: Final = replace(_METRIC, rotation="euler_intrinsic_xyz", gripper_closed=-1.0, control_rate=5.0)
_MANISKILL: Final = replace(
    _CONTROLLED,
    rotation="euler_intrinsic_xyz",
    gripper_closed=-1.0,
    controller=Controller(
        translation_scale=0.1,
        rotation_scale=-0.1,
        rotation_clip="norm",
        translation_gain=0.4,
        rotation_gain=0.4,
    ),
    control_rate=20.0,
)
_BRIDGE: Final = replace(_METRIC, control_rate=5.0)
_DROID: Final = replace(
    _CONTROLLED,
    gripper_open=0.0,
    gripper_closed=1.0,
    controller=Controller(
        translation_scale=0.075, rotation_scale=0.15, translation_clip="norm", rotation_clip="norm"
    ),
    control_rate=15.0,
)
_ALOHA: Final = Convention(
    layout={
        "left_joints": _run(0, 6),
        "left_gripper": _run(6, 1),
        "right_joints": _run(7, 6),
        "right_gripper": _run(13, 1),
    },
    kind="absolute",
    joint_unit="rad",
    gripper_control="position",
    gripper_open=1.0,
    gripper_closed=0.0,
    control_rate=50.0,
)
_RDT: Final = replace(
    _METRIC,
    layout={"gripper": (10,), "translation": _run(30, 3), "rotation": _run(33, 6)},
    size=128,
    kind="absolute",
    reference="undeclared",
    frame="undeclared",
    rotation="6d_columns",
    rotation_delta="undeclared",
)
_RDT_VELOCITY: Final = replace(
    _RDT,
    layout={"gripper": (10,), "translation": _run(39, 3), "rotation": _run(42, 3)},
    kind="velocity",
    rotation="rotvec",
    rotation_delta="rotation",
)

PRESETS: Final[Mapping[str, Convention]] = MappingProxyType(
    {
        "aloha": _ALOHA,
        "bridge": _BRIDGE,
        "droid": _DROID,
        "droid_cartesian_position": replace(
            _DROID,
            kind="absolute",
            reference="undeclared",
            rotation_delta="undeclared",
            translation_unit="m",
            rotation_unit="rad",
            controller=None,
        ),
        "libero": _ROBOSUITE_14,
        "maniskill_pd_ee_delta_pose": _MANISKILL,
        "maniskill_pd_ee_target_delta_pose": replace(_MANISKILL, reference="previous_target"),
        # OpenVLA replaces bridge's actions by differences of measured states, Euler angles included.
        "openvla_bridge": replace(_BRIDGE, reference="current_state", rotation_delta="angle_difference"),
        "openvla_libero": replace(_ROBOSUITE_14, gripper_control="position", gripper_open=1.0, gripper_closed=0.0),
        "rdt_absolute": _RDT,
        "rdt_pose_delta": replace(_RDT, kind="delta", rotation_delta="rotation"),
        "rdt_velocity": _RDT_VELOCITY,
        "rdt_velocity_per_step": replace(_RDT_VELOCITY, kind="delta"),
        "rl4vla_motion_planner": replace(_RL4VLA, rotation="euler_extrinsic_xyz"),
        "rl4vla_octo": replace(_RL4VLA, rotation="rotvec"),
        "rl4vla_ppo": _RL4VLA,
        "robosuite_1.4_osc_pose": _ROBOSUITE_14,
        "robosuite_1.5_osc_pose": _ROBOSUITE_15,
    }
)
"""Name -> convention. Sorted."""


def preset(name: str) -> Convention:
    """The convention of that name.

    Raises:
        UsageError: E002 when there is none, with the nearest.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(PRESETS)}"
        raise UsageError("E002", f"there is no convention {show(name)!r}{hint}")
    return PRESETS[name]

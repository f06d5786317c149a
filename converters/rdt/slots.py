"""RDT's unified vector: 128 slots that every robot's state and action share, by the names RDT gives them.

From ``configs/state_vec.py`` of thu-ml/RoboticsDiffusionTransformer. One arm is the right one, whose names also go
without ``right_``; the left arm's slots are the same 50 further on.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SIZE: Final = 128
LEFT: Final = 50
"""How far the left arm's slots are from the right arm's."""

ARM_JOINTS: Final = 10
JOINTS: Final = 0
GRIPPER: Final = 10
JOINT_VELOCITIES: Final = 15
POSITION: Final = 30
ROTATION: Final = 33
VELOCITY: Final = 39
ANGULAR_VELOCITY: Final = 42
"""First slot of each quantity of the right arm: rad, opening in [0, 1] with 1 open, rad/s, m, 6-D, m/s, rad/s."""

_ARM: Final = {
    **{f"arm_joint_{i}_pos": JOINTS + i for i in range(ARM_JOINTS)},
    **{f"gripper_joint_{i}_pos": GRIPPER + i for i in range(5)},
    "gripper_open": GRIPPER,
    **{f"arm_joint_{i}_vel": JOINT_VELOCITIES + i for i in range(ARM_JOINTS)},
    **{f"gripper_joint_{i}_vel": 25 + i for i in range(5)},
    "gripper_open_vel": 25,
    **{f"eef_pos_{axis}": POSITION + i for i, axis in enumerate("xyz")},
    **{f"eef_angle_{i}": ROTATION + i for i in range(6)},
    **{f"eef_vel_{axis}": VELOCITY + i for i, axis in enumerate("xyz")},
    **{f"eef_angular_vel_{name}": ANGULAR_VELOCITY + i for i, name in enumerate(("roll", "pitch", "yaw"))},
}
_BASE: Final = {"base_vel_x": 100, "base_vel_y": 101, "base_angular_vel": 102}

NAMES: Final[Mapping[str, int]] = MappingProxyType(
    {
        **_ARM,
        **{f"right_{name}": slot for name, slot in _ARM.items()},
        **{f"left_{name}": slot + LEFT for name, slot in _ARM.items()},
        **_BASE,
    }
)
"""RDT's name -> slot; several names may be of one slot."""


def name_of(slot: int) -> str:
    """The full name of a slot, ``right_`` or ``left_`` included; ``gripper_open`` before ``gripper_joint_0_pos``.

    Raises:
        ValueError: RDT reserves this slot, or there is none.
    """
    names = [name for name, at in NAMES.items() if at == slot and (name.startswith(("right_", "left_", "base_")))]
    if not names:
        raise ValueError(f"slot {slot} has no name")
    return next((name for name in names if "gripper_open" in name), names[0])

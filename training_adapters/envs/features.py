"""What recordings mean: names of the numbers, and the convention of the actions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from training_adapters.envs.scene import COLOURS
from vla_data.actions import preset
from vla_data.core import Feature

_OWN: Final = ("x", "y", "z", "yaw", "left_finger", "right_finger")
_BLOCK: Final = ("from_hand_x", "from_hand_y", "from_hand_z", "height")

ACTION: Final = Feature(
    dtype="float32",
    shape=(7,),
    names=("x", "y", "z", "rx", "ry", "rz", "gripper"),
    convention={
        "layout": {"translation": [0, 1, 2], "rotation": [3, 4, 5], "gripper": [6]},
        "kind": "delta",
        "reference": "current_state",
        "frame": "robot_base",
        "translation_unit": "m",
        "rotation_unit": "rad",
        "rotation": "rotvec",
        "gripper_control": "direction",
        "gripper_open": 1.0,
        "gripper_closed": -1.0,
        "control_rate": 20.0,
    },
)
"""A motion from where the hand is now; commands of the gripper below 0.2 hold it, as 0 does."""

STATE: Final = Feature(
    dtype="float32",
    shape=(19,),
    names=(*_OWN, *(f"{colour}_{name}" for colour in COLOURS for name in _BLOCK), "gripper"),
    convention={
        "layout": {"translation": [0, 1, 2], "gripper": [18]},
        "size": 19,
        "kind": "absolute",
        "frame": "robot_base",
        "translation_unit": "m",
        "gripper_control": "position",
        "gripper_open": 1.0,
        "gripper_closed": -1.0,
        "control_rate": 20.0,
    },
)
"""The hand's joints, the blocks from the hand, and what the gripper was told last; that it is told is its position
here, as far as it is known. Blocks are no part of a robot: no convention has them."""

TARGET_POSITION: Final = "privileged.target_position"
TARGET: Final = Feature(
    dtype="float32",
    shape=(3,),
    names=("x", "y", "z"),
    convention={
        "layout": {"translation": [0, 1, 2]},
        "kind": "absolute",
        "frame": "robot_base",
        "translation_unit": "m",
        "control_rate": 20.0,
    },
)
"""Where the block is that the prompt names: what the simulator knows, for losses in training alone. Its name does
not begin with ``observation.`` or ``action``, so that no trainer takes it for an input."""

TABLETOP: Final[Mapping[str, Feature]] = MappingProxyType({"action": ACTION, "observation.state": STATE})
"""By the names of a recording."""

METAWORLD: Final[Mapping[str, Feature]] = MappingProxyType(
    {
        "action": Feature(
            dtype="float32",
            shape=(4,),
            names=("x", "y", "z", "gripper"),
            convention={
                "layout": {"translation": [0, 1, 2], "gripper": [3]},
                "kind": "delta",
                "reference": "previous_target",
                "frame": "world",
                "translation_unit": "controller",
                "controller": {"translation_scale": 0.01, "rotation_scale": 1.0},
                "gripper_open": -1.0,
                "gripper_closed": 1.0,
                "control_rate": 80.0,
            },
        )
    }
)
"""An input of 1 moves the target of the hand by a centimetre, from where it was told to be. The gripper's number
is how hard the fingers close, which is neither a position nor a direction, so that its control stays undeclared.
States, of 39 numbers, are two observations and a goal: no pose, and undeclared."""


def _arm(side: str) -> tuple[str, ...]:
    joints = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
    return tuple(f"{side}_{joint}" for joint in joints)


_ARMS: Final = Feature(
    dtype="float32", shape=(14,), names=(*_arm("left"), *_arm("right")), convention=preset("aloha").to_json()
)
ALOHA: Final[Mapping[str, Feature]] = MappingProxyType({"action": _ARMS, "observation.state": _ARMS})
"""Joints in radians and grippers from 0, closed, to 1, open, of the left arm and then of the right one."""

"""What recordings of the table-top scene mean: names of the numbers, and the convention of the actions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from training_adapters.envs.scene import COLOURS
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

TABLETOP: Final[Mapping[str, Feature]] = MappingProxyType({"action": ACTION, "observation.state": STATE})
"""By the names of a recording."""

"""Real episodes for the tests of actions: recorded by robosuite, LIBERO, ManiSkill, RL4VLA and gym-aloha.

``tests/data/actions/episodes.npz`` holds, for each, the actions as recorded, measured poses (`recordings` says
what the numbers are), and what the controller itself said it commanded. States have a row more than actions,
except LIBERO's, whose state t is of after action t.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.paths import TESTS
from vla_data.actions import Convention, preset

FILE: Final = TESTS / "data/actions/episodes.npz"
_DATA: Final = np.load(FILE, allow_pickle=False)


def get(name: str) -> NDArray[Any]:
    """One array of the file."""
    return np.array(_DATA[name])


def pose(rotation: str, frame: str, *, gripper: bool = False) -> Convention:
    """A measured pose: position, orientation, and one finger of a Panda (0 closed to 0.04 m open)."""
    width = {"rotvec": 3, "quaternion_xyzw": 4, "quaternion_wxyz": 4, "matrix": 9}[rotation]
    layout = {"translation": (0, 1, 2), "rotation": tuple(range(3, 3 + width))}
    if gripper:
        layout["gripper"] = (3 + width,)
    return Convention(
        layout=layout,
        kind="absolute",
        frame=frame,
        translation_unit="m",
        rotation_unit="rad",
        rotation=rotation,
        gripper_control="position" if gripper else "undeclared",
        gripper_open=0.04 if gripper else None,
        gripper_closed=0.0 if gripper else None,
    )


ROBOSUITE_15: Final = tuple(f"rs152_{name}" for name in ("success_s1", "flicker_s2", "drop_s4", "idle_s6"))
RL4VLA: Final = tuple(f"rl4vla_{name}" for name in ("drop_ep4", "hold_ep0", "noise_ep1"))
LIBERO: Final = tuple(f"libero_demo_{i}" for i in range(4))


class Recording:
    """Episodes of one simulator, with what they mean."""

    def __init__(
        self, names: tuple[str, ...], convention: str, fps: float, state: Convention, *, state_after: bool = False
    ) -> None:
        self.convention = preset(convention)
        self.fps = fps
        self.state_convention = state
        self.actions = [get(f"{name}/action") for name in names]
        if f"{names[0]}/state" in _DATA:
            self.states = [get(f"{name}/state") for name in names]
        else:
            pairs = [(get(f"{name}/ee_before"), get(f"{name}/ee_after")) for name in names]
            self.states = [np.concatenate([before, after[-1:]]) for before, after in pairs]
        if state_after:  # pair state t with action t + 1, before which it was measured
            self.actions = [action[1:] for action in self.actions]


def recordings() -> dict[str, Recording]:
    """All that have measured states."""
    return {
        "robosuite 1.4": Recording(
            ("rs141_success_s35",),
            "robosuite_1.4_osc_pose",
            20,
            pose("quaternion_xyzw", "world", gripper=True),
        ),
        # The base of these environments is turned by nothing, so the world's axes are the base's.
        "robosuite 1.5": Recording(
            ROBOSUITE_15, "robosuite_1.5_osc_pose", 20, pose("quaternion_xyzw", "robot_base", gripper=True)
        ),
        "libero": Recording(LIBERO, "libero", 20, pose("rotvec", "world", gripper=True), state_after=True),
        "maniskill": Recording(
            tuple(f"maniskill_traj_{i}" for i in range(3)),
            "maniskill_pd_ee_delta_pose",
            20,
            pose("quaternion_wxyz", "robot_base"),
        ),
        "rl4vla": Recording(RL4VLA, "rl4vla_ppo", 5, pose("quaternion_wxyz", "robot_base")),
        "aloha": Recording(("aloha",), "aloha", 50, preset("aloha")),
    }

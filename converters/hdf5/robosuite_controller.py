"""What robosuite's arm controller makes of an action, as ``controller_configs`` in ``env_args`` says it.

Read of it is everything that decides, and a controller is known only where all of it agrees:

- robosuite 1.4 has one configuration for the arm; 1.5 has ``body_parts`` of a ``BASIC`` composite controller, or a
  configuration as of 1.4, which it takes for each arm.
- **Deltas** are told by ``control_delta`` in 1.4, and by ``input_type`` in 1.5, whose own files still carry the
  other key. Each that is there must say so, and one must be there.
- **The frame** is the world in 1.4; ``input_ref_frame`` in 1.5, without which it is undeclared. A file of 1.4 that
  names the base contradicts itself.
- **Scales** are ``output_max`` for an input of 1: one for translations and one for rotations, symmetric.
- ``impedance_mode`` other than ``fixed`` puts gains before the pose; ``position_limits`` and
  ``orientation_limits`` cut what is commanded.
- **A rotation of 0** leaves the goal's orientation in 1.4, and sets it to the measured one in 1.5.
- ``kp`` and the damping decide how much of a command is carried out in a step, which is measured for 150 and 1.

Sources: robosuite 1.4.1 ``controllers/osc.py``, 1.5.2 ``controllers/parts/arm/osc.py``,
``controllers/composite/composite_controller_factory.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from vla_data.actions import UNDECLARED, Controller, Convention, preset

_ONE_ARM: Final = ("panda", "sawyer", "iiwa", "jaco", "kinova3", "ur5e", "xarm7")
"""Robots of one arm, called ``right``, and nothing else that moves: other parts of a configuration do nothing."""
_PARTS: Final = ("body_parts", "body_parts_controller_configs")
_FRAMES: Final = {"world": "world", "base": "robot_base"}


def controller_of(kwargs: Any) -> Any:
    """``controller_configs`` of ``env_kwargs`` as it is; None where it says nothing."""
    configs = kwargs.get("controller_configs") if isinstance(kwargs, Mapping) else None
    if configs is None or isinstance(configs, Mapping):
        return configs
    if isinstance(configs, list) and len(configs) == 1 and isinstance(configs[0], Mapping):
        return configs[0]
    return {"type": configs if isinstance(configs, str) else None}


def osc_pose(configs: Any, version: str | None, robot: str | None) -> Convention | None:
    """The convention of an action of one arm and its gripper; None for any controller that is not known whole.

    Args:
        configs: see `controller_of`.
        version: of robosuite, such as "1.4.1".
        robot: in small letters.
    """
    version = ".".join((version or "").split(".")[:2])
    several = (
        sum(word in _ONE_ARM for word in (robot or "").split("_")) > 1
    )  # an action of one arm contradicts them
    arm = _arm(configs, version, robot) if version in ("1.4", "1.5") and not several else None
    if arm is None or arm.get("type") != "OSC_POSE" or not _takes_deltas(arm, version):
        return None
    frame = _frame(arm, version)
    scales = _scales(arm)
    limited = any(arm.get(f"{what}_limits") is not None for what in ("position", "orientation"))
    if frame is None or scales is None or limited or arm.get("impedance_mode", "fixed") != "fixed":
        return None
    known = preset(f"robosuite_{version}_osc_pose")
    usual = known.controller
    if usual is None:
        raise AssertionError("the preset has a controller")
    if scales != (usual.translation_scale, usual.rotation_scale):
        usual = Controller(
            translation_scale=scales[0], rotation_scale=scales[1], zero_rotation=usual.zero_rotation
        )
    elif not _is_usual(arm):
        usual = replace(usual, translation_gain=None, rotation_gain=None)
    known = replace(known, controller=usual, frame=frame)
    grip = arm.get("gripper")
    if grip is not None and not (isinstance(grip, Mapping) and grip.get("type") == "GRIP"):
        known = replace(known, gripper_control=UNDECLARED, gripper_open=None, gripper_closed=None)
    return known


def _arm(configs: Any, version: str, robot: str | None) -> Mapping[str, Any] | None:
    """The configuration of the arm that an action moves."""
    if not isinstance(configs, Mapping):
        return None
    found = [configs[key] for key in _PARTS if key in configs]
    if not found:
        return configs
    if version != "1.5" or configs.get("type") != "BASIC" or len(found) > 1 or not isinstance(found[0], Mapping):
        return None
    parts = dict(found[0])
    arms = parts.pop("arms", {})
    if not isinstance(arms, Mapping) or not parts.keys().isdisjoint(arms):
        return None
    parts |= arms
    robot = "_".join(word for word in (robot or "").split("_") if not word.endswith("gripper"))
    if robot not in _ONE_ARM and (len(parts) != 1 or parts.keys().isdisjoint(("right", "left"))):
        return None
    arm = parts.get("right", next(iter(parts.values())) if len(parts) == 1 else None)
    return arm if isinstance(arm, Mapping) else None


def _takes_deltas(arm: Mapping[str, Any], version: str) -> bool:
    told = [arm["control_delta"] is True] if "control_delta" in arm else []
    told += [arm["input_type"] == "delta"] if "input_type" in arm else []
    return bool(told) and all(told) and (version != "1.4" or "control_delta" in arm)


def _frame(arm: Mapping[str, Any], version: str) -> str | None:
    """A convention's frame, ``undeclared`` where nothing tells it; None for what can't be."""
    told = arm.get("input_ref_frame")
    if "input_ref_frame" not in arm:
        return "world" if version == "1.4" else UNDECLARED
    found = _FRAMES.get(told) if isinstance(told, str) else None
    return None if version == "1.4" and found != "world" else found


def _scales(arm: Mapping[str, Any]) -> tuple[float, float] | None:
    """Metres and radians of an input of 1, where inputs are -1 to 1 and outputs symmetric and alike."""
    high, low = _six(arm.get("output_max")), _six(arm.get("output_min"))
    if high is None or low is None or [-x for x in low] != high:
        return None
    if _six(arm.get("input_max")) != [1.0] * 6 or _six(arm.get("input_min")) != [-1.0] * 6:
        return None
    if len(set(high[:3])) != 1 or len(set(high[3:])) != 1 or high[0] <= 0 or high[3] <= 0:
        return None
    return high[0], high[3]


def _is_usual(arm: Mapping[str, Any]) -> bool:
    """Whether the gains are those of the measured arm: what is not said is robosuite's default."""
    damping = [_six(arm[key]) == [1.0] * 6 for key in ("damping", "damping_ratio") if key in arm]
    return _six(arm.get("kp", 150)) == [150.0] * 6 and all(damping)


def _six(value: Any) -> list[float] | None:
    """One number for all six, or six."""
    numbers = value if isinstance(value, list) else [value] * 6
    if len(numbers) != 6 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        return None
    return [float(n) for n in numbers]

"""What the actions and states of an HDF5 file mean, as far as the file or its environment says it.

- **LIBERO**: robosuite 1.4 with its default OSC_POSE controller, which is part of the environment; a file that
  names another controller or other ranges is believed.
- **robomimic**: ``controller_configs`` and ``env_version`` in ``env_args``, by
  `converters.hdf5.robosuite_controller`.
- **ManiSkill**: ``control_mode``; ``pd_ee_delta_pose`` and ``pd_ee_target_delta_pose`` are known.
- **ALOHA**: 14 numbers are joints and grippers of two arms; what a gripper's number means is known in simulation.

Sources: specs in ``docs/conventions.md``; robosuite ``controllers/osc.py``, LIBERO ``scripts/create_dataset.py``,
ManiSkill ``agents/controllers/pd_ee_pose.py``, ACT ``record_sim_episodes.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from converters.hdf5.robosuite_controller import osc_pose
from vla_data.actions import Convention, preset
from vla_data.core import EpisodeMeta, Json

_MODES: Final = {
    "pd_ee_delta_pose": "maniskill_pd_ee_delta_pose",
    "pd_ee_target_delta_pose": "maniskill_pd_ee_target_delta_pose",
}
_POSE: Final = Convention(
    layout={"translation": (0, 1, 2), "rotation": (3, 4, 5)},
    kind="absolute",
    frame="world",
    translation_unit="m",
    rotation_unit="rad",
    rotation="rotvec",
)
_PLACE: Final = Convention(layout={"translation": (0, 1, 2)}, kind="absolute", frame="world", translation_unit="m")


def action_convention(meta: EpisodeMeta, width: int) -> dict[str, Json]:
    """The convention of ``action``; empty where nothing is known.

    Args:
        meta: of the episode.
        width: numbers in an action.
    """
    found = _action(meta, width)
    if found is None or found.width != width:
        return {}
    rate = meta.fps
    if rate and rate != found.control_rate and found.controller is not None:
        # How much of a command a controller carries out in a step is measured at its usual rate.
        found = replace(found, controller=replace(found.controller, translation_gain=None, rotation_gain=None))
    return replace(found, control_rate=float(rate) if rate else None).to_json()


def state_convention(meta: EpisodeMeta, name: str, width: int) -> dict[str, Json]:
    """The convention of an observation; empty where nothing is known."""
    found = _states(meta).get(name)
    return found.to_json() if found is not None and found.width == width else {}


def _action(meta: EpisodeMeta, width: int) -> Convention | None:
    layout, controller = meta.layout, meta.controller
    if layout == "libero":
        return preset("libero") if controller is None else osc_pose(controller, "1.4", meta.robot)
    if layout == "robomimic":
        return osc_pose(controller, meta.env_version, meta.robot)
    if layout == "maniskill":
        mode = controller.get("type") if controller else None
        return preset(_MODES[mode]) if mode in _MODES else None
    return _aloha(meta) if layout == "aloha" and width == 14 else None


def _aloha(meta: EpisodeMeta) -> Convention:
    known = preset("aloha")
    file = (meta.episode_metadata or {}).get("file") or {}
    if str(file.get("sim")) == "True":
        return known
    return replace(known, gripper_control="undeclared", gripper_open=None, gripper_closed=None)


def _states(meta: EpisodeMeta) -> dict[str, Convention]:
    layout = meta.layout
    if layout == "libero":
        return {
            "observation.state": _with(_POSE, "fingers", (6, 7)),
            "observation.ee_states": _POSE,
            "observation.ee_pos": _PLACE,
            "observation.ee_ori": replace(_POSE, layout={"rotation": (0, 1, 2)}, translation_unit="undeclared"),
            "observation.joint_states": _joints(7),
        }
    if layout == "robomimic":
        quaternion = replace(
            _POSE, layout={"translation": (0, 1, 2), "rotation": (3, 4, 5, 6)}, rotation="quaternion_xyzw"
        )
        return {
            "observation.state": _with(quaternion, "fingers", (7, 8)),
            "observation.robot0_eef_pos": _PLACE,
            "observation.robot0_eef_quat": replace(
                quaternion, layout={"rotation": (0, 1, 2, 3)}, translation_unit="undeclared"
            ),
            "observation.robot0_joint_pos": _joints(7),
        }
    if layout == "maniskill":
        pose = replace(
            _POSE, layout={"translation": (0, 1, 2), "rotation": (3, 4, 5, 6)}, rotation="quaternion_wxyz"
        )
        return {"observation.extra.tcp_pose": pose}
    return {"observation.state": _aloha(meta)} if layout == "aloha" else {}


def _with(convention: Convention, part: str, positions: Sequence[int]) -> Convention:
    return replace(convention, layout={**convention.layout, part: tuple(positions)})


def _joints(count: int) -> Convention:
    return Convention(layout={"joints": tuple(range(count))}, kind="absolute", joint_unit="rad")

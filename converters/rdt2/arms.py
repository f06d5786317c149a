"""The poses of two arms as RDT2's actions have them: relative chunks in 20 numbers.

RDT2 (thu-ml/RDT2, 0797b4c, ``data/umi_video_dataset.py``) takes for a step t the poses of the 24 steps after it,
each as inv(pose_t) pose_k, and of each arm, the right one first: 3 metres, the first two columns of the rotation,
and the gripper's width in metres, which is not relative. ``data/umi/common/sampler.py`` has them from the poses of
the arms where the recording has no actions of its own, and takes no step with fewer than 24 after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions import Convention, rotations, units
from vla_data.core import Episode, Schema
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

CHUNK: Final = 24
RATE: Final = 30.0
"""Steps a second: a chunk is 0.8 s."""
SIZE: Final = 20
WIDEST: Final = 0.088
"""Metres between the fingers of RDT2's gripper, to which its normalizer was fitted."""

ARMS: Final = ("right", "left")
STATE: Final = "observation.state"
_UMI: Final = ("eef_pos", "eef_rot_axis_angle", "gripper_width")
_LEAST: Final = CHUNK + 1

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Poses:
    """Of both arms, the right one first.

    Attributes:
        position: ``(T, 2, 3)`` metres.
        rotation: ``(T, 2, 4)`` quaternions.
        width: ``(T, 2)`` metres between the fingers.
    """

    position: Floats
    rotation: Floats
    width: Floats


def poses_of(episode: Episode, schema: Schema, *, opening: float | None) -> Poses:
    """The poses of an episode: from UMI's names, whose meaning is UMI's, or by what ``observation.state`` says.

    Args:
        episode: the episode.
        schema: of it.
        opening: metres between the fingers of an open gripper, for states whose gripper has no unit.

    Raises:
        DataError: E206 without the poses of two arms, E207 for fewer than 25 steps.
        UsageError: E231 where nobody declared what the state means, E232 for another rate than 30 Hz.
    """
    if abs(schema.fps - RATE) > 1e-3:
        raise UsageError("E232", f"RDT2's chunks are 24 steps at 30 Hz; this has {schema.fps:g} (--resample 30)")
    if len(episode) < _LEAST:
        raise DataError("E207", f"the episode has {len(episode):,} steps, and a chunk needs {_LEAST}")
    umi = [[f"observation.robot{arm}_{part}" for part in _UMI] for arm in (0, 1)]
    there = [name for names in umi for name in names if name in episode.arrays]
    if len(there) == 2 * len(_UMI):
        parts = [_umi(episode, names) for names in umi]
    elif there:
        raise DataError("E206", f"RDT2 needs two arms; of UMI's names there are {', '.join(there)} alone")
    else:
        parts = _declared(episode, schema, opening)
    position, rotation, width = (np.stack([part[i] for part in parts], axis=1) for i in range(3))
    return Poses(position, rotation, width)


def _umi(episode: Episode, names: list[str]) -> tuple[Floats, Floats, Floats]:
    for name, size in zip(names, (3, 3, 1), strict=True):
        if episode.arrays[name].shape[1:] != (size,):
            raise DataError("E203", f"{name} is {episode.arrays[name].shape[1:]}, not of {size} numbers")
    position, turn, width = (episode.arrays[name].astype(np.float64) for name in names)
    return position, rotations.to_quaternion(turn, "rotvec"), width[:, 0]


def _declared(episode: Episode, schema: Schema, opening: float | None) -> list[tuple[Floats, Floats, Floats]]:
    if STATE not in episode.arrays:
        has = ", ".join(sorted(episode.arrays))
        raise DataError(
            "E206", f"RDT2 needs the poses of two arms: {STATE}, or UMI's names; there are {show(has)}"
        )
    convention = Convention.from_json(schema.features[STATE].convention)
    if convention.kind != "absolute" or convention.frame == "end_effector":
        raise UsageError(
            "E231", f"RDT2 needs {STATE} declared as absolute poses in a fixed frame; it is {convention.kind}"
        )
    if opening is None:
        raise UsageError(
            "E231", f"nothing says how wide the gripper of {STATE} opens; RDT2 needs metres (--gripper-opening)"
        )
    return [_arm(episode.arrays[STATE].astype(np.float64), convention, arm, opening) for arm in ARMS]


def _arm(state: Floats, convention: Convention, arm: str, opening: float) -> tuple[Floats, Floats, Floats]:
    parts = {}
    for part in ("translation", "rotation", "gripper"):
        if f"{arm}_{part}" not in convention.layout:
            listed = ", ".join(convention.layout) or "nothing"
            raise DataError("E206", f"RDT2 needs {arm}_{part} in the layout of {STATE}, which has {show(listed)}")
        parts[part] = state[:, list(convention.layout[f"{arm}_{part}"])]
    if convention.gripper_open is None or convention.gripper_closed is None or parts["gripper"].shape[1] != 1:
        raise UsageError("E231", f"gripper_open and gripper_closed of {STATE} are not declared, each one number")
    share = (parts["gripper"][:, 0] - convention.gripper_closed) / (
        convention.gripper_open - convention.gripper_closed
    )
    turn = rotations.to_quaternion(units.angles_from(parts["rotation"], convention), convention.rotation)
    return units.translation_from(parts["translation"], convention), turn, np.clip(share, 0, 1) * opening


def chunks(poses: Poses) -> NDArray[np.float32]:
    """``(T - 24, 24, 20)``: the chunk of each step that has one."""
    count = len(poses.position) - CHUNK
    later = np.arange(count)[:, None] + 1 + np.arange(CHUNK)
    back = rotations.inverse(poses.rotation[:count])[:, None]
    shape = (count, CHUNK, 2)
    position = rotations.rotate(
        np.broadcast_to(back, (*shape, 4)), poses.position[later] - poses.position[:count, None]
    )
    turn = rotations.multiply(np.broadcast_to(back, (*shape, 4)), poses.rotation[later])
    columns = rotations.to_matrix(turn)[..., :2].swapaxes(-1, -2).reshape(*shape, 6)
    out = np.concatenate([position, columns, poses.width[later][..., None]], axis=-1)
    return np.asarray(out.reshape(count, CHUNK, SIZE), dtype=np.float32)


def is_chunk(values: NDArray[Any]) -> str:
    """What is wrong with a chunk; empty: nothing."""
    if values.dtype != np.float32 or values.shape != (CHUNK, SIZE):
        return f"is {values.dtype}{values.shape}, not float32({CHUNK}, {SIZE})"
    if not np.isfinite(values).all():
        return "is not finite"
    arms = values.astype(np.float64).reshape(CHUNK, 2, 10)
    columns = arms[..., 3:9].reshape(CHUNK, 2, 2, 3)
    if np.abs(columns @ columns.swapaxes(-1, -2) - np.eye(2)).max() > 1e-4:
        return "has columns that are of no rotation"
    return "has a gripper of negative width" if arms[..., 9].min() < 0 else ""

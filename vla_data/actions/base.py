"""The pose of a robot's base in the world, as people write it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vla_data.actions.rotations import Floats, from_quaternion
from vla_data.errors import UsageError

_UNIT: Final = 1e-4
"""How far the rotation of a pose may be off one."""
_LAST: Final = (0.0, 0.0, 0.0, 1.0)


def base_pose(values: Any) -> Floats:
    """``(4, 4)``: a pose from x, y, z in metres; from these and a quaternion x, y, z, w; or from a matrix.

    Args:
        values: 3, 7 or 16 numbers, the latter row by row, or ``(4, 4)``.

    Raises:
        UsageError: E232, they are no pose.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    pose = np.eye(4)
    if len(numbers) in (3, 7):
        pose[:3, 3] = numbers[:3]
        if len(numbers) == 7 and abs(np.linalg.norm(numbers[3:]) - 1) < _UNIT:
            pose[:3, :3] = from_quaternion(numbers[3:] / np.linalg.norm(numbers[3:]), "matrix").reshape(3, 3)
        elif len(numbers) == 7:
            pose[3] = 0.0  # refused below, as a pose that is none
    elif len(numbers) == 16:
        pose = numbers.reshape(4, 4)
    turn = pose[:3, :3]
    right = len(numbers) in (3, 7, 16) and bool(np.isfinite(numbers).all()) and np.allclose(pose[3], _LAST)
    if not right or not np.allclose(turn @ turn.T, np.eye(3), atol=_UNIT) or np.linalg.det(turn) < 0:
        raise UsageError(
            "E232",
            "base is not a pose; give x,y,z, or x,y,z,qx,qy,qz,qw with a quaternion of length 1, or a 4x4 matrix",
        )
    return pose

"""Actions that are poses although a controller of deltas is named: what a conversion of a file leaves behind.

diffusion_policy writes absolute poses over robomimic's actions and leaves ``env_args`` as it was. Of an action
that is a motion, in whatever unit, the first three numbers are not where the gripper is, step for step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NOTE: Final = "actions_are_poses"
"""Code of the note on such an episode."""

_PLACES: Final = ("observation.robot0_eef_pos", "observation.ee_pos")
_NEAR: Final = 0.1
"""Metres that a commanded position is away from the measured one at most, as a median; controllers reach 0.05."""
_FAR: Final = 0.3
"""Metres that the gripper is away from the origin: nearer to it, small motions are near positions too."""


def are_poses(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether the first three numbers of ``action`` are where the gripper is, in metres.

    Args:
        arrays: of an episode; False without seven numbers of an action and a position.
    """
    action = arrays.get("action")
    place = next((arrays[name] for name in _PLACES if name in arrays), None)
    if action is None or place is None or action.shape[1:] != (7,) or place.shape[1:] != (3,):
        return False
    away = np.linalg.norm(place.astype(np.float64), axis=1)
    gap = np.linalg.norm(action[:, :3].astype(np.float64) - place.astype(np.float64), axis=1)
    return bool(np.median(away) > _FAR and np.median(gap) < _NEAR)

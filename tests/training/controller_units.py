"""A step that spoils units. Workers import it, so it stands apart from PyTorch, which takes their memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vla_data.core import Episode

RANGE = np.array([0.05] * 3 + [0.5] * 3 + [1.0], dtype=np.float32)
"""What the table-top scene does in a step at most: metres, radians, and the gripper's sign."""


@dataclass(frozen=True)
class ControllerUnits:
    """Actions of [-1, 1], as controllers take them; what the feature says of them, metres, is wrong then."""

    def apply(self, episode: Episode) -> Episode:
        action = (episode.arrays["action"] / RANGE).astype(np.float32)
        return replace(episode, arrays={**episode.arrays, "action": action})

"""A scripted expert of the table-top scene, for demonstrations to clone."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training_adapters.envs.tabletop import LIMITS, Tabletop

_GAIN: Final = 1.25  # of the way to a target, commanded in a step; the hand moves about half of what is commanded
_ABOVE: Final = np.array([0.0, 0.0, 0.07])  # where reaching ends
_BEHIND: Final = np.array([-0.05, 0.0, 0.02])  # where pushing begins
_OVER: Final = 0.09  # how high over a block the hand goes sideways before it comes down
_GRIP: Final = np.array([0.0, 0.0, 0.01])  # where fingers close


def expert(env: Tabletop) -> NDArray[np.float32]:
    """The next action, ``(7,)`` in the scene's units."""
    toward, opened = _VERBS[env.verb](env.hand, env.place(env.block), env)
    limits = LIMITS[:3]
    action = np.zeros(7, dtype=np.float32)
    action[:3] = np.clip(toward, -limits, limits)
    action[6] = 1.0 if opened else -1.0
    return action


def _reach(
    hand: NDArray[np.float64], block: NDArray[np.float64], env: Tabletop
) -> tuple[NDArray[np.float64], bool]:
    return _GAIN * (block + _ABOVE - hand), True


def _push(
    hand: NDArray[np.float64], block: NDArray[np.float64], env: Tabletop
) -> tuple[NDArray[np.float64], bool]:
    behind = block + _BEHIND
    if hand[0] > block[0] - 0.018 or abs(hand[1] - block[1]) > 0.02:
        far = np.linalg.norm(hand[:2] - behind[:2]) > 0.025
        return _GAIN * ((*behind[:2], 0.1 if far else behind[2]) - hand), False
    if hand[2] > 0.05:
        return _GAIN * (behind - hand), False
    return np.array([LIMITS[0], _GAIN * (block[1] - hand[1]), _GAIN * (0.04 - hand[2])]), False


def _lift(
    hand: NDArray[np.float64], block: NDArray[np.float64], env: Tabletop
) -> tuple[NDArray[np.float64], bool]:
    if np.linalg.norm(hand[:2] - block[:2]) > 0.012 and hand[2] > 0.06 and block[2] < 0.03:
        return _GAIN * ((*block[:2], _OVER) - hand), True
    if hand[2] - block[2] > 0.02:
        return _GAIN * (block + _GRIP - hand), True
    if not env.holding:
        return 0.3 * _GAIN * (block + _GRIP - hand), False
    return np.array([0.0, 0.0, LIMITS[2]]), False


_VERBS: Final = {"reach": _reach, "push": _push, "lift": _lift}

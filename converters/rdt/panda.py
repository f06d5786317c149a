"""A Panda's kinematics: where its hand is, from its joints; and whether joints are a Panda's at all.

The axes and lengths of Franka's documented Denavit-Hartenberg table, and robosuite's fixed turn of the hand.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions.rotations import multiply, rotate

Floats = NDArray[np.float64]

# Turns about x and shifts along it between the joints' axes, and shifts along these axes.
_TWISTS: Final = (0.0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2)
_LENGTHS: Final = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
_OFFSETS: Final = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
_HAND: Final = -0.785891

_MOVES: Final = 0.02
_OFF: Final = 0.02
"""Of what moves. LIBERO's positions are 0.003 of it off what the joints give, those of a KUKA 0.05 to 0.1."""
_FEWEST: Final = 16


def panda_orientation(joints: Floats) -> Floats:
    """``(T, 4)`` xyzw: robosuite's end effector of a Panda whose base is not turned, from ``(T, 7)`` rad."""
    turned = _wrist(joints)[1]
    return multiply(turned, np.broadcast_to(_about("z", np.asarray(_HAND)), turned.shape))


def is_panda(joints: Floats, positions: Floats) -> bool:
    """Whether positions of an end effector are those that a Panda's joints give.

    Where the base stands and how long the tool is are not known; they are fitted. An arm that hardly moves does
    not tell, and is none.

    Args:
        joints: ``(T, 7)`` rad of one episode.
        positions: ``(T, 3)`` metres.
    """
    moves = float(np.linalg.norm(positions.std(axis=0)))
    if len(joints) < _FEWEST or moves < _MOVES:
        return False
    place, turned = _wrist(joints)
    count = len(joints)
    axes = np.stack([rotate(turned, np.broadcast_to(axis, (count, 3))) for axis in np.eye(3)], axis=2)
    x = np.concatenate((np.tile(np.eye(3), (count, 1, 1)), axes), axis=2).reshape(-1, 6)
    y = (positions - place).reshape(-1)
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return float(np.sqrt((rest**2).mean())) < _OFF * moves


def _wrist(joints: Floats) -> tuple[Floats, Floats]:
    """Position ``(T, 3)`` and orientation ``(T, 4)`` of the last joint's axes in those of the base."""
    count = len(joints)
    place, turned = np.zeros((count, 3)), np.zeros((count, 4))
    turned[:, 3] = 1.0
    for i, (twist, along_x, along_z) in enumerate(zip(_TWISTS, _LENGTHS, _OFFSETS, strict=True)):
        place = place + rotate(turned, np.broadcast_to([along_x, 0.0, 0.0], (count, 3)))
        turned = multiply(turned, np.broadcast_to(_about("x", np.asarray(twist)), (count, 4)))
        turned = multiply(turned, _about("z", joints[:, i]))
        place = place + rotate(turned, np.broadcast_to([0.0, 0.0, along_z], (count, 3)))
    return place, turned


def _about(axis: str, angle: Floats) -> Floats:
    out = np.zeros((*np.shape(angle), 4))
    out[..., "xyz".index(axis)] = np.sin(angle / 2)
    out[..., 3] = np.cos(angle / 2)
    return out

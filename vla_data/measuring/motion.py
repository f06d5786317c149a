"""What the states of an episode say: stillness, jerk, the way that the hand went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_data.actions import Convention
from vla_data.actions.convention import quantity
from vla_data.actions.units import METRES
from vla_data.core import Array
from vla_data.measuring.actions import translation_at

STILL: Final = 0.01
"""Share of a usual change below which a number does not move."""
_ORDER: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What is usual of each number of a vector, in all episodes that were read.

    Attributes:
        spans: ``(width,)``: q99 - q01.
        changes: ``(width,)``: q99 of the absolute change from one step to the next.
    """

    spans: Array
    changes: Array

    @classmethod
    def of(cls, episodes: Sequence[Array]) -> Scale:
        """Of arrays ``(T, width)``, one an episode."""
        every = np.concatenate(episodes).astype(np.float64)
        low, high = np.quantile(every, [0.01, 0.99], axis=0)
        moved = [np.abs(np.diff(one.astype(np.float64), axis=0)) for one in episodes if len(one) > 1]
        changes = np.quantile(np.concatenate(moved), 0.99, axis=0) if moved else np.zeros(every.shape[1])
        return cls(spans=high - low, changes=changes)


def still_steps(state: Array, scale: Scale) -> Array:
    """``(T - 1,)`` bool: whether a step's state is that of the step before, see `STILL`."""
    moved = np.abs(np.diff(state.astype(np.float64), axis=0))
    return np.asarray((moved <= STILL * scale.changes).all(axis=1))


def jerk(state: Array, scale: Scale, fps: float, convention: Convention | None) -> float | None:
    """Root mean square of the third differences of positions and joints, times the rate cubed.

    Args:
        state: ``(T, width)``.
        scale: each number counts in ranges q01..q99 of its own; those that have none are left out.
        fps: steps a second.
        convention: of the state: rotations and grippers are left out where it names them.

    Returns:
        Ranges per second cubed; None for fewer than four steps, or where nothing moves.
    """
    at = [i for i in _positions(convention, state.shape[1]) if scale.spans[i] > 0]
    if len(state) <= _ORDER or not at:
        return None
    third = np.diff(state[:, at].astype(np.float64), _ORDER, axis=0) / scale.spans[at]
    return float(np.sqrt(np.square(third).mean()) * fps**_ORDER)


def path(state: Array, convention: Convention | None) -> float | None:
    """Metres from step to step, of the first arm's declared translation; None where its unit is not declared."""
    if convention is None or convention.kind != "absolute" or convention.translation_unit not in METRES:
        return None
    at = translation_at(convention, state.shape[1])
    if at is None:
        return None
    moved = np.linalg.norm(np.diff(state[:, at].astype(np.float64), axis=0), axis=1)
    return float(moved.sum() * METRES[convention.translation_unit])


def _positions(convention: Convention | None, width: int) -> list[int]:
    """Numbers whose third difference means jerk: angles of an orientation jump from -pi to pi."""
    if convention is None or not convention.layout:
        return list(range(width))
    return [
        i
        for part, positions in convention.layout.items()
        if quantity(part) in ("translation", "joints")
        for i in positions
        if i < width
    ]

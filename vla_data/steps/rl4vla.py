"""RL4VLA's own builder, bugs included, for regression tests and comparisons.

What it does differently from the other steps (https://github.com/gen-robot/RL4VLA, dataset builders of
``openvla/rlds_dataset_builder``): flags are looked up in the *unpruned* info by the *pruned* position, so a
streak is found too late or never; info is never shifted, also where it was recorded before the action; the
gripper is compared from step 1 on; an episode without a streak stays whole; one that is pruned to nothing is
written with no steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vla_data import options as checks
from vla_data.core import Episode, Schema
from vla_data.errors import DataError
from vla_data.steps.gripper import gripper_events
from vla_data.steps.small_actions import check_meaning, set_thresholds

Positions = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rl4vlaCompat:
    """Prunes and cuts exactly as RL4VLA's builder does. Where it crashes (T+1 images, lists of actions), the
    episode is first put into the form that it reads.

    Attributes:
        pos: metres, or None.
        rot: radians, or None.
        min_steps: successive flags after which it stops; 0: never.
    """

    pos: float | None = 0.01
    rot: float | None = 0.06
    min_steps: int = 6
    bucket: ClassVar[str] = "pruned"
    reason: ClassVar[str] = "small_action"

    def __post_init__(self) -> None:
        set_thresholds(self)
        checks.whole("min_success_steps", self.min_steps, low=0)

    def describe(self, schema: Schema) -> Schema:
        """The same schema; see `vla_data.steps.small_actions.check_meaning`."""
        check_meaning(self, schema)
        return schema

    def keep(self, episode: Episode) -> Positions:
        """Positions that survive its small-action filter."""
        action = episode.arrays["action"]
        if action.shape[1:] != (7,):
            raise DataError("E203", f"action has {action.shape[1:]} a step; RL4VLA's builder reads seven numbers")
        events = gripper_events(action[:, 6], initial=None)
        # Row by row and in the array's own precision, as the builder computes it: a vectorised norm may
        # differ in the last bit, which decides at a threshold.
        moving = [_moves(row, self.pos, self.rot) for row in action]
        return np.flatnonzero(np.asarray(moving, dtype=np.bool_) | events)

    def _end(self, episode: Episode, kept: int) -> int | None:
        if self.min_steps == 0:
            return None
        flags = episode.arrays["info.success"]
        streak = 0
        for i in range(kept):
            streak = streak + 1 if flags[i] else 0
            if streak >= self.min_steps:
                return i + 1
        return None

    def successful(self, episode: Episode) -> bool:
        """Whether the builder would find a streak and stop; it rejects nothing either way."""
        return self._end(episode, len(self.keep(episode))) is not None

    def apply(self, episode: Episode) -> Episode:
        """What the builder would write."""
        kept = self.keep(episode)
        return episode.take(kept[: self._end(episode, len(kept))])

    def lost(self, episode: Episode) -> list[tuple[str, str, Positions]]:
        """The frames that the cut takes, for the ledger."""
        kept = self.keep(episode)
        end = self._end(episode, len(kept))
        return [] if end is None else [("truncated", "after_success", episode.index[kept[end:]])]


def _moves(row: NDArray[np.floating], pos: float | None, rot: float | None) -> bool:
    if pos is None and rot is None:
        return True
    # In double precision, as NumPy 1 compares, with which RL4VLA's builders run; NumPy 2 would not.
    moved = pos is not None and float(np.linalg.norm(row[:3])) > pos
    return moved or (rot is not None and float(np.linalg.norm(row[3:6])) > rot)

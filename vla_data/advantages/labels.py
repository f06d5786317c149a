"""What a user wants to be positive, and the frames that are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_data import options as checks
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.numbers.flat import Bools, Floats
from vla_data.advantages.numbers.thresholds import (
    OPERATORS,
    Operator,
    Threshold,
    label,
    task_thresholds,
    threshold,
)
from vla_data.advantages.scale import check_labels
from vla_data.core import Json


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Which advantages are positive.

    Attributes:
        share: the wanted share of positives, or None.
        epsilon: or a bound that is given.
        op: what is positive: ``>=`` or ``>`` the bound.
        per_task: a bound for each task, from its own frames.
    """

    share: float | None = None
    epsilon: float | None = None
    op: Operator = ">="
    per_task: bool = False

    def __post_init__(self) -> None:
        checks.one_of("op", self.op, OPERATORS)
        if self.share is not None:
            checks.number("share", self.share, low=0, high=1)
        if self.share is not None and self.epsilon is not None:
            raise ValueError("give share or epsilon, not both")
        if self.per_task and self.share is None:
            raise ValueError("thresholds per task need share; an epsilon is one threshold for all")

    @property
    def wanted(self) -> bool:
        """Whether anything is labelled at all."""
        return self.share is not None or self.epsilon is not None


def label_frames(
    table: FrameTable, advantages: Floats, labels: Labels, forced: Bools | None, fine: Floats
) -> tuple[Json, Bools | None, list[str]]:
    """(The thresholds as the provenance has them, (N,) bool, warnings); None, None where no labels are wanted.

    Args:
        table: the frames.
        advantages: (N,).
        labels: what is wanted.
        forced: (N,) bool, positive whatever their advantage is.
        fine: (N,) how far each advantage may be off.

    Raises:
        UsageError: E302, see `vla_data.advantages.scale.check_labels`.
    """
    if not labels.wanted:
        return None, None, []
    bounds: Threshold | Mapping[int, Threshold]
    if labels.per_task:
        bounds = task_thresholds(advantages, table.task, share=labels.share, op=labels.op)
        shown = {str(task): bound.to_json() for task, bound in bounds.items()}
    else:
        bounds = threshold(advantages, share=labels.share, epsilon=labels.epsilon, op=labels.op)
        shown = {"all": bounds.to_json()}
    epsilon = np.asarray(
        [bounds.epsilon] if isinstance(bounds, Threshold) else [bounds[int(task)].epsilon for task in table.task]
    )
    unforced = label(advantages, bounds, tasks=table.task)
    warnings = check_labels(advantages, epsilon, unforced, fine)
    positive = unforced if forced is None else label(advantages, bounds, tasks=table.task, forced=forced)
    return {"op": labels.op, "per_task": labels.per_task, "bounds": shown}, positive, warnings

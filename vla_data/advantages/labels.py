"""What a user wants to be positive, and the frames that are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_data import options as checks
from vla_data.advantages.flat import Bools, Floats
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.thresholds import OPERATORS, Operator, Threshold, label, task_thresholds, threshold
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
            raise ValueError("share and epsilon are both given")
        if self.per_task and self.share is None:
            raise ValueError("thresholds per task come from a share")

    @property
    def wanted(self) -> bool:
        """Whether anything is labelled at all."""
        return self.share is not None or self.epsilon is not None


def label_frames(
    table: FrameTable, advantages: Floats, labels: Labels, forced: Bools | None
) -> tuple[Json, Bools | None]:
    """(The thresholds as the provenance has them, (N,) bool), both None where no labels are wanted."""
    if not labels.wanted:
        return None, None
    bounds: Threshold | Mapping[int, Threshold]
    if labels.per_task:
        bounds = task_thresholds(advantages, table.task, share=labels.share, op=labels.op)
        shown = {str(task): bound.to_json() for task, bound in bounds.items()}
    else:
        bounds = threshold(advantages, share=labels.share, epsilon=labels.epsilon, op=labels.op)
        shown = {"all": bounds.to_json()}
    positive = label(advantages, bounds, tasks=table.task, forced=forced)
    return {"op": labels.op, "per_task": labels.per_task, "bounds": shown}, positive

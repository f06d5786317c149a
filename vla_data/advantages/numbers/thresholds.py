"""From advantages to labels: percentiles, the epsilon for a wanted share of positives, and the labels.

The epsilon for a share ``p`` is the ``1-p`` quantile (NumPy's linear one, which OpenTau, RLinf and Evo-RL print or
use), of all frames or of each task's. Where many advantages are equal to it, no threshold gives the share: ``>=``
labels all of them positive, ``>`` none. That is never hidden: `Threshold` counts the ties and states the share
that each operator really gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np

from vla_data import options as checks
from vla_data.advantages.numbers.flat import Bools, Floats
from vla_data.core import Json

PERCENTILES: Final = tuple(range(0, 101, 5))
OPERATORS: Final = (">", ">=")
Operator = Literal[">", ">="]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What is positive: advantages ``op`` epsilon.

    Attributes:
        epsilon: the bound.
        op: ``>=`` (OpenTau, RLinf, Evo-RL) or ``>`` (the paper).
        frames: how many it was found on, or is applied to.
        positive: how many of them it makes positive, before any is forced.
        ties: how many are equal to epsilon.
        wanted: the share that was asked for; None for an epsilon that was given.
    """

    epsilon: float
    op: Operator
    frames: int
    positive: int
    ties: int
    wanted: float | None = None

    def to_json(self) -> dict[str, Json]:
        """JSON-ready, with the shares that both operators give."""
        above = self.positive - self.ties if self.op == ">=" else self.positive
        return {
            "epsilon": self.epsilon,
            "op": self.op,
            "frames": self.frames,
            "positive": self.positive,
            "ties": self.ties,
            "wanted_share": self.wanted,
            "share_above": above / self.frames if self.frames else None,
            "share_at_or_above": (above + self.ties) / self.frames if self.frames else None,
        }


def percentiles(advantages: Any) -> dict[int, float]:
    """Percentile 0, 5, ..., 100 -> advantage: the table that OpenTau prints.

    Raises:
        ValueError: there are none, or one is not finite.
    """
    values = np.percentile(_advantages(advantages), PERCENTILES)
    return dict(zip(PERCENTILES, map(float, values), strict=True))


def percentile_lines(table: Mapping[int, float]) -> list[str]:
    """The lines that OpenTau prints of it."""
    head = "Advantage percentiles for deciding epsilon threshold:"
    return [head, *(f"  {p:03d}th percentile: {value:.6f}" for p, value in table.items())]


def threshold(
    advantages: Any, *, share: float | None = None, epsilon: float | None = None, op: Operator = ">="
) -> Threshold:
    """The threshold for a wanted share of positives, or one that is given.

    Raises:
        ValueError: not exactly one of ``share`` and ``epsilon``; no advantages.
    """
    checks.one_of("op", op, OPERATORS)
    if (share is None) == (epsilon is None):
        raise ValueError("give share or epsilon, one of them")
    values = _advantages(advantages)
    if share is not None:
        share = checks.number("share", share, low=0, high=1)
        bound = float(np.quantile(values, 1 - share))
    else:
        bound = checks.number("epsilon", epsilon)
    ties = int(np.count_nonzero(values == bound))
    above = int(np.count_nonzero(values > bound))
    return Threshold(
        epsilon=bound,
        op=op,
        frames=len(values),
        positive=above + ties if op == ">=" else above,
        ties=ties,
        wanted=share,
    )


def task_thresholds(advantages: Any, tasks: Any, **options: Any) -> Mapping[int, Threshold]:
    """Task -> `threshold` of its own frames; ``tasks`` (N,) are integers."""
    values, task = np.asarray(advantages), np.asarray(tasks)
    order = np.argsort(task, kind="stable")
    names, starts = np.unique(task[order], return_index=True)
    pieces = np.split(values[order], starts[1:])
    return MappingProxyType(
        {int(name): threshold(piece, **options) for name, piece in zip(names, pieces, strict=True)}
    )


def label(
    advantages: Any,
    bounds: Threshold | Mapping[int, Threshold],
    *,
    tasks: Any = None,
    forced: Bools | None = None,
) -> Bools:
    """(N,): what is positive.

    Args:
        advantages: (N,).
        bounds: one threshold, or one for each task, which then must be there for all ``tasks`` (N,).
        tasks: (N,) integers.
        forced: (N,) bool: human corrections, positive whatever their advantage is.
    """
    values = _advantages(advantages)
    if isinstance(bounds, Threshold):
        epsilon: Floats | float = bounds.epsilon
        ops = {bounds.op}
    else:
        names, task = np.unique(np.asarray(tasks), return_inverse=True)
        missing = [int(name) for name in names if int(name) not in bounds]
        if missing:
            raise ValueError(f"task {missing[0]} has no threshold")
        epsilon = np.array([bounds[int(name)].epsilon for name in names])[task.reshape(-1)]
        ops = {bound.op for bound in bounds.values()}
    if len(ops) != 1:
        raise ValueError("the thresholds have different operators")
    positive: Bools = values >= epsilon if ops == {">="} else values > epsilon
    if forced is not None:
        if np.asarray(forced).dtype != np.bool_ or np.shape(forced) != values.shape:
            raise ValueError("forced is not (N,) bool")
        positive = positive | forced
    return positive


def _advantages(advantages: Any) -> Floats:
    values = np.asarray(advantages, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("there are no advantages")
    if not np.isfinite(values).all():
        raise ValueError("an advantage is not finite")
    return values

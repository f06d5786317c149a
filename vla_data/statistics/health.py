"""What in a dataset's statistics will hurt a trainer that normalises with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from vla_data.actions.agreement import spans
from vla_data.core import Json
from vla_data.core.findings import Finding
from vla_data.statistics.collect import Summary
from vla_data.statistics.vectors import Described

FEW: Final = 100
"""With fewer vectors than this, the 0.01 and 0.99 quantiles lie between the two outermost values."""

FAR: Final = 3.0
"""Values that normalise to more than this, with the quantiles at -1 and 1, are told."""


CODES: Final = ("constant", "equal_quantiles", "far_outside", "few", "convention")
"""Codes of findings: one value only; q01 is q99, and yet there are other values; values far beyond the quantiles;
too few vectors for quantiles; what is declared speaks against what is done with it. Trainers add their own.
"""


def findings(name: str, stats: Described) -> list[Finding]:
    """What is odd about a feature's statistics; nothing for most."""
    low, high = stats.min, stats.max
    q01, q99 = stats.quantiles([0.01, 0.99])
    constant = low == high
    equal = (q01 == q99) & ~constant
    reach = np.zeros_like(low)
    np.divide(np.maximum(high - q99, q01 - low), q99 - q01, out=reach, where=q99 > q01)
    far = 1 + 2 * reach > FAR
    out = []
    if constant.any():
        out.append(_finding(name, "constant", constant, "one value only"))
    if equal.any():
        share = stats.share_outside(q01, q99)[equal].max()
        text = (
            f"q01 equals q99 and {share:.2%} of the values differ: they normalise to huge numbers, or are clipped"
        )
        out.append(_finding(name, "equal_quantiles", equal, text))
    if far.any():
        text = f"values normalise to {1 + 2 * reach[far].max():.3g} where q01 and q99 are -1 and 1"
        out.append(_finding(name, "far_outside", far, text))
    if stats.count < FEW:
        text = f"only {stats.count:,} vectors: q01 and q99 are little more than the extremes"
        out.append(_finding(name, "few", np.ones(len(low), dtype=bool), text))
    return out


def coverage(stats: Described) -> dict[str, Json]:
    """For each element the share of values outside of q01..q99 and of mean +- 3 std."""
    q01, q99 = stats.quantiles([0.01, 0.99])
    mean, wide = stats.mean, 3 * stats.std
    return {
        "outside_quantiles": stats.share_outside(q01, q99).tolist(),
        "outside_three_std": stats.share_outside(mean - wide, mean + wide).tolist(),
    }


def _finding(name: str, code: str, which: np.ndarray[Any, np.dtype[np.bool_]], text: str) -> Finding:
    elements = tuple(np.flatnonzero(which).tolist())
    where = "" if len(elements) == len(which) else f" {spans(elements)}"
    return Finding(where=name, code=code, elements=elements, message=f"{name}{where}: {text}")


def is_judged(feature: str) -> bool:
    """Whether trainers normalise it: counters, times, rewards and flags they don't."""
    counters = ("timestamp", "frame_index", "episode_index", "index", "task_index")
    return feature not in counters and not feature.startswith("next.")


def judged(summary: Summary, but: Sequence[str] = ()) -> list[Finding]:
    """What will hurt in every feature that trainers normalise, ``but`` for some."""
    return [
        found
        for name, stats in summary.features.items()
        if is_judged(name) and name not in but
        for found in findings(name, stats)
    ]

"""Whether a critic's values are on the scale of the returns they are compared with, and fine enough for labels.

A value stands for a return that is divided by the normaliser, which is from -1 to 0. Values in steps, or divided
by another number, give advantages of which nothing is right, and labels all the same.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vla_data.advantages.numbers.flat import Bools, Episodes, Floats
from vla_data.errors import UsageError

LOWEST: Final = -2.0
HIGHEST: Final = 1.0
"""A critic may be wrong by the length of the whole scale; values beyond that are on another."""

_FACTOR: Final = 3.0
_ALIKE: Final = 0.8
_FEWEST: Final = 32
_SHARE: Final = 0.01


def check_scale(values: Floats, targets: Floats, episodes: Episodes, normalizer: float) -> list[str]:
    """That values are on the scale of their targets.

    Args:
        values: (N,).
        targets: (N,) returns divided by the normaliser.
        episodes: where they begin.
        normalizer: the largest of the dataset, for the message.

    Returns:
        A warning where values rise along the episodes as returns do, and by far more or less.

    Raises:
        UsageError: E302, they are on another scale.
    """
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < LOWEST or high > HIGHEST:
        steps = low / normalizer >= LOWEST and high / normalizer <= HIGHEST
        hint = f"; values in steps must be divided by {normalizer:g}" if steps else ""
        raise UsageError(
            "E302",
            f"values are from {low:.6g} to {high:.6g}, on another scale than returns divided by the normalizer "
            f"({normalizer:g}), which are from {float(targets.min(initial=0)):.6g} to 0{hint}",
        )
    rise = _slope(values, targets, episodes)
    if rise is None or 1 / _FACTOR <= rise <= _FACTOR:
        return []
    return [
        f"values rise {rise:.3g} times as fast along an episode as returns divided by the normalizer "
        f"({normalizer:g}): they may be on the scale of another normalizer or another c_neg"
    ]


def resolution(values: Floats, dtype: Any) -> Floats:
    """(N,): how far each value may be from what was meant, because of the type that it was stored in.

    Args:
        values: (N,).
        dtype: that they came in. Doubles that all are single or half precision, and many, were that once.
    """
    kind = np.dtype(dtype)
    if kind == np.float64 and len(np.unique(values)) >= _FEWEST:
        for coarse in (np.float16, np.float32):
            with np.errstate(over="ignore"):
                same = values.astype(coarse).astype(np.float64) == values
            if same.all():
                kind = np.dtype(coarse)
                break
    kind = kind if kind.kind == "f" else np.dtype(np.float64)
    with np.errstate(over="ignore"):
        return np.asarray(np.spacing(np.maximum(np.abs(values), 1e-3).astype(kind)), dtype=np.float64)


def check_labels(advantages: Floats, bounds: Floats, positive: Bools, fine: Floats) -> list[str]:
    """That labels are decided by more than the rounding of values.

    Args:
        advantages: (N,).
        bounds: (N,) thresholds.
        positive: (N,) labels.
        fine: (N,) how far each advantage may be off.

    Returns:
        A warning where rounding decides about more than one in a hundred.

    Raises:
        UsageError: E302, no positive label is decided by more than rounding.
    """
    away = np.abs(advantages - bounds)
    close = (away > 0) & (away <= fine)
    if positive.any() and close.any() and not (positive & (away > fine)).any():
        raise UsageError(
            "E302",
            f"all {int(positive.sum()):,} positive labels are within {float(fine[positive].max()):.2g} of the "
            "threshold, so rounding decides about them; store the values in a wider type, or check that they "
            "differ at all",
        )
    share = float(close.mean()) if len(close) else 0.0
    if share <= _SHARE:
        return []
    return [
        f"{int(close.sum()):,} of {len(close):,} labels ({share:.1%}) are decided by the rounding of values "
        f"(within {float(fine[close].max()):.2g} of the threshold)"
    ]


def _slope(values: Floats, targets: Floats, episodes: Episodes) -> float | None:
    """By how much values rise for each 1 of targets within episodes; None where they do not rise alike."""
    lengths = episodes.lengths
    rest = []
    for numbers in (values, targets):
        means = np.add.reduceat(numbers, episodes.starts) / lengths
        rest.append(numbers - np.asarray(episodes.per_frame(means)))
    v, t = rest
    if episodes.total < _FEWEST or not t.any() or not v.any():
        return None
    alike = float(v @ t) / float(np.sqrt((v @ v) * (t @ t)))
    return float(v @ t) / float(t @ t) if alike >= _ALIKE else None

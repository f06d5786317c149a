"""Whether a critic's values are on the scale of the returns they are compared with, and fine enough for labels.

A value stands for a return that is divided by the normaliser, which is from -1 to 0. Values in steps, or divided
by another number, give advantages of which nothing is right, and labels all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.advantages.numbers.flat import Bools, Episodes, Floats
from vla_data.errors import UsageError

LOWEST: Final = -2.0
HIGHEST: Final = 1.0
"""A critic may be wrong by the length of the whole scale; values beyond that are on another."""

_ABOVE: Final = 0.1
"""No return is above 0; what is above it by this much in half of all frames is no critic's value."""
_FACTOR: Final = 3.0
_ALIKE: Final = 0.8
_NARROW: Final = 1.3
_STRAIGHT: Final = 0.98
"""Values that follow returns as closely as this are theirs times something."""
_FEWEST: Final = 32
_DIFFERENT: Final = 8
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
    middle = float(np.median(values)) if len(values) else 0.0
    if low < LOWEST or high > HIGHEST or middle > _ABOVE:
        above = "" if low < LOWEST or high > HIGHEST else f", half of them above {middle:.3g}"
        raise UsageError(
            "E302",
            f"values are from {low:.6g} to {high:.6g}{above}, on another scale than returns divided by the "
            f"normalizer ({normalizer:g}), which are from {float(targets.min(initial=0)):.6g} to 0"
            f"{_hint(values, targets, low, high, normalizer)}",
        )
    found = _slope(values, targets, episodes)
    if found is None:
        return []
    rise, alike = found
    if alike <= -_ALIKE:
        return [
            "values fall along an episode where returns rise: they may be costs, which are minus values, or the "
            "frames of an episode in reverse"
        ]
    band = _NARROW if alike >= _STRAIGHT else _FACTOR
    if alike < _ALIKE or 1 / band <= rise <= band:
        return []
    return [
        f"values rise {rise:.3g} times as fast along an episode as returns divided by the normalizer "
        f"({normalizer:g}): they may be on the scale of another normalizer or another c_neg"
    ]


def _hint(values: Floats, targets: Floats, low: float, high: float, normalizer: float) -> str:
    """What somebody may have given in place of values."""
    if low < LOWEST <= low / normalizer and high / normalizer <= HIGHEST:
        return f"; values in steps must be divided by {normalizer:g}"
    if float(np.median(values)) < 0:
        return ""
    falls = float(np.corrcoef(values, targets)[0, 1]) < 0 if values.std() > 0 and targets.std() > 0 else False
    return (
        "; costs are minus values"
        if falls
        else "; a probability of success or a progress p is no value: p - 1 is one, where it is of the same scale"
    )


def resolution(values: Floats, dtype: Any, targets: Floats) -> Floats:
    """(N,): how far each value may be from what was meant, because of the type or the decimals it was stored in.

    Args:
        values: (N,).
        dtype: that they came in. Numbers of which all, and many, are of a coarser type were that once: of half or
            single precision, bfloat16 (a float32 whose lower 16 bits are 0), or with few decimals.
        targets: (N,) returns divided by the normaliser; what holds these exactly tells nothing.
    """
    kind = np.dtype(dtype)
    kind = kind if kind.kind == "f" else np.dtype(np.float64)
    with np.errstate(over="ignore"):
        fine = np.spacing(np.maximum(np.abs(values), 1e-3).astype(kind)).astype(np.float64)
        if len(values) < _FEWEST or len(np.unique(values)) < _DIFFERENT:
            return np.asarray(fine)
        for same, step in _COARSE:
            if same(values) and not same(targets):
                fine = np.maximum(fine, step(np.maximum(np.abs(values), 1e-3)))
                break
    return np.asarray(fine)


def _brain(numbers: Floats) -> NDArray[np.float32]:
    return (numbers.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _is(dtype: Any) -> Callable[[Floats], bool]:
    return lambda numbers: bool((numbers.astype(dtype).astype(np.float64) == numbers).all())


def _is_brain(numbers: Floats) -> bool:
    return bool((_brain(numbers).astype(np.float64) == numbers).all())


def _has_decimals(places: int) -> Callable[[Floats], bool]:
    # Singles are 6e-8 off what they were meant to be.
    return lambda numbers: bool((np.abs(np.round(numbers, places) - numbers) < 1e-7).all())


def _spaced(dtype: Any) -> Callable[[Floats], Floats]:
    return lambda size: np.spacing(size.astype(dtype)).astype(np.float64)


def _decimals(places: int) -> Callable[[Floats], Floats]:
    return lambda size: np.full(len(size), 10.0**-places)


_COARSE: Final[Sequence[tuple[Callable[[Floats], bool], Callable[[Floats], Floats]]]] = (
    *((_has_decimals(places), _decimals(places)) for places in (1, 2, 3, 4)),
    (_is_brain, lambda size: np.asarray(2.0 ** (np.floor(np.log2(size)) - 7))),
    (_is(np.float16), _spaced(np.float16)),
    (_is(np.float32), _spaced(np.float32)),
)
"""Whether all numbers are of a coarser kind, and how far apart numbers of that kind are. The coarsest first."""


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


def _slope(values: Floats, targets: Floats, episodes: Episodes) -> tuple[float, float] | None:
    """By how much values rise for each 1 of targets within episodes, and how alike they are; None of few."""
    lengths = episodes.lengths
    rest = []
    for numbers in (values, targets):
        means = np.add.reduceat(numbers, episodes.starts) / lengths
        rest.append(numbers - np.asarray(episodes.per_frame(means)))
    v, t = rest
    if episodes.total < _FEWEST or not t.any() or not v.any():
        return None
    return float(v @ t) / float(t @ t), float(v @ t) / float(np.sqrt((v @ v) * (t @ t)))

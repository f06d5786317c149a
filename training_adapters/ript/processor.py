"""What is done with advantages before a loss sees them: invalid ones, scale, bounds, negatives; with counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_data import options as checks
from vla_data.advantages import losses

SCOPES: Final = ("batch", "group")
UNSIGNED: Final = ("abs", "exp", "shift", "softplus")
"""Treatments of negatives after which nothing is at or below 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Processed:
    """Advantages as a loss takes them.

    Attributes:
        advantages: ``(N,)`` float64, all finite.
        nan: that were no numbers.
        infinite: that were infinite.
        clipped: that the bounds moved.
        negative: below 0 before negatives were treated.
        positive: above 0 in the end.
    """

    advantages: NDArray[np.float64]
    nan: int
    infinite: int
    clipped: int
    negative: int
    positive: int


@dataclass(frozen=True, kw_only=True)
class AdvantageProcessor:
    """Invalid values are replaced, then advantages are normalised and clipped, then negatives are treated.

    The formulas are those of `vla_data.advantages.losses`, where ``robust`` has the true median.

    Attributes:
        normalization: ``none``, ``standard``, ``robust``, ``zero_mean`` or ``min_max``.
        clipping: ``none``, ``symmetric``, ``asymmetric``, ``quantile`` or ``sigma``.
        clip_value: bound of ``symmetric`` and upper one of ``asymmetric``; standard deviations of ``sigma``.
        clip_value_negative: lower bound of ``asymmetric``, as a positive number; it must be given for that.
        quantile_range: of ``quantile``.
        negative_handling: ``keep``, ``relu``, ``clamp`` (the same), ``abs``, ``softplus``, ``shift`` or ``exp``.
        scope: what they are normalised and clipped over: the whole ``batch``, or each ``group``.
        ddof: of the standard deviation: 1 unbiased, 0 of the population.
        nan_replacement: what NaN becomes.
        inf_replacement: what infinity becomes; minus infinity minus that.
    """

    normalization: str = "none"
    clipping: str = "symmetric"
    clip_value: float = 3.0
    clip_value_negative: float | None = None
    quantile_range: tuple[float, float] = (0.05, 0.95)
    negative_handling: str = "keep"
    scope: str = "batch"
    ddof: int = 1
    nan_replacement: float = 0.0
    inf_replacement: float = 1.0

    def __post_init__(self) -> None:
        checks.one_of("normalization", self.normalization, losses.NORMALIZATIONS)
        checks.one_of("clipping", self.clipping, losses.CLIPS)
        checks.one_of("negative_handling", self.negative_handling, losses.SIGNS)
        checks.one_of("scope", self.scope, SCOPES)
        checks.whole("ddof", self.ddof, low=0, high=1)
        for name in ("clip_value", "inf_replacement"):
            object.__setattr__(self, name, checks.number(name, getattr(self, name), low=0.0))
        object.__setattr__(self, "nan_replacement", checks.number("nan_replacement", self.nan_replacement))
        if self.clip_value_negative is not None:
            bound = checks.number("clip_value_negative", self.clip_value_negative, low=0.0)
            object.__setattr__(self, "clip_value_negative", bound)
        elif self.clipping == "asymmetric":
            raise ValueError("clipping asymmetric needs clip_value_negative, the lower bound as a positive number")
        low, high = checks.pair("quantile_range", self.quantile_range)
        if low < 0 or high > 1:
            raise ValueError(f"quantile_range is {low:g} to {high:g}; quantiles are 0 to 1")
        object.__setattr__(self, "quantile_range", (low, high))

    @property
    def keeps_signs(self) -> bool:
        """Whether what was better than its group is above 0 in the end, and what was worse is not."""
        return self.negative_handling not in UNSIGNED and self.normalization != "min_max"

    def __call__(self, advantages: ArrayLike, groups: Sequence[str] | None = None) -> Processed:
        """Advantages ``(N,)``.

        Args:
            advantages: of rollouts.
            groups: their labels, for the scope ``group``.

        Raises:
            ValueError: another shape, or labels are missing.
        """
        given = np.asarray(advantages, dtype=np.float64)
        if given.ndim != 1:
            raise ValueError(f"advantages have shape {given.shape}, not (N,)")
        if self.scope == "group" and (groups is None or len(groups) != len(given)):
            raise ValueError("the scope group needs a label for each advantage")
        valid = losses.replace_invalid(given, nan=self.nan_replacement, inf=self.inf_replacement)
        out, before = np.empty_like(valid), np.empty_like(valid)
        labels = np.zeros(len(given), np.int64) if self.scope == "batch" else np.asarray(groups)
        for label in np.unique(labels):
            rows = labels == label
            with np.errstate(over="ignore", invalid="ignore"):
                before[rows] = losses.normalize(valid[rows], self.normalization, ddof=self.ddof)  # type: ignore[arg-type]
            out[rows] = losses.clip(
                before[rows],
                self.clipping,  # type: ignore[arg-type]
                limit=self.clip_value,
                below=self.clip_value_negative,
                quantiles=self.quantile_range,
            )
        negative, clipped = int((out < 0).sum()), int((out != before).sum())
        if len(out):
            # Numbers near the end of the doubles may have become infinite on the way.
            out = losses.replace_invalid(out, nan=self.nan_replacement, inf=self.inf_replacement)
            out = losses.treat_negative(out, self.negative_handling)  # type: ignore[arg-type]
        return Processed(
            advantages=out,
            nan=int(np.isnan(given).sum()),
            infinite=int(np.isinf(given).sum()),
            clipped=clipped,
            negative=negative,
            positive=int((out > 0).sum()),
        )

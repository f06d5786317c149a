"""Length limits, after all pruning."""

from __future__ import annotations

from dataclasses import dataclass

from vla_data import options as checks
from vla_data.core import Episode


@dataclass(frozen=True, kw_only=True)
class Length:
    """Rejects episodes that are too short or too long.

    Attributes:
        min_steps: fewest steps; 1 rejects only what pruning left empty.
        max_steps: most steps, or None.
    """

    min_steps: int = 1
    max_steps: int | None = None

    def __post_init__(self) -> None:
        checks.whole("min_length", self.min_steps, low=1)
        if self.max_steps is not None:
            checks.whole("max_length", self.max_steps, low=self.min_steps)

    def reject(self, episode: Episode) -> str | None:
        """``empty_after_pruning``, ``too_short``, ``too_long``, or None."""
        if len(episode) == 0:
            return "empty_after_pruning"
        if len(episode) < self.min_steps:
            return "too_short"
        if self.max_steps is not None and len(episode) > self.max_steps:
            return "too_long"
        return None

"""When an episode counts as solved, and where it ends then.

The flags are ``next.success`` on the aligned timeline: flag ``t`` was true right after action ``t``, whatever
a collector called it, and pruning happens later, so that a streak is a streak in the environment's time. Where
there are none and the source says of the whole episode whether it was solved, that counts, and nothing is cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vla_data import options as checks
from vla_data.core import Episode
from vla_data.errors import DataError

DEFAULT: Final = 6
"""Successes in a row that make an episode solved, where neither a user nor the recording says another number."""

RECORDED: Final = "success_steps"
"""Fact of a recorded episode: how many successes in a row make it solved."""

SuccessRule = Literal["consecutive", "cumulative", "last"]


def success_end(success: NDArray[np.bool_], *, min_steps: int, rule: SuccessRule) -> int | None:
    """The number of steps up to and with the one that makes an episode solved; None when none does.

    Args:
        success: ``(T,)``.
        min_steps: successes that are needed; for ``last`` it plays no part.
        rule: ``consecutive``: so many in a row, anywhere. ``cumulative``: so many in all. ``last``: the last
            flag is true, and the whole episode stays.
    """
    if rule == "last":
        return len(success) if len(success) and bool(success[-1]) else None
    count = np.cumsum(success)
    if rule == "consecutive":
        # What had been counted by the last failure is not part of the present streak.
        count = count - np.maximum.accumulate(np.where(success, 0, count))
    reached = np.flatnonzero(count >= min_steps)
    return int(reached[0]) + 1 if len(reached) else None


def _flags(episode: Episode) -> NDArray[np.bool_]:
    if "next.success" not in episode.arrays:
        raise DataError(
            "E206",
            "there is no next.success to find solved episodes by; --min-success-steps 0 keeps all, uncut",
        )
    return episode.success_after


@dataclass(frozen=True, kw_only=True)
class _ByRule:
    """A step that asks for the end of the success.

    Attributes:
        min_steps: successes that are needed. The default gives way to what a recording says of itself: its fact
            `RECORDED`, as of environments that end an episode at its first success, where no more can follow.
        rule: see `success_end`.
    """

    min_steps: int = DEFAULT
    rule: SuccessRule = "consecutive"

    def __post_init__(self) -> None:
        checks.whole("min_success_steps", self.min_steps, low=1)
        checks.one_of("success_rule", self.rule, get_args(SuccessRule))

    def _end(self, episode: Episode) -> int | None:
        if "next.success" not in episode.arrays and episode.meta.success is not None:
            return len(episode) if episode.meta.success else None  # said of the whole: it is not cut
        return success_end(_flags(episode), min_steps=self._needed(episode), rule=self.rule)

    def _needed(self, episode: Episode) -> int:
        facts = episode.meta.episode_metadata
        told = facts.get(RECORDED) if isinstance(facts, Mapping) and self.min_steps == DEFAULT else None
        return told if isinstance(told, int) and not isinstance(told, bool) and told >= 1 else self.min_steps


@dataclass(frozen=True, kw_only=True)
class RequireSuccess(_ByRule):
    """Rejects episodes that are not solved by the rule; ``min_steps`` and ``rule`` are those of `success_end`."""

    reason: ClassVar[str] = "no_success"

    def successful(self, episode: Episode) -> bool:
        """Whether the episode is solved."""
        return self._end(episode) is not None

    def reject(self, episode: Episode) -> str | None:
        """``no_success``, or None."""
        return None if self.successful(episode) else self.reason


@dataclass(frozen=True, kw_only=True)
class CutAfterSuccess(_ByRule):
    """Drops the steps after the one that completes the success; an episode without one stays whole.

    ``min_steps`` and ``rule`` are those of `success_end`.
    """

    bucket: ClassVar[str] = "truncated"
    reason: ClassVar[str] = "after_success"

    def apply(self, episode: Episode) -> Episode:
        """The episode up to and with the step that completes the success."""
        end = self._end(episode)
        return episode if end is None else episode.take(np.arange(end))

"""How the episodes of a dataset ended, by the declared rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.numbers.flat import Bools, Ints
from vla_data.advantages.numbers.recap import Recap, Unlabelled, resolve_success
from vla_data.core import Json
from vla_data.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """How the episodes ended, and what their values are divided by.

    Attributes:
        success: (E,) bool.
        scales: (E,) int64, the normalisers.
        facts: for the provenance.
    """

    success: Bools
    scales: Ints
    facts: Mapping[str, Json]

    @classmethod
    def of(cls, table: FrameTable, rules: Recap, success: str, unlabelled: Unlabelled) -> Outcomes:
        """By the declared rules.

        Raises:
            UsageError: E001 when episodes have no label, or the normaliser is too small.
        """
        flags, rule = table.success(success)
        try:
            solved = resolve_success(flags, unlabelled)
            scales = rules.normalizers(table.episodes, table.episode_tasks)
            rules.check(table.episodes, solved, scales)
        except ValueError as error:
            raise UsageError("E001", str(error)) from None
        tasks = dict(zip(table.episode_tasks.tolist(), scales.tolist(), strict=True))
        facts = {
            "task_normalizers": {str(task): scale for task, scale in sorted(tasks.items())},
            "success": rule,
            "unlabelled": unlabelled,
            "unlabelled_episodes": sum(flag is None for flag in flags),
            "successful_episodes": int(solved.sum()),
        }
        return cls(success=solved, scales=scales, facts=facts)

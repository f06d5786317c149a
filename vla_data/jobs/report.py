"""What a run did, for a person and for a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vla_data.core import Json, Place
from vla_data.core.ledger import BUCKETS, DEFINITIONS, Ledger

_TITLES = {
    "total_files": "Total files",
    "successful_episodes": "Successful episodes",
    "failed_episodes": "Failed episodes",
    "filtered_episodes": "Filtered episodes",
    "error_episodes": "Error episodes",
    "success_rate": "Success rate",
}
_MEANING = {
    "total_files": "found in the source",
    "published_episodes": "in the dataset",
    "error_episodes": "quarantined: unreadable or must not be used",
}
_TITLES_UNJUDGED = {
    "total_files": "Episodes",
    "published_episodes": "Published episodes",
    "error_episodes": "Error episodes",
}


@dataclass(frozen=True)
class Report:
    """The outcome of `vla_data.run`.

    Attributes:
        target: where the dataset lies.
        ledger: what became of every source episode and frame.
        judged: whether the recipe has a success rule; without one, success is not reported.
        warnings: what a user should look at, a line each.
        details: facts about the dataset, such as its splits.
    """

    target: Path | Place
    ledger: Ledger
    judged: bool = True
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Json] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int | float]:
        """The statistics block; see `vla_data.core.ledger.DEFINITIONS`."""
        return self.ledger.counts()

    @property
    def exit_code(self) -> int:
        """0, or 3 when episodes were quarantined."""
        return 3 if self.counts["error_episodes"] else 0

    def to_json(self) -> dict[str, Json]:
        """One JSON-ready object."""
        return {
            "target": str(self.target),
            "counts": self.counts,
            "reasons": self.ledger.reasons(),
            "problems": [
                {"episode": r.id, "code": r.reason, "message": r.message}
                for r in self.ledger.records
                if r.status == "failed"
            ],
            "warnings": list(self.warnings),
            **self.details,
        }

    def __str__(self) -> str:
        counts = self.counts
        lines = []
        titles = _TITLES if self.judged else _TITLES_UNJUDGED
        for name, title in titles.items():
            value = f"{100 * counts[name]:.2f} %" if name == "success_rate" else f"{counts[name]:,}"
            lines.append(f"  {title:<20}{value:>9}   {DEFINITIONS[name] if self.judged else _MEANING[name]}")
        lines.append("")
        lines.append(f"  {'Source frames':<20}{counts['source']:>9,}   = the sum of these:")
        for bucket in BUCKETS:
            share = 100 * counts[bucket] / counts["source"] if counts["source"] else 0.0
            lines.append(f"    {bucket:<18}{counts[bucket]:>9,}   {share:5.1f} %")
        return "\n".join(lines)

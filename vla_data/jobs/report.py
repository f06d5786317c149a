"""What a run did, for a person and for a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vla_data.core import Json, Place
from vla_data.core.findings import Section, html_of, text_of
from vla_data.core.ledger import BUCKETS, DEFINITIONS, Ledger
from vla_data.safety.text import show

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


@dataclass(frozen=True, repr=False)
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

    def sections(self) -> tuple[Section, ...]:
        """The statistics block: episodes, and the bucket of every source frame."""
        counts = self.counts
        episodes = []
        for name, title in (_TITLES if self.judged else _TITLES_UNJUDGED).items():
            value = f"{100 * counts[name]:.2f} %" if name == "success_rate" else f"{counts[name]:,}"
            episodes.append((title, value, DEFINITIONS[name] if self.judged else _MEANING[name]))
        frames = [("Source frames", f"{counts['source']:,}", "= the sum of these:")]
        for bucket in BUCKETS:
            share = 100 * counts[bucket] / counts["source"] if counts["source"] else 0.0
            frames.append((f"  {bucket}", f"{counts[bucket]:,}", f"{share:5.1f} %"))
        right = frozenset({1})
        return Section(rows=tuple(episodes), right=right), Section(rows=tuple(frames), right=right)

    def __str__(self) -> str:
        return text_of(self.sections())

    def __repr__(self) -> str:
        counts = self.counts
        warnings = f"{len(self.warnings)} warning{'' if len(self.warnings) == 1 else 's'}"
        return (
            f"<Report of {show(str(self.target))}: {counts['published_episodes']:,} of {counts['total_files']:,} "
            f"episodes, {counts['kept']:,} of {counts['source']:,} frames, {warnings}>"
        )

    def _repr_html_(self) -> str:
        return html_of((*self.sections(), Section(notes=self.warnings)))

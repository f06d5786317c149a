"""Keeps the episodes that a condition on measures chose."""

from __future__ import annotations

from dataclasses import dataclass, field

from vla_data import options as checks
from vla_data.core import Episode


@dataclass(frozen=True, kw_only=True)
class Choose:
    """Rejects the episodes that were not chosen. Measures compare an episode with all others, so the verdicts are
    found before a run, by `vla_data.measuring.table.Table.filter`, and are part of its provenance.

    Attributes:
        condition: the filter, for people.
        rejected: ids of episodes of which it is false.
        unknown: ids of episodes of which it can't be told, because a column is unknown.
    """

    condition: str
    rejected: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    _all: tuple[frozenset[str], frozenset[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("rejected", "unknown"):
            object.__setattr__(self, name, checks.texts(name, getattr(self, name)))
        object.__setattr__(self, "_all", (frozenset(self.rejected), frozenset(self.unknown)))

    def needs(self, name: str) -> bool:
        """No feature is looked at here; see `vla_data.core.wanted.Names`."""
        return False

    def becomes(self, name: str) -> str | None:
        """Every feature keeps its name."""
        return name

    def reject(self, episode: Episode) -> str | None:
        """``filter``, ``filter_unknown`` or None."""
        rejected, unknown = self._all
        return "filter" if episode.id in rejected else "filter_unknown" if episode.id in unknown else None

"""Episodes whose content an earlier one of the same run has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vla_data.core.ledger import Record, Span
from vla_data.safety.text import show


def repeats(records: Sequence[Record]) -> dict[str, str]:
    """The id of each published episode with the content of an earlier one -> the id of the first with it."""
    first: dict[str, str] = {}
    again: dict[str, str] = {}
    for record in records:
        if record.status != "published":
            continue
        original = first.setdefault(str(record.content_sha256), record.id)
        if original != record.id:
            again[record.id] = original
    return again


def told(again: Mapping[str, str]) -> list[str]:
    """The warning of a run that keeps them."""
    if not again:
        return []
    name, original = next(iter(again.items()))
    count = "1 episode repeats" if len(again) == 1 else f"{len(again):,} episodes repeat"
    return [
        f"{count} the content of another ({show(name)} that of {show(original)}); --dedup drops them",
    ]


def without(records: Sequence[Record], again: Mapping[str, str]) -> list[Record]:
    """All records, with those of ``again`` rejected as duplicates."""
    return [_rejected(record, again[record.id]) if record.id in again else record for record in records]


def _rejected(record: Record, original: str) -> Record:
    return replace(
        record,
        status="rejected",
        reason="duplicate",
        message=f"the same content as {original}",
        spans=(Span(0, record.length or 0, "rejected", "duplicate"),),
    )

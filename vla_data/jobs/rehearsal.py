"""A run without its results: what would be read, refused and written, told by some of the episodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Final

import numpy as np

from vla_data.core import Elsewhere, EpisodeRef, Json, Schema, Sink, Source
from vla_data.core.base import narrowed
from vla_data.core.curate import Step
from vla_data.core.ledger import Record
from vla_data.core.parts import check_sink, check_source, check_steps
from vla_data.errors import DataError, RefusedError, UsageError, VlaDataError
from vla_data.jobs.duplicates import repeats, told, without
from vla_data.jobs.job import Job
from vla_data.jobs.part import failed, make_episode
from vla_data.jobs.remarks import noted, nothing_left, tell, undeclared
from vla_data.jobs.run import check_bad, check_place
from vla_data.jobs.schemas import common_schema
from vla_data.safety.text import show

SAMPLE: Final = 16


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a run would do.

    Attributes:
        target: where the dataset would be.
        source: provenance of the source.
        steps: provenance of each step.
        episodes: that the source lists.
        source_bytes: of them.
        looked_at: how many were read, curated and encoded, evenly spread.
        outcomes: "published", "rejected", "failed" and "ignored" -> how many of those.
        frames: bucket -> frames of those.
        problems: a line for each that would not be published because of a fault.
        schemas: how many different ones the rest have; a dataset has one.
        undeclared: facts that nobody declares and that a trainer would have to guess.
        warnings: what a report would say.
        bytes: that all encoded episodes would have, about; None where none could be encoded.
        not_tried: what only a run can tell, such as a trainer's gate.
        refusal: why the run would be refused, or None.
    """

    target: str
    source: str
    steps: tuple[str, ...]
    episodes: int = 0
    source_bytes: int = 0
    looked_at: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    schemas: int = 0
    undeclared: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    bytes: int | None = None
    not_tried: tuple[str, ...] = ()
    refusal: VlaDataError | None = None

    @property
    def exit_code(self) -> int:
        """Of the run, as far as it can be told."""
        return self.refusal.exit_code if self.refusal is not None else 3 if self.outcomes.get("failed") else 0

    def to_json(self) -> dict[str, Json]:
        """One JSON-ready object."""
        refusal = self.refusal
        told = None
        if refusal is not None:
            told = {"code": refusal.code, "name": refusal.name, "message": refusal.message}
        return {"dry_run": True, **vars(self), "refusal": told}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield "Dry run: nothing is written."
        yield f"  Target      {show(self.target)}"
        yield f"  Source      {self.episodes:,} episodes, {self.source_bytes:,} bytes: {show(self.source)}"
        for number, step in enumerate(self.steps):
            yield f"  {'Steps' if number == 0 else '':<11} {show(step)}"
        if self.looked_at:
            counts = ", ".join(f"{name} {count:,}" for name, count in sorted(self.outcomes.items()))
            yield f"  Looked at   {self.looked_at:,} of them: {counts}"
            yield f"  Frames      {', '.join(f'{name} {count:,}' for name, count in self.frames.items())}"
        for number, line in enumerate(self.problems):
            yield f"  {'Refused' if number == 0 else '':<11} {line}"
        if self.undeclared:
            yield f"  Undeclared  {'; '.join(map(show, self.undeclared))}"
        for number, line in enumerate(self.warnings):
            yield f"  {'Warnings' if number == 0 else '':<11} {line}"
        if self.bytes is not None:
            yield f"  Size        about {self.bytes:,} bytes of encoded episodes"
        for number, line in enumerate(self.not_tried):
            yield f"  {'Not tried' if number == 0 else '':<11} {line}"
        if self.refusal is not None:
            yield f"  Refusal     {self.refusal}"


def rehearse(
    source: Source,
    steps: Sequence[Step],
    sink: Sink,
    *,
    replace: bool = False,
    max_bad: float | None = None,
    dedup: bool = False,
    sample: int = SAMPLE,
) -> Rehearsal:
    """What `vla_data.run` would do with these; no file is written.

    Args:
        source: where episodes come from.
        steps: transforms and filters, in order.
        sink: what would be written, and where.
        replace: as of `vla_data.run`.
        max_bad: as of `vla_data.run`; judged by the episodes that are looked at.
        dedup: as of `vla_data.run`; of the episodes that are looked at.
        sample: how many episodes are read, curated and encoded.

    Raises:
        VlaDataError: the source can't be listed.
    """
    check_source(source)
    check_sink(sink)
    steps = check_steps(steps)
    source = narrowed(source, steps)
    refs = list(source.episodes())
    refusal: VlaDataError | None = None
    try:
        check_place(source, sink, replace=replace)
    except VlaDataError as error:
        refusal = error
    job = Job(source, steps, sink, Path())
    chosen = _spread(refs, sample)
    records: list[Record] = []
    sizes: dict[str, int] = {}
    schemas: dict[str, Schema] = {}
    for ref in chosen:
        try:
            record, encoded, schema = make_episode(job, ref)
        except VlaDataError as error:
            refusal = refusal or error
            break
        except MemoryError:
            records.append(failed(ref, DataError("E504", "more memory is needed than there is")))
            continue
        if encoded is not None and schema is not None:
            record = changed(record, content_sha256=encoded.content)
            sizes[record.id] = sum(map(len, encoded.blob))
            schemas[record.id] = schema
        records.append(record)
    problems: list[str] = []
    tell(records, problems.append)
    again = repeats(records)
    if dedup:
        records = without(records, again)
        for name in again:
            del sizes[name], schemas[name]
    kinds = {name: schema.to_text() for name, schema in schemas.items()}
    refusal = refusal or _refused(records, len(refs), max_bad)
    if refusal is None and sink.one_schema:
        try:
            common_schema(kinds.items())
        except UsageError as error:
            refusal = error
    first = next(iter(schemas.values()), None)
    return Rehearsal(
        target=str(sink.place if isinstance(sink, Elsewhere) else sink.target),
        source=repr(source),
        steps=tuple(map(repr, steps)),
        episodes=len(refs),
        source_bytes=sum(ref.size for ref in refs),
        looked_at=len(records),
        outcomes=dict(Counter(str(record.status) for record in records)),
        frames={
            bucket: sum(record.frames(bucket) for record in records)
            for bucket in ("kept", "pruned", "truncated", "rejected", "failed")
        },
        problems=tuple(problems),
        schemas=len(set(kinds.values())),
        undeclared=tuple(undeclared(first)) if first is not None else (),
        warnings=(
            *(told(again) if not dedup else ()),
            *(noted(records, first, (*steps, sink)) if first is not None else ()),
        ),
        bytes=round(sum(sizes.values()) / len(records) * len(refs)) if sizes else None,
        refusal=refusal,
    )


def _refused(records: Sequence[Record], episodes: int, max_bad: float | None) -> VlaDataError | None:
    if episodes == 0:
        return RefusedError("E402", "the source has no episodes")
    try:
        check_bad(records, max_bad)
    except RefusedError as error:
        return error
    if records and all(record.status != "published" for record in records):
        reasons = Counter(record.reason for record in records)
        return RefusedError("E402", f"of what was looked at, {nothing_left(reasons)}")
    return None


def _spread(refs: Sequence[EpisodeRef], count: int) -> Sequence[EpisodeRef]:
    if len(refs) <= count:
        return refs
    return [refs[i] for i in np.linspace(0, len(refs) - 1, count).round().astype(int)]

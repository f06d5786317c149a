"""The ledger: every source frame in exactly one bucket, with the rule or code that put it there."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vla_data.core import EpisodeMeta, Json, iter_spans
from vla_data.errors import CODES, DataError, UsageError
from vla_data.safety.text import plain, show

Status = Literal["published", "rejected", "failed", "ignored"]

BUCKETS: Final = ("kept", "pruned", "truncated", "rejected", "failed")
FILE: Final = "ledger.parquet"
_DIGITS: Final = 19


@dataclass(frozen=True, slots=True)
class Span:
    """Source frames ``start`` to ``stop`` (exclusive) are in ``bucket`` because of ``reason``."""

    start: int
    stop: int
    bucket: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What became of one source episode.

    Attributes:
        id: the source's id of the episode.
        status: ``published``, ``rejected`` by a rule, ``failed`` (quarantined), or ``ignored`` (a file of
            another kind, which counts nowhere).
        length: frames in the source; None when the file could not be read far enough to tell.
        success: whether the recipe's success rule holds; None when the episode was not read.
        reason: the rule's or error's code, empty for a published episode.
        message: one line for a reader.
        source_sha256: of the bytes that were read.
        content_sha256: of the encoded episode.
        spans: buckets of all source frames, in order.
        notes: declared fixes that were applied.
        meta: the episode's `EpisodeMeta`, without the two facts that are here.
        output_index: position in the dataset (``episode_index`` in LeRobot), or None.
        split: the split that it is in.
    """

    id: str
    status: Status
    length: int | None = None
    success: bool | None = None
    reason: str = ""
    message: str = ""
    source_sha256: str | None = None
    content_sha256: str | None = None
    spans: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()
    meta: EpisodeMeta = field(default_factory=EpisodeMeta)
    output_index: int | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if type(self.meta) is not EpisodeMeta:
            object.__setattr__(self, "meta", EpisodeMeta(self.meta))

    def frames(self, bucket: str) -> int:
        """How many source frames are in ``bucket``."""
        return sum(span.stop - span.start for span in self.spans if span.bucket == bucket)

    @property
    def filtered(self) -> bool:
        """Solved, but a rule took some frames or the whole episode."""
        return bool(self.success) and self.status != "failed" and self.frames("kept") != self.length

    def line(self) -> str:
        """One line for a person."""
        return plain(f"{self.reason} {CODES.get(self.reason, '')}: {show(self.id)}: {self.message}")


def spans_of(length: int, buckets: Iterable[tuple[str, str, NDArray[np.int64]]]) -> tuple[Span, ...]:
    """Spans from (bucket, reason, source positions), in the order of the source.

    Raises:
        AssertionError: a frame is in no bucket or in two; always a defect of a step.
    """
    spans = sorted(
        (
            Span(start, stop, bucket, reason)
            for bucket, reason, index in buckets
            for start, stop in iter_spans(index)
        ),
        key=lambda span: span.start,
    )
    at = 0
    for span in spans:
        if span.start != at:
            raise AssertionError(f"frames {min(at, span.start)} to {max(at, span.start)} are miscounted")
        at = span.stop
    if at != length:
        raise AssertionError(f"{at} of {length} frames are accounted for")
    return tuple(spans)


@dataclass(frozen=True)
class Ledger:
    """All records of one run, in source order."""

    records: tuple[Record, ...]

    def counts(self) -> dict[str, int | float]:
        """The statistics block; the meaning of each number is in `DEFINITIONS`."""
        seen = [record for record in self.records if record.status != "ignored"]
        error = sum(record.status == "failed" for record in seen)
        good = sum(bool(record.success) and record.status != "failed" for record in seen)
        frames = {bucket: sum(record.frames(bucket) for record in seen) for bucket in BUCKETS}
        return {
            "total_files": len(seen),
            "successful_episodes": good,
            "failed_episodes": len(seen) - good - error,
            "filtered_episodes": sum(record.filtered for record in seen),
            "error_episodes": error,
            "success_rate": good / len(seen) if seen else 0.0,
            "published_episodes": sum(record.status == "published" for record in seen),
            "ignored_files": len(self.records) - len(seen),
            "source": sum(record.length or 0 for record in seen),
            **frames,
        }

    def check(self) -> None:
        """Sums of episodes and frames.

        Raises:
            AssertionError: something is lost or counted twice; nothing may be published then.
        """
        counts = self.counts()
        episodes = ("successful_episodes", "failed_episodes", "error_episodes")
        if counts["total_files"] != sum(counts[name] for name in episodes):
            raise AssertionError(f"episodes do not add up: {counts}")
        if counts["source"] != sum(counts[bucket] for bucket in BUCKETS):
            raise AssertionError(f"frames do not add up: {counts}")
        for record in self.records:
            if (record.status == "published") != (record.output_index is not None):
                raise AssertionError(f"{record.id!r} is published and has no place, or the other way round")

    def reasons(self) -> dict[str, int]:
        """Rule or code -> number of episodes that it took."""
        return dict(sorted(Counter(r.reason for r in self.records if r.reason).items()))

    def find(self, episode: str) -> Record:
        """The record of an episode by its id, its position in the dataset, or a unique part of its id.

        Raises:
            UsageError: E007 when no episode or more than one fits.
        """
        by_id = [record for record in self.records if record.id == episode]
        if not by_id and episode.isdecimal() and len(episode) <= _DIGITS:
            by_id = [record for record in self.records if record.output_index == int(episode)]
        seen = [record for record in self.records if record.status != "ignored"]
        found = by_id or [record for record in seen if episode in record.id]
        if len(found) == 1:
            return found[0]
        names = ", ".join(show(record.id) for record in (found or seen)[:5])
        problem = f"{len(found)} episodes fit" if found else "no episode fits"
        raise UsageError("E007", f"{problem} {show(episode)!r}; there are {names}, ...")

    def why(self, episode: str, frame: int | None = None) -> dict[str, Json]:
        """What became of an episode, or of one of its source frames, and where it is now."""
        record = self.find(episode)
        answer: dict[str, Json] = {
            "episode": record.id,
            "status": record.status,
            "reason": record.reason,
            "message": record.message,
            "success": record.success,
            "source_length": record.length,
            "source_sha256": record.source_sha256,
            "output_episode": record.output_index,
            "split": record.split,
            "notes": list(record.notes),
            "meta": dict(record.meta),
        }
        if frame is None:
            answer["frames"] = {bucket: record.frames(bucket) for bucket in BUCKETS}
            answer["spans"] = [
                {"start": s.start, "stop": s.stop, "bucket": s.bucket, "reason": s.reason} for s in record.spans
            ]
            return answer
        before = 0
        for span in record.spans:
            if span.start <= frame < span.stop:
                kept = span.bucket == "kept"
                answer["frame"] = frame
                answer["bucket"] = span.bucket
                answer["frame_reason"] = span.reason
                answer["output_frame"] = before + frame - span.start if kept else None
                return answer
            before += (span.stop - span.start) if span.bucket == "kept" else 0
        raise UsageError(
            "E007", f"{show(record.id)} has {record.length or 'no known number of'} frames, no frame {frame}"
        )

    def write(self, path: Path) -> None:
        """Write as Parquet, one row an episode; the same bytes for the same ledger and version."""
        from vla_data.files.tables import write_table  # pyarrow takes a quarter of a second to import

        write_table((_row(record) for record in self.records), _columns(), path)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read what `write` wrote.

        Raises:
            DataError: E107, or E141 for a table of something else.
            ArrowException, OSError: it can't be read.
        """
        from vla_data.files.tables import read_table

        return cls(tuple(_record(row) for row in read_table(path)))


DEFINITIONS: Final = {
    "total_files": "rollout files found, whatever became of them",
    "successful_episodes": "read, and solved by the success rule",
    "failed_episodes": "read, and not solved by the success rule",
    "filtered_episodes": "solved, and a rule took some frames or all",
    "error_episodes": "quarantined: unreadable or must not be used",
    "success_rate": "successful / total",
}
"""What each number of the statistics block counts; total = successful + failed + error."""


def _columns() -> Mapping[str, str]:
    return {
        "id": "string",
        "status": "string",
        "length": "int64",
        "success": "bool",
        "reason": "string",
        "message": "string",
        "source_sha256": "string",
        "content_sha256": "string",
        "spans": "spans",
        "notes": "strings",
        "meta": "string",
        "output_index": "int64",
        "split": "string",
    }


def _row(record: Record) -> dict[str, Any]:
    row = to_json(record)
    row["meta"] = json.dumps(row["meta"], sort_keys=True)
    return row


_NONE: Final = type(None)
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    **dict.fromkeys(("id", "status", "reason", "message"), (str,)),
    **dict.fromkeys(("length", "output_index"), (int, _NONE)),
    **dict.fromkeys(("source_sha256", "content_sha256", "split"), (str, _NONE)),
    "success": (bool, _NONE),
    "meta": (dict,),
}


def _record(row: Mapping[str, Any]) -> Record:
    """The record of a row of a file, which may be a stranger's.

    Raises:
        DataError: E141.
    """
    try:
        values = {**row, "meta": json.loads(row["meta"])}
        wrong = [name for name, kinds in _KINDS.items() if type(values[name]) not in kinds]
        spans = [(span["start"], span["stop"], span["bucket"], span["reason"]) for span in values["spans"]]
        if not all(type(start) is type(stop) is int for start, stop, _, _ in spans):
            wrong.append("spans")
        if wrong:
            raise TypeError(wrong[0])
        return from_json(values)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError("E141", f"{FILE} is not what vla-data writes ({show(error, escaped=True)[:80]})") from None


def to_json(record: Record) -> dict[str, Any]:
    """A JSON-ready dictionary of a record."""
    return {
        name: [{"start": s.start, "stop": s.stop, "bucket": s.bucket, "reason": s.reason} for s in record.spans]
        if name == "spans"
        else list(record.notes)
        if name == "notes"
        else dict(record.meta)
        if name == "meta"
        else getattr(record, name)
        for name in _columns()
    }


def from_json(row: Mapping[str, Any]) -> Record:
    """What `to_json` was made from."""
    values = dict(row)
    # A few words stand in every record of a large job: one object each is enough.
    values["spans"] = tuple(
        Span(span["start"], span["stop"], sys.intern(span["bucket"]), sys.intern(span["reason"]))
        for span in values["spans"]
    )
    values["notes"] = tuple(map(sys.intern, values["notes"]))
    values["status"] = sys.intern(values["status"])
    values["reason"] = sys.intern(values["reason"])
    return Record(**values)

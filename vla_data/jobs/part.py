"""One part of a job: a few episodes, read, curated and encoded by a pure function, with a receipt.

A part leaves two files, ``<number>.blob`` and ``<number>.json``. The receipt is written last, so its presence
means that the blob is whole. Neither is synced: after a crash a receipt is believed only if it has the SHA-256 in
its first line and the blob those that it names, so what was cached may be lost and never wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from vla_data.actions.plausible import implausible
from vla_data.core import Encoded, Episode, EpisodeMeta, EpisodeRef, Json, Schema, Source
from vla_data.core.base import whole
from vla_data.core.curate import Step, curate
from vla_data.core.ledger import Record, Span, from_json, to_json
from vla_data.core.notes import NO_TEXT, NOT_AS_DECLARED
from vla_data.errors import DataError
from vla_data.files.write import write_file
from vla_data.jobs.job import Job
from vla_data.safety.files import read_file

MAX_EPISODES: Final = 16
MAX_BYTES: Final = 64 << 20
_OURS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Facts of an episode that have a field of their own in its record.
_OWN_COLUMNS: Final = ("source_length", "source_sha256")


@dataclass(frozen=True, slots=True)
class Part:
    """Episodes that are done together. ``number`` is the position in the plan."""

    number: int
    refs: tuple[EpisodeRef, ...]


def plan(refs: Sequence[EpisodeRef]) -> list[Part]:
    """Cut a source's episodes into parts: at most 16 episodes and, beyond the first, 64 MiB of source."""
    parts: list[Part] = []
    group: list[EpisodeRef] = []
    for ref in refs:
        if group and (len(group) == MAX_EPISODES or sum(r.size for r in group) + ref.size > MAX_BYTES):
            parts.append(Part(len(parts), tuple(group)))
            group = []
        group.append(ref)
    if group:
        parts.append(Part(len(parts), tuple(group)))
    return parts


@dataclass(frozen=True, slots=True)
class Made:
    """One episode of a finished part: its record, and where its encoded bytes lie (none if it has none)."""

    record: Record
    summary: Mapping[str, Json] | None
    schema: str
    offset: int
    size: int
    sha256: str


def make_episode(job: Job, ref: EpisodeRef) -> tuple[Record, Encoded | None, Schema | None]:
    """Read, curate and encode one episode.

    Raises:
        MemoryError: what is left of this process's memory says nothing of the episode, nor of any after it; made
            alone in a new process it is known whether it needs too much.
    """
    record: Record | None = None
    try:
        source = job.source.read(ref)
        steps = all_steps(job.source, job.steps, ref)
        record, episode, schema = _curated(source, steps, ref, job.source.schema(source))
        if episode is None or schema is None:
            return record, None, None
        if len(episode) == 0 and not job.sink.holds_empty:
            return _rejected(record, "empty_after_pruning"), None, None
        record = replace(record, notes=(*record.notes, *_contradictions(episode, schema)))
        return record, job.sink.encode(episode, schema), schema
    except DataError as error:
        if record is not None:  # it was read, and could not be encoded
            error.frames, error.source_sha256 = record.length, record.source_sha256
        return failed(ref, error), None, None


def _rejected(record: Record, reason: str) -> Record:
    spans = (Span(0, record.length or 0, "rejected", reason),)
    message = f"rejected by rule {reason}"
    return replace(record, status="rejected", reason=reason, message=message, spans=spans)


def examine(source: Source, steps: Sequence[Step], ref: EpisodeRef) -> Record:
    """What would become of one episode."""
    try:
        return _curated(source.read(ref), all_steps(source, steps, ref), ref, None)[0]
    except DataError as error:
        return failed(ref, error)


def all_steps(source: Source, steps: Sequence[Step], ref: EpisodeRef) -> tuple[Step, ...]:
    """A merged source has steps of its own for each of its parts; they come first."""
    return (*whole(source).steps_of(ref), *steps)


def _curated(
    episode: Episode, steps: Sequence[Step], ref: EpisodeRef, schema: Schema | None
) -> tuple[Record, Episode | None, Schema | None]:
    curated = curate(episode, steps, schema)
    record = Record(
        id=ref.id,
        status="published" if curated.episode is not None else "rejected",
        length=len(episode),
        success=curated.success,
        reason=curated.reason,
        message=f"rejected by rule {curated.reason}" if curated.reason else "",
        source_sha256=episode.meta.source_sha256,
        spans=curated.spans,
        notes=_notes(curated.episode or episode),
        meta=EpisodeMeta((key, value) for key, value in episode.meta.items() if key not in _OWN_COLUMNS),
    )
    return record, curated.episode, curated.schema


def _notes(episode: Episode) -> tuple[str, ...]:
    """An episode's notes, each once, with one where it has no instruction at all."""
    texts = episode.arrays.get("task", [episode.task])
    empty = not any(str(text).strip() for text in texts)
    return tuple(dict.fromkeys((*episode.notes, *((NO_TEXT,) if empty else ()))))


def _contradictions(episode: Episode, schema: Schema) -> Iterator[str]:
    """Notes on numbers that can't be what is declared of them."""
    for name, feature in schema.features.items():
        if "layout" in feature.convention and name in episode.arrays:
            for said in implausible(episode.arrays[name], feature.convention):
                yield f"{NOT_AS_DECLARED}:{name} {said}"


def failed(ref: EpisodeRef, error: DataError) -> Record:
    """The record of an episode that could not be used."""
    frames = error.frames or 0
    return Record(
        id=ref.id,
        status="ignored" if error.ignore else "failed",
        length=error.frames,
        reason=error.code,
        message=error.message,
        source_sha256=error.source_sha256,
        spans=(Span(0, frames, "failed", error.code),) if frames else (),
    )


def make_part(job: Job, digest: str, part: Part) -> None:
    """Make one part, unless a receipt in the work folder shows that it is made already."""
    if is_made(job, digest, part):
        return
    write_part(job, digest, part, [make_episode(job, ref) for ref in part.refs])


def write_part(
    job: Job, digest: str, part: Part, results: Sequence[tuple[Record, Encoded | None, Schema | None]]
) -> None:
    """Write a part's blob, then its receipt."""
    episodes: list[dict[str, Json]] = []
    pieces: list[bytes | memoryview] = []
    at = 0
    for record, encoded, schema in results:
        row: dict[str, Json] = {"offset": at, "size": 0, "sha256": "", "summary": None, "schema": ""}
        if encoded is not None:
            sha256 = hashlib.sha256()
            for piece in encoded.blob:
                sha256.update(piece)
                pieces.append(piece)
                row["size"] += len(piece)
            notes = (*record.notes, *encoded.notes)
            record = replace(record, content_sha256=encoded.content, notes=notes)
            row["sha256"] = sha256.hexdigest()
            row["summary"] = encoded.summary
            row["schema"] = schema.to_text() if schema is not None else ""
            at += row["size"]
        episodes.append({**row, "record": to_json(record)})
    write_file(blob_file(job, part), pieces, sync=False)
    receipt = {"job": digest, "part": _facts(part), "episodes": episodes}
    body = json.dumps(receipt).encode()
    write_file(receipt_file(job, part), (_digest(body).encode(), b"\n", body), sync=False)


def is_made(job: Job, digest: str, part: Part) -> bool:
    """Whether a part's receipt is of this job and its sources and its blob are as the receipt says."""
    try:
        made = read_part(job, digest, part)
        return made is not None and all(_is_current(job, part, made, i) for i in range(len(made)))
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return False


def is_whole(job: Job, digest: str, part: Part) -> bool:
    """Whether a part's receipt is of this job and its blob is as it says, whatever its sources are now."""
    try:
        made = read_part(job, digest, part)
        return made is not None and all(_is_as_made(job, part, item) for item in made)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def fingerprint(source: Source, ref: EpisodeRef) -> str | None:
    """`Source.fingerprint`, or None for what can't be read at all, which is how the ledger has it."""
    try:
        return source.fingerprint(ref)
    except DataError:
        return None


def _is_current(job: Job, part: Part, made: Sequence[Made], i: int) -> bool:
    record = made[i].record
    if record.reason.startswith("E5"):  # a worker died over it: another try may go better
        return False
    if fingerprint(job.source, part.refs[i]) != record.source_sha256:
        return False
    return _is_as_made(job, part, made[i])


def _is_as_made(job: Job, part: Part, made: Made) -> bool:
    return made.summary is None or _digest(read_blob(job, part, made)) == made.sha256


def read_part(job: Job, digest: str, part: Part) -> list[Made] | None:
    """What a part's receipt lists, or None when there is no whole receipt of this job."""
    try:
        sha256, _, body = read_file(receipt_file(job, part), root=job.work)[0].partition(b"\n")
    except DataError as error:
        if error.code == "E133":
            return None
        raise error.__cause__ or error from None
    if sha256 != _digest(body).encode():
        return None
    receipt = json.loads(body)
    if receipt["job"] != digest or receipt["part"] != _facts(part):
        return None
    return [
        Made(
            from_json(row["record"]),
            row["summary"],
            sys.intern(row["schema"]),  # as a rule one for all episodes
            row["offset"],
            row["size"],
            row["sha256"],
        )
        for row in receipt["episodes"]
    ]


def forget(job: Job, part: Part) -> None:
    """Remove a part's receipt, so that it counts as not made."""
    receipt_file(job, part).unlink(missing_ok=True)


def read_blob(job: Job, part: Part, made: Made) -> bytes:
    """The encoded bytes of one episode."""
    with open(os.open(blob_file(job, part), _OURS), "rb") as file:
        file.seek(made.offset)
        return file.read(made.size)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _facts(part: Part) -> Json:
    return json.loads(json.dumps(asdict(part)))


def blob_file(job: Job, part: Part) -> Path:
    """Where the encoded episodes of a part are."""
    return job.work / f"{part.number:08d}.blob"


def receipt_file(job: Job, part: Part) -> Path:
    """Where the receipt of a part is."""
    return job.work / f"{part.number:08d}.json"

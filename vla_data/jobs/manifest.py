"""What a dataset carries about itself: ledger, schema, manifest and sums, in the folder that its sink names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from vla_data.core import Json, Schema, Sink, Source
from vla_data.core.base import narrowed
from vla_data.core.curate import Step
from vla_data.core.ledger import FILE, Ledger
from vla_data.core.manifest import MANIFEST, VERSION, read_manifest
from vla_data.errors import DataError
from vla_data.files.sums import SEAL, format_sums, hash_file
from vla_data.files.write import files_below, write_file
from vla_data.jobs.job import Job, versions
from vla_data.jobs.part import fingerprint

SCHEMA: Final = "schema.json"


def write_sidecar(root: Path, job: Job, schema: Schema, ledger: Ledger) -> dict[str, Json]:
    """Write ledger, schema and manifest, the manifest last: it lists all other files with their sizes."""
    folder = root / job.sink.sidecar
    ledger.write(folder / FILE)
    write_json(folder / SCHEMA, schema.to_json())
    published = [record for record in ledger.records if record.status == "published"]
    content = hashlib.sha256(
        "".join(f"{record.id}\0{record.content_sha256}\n" for record in published).encode(
            "utf-8", "surrogateescape"
        )
    )
    manifest = {
        "format_version": VERSION,
        "provenance": dict(job.provenance),
        "recipe_sha256": job.digest(),
        "content_sha256": content.hexdigest(),
        "sources_sha256": sources_sha256({r.id: r.source_sha256 for r in ledger.records}),
        "versions": versions(job.sink),
        "counts": ledger.counts(),
        "reasons": ledger.reasons(),
        "files": {path.relative_to(root).as_posix(): path.stat().st_size for path in files_below(root)},
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def is_made_of(source: Source, steps: Sequence[Step], sink: Sink) -> bool:
    """Whether a sink's target is a dataset that a run of these has published, of the source as it is now."""
    source = narrowed(source, steps)
    try:
        known = read_manifest(sink.target / sink.sidecar)
    except DataError:
        return False
    if known.get("recipe_sha256") != Job(source, tuple(steps), sink, Path()).digest():
        return False
    return bool(
        known.get("sources_sha256")
        == sources_sha256({ref.id: fingerprint(source, ref) for ref in source.episodes()})
    )


def write_json(path: Path, value: Json) -> None:
    """One file of a sidecar."""
    write_file(path, json_bytes(value), sync=False)


def json_bytes(value: Json) -> bytes:
    """JSON for people too, equal for equal values."""
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def sources_sha256(sources: Mapping[str, str | None]) -> str:
    """One SHA-256 for all source files, from that of each; files that could not be read count by name."""
    lines = "".join(f"{name}\0{sources[name]}\n" for name in sorted(sources))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def write_sums(root: Path, sidecar: str) -> None:
    """Write ``SHA256SUMS`` of everything else that is there."""
    own = root / sidecar / SEAL
    sums = {path.relative_to(root).as_posix(): hash_file(path) for path in files_below(root) if path != own}
    write_file(own, format_sums(sums), sync=False)

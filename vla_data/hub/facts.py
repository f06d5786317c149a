"""What is told of a dataset to strangers: from its manifest, ledger and schema, and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vla_data.core import Json, Schema
from vla_data.core.manifest import read_manifest
from vla_data.core.provenance import typed
from vla_data.errors import UsageError
from vla_data.formats import open_source
from vla_data.formats.sidecar import find_sidecar, open_ledger
from vla_data.formats.tables import FORMATS
from vla_data.jobs.manifest import SCHEMA
from vla_data.safety import strict_json
from vla_data.safety.text import show

INFO: Final = "meta/info.json"
_TASKS: Final = 20
_LOOKED: Final = 100


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Of a dataset.

    Attributes:
        root: its folder.
        format: its name in the table of formats.
        version: of LeRobot's format; empty for others.
        episodes: how many.
        frames: how many.
        schema: its features.
        tasks: instructions of the first hundred episodes, sorted; at most twenty.
        task_count: how many these episodes have.
        sources: name of the format of each source, sorted.
        steps: names of the steps that it went through.
        counts: of the manifest.
        content: SHA-256 over all episodes.
        maker: version of vla-data.
    """

    root: Path
    format: str
    version: str
    episodes: int
    frames: int
    schema: Schema
    tasks: tuple[str, ...]
    task_count: int
    sources: tuple[str, ...]
    steps: tuple[str, ...]
    counts: Mapping[str, Json]
    content: str
    maker: str

    @property
    def undeclared(self) -> list[str]:
        """Actions and states of which nobody said what they mean."""
        named = ("action", "observation.state")
        return [
            name
            for name, feature in sorted(self.schema.features.items())
            if (name in named or name.startswith("action.")) and not feature.convention
        ]


def facts_of(path: Path) -> Facts:
    """The facts of the dataset of ours at ``path``.

    Raises:
        UsageError: E003, there is none of ours.
        DataError: its manifest can't be read.
    """
    side = find_sidecar(path)
    if side is None:
        raise UsageError("E003", f"{show(path)} is no dataset of vla-data; vla-data convert makes one")
    relative, root = _placed(side)
    manifest = read_manifest(side)
    records = [record for record in open_ledger(root).records if record.status == "published"]
    format = next(name for name, row in FORMATS.items() if row.sidecar == relative)
    tasks = _instructions(root, format)
    made = manifest["provenance"]
    return Facts(
        root=root,
        format=format,
        version=_version(root),
        episodes=len(records),
        frames=sum(record.frames("kept") for record in records),
        schema=Schema.read(side / SCHEMA, root=root),
        tasks=tuple(tasks[:_TASKS]),
        task_count=len(tasks),
        sources=tuple(sorted({_short(part["type"]) for part in _sources(made["source"])})),
        steps=tuple(_short(part["type"]) for part in made["recipe"] if isinstance(part, Mapping)),
        counts=manifest["counts"],
        content=str(manifest["content_sha256"]),
        maker=str(manifest["versions"].get("vla-data", "unknown")),
    )


def _instructions(root: Path, format: str) -> list[str]:
    """The instructions of the first episodes, of a format that can be read."""
    if FORMATS[format].source is None:
        return []
    source = open_source(f"{format}:{root}")
    found = {source.read(ref).task for ref in source.episodes()[:_LOOKED]}
    return sorted(task for task in found if task.strip())


def _placed(side: Path) -> tuple[str, Path]:
    """A sidecar's name in its dataset, and the dataset."""
    for row in FORMATS.values():
        if row.sidecar and row.sidecar != "." and side.as_posix().endswith(f"/{row.sidecar}"):
            depth = row.sidecar.count("/")
            return row.sidecar, side.parents[depth]
    raise UsageError("E003", f"{show(side)} is of no format that is pushed")


def _version(root: Path) -> str:
    if not (root / INFO).is_file():
        return ""
    info = strict_json.read(root / INFO, root=root)
    return str(info.get("codebase_version", "")) if isinstance(info, dict) else ""


def _sources(told: Any) -> Iterator[Mapping[str, Any]]:
    """Every source that a provenance names, also of merged ones."""
    yield from (part for part in typed([told]) if str(part["type"]).endswith("Source")) if told else ()


def _short(name: Any) -> str:
    """A class's name without its module."""
    return str(name).rpartition(":")[2].rpartition(".")[2]

"""From sources to the text of a trainer's file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_data.core import Json, Source
from vla_data.core.findings import Finding
from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.statistics.collect import MEMORY, Summary, collect, report
from vla_data.statistics.columns import read_columns
from vla_data.statistics.health import coverage, is_judged
from vla_data.statistics.meanings import check as check_meanings
from vla_data.statistics.meanings import contradictions, schemas_of
from vla_data.statistics.trainers import Writer, pool, to_text

_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of some datasets, ready to be written.

    Attributes:
        file: the name that the trainer looks for.
        document: its content.
        text: the same, formatted as the trainer does.
        datasets: what was counted, by dataset.
        entries: what each entry of the document is made of, by its name.
        findings: what will hurt.
    """

    file: str
    document: Mapping[str, Json]
    text: str
    datasets: Mapping[str, Summary]
    entries: Mapping[str, Summary]
    findings: tuple[Finding, ...]

    @property
    def complete(self) -> bool:
        """Whether every episode was counted."""
        return not any(summary.left_out for summary in self.datasets.values())

    def to_json(self) -> dict[str, Json]:
        """What was counted, what will hurt, how much lies outside of the bounds, and the document."""
        return {
            "file": self.file,
            "datasets": {name: report(summary) for name, summary in self.datasets.items()},
            "warnings": [
                {**finding.to_json(), "feature": finding.where, "kind": finding.code} for finding in self.findings
            ],
            "coverage": {
                name: {key: coverage(stats) for key, stats in summary.features.items() if is_judged(key)}
                for name, summary in self.entries.items()
            },
            "document": self.document,
        }


def make(
    sources: Mapping[str, Source],
    writer: Writer,
    *,
    weights: Sequence[float] | None = None,
    name: str = "mixture",
    memory: int = MEMORY,
) -> Statistics:
    """Statistics of ``sources`` in the form of a trainer's file.

    Where the file has an entry for each dataset, each gets one; a file of one entry is of all their steps.
    With ``weights`` there is one entry in either, of the mixture that draws datasets by them.

    Args:
        sources: by the name of their dataset.
        writer: of the trainer; see `vla_data.statistics.trainers.writer`.
        weights: of the sources.
        name: of the mixture's entry.
        memory: see `vla_data.statistics.collect.collect`.

    Raises:
        RefusedError: a source has no episode that can be used.
        UsageError: the datasets don't fit together, or into this file.
    """
    pooled = weights is not None or not writer.keyed
    schemas = schemas_of(sources)
    meanings = check_meanings(schemas, writer, pooled=pooled)
    summaries = {
        key: collect(source, names=writer.names, rows=writer.rows, memory=memory)
        for key, source in sources.items()
    }
    for key, schema in schemas.items():
        meanings += contradictions(key, schema, summaries[key])
    if weights is not None:
        if not writer.takes_mixtures:
            raise UsageError("E001", f"{writer.file} holds statistics of single datasets, not of a mixture")
        entries = {name: pool(list(summaries.values()), weights)}
    elif writer.keyed or len(summaries) == 1:
        entries = summaries
    else:
        entries = {name: pool(list(summaries.values()))}
    document = writer.document({key: writer.entry(summary, key) for key, summary in entries.items()})
    return Statistics(
        file=writer.file,
        document=document,
        text=to_text(document, writer.indent),
        datasets=summaries,
        entries=entries,
        findings=(*meanings, *(found for summary in entries.values() for found in writer.judge(summary))),
    )


def dataset_name(root: Path) -> str:
    """A dataset's name by its folder; that of the folder above where this one is a version like 1.0.0."""
    folder = root.resolve()
    if folder.is_file():
        return folder.stem
    return folder.parent.name if _VERSION.fullmatch(folder.name) else folder.name


def has_array(source: Source, name: str) -> bool:
    """Whether the first episode that can be read has such an array."""
    for _, arrays in read_columns(source, None):
        if not isinstance(arrays, DataError):
            return name in arrays
    return False


def image_stats(root: Path) -> dict[str, Json]:
    """The statistics of images that a LeRobot dataset has of itself; empty where there are none."""
    features = strict_json.loads(read_file(root / "meta/info.json", root=root)[0], name="meta/info.json")[
        "features"
    ]
    try:
        stats = strict_json.loads(read_file(root / "meta/stats.json", root=root)[0], name="meta/stats.json")
    except DataError:
        return {}
    cameras = [name for name, feature in features.items() if feature.get("dtype") in ("image", "video")]
    return {name: stats[name] for name in cameras if isinstance(stats, dict) and name in stats}

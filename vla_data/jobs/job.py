"""What a job is made of, and the digest by which its finished parts are told from those of any other."""

from __future__ import annotations

import copy
import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeVar

from vla_data._version import __version__
from vla_data.core import Json, Sink, Source
from vla_data.core.base import traits_of
from vla_data.core.curate import Step
from vla_data.core.manifest import VERSION
from vla_data.core.provenance import to_json
from vla_data.jobs.code import Code, code_of
from vla_data.jobs.packed import Packed, pack

T = TypeVar("T")

# What decides about the bytes of an encoded episode, besides this package.
_ENCODERS: Final = ("deflate", "numpy", "pillow", "pyarrow", "simplejpeg")


@dataclass(frozen=True)
class Job:
    """Everything a worker needs; the same on every machine but for the source's root.

    Attributes:
        source: where episodes come from.
        steps: what they go through.
        sink: what is written.
        work: the folder of its parts.
        code: the user's own code that takes part, as it was when the job was made.
        provenance: source, recipe and sink as JSON, and what identifies that code.
    """

    source: Source
    steps: tuple[Step, ...]
    sink: Sink
    work: Path
    code: Code = field(default_factory=Code)
    provenance: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.provenance:  # looked at once: a file that is edited while the job runs has no part in it
            object.__setattr__(self, "code", code_of(self.source, self.steps, self.sink))
            object.__setattr__(self, "provenance", _provenance(self.source, self.steps, self.sink, self.code))

    def digest(self) -> str:
        """SHA-256 of provenance and versions: of all that decides about the bytes of a part but its episodes."""
        facts = {"format": VERSION, "provenance": self.provenance, "versions": versions(self.sink)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def absolute(self) -> Job:
        """The same job for workers that are in another current folder."""
        return absolute(self)

    def pack(self) -> Packed:
        """The job for a worker that may not be able to import the user's code.

        Raises:
            UsageError: E021 when it can't leave this process.
        """
        return pack(self, self.code, (self.source, *self.steps, self.sink))


def provenance(source: Source, steps: Sequence[Step], sink: Sink) -> dict[str, Json]:
    """What a dataset is made with, without any path of this machine; see `vla_data.core.provenance`."""
    return _provenance(source, steps, sink, code_of(source, steps, sink))


def _provenance(source: Source, steps: Sequence[Step], sink: Sink, code: Code) -> dict[str, Json]:
    facts = {"source": to_json(source), "recipe": [to_json(step) for step in steps], "sink": to_json(sink)}
    return facts | ({"code": code.to_json()} if code else {})


def versions(sink: Sink) -> dict[str, str]:
    """Versions of the packages that decide about output bytes: the common ones, and a sink's own ``encoders``."""
    names = sorted({*_ENCODERS, *traits_of(sink).encoders})
    return {"vla-data": __version__} | {name: metadata.version(name) for name in names}


def absolute(value: T) -> T:
    """The same source, sink or job with absolute paths, which stay right in another current folder; itself where
    it has no others.
    """
    found: T = _absolute(value)
    return found


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return value if value.is_absolute() else value.absolute()
    if type(value) is tuple:
        found = tuple(map(_absolute, value))
        return value if all(map(operator.is_, found, value)) else found
    if not is_dataclass(value) or isinstance(value, type | Code):
        return value
    changed = {
        each.name: there
        for each in fields(value)
        if (there := _absolute(here := getattr(value, each.name))) is not here
    }
    out = copy.copy(value) if changed else value
    for name, there in changed.items():
        object.__setattr__(out, name, there)
    return out

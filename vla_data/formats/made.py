"""In which format a dataset of ours was made: its manifest says it, whatever its files look like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from vla_data._version import PACKAGES
from vla_data.core.manifest import MANIFEST, read_manifest
from vla_data.core.provenance import typed
from vla_data.errors import DataError, UsageError
from vla_data.formats.tables import FORMATS, SIDECARS
from vla_data.safety.text import show

_OURS: Final = {row.sink.rpartition(":")[2]: name for name, row in FORMATS.items() if row.sink}
"""Sink class -> format, of our own table."""


def format_named(type_name: str, role: Literal["source", "sink"]) -> str | None:
    """The format whose source or sink class has this name in a provenance; None where none here has."""
    if ":" not in type_name:
        rows = ((name, getattr(row, role)) for name, row in FORMATS.items())
        return next((name for name, cls in rows if cls and cls.rpartition(":")[2] == type_name), None)
    for name in FORMATS.names():
        try:
            row = FORMATS[name]
        except UsageError:  # of a distribution that can't be loaded, which is its own affair
            continue
        cls = str(getattr(row, role))
        if cls == type_name and cls.partition(".")[0] not in PACKAGES:
            return name
    return None


def foreign(path: Path) -> tuple[str, str | None] | None:
    """What a dataset at ``path`` says of a sink that is not of this distribution.

    Returns:
        The name of the sink's class, and its format where one that is installed has it; None for a dataset of one
        of our own formats, and for what has no manifest.
    """
    for side in SIDECARS:
        if (path / side / MANIFEST).is_file():
            names = sinks_of(path / side)
            if names and not any(name in _OURS for name in names):
                return names[0], format_named(names[0], "sink")
    return None


def sinks_of(folder: Path) -> list[str]:
    """The class of the sink in a manifest, and those of what it wraps; empty where the manifest can't say."""
    try:
        provenance = read_manifest(folder)["provenance"]
        sink = provenance["sink"] if isinstance(provenance, dict) else None
    except (DataError, OSError, KeyError):
        return []
    return list(_names(sink))


def _names(facts: Any) -> Iterator[str]:
    for each in typed(facts):
        if isinstance(each["type"], str):
            yield each["type"]


def left_to(path: Path, type_name: str) -> UsageError:
    """That nothing here reads what a sink of somebody's own has written."""
    return UsageError(
        "E002",
        f"{show(path)} was written by {show(type_name)}, whose format is not installed here; name a class that "
        "reads it, as module:Class:PATH or file.py:Class:PATH",
    )

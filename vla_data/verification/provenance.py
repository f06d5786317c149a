"""The source, recipe and sink that a manifest's provenance speaks of, opened again.

Provenance is data and not code: only classes of our own tables are made of it, and what they were made of must be
in their provenance again. Somebody's own steps can't be made of it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from vla_data import steps as library
from vla_data.core import Json, Sink, Source
from vla_data.core.curate import Step
from vla_data.core.manifest import is_made_by
from vla_data.core.provenance import type_name
from vla_data.errors import DataError, UsageError, VerifyError, VlaDataError
from vla_data.formats import BUILDERS, load_builder, load_part, open_sink, open_source, parse_address
from vla_data.formats.made import format_named
from vla_data.jobs.job import provenance
from vla_data.media.video_settings import VideoCopy, VideoSettings
from vla_data.safety.files import read_file
from vla_data.safety.text import show
from vla_data.selection.merged import Member, MergedSource
from vla_data.selection.subset import Selection

Address = str | Path

_INFO: Final = "dataset_info.json"
_DESCRIBED: Final = re.compile(r'"description"\s*:\s*("(?:[^"\\]|\\.)*")')
AGAIN: Final = "make it again with the original command and --replace"
# Dataclasses that options of sources and sinks may hold, and steps.
_PARTS: Final[Mapping[str, type[Any]]] = {
    cls.__name__: cls
    for cls in (VideoCopy, VideoSettings, *(getattr(library, name) for name in library.__all__))
    if dataclasses.is_dataclass(cls) and isinstance(cls, type)
}


def open_provenance(
    manifest: Mapping[str, Any], sources: Sequence[Address], target: Path, *, root: Path | None = None
) -> tuple[Source, tuple[Step, ...], Sink]:
    """Source, steps and sink of a manifest, as `vla_data.core.manifest.read_manifest` gives it.

    Args:
        manifest: of any version.
        sources: where they lie now; several for a merged dataset, in its order.
        target: of the sink.
        root: the dataset, which has texts that are not in the provenance; None: it is at ``target``.

    Raises:
        UsageError: E001 when these are too many or too few sources.
        VerifyError: E601 when the provenance has anything that is not ours.
    """
    places = iter(sources)
    try:
        facts = manifest["provenance"]
        reader = _source(facts["source"], places)
        steps = tuple(_part(step) for step in facts["recipe"])
        name, options = _options(facts["sink"])
        if name == "RldsSink":  # the text is not in the provenance
            ours = options.get("name") in BUILDERS
            options["description"] = (
                load_builder(options["name"]).DESCRIPTION if ours else _description(root or target)
            )
        sink = _sink(target, _format(name, "sink"), options)
    except VlaDataError:
        raise
    except Exception as error:  # a stranger's options may be anything, and so may what our classes make of them
        raise VerifyError(
            "E601", f"the recipe can't be repeated here ({show(error, escaped=True)}): {AGAIN}"
        ) from None
    if any(True for _ in places):
        raise UsageError("E001", f"{len(sources)} sources are named, but it was made from fewer")
    if not is_made_by(manifest, provenance(reader, steps, sink)):
        raise VerifyError("E601", f"the recipe is not one that this version writes: {AGAIN}")
    return reader, steps, sink


def _description(root: Path) -> str:
    """The description in ``dataset_info.json``, also where something else in that file is damaged; else empty.

    Whoever uses it compares what is made of it with sums.
    """
    try:
        text = read_file(root / _INFO, root=root)[0].decode("utf-8")
        found = _DESCRIBED.search(text)
        return str(json.loads(found[1])) if found else ""
    except (DataError, OSError, ValueError):
        return ""


def _sink(target: Path, format: str, options: Mapping[str, Any]) -> Sink:
    try:
        return open_sink(target, format=format, **options)
    except UsageError as error:  # nobody chose these options; they are what a manifest says
        if error.code != "E001":
            raise
        raise ValueError(error.message) from None


def _source(facts: Json, places: Iterator[Address]) -> Source:
    name, options = _options(facts, raw=("source", "members"))
    if name == "MergedSource":
        return MergedSource(tuple(_member(member, places) for member in options["members"]))
    if name == "Selection":
        return Selection(_source(options["source"], places), tuple(options["positions"]))
    where = next(places, None)
    if where is None:
        raise UsageError("E001", "it was made from more sources than are named; name all, in their order")
    named, path = parse_address(where)
    if named is not None and ":" in named and type_name(load_part(named, "source")) == name:
        return open_source(where, **options)  # the class is named by whoever asks, not by the manifest alone
    return open_source(f"{_format(name, 'source')}:{path}", **options)


def _member(facts: Json, places: Iterator[Address]) -> Member:
    name, options = _options(facts, raw=("source",))
    if name != "Member":
        raise ValueError(f"{show(name)} is not a member of a merged source")
    return Member(options["name"], _source(options["source"], places), tuple(options["steps"]))


def _format(name: str, role: Literal["source", "sink"]) -> str:
    """The format whose source or sink class has this name."""
    found = format_named(name, role)
    if found is None:
        raise ValueError(f"no format that is installed here has the {role} {show(name)}")
    return found


def _part(facts: Json) -> Any:
    """A step, or an object that is an option."""
    name, options = _options(facts)
    if name not in _PARTS:
        raise ValueError(f"{show(name)} is not of vla-data")
    return _PARTS[name](**options)


def _options(facts: Json, *, raw: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """The class and the options of an object with a ``type``; those in ``raw`` stay as they are."""
    if not isinstance(facts, dict) or not isinstance(facts.get("type"), str):
        raise ValueError("an entry is not an object with a type")
    if {"root", "target"} & facts.keys():
        raise ValueError("an option is not known")
    options = {name: value if name in raw else _value(value) for name, value in facts.items() if name != "type"}
    return facts["type"], options


def _value(value: Json) -> Any:
    """An option: arrays are tuples, as everywhere in options but in mappings, which hold JSON as it is."""
    if isinstance(value, list):
        return tuple(map(_value, value))
    return _part(value) if isinstance(value, dict) and "type" in value else value

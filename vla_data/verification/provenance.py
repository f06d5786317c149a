"""The recipe in a manifest, and the source, steps and sink that it is the ``repr`` of.

A recipe is provenance and not code: it is parsed as literals, only classes of our own tables are made of it, and
the result must have the same ``repr`` again. Somebody's own steps can't be made of it.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vla_data import steps as library
from vla_data.core import Sink, Source
from vla_data.core.curate import Step
from vla_data.errors import UsageError, VerifyError
from vla_data.formats import BUILDERS, FORMATS, load_builder, open_sink, open_source, parse_address
from vla_data.jobs.part import recipe
from vla_data.media.video_settings import VideoSettings
from vla_data.safety.text import show
from vla_data.selection.merged import Member, MergedSource
from vla_data.selection.subset import Selection

Address = str | Path

AGAIN: Final = "make it again with the original command and --replace"
_LONGEST: Final = 1 << 20
# Dataclasses that options of sources and sinks may hold, and steps.
_PARTS: Final[Mapping[str, type[Any]]] = {
    cls.__name__: cls
    for cls in (VideoSettings, *(getattr(library, name) for name in library.__all__))
    if dataclasses.is_dataclass(cls) and isinstance(cls, type)
}


def open_recipe(
    facts: Mapping[str, Any], sources: Sequence[Address], target: Path
) -> tuple[Source, tuple[Step, ...], Sink]:
    """Source, steps and sink of a manifest's recipe.

    Args:
        facts: ``recipe`` of the manifest.
        sources: where they lie now; several for a merged dataset, in its order.
        target: of the sink.

    Raises:
        UsageError: E001 when these are too many or too few sources.
        VerifyError: E601 when the recipe has anything that is not ours.
    """
    places = iter(sources)
    try:
        reader = _source(ast.parse(_text(facts["source"]), mode="eval").body, places)
        steps = tuple(_part(ast.parse(_text(text), mode="eval").body) for text in facts["steps"])
        name, options = _call(ast.parse(_text(facts["sink"]), mode="eval").body)
        if name == "RldsSink" and options.get("name") in BUILDERS:  # the text is not in the recipe
            options["description"] = load_builder(options["name"]).DESCRIPTION
        sink = open_sink(target, format=_format(name, "sink"), **options)
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError) as error:
        raise VerifyError("E601", f"the recipe can't be repeated here ({show(error)}): {AGAIN}") from None
    if any(True for _ in places):
        raise UsageError("E001", f"{len(sources)} sources are more than it was made from")
    if recipe(reader, steps, sink) != facts:
        raise VerifyError("E601", f"the recipe is not one that this version writes: {AGAIN}")
    return reader, steps, sink


def _source(node: ast.expr, places: Iterator[Address]) -> Source:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "MergedSource":
        (members,) = (keyword.value for keyword in node.keywords if keyword.arg == "members")
        if not isinstance(members, ast.Tuple):
            raise ValueError("members are no tuple")
        return MergedSource(tuple(_member(item, places) for item in members.elts))
    name, options = _call(node, raw=("source",))
    if name == "Selection":
        return Selection(_source(options["source"], places), tuple(options["positions"]))
    where = next(places, None)
    if where is None:
        raise UsageError("E001", "it was made from more sources than were named")
    return open_source(f"{_format(name, 'source')}:{parse_address(where)[1]}", **options)


def _member(node: ast.expr, places: Iterator[Address]) -> Member:
    name, options = _call(node, raw=("source", "steps"))
    if name != "Member" or not isinstance(options["steps"], ast.Tuple):
        raise ValueError(f"{name} is no member of a merged source")
    steps = tuple(_part(step) for step in options["steps"].elts)
    return Member(options["name"], _source(options["source"], places), steps)


def _format(name: str, role: str) -> str:
    """The format whose source or sink class has this name."""
    for key, entry in FORMATS.items():
        if str(getattr(entry, role)).rpartition(":")[2] == name:
            return key
    raise ValueError(f"no {role} {name}")


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError("not a recipe")
    return value


def _part(node: ast.expr) -> Any:
    """A step, or an object that is an option."""
    name, options = _call(node)
    if name not in _PARTS:
        raise ValueError(f"{name} is not of vla-data")
    return _PARTS[name](**options)


def _call(node: ast.expr, *, raw: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """``Name(option=literal, ...)`` -> its name and options; nothing is evaluated. Those in ``raw`` stay nodes."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise ValueError("not of the form Name(option=value)")
    options: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in ("root", "target"):
            raise ValueError("an option that no recipe has")
        value = keyword.value
        if keyword.arg in raw:
            options[keyword.arg] = value
        else:
            options[keyword.arg] = _part(value) if isinstance(value, ast.Call) else ast.literal_eval(value)
    return node.func.id, options

"""The mapping of ``vla-data merge``: a TOML file that says how each source becomes like the others.

    [[source]]                       # one for each source, in the order of the command line
    name = "lab_a"                   # first part of its episodes' ids; default: the folder's name
    open = { fps = 10 }              # options of the source, as in vla_data.open_source
    rename = { "observation.images.image" = "observation.images.front" }
    keep = ["action", "observation.*", "next.*"]
    drop = ["observation.sim_state"]
    join = { action = ["action.world_vector", "action.rotation_delta", "action.gripper"] }
    declare = { action = { rotation = "rotvec" } }
    actions = "physical"             # or "controller", or a preset of docs/conventions.md
    base = [0.5, 0, 0.8, 0, 0, 0, 1] # pose of the robot's base, for actions of another frame

    [all]                            # what all go through after that
    robot = "panda"
    fps = 10                         # resampled, where a source has another rate
    drop = ["next.discount"]
    fill = { "observation.images.wrist" = { shape = [128, 128, 3], dtype = "image" } }

In one table, the order is: join, declare, actions, rename, keep and drop, fill, fps. Unknown keys are refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vla_data.core import Episode, Schema, Source
from vla_data.core.base import narrowed
from vla_data.core.curate import Step, describe
from vla_data.errors import DataError, RefusedError, UsageError, VlaDataError
from vla_data.formats import open_source, parse_address
from vla_data.safety.files import read_config
from vla_data.safety.text import show
from vla_data.selection.keys import of_source
from vla_data.selection.merged import Member, MergedSource
from vla_data.steps.actions import ConvertActions, reads_actions
from vla_data.steps.features import Declare, Fill, Rename, SelectFeatures
from vla_data.steps.join import Join
from vla_data.steps.resample import Resample

_COMMON: Final = ("declare", "join", "robot", "actions", "base", "rename", "keep", "drop", "fill", "fps")
_SOURCE: Final = ("name", "open", *_COMMON)


def merged(addresses: Sequence[str], mapping: Path | None = None) -> MergedSource:
    """The sources at ``addresses`` as one, by the mapping in a TOML file, if there is one.

    Raises:
        UsageError: E001 for a mapping that is none; else as `vla_data.open_source`.
    """
    facts = _load(mapping) if mapping is not None else {}
    tables = facts.get("source", [{}] * len(addresses))
    if not isinstance(tables, list) or len(tables) != len(addresses):
        raise UsageError("E001", f"the mapping has {_count(tables)} [[source]] for {len(addresses)} sources")
    everything = _table(facts.get("all", {}), "[all]", _COMMON)
    members = []
    for address, given in zip(addresses, tables, strict=True):
        name = parse_address(address)[1].resolve().name
        with of_source(str(given.get("name", name)) if isinstance(given, dict) else name):
            table = _table(given, "[[source]]", _SOURCE)
            source = open_source(address, **_table(table.get("open", {}), "open", None))
            own = table_steps(table, source, ())
            steps = (*own, *table_steps(everything, source, own))
        members.append(Member(str(table.get("name", name)), source, steps))
    return MergedSource(tuple(members))


def table_steps(table: Mapping[str, Any], source: Source, before: Sequence[Step]) -> tuple[Step, ...]:
    """The steps that a table asks for.

    Args:
        table: with keys of a mapping.
        source: whose episodes they are for; it is read as far as its schema needs.
        before: steps that come first.
    """
    steps: list[Step] = []
    try:
        naming = _naming(table)
        steps += [Join(name=name, parts=tuple(parts)) for name, parts in table.get("join", {}).items()]
        if table.get("declare") or table.get("robot"):
            declared = tuple((name, tuple(facts.items())) for name, facts in table.get("declare", {}).items())
            steps.append(Declare(conventions=declared, robot=table.get("robot")))
        if table.get("actions"):
            seen = narrowed(source, (*before, *steps, _ReadsActions(), *naming))
            schema = describe(schema_of(seen), (*before, *steps))
            steps.append(ConvertActions.to(schema, table["actions"], base=table.get("base")))
        elif table.get("base") is not None:
            raise UsageError("E001", "base is used to convert actions only; give actions, too")
        steps += naming
        if table.get("fps") is not None:
            schema = describe(schema_of(narrowed(source, (*before, *steps))), (*before, *steps))
            if schema.fps != table["fps"]:
                conventions = {name: dict(feature.convention) for name, feature in schema.features.items()}
                steps.append(Resample(conventions=conventions, source_fps=schema.fps, fps=table["fps"]))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UsageError("E001", f"the mapping: {show(error, escaped=True)}") from None
    return tuple(steps)


class _ReadsActions:
    """Stands where actions will be converted, before it is known from what."""

    needs = staticmethod(reads_actions)
    becomes = staticmethod(str)


def _naming(table: Mapping[str, Any]) -> list[Step]:
    """The steps that need no schema: which features there are and what they are called."""
    steps: list[Step] = []
    if table.get("rename"):
        steps.append(Rename(names=tuple(table["rename"].items())))
    if table.get("keep") or table.get("drop"):
        steps.append(SelectFeatures(keep=tuple(table.get("keep", ())), drop=tuple(table.get("drop", ()))))
    for name, facts in table.get("fill", {}).items():
        steps.append(Fill(name=name, **{**facts, "shape": tuple(facts["shape"])}))
    return steps


def schema_of(source: Source) -> Schema:
    """The schema of `first_of` a source, which may raise."""
    first = first_of(source)
    return source.schema(first)


def first_of(source: Source) -> Episode:
    """The first episode of a source that can be read.

    Raises:
        VlaDataError: E003 without episodes; where none can be read, what is wrong with the first one, by its code.
    """
    first: VlaDataError | None = None
    for ref in source.episodes():
        try:
            return source.read(ref)
        except DataError as error:
            first = first or unreadable(ref.id, error)
    raise first or UsageError("E003", "the source has no episode")


def unreadable(episode: str, error: DataError) -> VlaDataError:
    """The refusal of a source of which no episode can be read, by what is wrong with the first: of what nobody
    declared, as of a wrong call.
    """
    kind = UsageError if error.code in ("E211", "E231") else RefusedError
    return kind(error.code, f"no episode can be read; the first, {show(episode)}: {error.message}")


def _load(path: Path) -> Mapping[str, Any]:
    try:
        return _table(tomllib.loads(read_config(path).decode()), str(path), ("source", "all"))
    except (ValueError, RecursionError) as error:  # also of numbers of very many digits
        raise UsageError("E001", f"{show(path)} is not TOML: {show(error, escaped=True)}") from None


def _table(value: Any, name: str, known: Sequence[str] | None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError("E001", f"{show(name)} of the mapping is not a table")
    for key in value if known is not None else ():
        if key not in (known or ()):
            may = ", ".join(known or ())
            raise UsageError("E001", f"{show(name)} of the mapping has {show(key)}; it may have {may}")
    return value


def _count(value: Any) -> str:
    return f"{len(value)}" if isinstance(value, list) else "a wrong kind of"

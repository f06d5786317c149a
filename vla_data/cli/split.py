"""``vla-data split``."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Final

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.conversion import reading_options, source_of
from vla_data.cli.help import Grouped
from vla_data.cli.options import dry_run_option, result_options
from vla_data.cli.types import Local, Number
from vla_data.core import Source
from vla_data.core.unneeded import FACTS
from vla_data.errors import UsageError
from vla_data.formats import parse_address
from vla_data.safety.text import show
from vla_data.selection.exports import (
    episode_numbers,
    lerobot_argument,
    write_episode_list,
    write_json,
    write_keep_ranges,
    write_masks,
)
from vla_data.selection.splits import NAMES, Split, known_contents, split

_MASKS: Final = {"train": "train", "val": "valid", "test": "test"}
"""robomimic's own names of filter keys."""


@click.command("split", cls=Grouped)
@click.argument("source")
@click.option("--by", default="episode", show_default=True, help="episode, task, scene, seed, or a metadata key.")
@click.option("--val", type=Number(0, 1), default=0.1, show_default=True, help="Share of the groups for val.")
@click.option("--test", type=Number(0, 1), default=0.0, show_default=True, help="Share of the groups for test.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another one, another split.")
@click.option(
    "--to",
    "to",
    type=click.Choice(["json", "masks", "episode-list", "keep-ranges"]),
    default="json",
    show_default=True,
    help="What --output gets: all lists, filter keys of an HDF5 file, LeRobot's numbers, openpi's ranges.",
)
@click.option("-o", "--output", type=Local(), help="Write a file. Masks: SOURCE or a new file.")
@click.option("--part", type=click.Choice(NAMES), help="The split to write.  [default: all; keep-ranges: train]")
@click.option("--replace", is_flag=True, help="Write over an existing file or mask.")
@reading_options
@dry_run_option
@result_options
def command(
    source: str,
    by: str,
    val: float,
    test: float,
    seed: int,
    to: str,
    output: Path | None,
    part: str | None,
    replace: bool,
    dry_run: bool,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Divide the episodes of SOURCE into train, val and test, by a stable hash of the group that each is in.

    A group is never in two splits, and episodes that are added later move no others. Nothing is copied.
    """
    path = parse_address(source)[1]
    reader = source_of(source, options, unneeded=[fact for fact in FACTS if fact != by])
    found = split(reader, by=by, val=val, test=test, seed=seed, contents=known_contents(path))
    facts: dict[str, Any] = {}
    if output is not None:
        if part is not None and part not in found.names:
            raise UsageError("E001", f"there is no split {part}; give it a share")
        told = {"replace": replace, "dry_run": dry_run}
        facts = _write(found, reader, path, output, to=to, part=part, told=told)
    if as_json:
        dry = {"dry_run": True} if dry_run else {}
        print_json({**found.to_json(), **({"output": facts} if facts else {}), **dry})
        return
    emit(str(found))
    for line in found.warnings:
        say(f"warning: {line}")
    if to == "episode-list":
        for name in found.names if part is None else (part,):
            if found.ids(name):
                emit(f"\n  {name}: {lerobot_argument(episode_numbers(found.ids(name)))}")
    if output is not None:
        emit(f"\n  {'Dry run: not written' if dry_run else 'Written'}: {show(output)}")
        if facts.get("not_success"):
            say(
                f"warning: openpi's loader skips {facts['not_success']:,} of them: no 'success' in their file_path"
            )


def _write(
    found: Split, reader: Source, path: Path, output: Path, *, to: str, part: str | None, told: dict[str, bool]
) -> dict[str, Any]:
    """Write one file, or in a dry run only refuse what can't be written; returns what is in it."""
    names = found.names if part is None else (part,)
    if to == "masks":
        masks = {_MASKS[name]: [_demo(id_) for id_ in found.ids(name)] for name in names}
        if not path.is_file():
            raise UsageError("E001", f"masks are written into an HDF5 file; {show(path)} is not one")
        return write_masks(path, masks, output, **told)
    if to == "keep-ranges":
        ids = set(found.ids(part or "train"))
        return write_keep_ranges(reader, output, only=ids, **told)
    if to == "episode-list" and part is not None:
        return write_episode_list(found.ids(part), output, **told)
    if to == "episode-list":
        lists = {name: episode_numbers(found.ids(name)) for name in names if found.ids(name)}
        write_json(lists, output, **told)
        return {"episodes": {name: len(numbers) for name, numbers in lists.items()}}
    value = found.to_json() if part is None else found.to_json()["splits"][part]
    write_json(value, output, **told)
    return {"splits": list(names)}


def _demo(name: str) -> str:
    """The demo of an HDF5 source's id, which ends in its name."""
    return PurePosixPath(name).name.rpartition(":")[2]

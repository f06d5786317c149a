"""``vla-data stats``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.conversion import reading_options, source_of
from vla_data.cli.help import Grouped
from vla_data.cli.options import choice, dry_run_option, result_options, stack
from vla_data.cli.types import FOLDER, Output, TrainerName
from vla_data.core import Source
from vla_data.core.base import paths_of
from vla_data.core.unneeded import NUMBERS
from vla_data.errors import TargetExistsError, UsageError
from vla_data.files.result import write_result
from vla_data.safety.text import show
from vla_data.selection.subset import Selection, parse_positions
from vla_data.statistics.chunks import parse_mask
from vla_data.statistics.make import Statistics, dataset_name, has_array, image_stats, make
from vla_data.statistics.modality import groups as modality_groups
from vla_data.statistics.trainers import writer

_STATE = "observation.state"
_WIDTH = 80
_PI0_HORIZON = 50
"""``Pi0Config.action_horizon`` of openpi; its configurations for LIBERO, DROID and FAST have others."""


trainer_options = stack(
    click.option("--action", help="Array of actions.  [default: action]"),
    click.option("--state", help="Array of states.  [default: observation.state]"),
    click.option(
        "--action-mask", metavar="N,-N,...", help="openvla, octo: elements to normalise; 6,-1: the first six."
    ),
    click.option("--flat", is_flag=True, default=None, help="openvla, octo: one entry without its name."),
    click.option(
        "--action-horizon",
        type=click.IntRange(1),
        help="openpi, gr00t: actions in a chunk.  [default for openpi: 50]",
    ),
    click.option(
        "--delta-actions", metavar="N,-N,...", help="openpi: elements of an action relative to the state."
    ),
    choice("--padding", ["repeat", "none"], help="openpi: chunks beyond an episode's end."),
    click.option("--relative", multiple=True, metavar="GROUP", help="gr00t: relative_stats.json of these groups."),
    click.option("--slots", metavar="N,N-N,...", help="rdt: the slot, 0 to 127, of each element of the state."),
    choice("--std", ["rdt", "true"], help="rdt: its own std, or the real one.  [default: rdt]"),
    click.option(
        "--trim", is_flag=True, default=None, help="rdt: leave out short episodes and still starts, as it does."
    ),
)

_OPTIONS = (
    "action",
    "state",
    "action_mask",
    "flat",
    "action_horizon",
    "delta_actions",
    "padding",
    "relative",
    "slots",
    "std",
    "trim",
)


@click.command("stats", cls=Grouped)
@click.argument("sources", nargs=-1, required=True)
@click.option("--format", "trainer", type=TrainerName("stats"), required=True, help="Whose file it is.")
@click.option("--output", type=Output(), help="A file, or a folder for the usual name.")
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
@click.option(
    "--name", "names", multiple=True, help="The dataset's name, one for each source.  [default: its folder's]"
)
@click.option(
    "--weights", metavar="W,W,...", help="One entry, of the mixture that draws SOURCES by these weights."
)
@click.option(
    "--memory", type=click.IntRange(1), default=512, show_default=True, help="MiB of values kept in memory."
)
@trainer_options
@reading_options
@dry_run_option
@result_options
def command(
    sources: tuple[str, ...],
    trainer: str,
    output: Path | None,
    replace: bool,
    names: tuple[str, ...],
    weights: str | None,
    memory: int,
    dry_run: bool,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write the normalisation statistics of SOURCES as a trainer's own file; no image is decoded.

    Every step that SOURCES hold counts once, so give what you train on: the published dataset. Several sources get
    an entry each where the trainer's file has entries, and are taken together where it has not.
    """
    wanted = {key: options.pop(key) for key in _OPTIONS}
    wanted = {key: value for key, value in wanted.items() if value not in (None, ())}
    opened = _open(sources, names, options)
    _complete(wanted, trainer, opened)
    if output is not None and (output.is_dir() or click.get_current_context().meta.get(FOLDER)):
        output = output / writer(trainer, **wanted).file
    if output is not None and output.exists() and not replace:
        raise TargetExistsError("E411", f"{show(output)} exists; --replace replaces it")
    shares = None if weights is None else _numbers(weights)
    made = make(
        opened,
        writer(trainer, **wanted),
        weights=shares,
        name=names[0] if names and shares else "mixture",
        memory=memory << 20,
    )
    if dry_run and output is not None:
        size = len(made.text.encode()) + 1
        say(f"dry run: nothing is written; {show(output)} would have {size:,} bytes")
        output = None
    _tell(made, trainer, wanted, output, replace=replace, as_json=as_json)
    if not made.complete:
        raise click.exceptions.Exit(3)


def _open(addresses: tuple[str, ...], names: tuple[str, ...], options: Mapping[str, Any]) -> dict[str, Source]:
    if len(addresses) > 1 and options["episodes"] is not None:
        raise UsageError("E001", "--episodes works with one source only")
    sources = [source_of(address, dict(options), unneeded=NUMBERS) for address in addresses]
    if names and len(names) not in (1, len(sources)):
        raise UsageError("E001", f"{len(sources)} sources need as many names")
    found = list(names) if len(names) == len(sources) else [dataset_name(_root(source)) for source in sources]
    if len(set(found)) != len(found):
        raise UsageError("E001", f"two sources have one name; give each its own with --name: {', '.join(found)}")
    return dict(zip(found, sources, strict=True))


def _complete(wanted: dict[str, Any], trainer: str, sources: Mapping[str, Source]) -> None:
    """Parse options, and add what the sources say."""
    for key in ("action_mask", "delta_actions"):
        if key in wanted:
            wanted[key] = parse_mask(wanted[key])
    if "slots" in wanted:
        wanted["slots"] = parse_positions(wanted["slots"])
    if trainer in ("openvla", "octo") and "state" not in wanted:
        have = {has_array(source, _STATE) for source in sources.values()}
        if len(have) == 2:
            raise UsageError("E001", f"some sources have {_STATE} and some do not; name the state with --state")
        if have == {True}:
            wanted["state"] = _STATE
    if trainer == "openpi" and "action_horizon" not in wanted:
        wanted["action_horizon"] = _PI0_HORIZON
        _remark(f"warning: chunks of {_PI0_HORIZON} actions, as pi0's and pi05's; --action-horizon is for others")
    if trainer == "gr00t" and "relative" in wanted:
        wanted |= _groups(wanted, sources)
    if trainer == "lerobot" and len(sources) == 1:
        source = next(iter(sources.values()))
        if not isinstance(source, Selection) and (_root(source) / "meta/info.json").is_file():
            wanted["images"] = image_stats(_root(source))


def _groups(wanted: Mapping[str, Any], sources: Mapping[str, Source]) -> dict[str, Any]:
    """Ranges and arrays of the groups that GR00T's ``modality.json`` has; all sources have the same."""
    found = [modality_groups(_root(source)) for source in sources.values()]
    for name in wanted["relative"]:
        if name in found[0]:
            found[0][name].refuse_relative(name)
        if any(other.get(name) != found[0].get(name) for other in found[1:]):
            raise UsageError("E005", f"group {show(name)} of meta/modality.json differs between the sources")
    named = {"state": wanted.get("state"), "action": wanted.get("action")}
    columns = {
        name: (named["state"] or group.state.column, named["action"] or group.action.column)
        for name, group in found[0].items()
    }
    return {"groups": {name: (g.state.range, g.action.range) for name, g in found[0].items()}, "columns": columns}


def _root(source: Source) -> Path:
    return next(iter(paths_of(source)), Path())


def _numbers(text: str) -> list[float]:
    try:
        return [float(piece) for piece in text.split(",")]
    except ValueError:
        raise UsageError("E001", f"{show(text)} is not a list of weights like 1,0.5") from None


def _tell(
    made: Statistics, trainer: str, wanted: Mapping[str, Any], output: Path | None, *, replace: bool, as_json: bool
) -> None:
    if output is not None:
        write_result(output, (made.text + "\n").encode(), "the statistics", replace=replace)
    if as_json:
        print_json({"format": trainer, "output": None if output is None else str(output), **made.to_json()})
    elif output is None:
        emit(made.text)
    else:
        episodes = sum(summary.episodes for summary in made.datasets.values())
        steps = sum(summary.steps for summary in made.datasets.values())
        emit(f"{show(output)}: statistics of {episodes:,} episodes, {steps:,} steps")
    for summary in made.datasets.values():
        for left in summary.left_out:
            say(f"{left.code}: {show(left.id)}: {show(left.message)} (left out)")
        if summary.too_wide:
            _remark(f"note: too many elements a step, left out: {show(', '.join(summary.too_wide))}")
    if trainer == "lerobot" and not wanted.get("images"):
        _remark("note: there are no statistics of images, which are not decoded here")
    for finding in made.findings:
        _remark(f"warning: {show(finding.message)}")


def _remark(text: str) -> None:
    """A warning or a note, at most 80 columns wide with ``say``'s own words; an error stays one line."""
    width = _WIDTH - len("vla-data: ")
    for line in textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False):
        say(line)

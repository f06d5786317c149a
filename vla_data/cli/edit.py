"""``vla-data edit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.options import run_options, settings
from vla_data.cli.types import Target
from vla_data.core import Source
from vla_data.core.base import whole
from vla_data.errors import UsageError
from vla_data.formats import find, open_sink, open_source
from vla_data.jobs.manifest import is_made_of
from vla_data.jobs.rehearsal import Rehearsal, rehearse
from vla_data.jobs.report import Report
from vla_data.jobs.run import run
from vla_data.safety.text import show
from vla_data.selection.edits import edits


@click.command("edit")
@click.argument("dataset")
@click.argument("out", type=Target())
@click.option("--drop", metavar="LIST", help="Leave these episodes out, by position, for example 0,3,5-9.")
@click.option("--keep", metavar="LIST", help="Keep these alone.")
@click.option(
    "--trim",
    multiple=True,
    metavar="EPISODE:FIRST-LAST",
    help="Keep these steps of an episode, as 5:0-40 or 5:10-.",
)
@click.option("--split", multiple=True, metavar="NAME=LIST", help="A dataset OUT/NAME of these; may be repeated.")
@click.option(
    "--version", type=click.Choice(["v3.0", "v2.1"]), default="v3.0", show_default=True, help="LeRobot's."
)
@run_options
def command(
    dataset: str,
    out: Path | str,
    drop: str | None,
    keep: str | None,
    trim: tuple[str, ...],
    split: tuple[str, ...],
    version: str,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make OUT of the LeRobot dataset DATASET without some of its episodes or steps.

    Video is not encoded again: packets are copied where that gives the same frames. Only what comes before the
    first key frame of a trimmed episode is encoded, and said so. DATASET stays as it is.
    """
    if find(dataset)[0] != "lerobot":
        raise UsageError("E002", f"{show(dataset)} is no LeRobot dataset; `vla-data convert` makes one of it")
    reader = open_source(dataset)
    parts = edits(reader, drop=drop, keep=keep, trim=trim, split=split)
    told: dict[str, Report | Rehearsal | None] = {}
    for name, (source, steps) in parts.items():
        sink = open_sink(_below(out, name), format="lerobot", **_kept(reader, version))
        if options["dry_run"]:
            told[name] = rehearse(source, steps, sink, replace=options["replace"], max_bad=options["max_bad"])
        elif name and not options["replace"] and is_made_of(source, steps, sink):
            told[name] = None
        else:
            told[name] = run(source, steps, sink, **settings(options, quiet=as_json))
    if as_json:
        facts = {name: _facts(outcome) for name, outcome in told.items()}
        print_json({"datasets": facts} if split else facts[""])
    else:
        for name, outcome in told.items():
            _show(outcome, _below(out, name))
    if code := max(outcome.exit_code if outcome is not None else 0 for outcome in told.values()):
        raise click.exceptions.Exit(code)


def _facts(outcome: Report | Rehearsal | None) -> dict[str, Any]:
    return {"published": "earlier"} if outcome is None else outcome.to_json()


def _show(outcome: Report | Rehearsal | None, where: Path | str) -> None:
    if outcome is None:
        emit(f"  {show(where)} is there already, of the same episodes")
        return
    emit(str(outcome))
    if isinstance(outcome, Report):
        for line in outcome.warnings:
            say(f"warning: {line}")
        emit(f"\n  Dataset: {show(where)}")


def _below(out: Path | str, name: str) -> Path | str:
    """The place of a dataset; the only one has no name."""
    if not name:
        return out
    return f"{out.rstrip('/')}/{name}" if isinstance(out, str) else out / name


def _kept(source: Source, version: str) -> dict[str, Any]:
    """Options of a sink that changes neither images nor videos."""
    return {"images": "keep", "version": version, "video": whole(source).videos()}

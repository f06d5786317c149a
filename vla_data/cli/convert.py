"""``vla-data convert``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit, print_json
from vla_data.cli.conversion import (
    SELECTIONS,
    TARGETS,
    check_gates,
    feature_options,
    gate_option,
    pass_gates,
    reading_options,
    show_gates,
    sink_of,
    source_of,
    steps_of,
    write_selection,
    writing_options,
)
from vla_data.cli.filtering import chosen, filter_option, filtered
from vla_data.cli.help import Grouped
from vla_data.cli.options import (
    engine_option,
    image_options,
    run_options,
    settings,
    show_rehearsal,
    show_report,
)
from vla_data.cli.types import FormatName, Target
from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.formats import beside, find
from vla_data.jobs.run import run
from vla_data.remote.address import local
from vla_data.safety.text import show


@click.command("convert", cls=Grouped)
@click.argument("source")
@click.argument("target", type=Target())
@click.option("--to", "to", type=FormatName([*TARGETS, *SELECTIONS]), default="lerobot", show_default=True)
@reading_options
@feature_options
@filter_option
@image_options
@writing_options
@gate_option
@run_options
@engine_option
def command(
    source: str, target: Path | str, to: str, gates: tuple[str, ...], debug: bool, as_json: bool, **options: Any
) -> None:
    """Convert SOURCE to another format, with every frame and nothing curated.

    SOURCE is a folder of rollouts, a LeRobot or RLDS dataset, or HDF5 files, and may name its format, as in
    lerobot:PATH. Images that are JPEG already stay as they are. A class of your own reads as
    module:Class:PATH or file.py:Class:PATH, and writes as --to module:Class or file.py:Class.
    """
    check_gates(gates, to)
    reader = source_of(source, options)
    steps = steps_of(reader, options)
    if to in SELECTIONS:
        if steps:
            raise UsageError("E001", f"--to {to} only names episodes and frames; it changes no features")
        reader = chosen(reader, options)
        told = {name: options[name] for name in ("replace", "dry_run")}
        facts = write_selection(reader, source, local(target), to, **told)
        if as_json:
            print_json({"target": str(target), **facts, **({"dry_run": True} if options["dry_run"] else {})})
        else:
            dry = "Dry run: nothing is written; " if options["dry_run"] else ""
            emit(f"  {dry}{facts['episodes']:,} episodes: {show(target)}")
        return
    sink = sink_of(target, to, options, reader, steps)
    steps = filtered(reader, steps, options)
    name, place = find(source)
    others = beside(place, name) if isinstance(place, Path) else ()
    if options["dry_run"]:
        show_rehearsal(reader, steps, sink, options, as_json=as_json, warnings=others, gates=gates)
        return
    seen: dict[str, Json] = {}
    check = (lambda folder: seen.update(pass_gates(folder, gates))) if gates else None
    report = run(reader, steps, sink, before_publishing=check, **settings(options, quiet=as_json))
    report = replace(report, warnings=(*others, *report.warnings))
    if not as_json:
        show_gates(seen)
    show_report(report, as_json=as_json, where=target, extra={"gates": seen} if gates else None)

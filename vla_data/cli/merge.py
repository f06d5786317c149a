"""``vla-data merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vla_data.cli.conversion import TARGETS, sink_of, writing_options
from vla_data.cli.options import Local, Target, image_options, run_options, settings, show_report
from vla_data.mapping import merged
from vla_data.pipeline import run


@click.command("merge")
@click.argument("target", type=Target())
@click.argument("sources", nargs=-1, required=True)
@click.option("--map", "mapping", type=Local(), help="TOML file: how they become alike.")
@click.option("--to", "to", type=click.Choice(TARGETS), default="lerobot", show_default=True)
@image_options
@writing_options
@run_options
def command(
    target: Path | str,
    sources: tuple[str, ...],
    mapping: Path | None,
    to: str,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make one dataset, TARGET, of all episodes of SOURCES, in any formats.

    Features, sizes, rates and conventions must be the same once the mapping is applied; what differs is named.
    """
    sink = sink_of(target, to, options)
    report = run(merged(sources, mapping), (), sink, **settings(options, quiet=as_json))
    show_report(report, as_json=as_json, where=target)

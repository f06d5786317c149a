"""``vla-data align``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vla_data.cli.copying import as_video
from vla_data.cli.curation import curation, curation_options
from vla_data.cli.help import Grouped
from vla_data.cli.options import (
    changed,
    image_options,
    lerobot_options,
    settings,
    show_rehearsal,
    show_report,
)
from vla_data.cli.types import Target
from vla_data.formats import load_builder, open_sink
from vla_data.jobs.run import run


@click.command("align", cls=Grouped)
@click.argument("rollouts")
@click.argument("out", type=Target())
@image_options
@curation_options
@click.pass_context
def command(
    ctx: click.Context, /, rollouts: str, out: Path | str, debug: bool, as_json: bool, **options: Any
) -> None:
    """Turn the ROLLOUTS of a folder into the LeRobot v3.0 dataset OUT.

    Solved episodes are kept up to their success, without idle steps; every source frame is accounted for. ROLLOUTS
    may also be HDF5 files or an RLDS dataset, and name their format, as in hdf5:PATH. A LeRobot dataset is taken
    as it is, unless an option of the recipe is given.
    """
    builder = load_builder("ppo_sft_aligned")
    definition = builder(changed(ctx, builder.OPTIONS))
    images = lerobot_options(options)
    open_sink(out, format="lerobot", **images)  # refuses what can't be, before any work
    found = curation(ctx, rollouts, options, definition, outcomes=True)
    sink = open_sink(out, format="lerobot", **as_video(images, found.source, found.steps))
    if options["dry_run"]:
        show_rehearsal(found.source, found.steps, sink, options, as_json=as_json, warnings=found.warnings)
        return
    report = run(found.source, found.steps, sink, **settings(options, quiet=as_json))
    report = replace(report, warnings=(*found.warnings, *report.warnings))
    show_report(report, as_json=as_json, where=out)

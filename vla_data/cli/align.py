"""``vla-data align``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vla_data.cli.options import (
    changed,
    engine_option,
    image_options,
    lerobot_options,
    recipe_options,
    run_options,
    settings,
    show_report,
    source_options,
)
from vla_data.cli.types import Target
from vla_data.formats import load_builder, locate, open_sink
from vla_data.jobs.run import run


@click.command("align")
@click.argument("rollouts")
@click.argument("out", type=Target())
@image_options
@recipe_options
@source_options
@run_options
@engine_option
@click.pass_context
def command(
    ctx: click.Context, /, rollouts: str, out: Path | str, debug: bool, as_json: bool, **options: Any
) -> None:
    """Turn the ROLLOUTS of a folder into the LeRobot v3.0 dataset OUT.

    Solved episodes are kept up to their success, without idle steps; every source frame is accounted for.
    """
    folder = locate(rollouts)
    builder = load_builder("ppo_sft_aligned")
    definition = builder.Definition(changed(ctx, builder.OPTIONS))
    source = definition.source(folder, max_episodes=options["max_episodes"], outcomes=True)
    steps = definition.steps(folder)
    sink = open_sink(out, format="lerobot", **lerobot_options(options))
    report = run(source, steps, sink, **settings(options, quiet=as_json))
    show_report(report, as_json=as_json, where=out)

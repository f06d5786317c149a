"""``vla-data convert``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from vla_data.cli.options import RUN, image_options, lerobot_options, run_options, show_report, watch
from vla_data.core import Source
from vla_data.formats import open_sink, open_source
from vla_data.pipeline import run
from vla_data.selection import Selection, parse_positions


@click.command("convert")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--to", "to", type=click.Choice(["lerobot", "rlds"]), default="lerobot", show_default=True)
@click.option("--episodes", help="Only these, by position, for example 0,3,5-9.")
@image_options
@run_options
def command(
    source: str, target: Path, to: str, episodes: str | None, debug: bool, as_json: bool, **options: Any
) -> None:
    """Convert SOURCE to another format, with every frame and nothing curated.

    SOURCE is a folder of rollouts or a LeRobot dataset, and may name its format, as in lerobot:PATH. Images that
    are JPEG already stay as they are.
    """
    reader: Source = open_source(source)
    if episodes is not None:
        reader = Selection(reader, parse_positions(episodes))
    images = lerobot_options(options)
    if to == "lerobot":
        sink = open_sink(target, format="lerobot", **images)
    else:
        name = re.sub(r"\W+", "_", target.resolve().name.lower()).strip("_") or "dataset"
        sink = open_sink(target, format="rlds", name=name, step_fields="rlds")
    report = run(reader, (), sink, **{key: options[key] for key in RUN}, **watch(quiet=as_json))
    show_report(report, as_json=as_json, where=target)

"""``vla-data build``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit
from vla_data.cli.curation import curation, curation_options
from vla_data.cli.help import Grouped
from vla_data.cli.options import (
    RECIPE,
    changed,
    choice,
    settings,
    show_rehearsal,
    show_report,
)
from vla_data.cli.types import Number, Target
from vla_data.errors import UsageError
from vla_data.formats import load_builder, load_trainer
from vla_data.safety.text import show


@click.command("build", cls=Grouped)
@click.argument("name")
@click.option("--input", "rollouts", required=True, help="Folder of rollouts.")
@click.option("--data-dir", type=Target(), required=True, help="TFDS data directory.")
@choice(
    "--step-fields",
    ["rl4vla", "rlds"],
    default="rl4vla",
    help="RL4VLA's three, or all of RLDS (is_first, is_last, is_terminal, reward, discount).",
)
@choice(
    "--metadata",
    ["full", "rl4vla"],
    default="full",
    help="Four fields of episode_metadata, or file_path alone as in RL4VLA's own sets.",
)
@click.option("--val-fraction", type=Number(0, 1, max_open=True), default=0.05, show_default=True)
@click.option("--num-shards", type=click.IntRange(1), help="Shards a split.  [default: by size]")
@click.option("--test", is_flag=True, help="Read the result back with stock TFDS and check it.")
@curation_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    name: str,
    rollouts: str,
    data_dir: Path | str,
    num_shards: int | None,
    test: bool,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Build the TFDS dataset NAME, for example ppo_sft_aligned.

    Does it all: reads, curates, writes, reads back what was written, and publishes in one step. The result
    is that of ``tfds build``, and needs no TensorFlow. --input may also be HDF5 files or an RLDS dataset, and
    name its format, as in hdf5:PATH. A LeRobot dataset is taken as it is, unless an option of the recipe is given.
    """
    builder = load_builder(name)
    for option in sorted(changed(ctx, dict.fromkeys(RECIPE)).keys() - builder.OPTIONS.keys()):
        raise UsageError(
            "E001", f"--{option.replace('_', '-')} is no option of {show(name)}, whose recipe lacks it"
        )
    definition = builder(changed(ctx, builder.OPTIONS))
    target = definition.place(data_dir)
    found = curation(ctx, rollouts, options, definition)
    if options["dry_run"]:
        sink = definition.sink_at(target, num_shards=num_shards)
        gates = ("tfds",) if test else ()
        show_rehearsal(
            found.source, found.steps, sink, options, as_json=as_json, warnings=found.warnings, gates=gates
        )
        return
    extra: dict[str, Any] = {}
    if test:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # reading back has no use for a GPU
        gate = load_trainer("tfds", "gate")
    report = definition.build(
        found.folder,
        target,
        curated=(found.source, found.steps),
        num_shards=num_shards,
        before_publishing=(lambda folder: extra.update(test=gate.read_back(folder))) if test else None,
        **settings(options, quiet=as_json),
    )
    if test and not as_json:
        emit("\n".join(extra["test"]["lines"]) + "\n")
    report = replace(report, warnings=(*found.warnings, *report.warnings))
    show_report(report, as_json=as_json, where=target, extra=extra)

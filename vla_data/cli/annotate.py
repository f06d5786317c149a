"""``vla-data annotate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.help import Grouped
from vla_data.cli.options import choice, dry_run_option, result_options, watch
from vla_data.cli.types import Local, Number, TrainerName
from vla_data.errors import UsageError, VlaDataError


class Normalizer(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A whole number of steps, or ``per-task``."""

    name = "steps|per-task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """See `click.ParamType`."""
        if value == "per-task":
            return "per-task"
        return click.IntRange(1).convert(value, param, ctx)


@click.command("annotate", cls=Grouped)
@click.argument("dataset", type=Local())
@click.option("--values", type=Local(), help="Parquet: episode_index, frame_index, value.")
@click.option("--value-fn", metavar="MODULE:FUNCTION", help="Called with batches of frames; returns their values.")
@click.option("--value-model", type=Local(), help="The model's file or folder, for its SHA-256.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Frames a call.")
@click.option("--tag", help="A name for this annotation.")
@click.option("--n-step", type=click.IntRange(1), help="Steps looked ahead.  [default: 50]")
@click.option("--monte-carlo", is_flag=True, help="Look ahead to the end of the episode.")
@click.option("--c-neg", type=click.IntRange(max=0), default=-1000, show_default=True, help="Cost of a failure.")
@click.option(
    "--normalizer",
    type=Normalizer(),
    default="1600",
    show_default=True,
    help="What returns are divided by, in steps; per-task: the least that each task needs.",
)
@click.option("--positive-share", type=Number(0, 1), help="Label this share of the frames positive.")
@click.option("--epsilon", type=Number(), help="Label advantages at or above this positive.")
@choice("--op", [">=", ">"], default=">=", help="What is positive.")
@click.option("--per-task", is_flag=True, help="The share holds in each task.")
@click.option("--force-positive", metavar="COLUMN", help="Frames whose flag is set are positive: corrections.")
@click.option(
    "--success",
    default="auto",
    show_default=True,
    metavar="RULE",
    help="Where episodes say whether they succeeded: auto, ledger, episodes:COLUMN, frames:COLUMN.",
)
@choice(
    "--unlabelled",
    ["error", "failure", "success"],
    default="error",
    help="What an episode counts as that does not say.",
)
@click.option("--layout", type=TrainerName("advantages"), help="Also write it as this project stores it.")
@click.option("--copy-to", type=Local(), help="Where a layout's copy goes.  [default: DATASET-TAG]")
@click.option("--replace", is_flag=True, help="Overwrite an annotation of this name, and files of that layout.")
@click.option("--read", "read_layout", type=TrainerName("advantages", "sidecar"), help="Only say what is there.")
@dry_run_option
@result_options
def command(dataset: Path, read_layout: str | None, as_json: bool, debug: bool, **options: Any) -> None:
    """Compute RECAP advantages for every frame of the LeRobot DATASET, from a critic's values.

    They go to meta/vla_data/advantages/TAG.parquet, and with --layout also where another project looks for them.
    The dataset's own files stay as they are. Every frame must have exactly one value.

    With --read, nothing is written: it says whether every frame of the dataset has its advantage in the files that
    are there, and fails if not.
    """
    del debug
    if read_layout is not None:
        _show(dataset, read_layout, options["tag"], as_json=as_json)
        return
    from vla_data.advantages import FunctionValues, Labels, Recap, annotate

    if options["tag"] is None:
        raise UsageError("E001", "an annotation needs a name: give --tag")
    if (options["values"] is None) == (options["value_fn"] is None):
        raise UsageError("E001", "give --values or --value-fn, one of them")
    if options["monte_carlo"] and options["n_step"] is not None:
        raise UsageError("E001", "give --monte-carlo or --n-step, not both")
    model = options["value_model"]
    try:
        rules = Recap(
            c_neg=options["c_neg"],
            normalizer=options["normalizer"],
            n=None if options["monte_carlo"] else options["n_step"] or 50,
        )
        labels = Labels(
            share=options["positive_share"],
            epsilon=options["epsilon"],
            op=options["op"],
            per_task=options["per_task"],
        )
    except ValueError as error:
        raise UsageError("E001", str(error)) from None
    function = options["value_fn"]
    values = (
        options["values"]
        if function is None
        else FunctionValues(function=function, batch_size=options["batch_size"], model=model)
    )
    done = annotate(
        dataset,
        tag=options["tag"],
        values=values,
        value_model=model,
        rules=rules,
        labels=labels,
        success=options["success"],
        unlabelled=options["unlabelled"],
        force_positive=options["force_positive"],
        layout=options["layout"],
        copy_to=options["copy_to"],
        replace=options["replace"],
        on_progress=watch(quiet=as_json, unit="frames").get("on_progress"),
        dry_run=options["dry_run"],
    )
    for warning in done.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json(done.to_json())
        return
    emit(str(done))
    for name in done.files:
        emit(f"{'would write' if options['dry_run'] else 'wrote'}: {name}")
    if done.copy is not None:
        emit(f"copied with its columns to: {done.copy}")


def _show(dataset: Path, layout: str, tag: str | None, *, as_json: bool) -> None:
    from vla_data.advantages import read

    found = read(dataset, layout, tag=tag)
    counts = found.coverage.to_json()
    facts: dict[str, Any] = {
        "layout": found.layout,
        "files": list(found.files),
        "coverage": counts,
        "has": [name for name in ("advantages", "values", "positive") if getattr(found, name) is not None],
        "positive": None if found.positive is None else int(found.positive.sum()),
        "facts": dict(found.facts),
    }
    if as_json:
        print_json(facts)
    else:
        emit(f"{', '.join(found.files)}: {counts['matched']:,} of {counts['frames']:,} frames have one entry")
        emit(json.dumps(counts))
    try:
        found.coverage.require(", ".join(found.files[:1]))
    except VlaDataError as error:
        say(str(error))
        raise click.exceptions.Exit(error.exit_code) from None

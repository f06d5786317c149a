"""``vla-data prepare``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.conversion import feature_options, rdt_given, rdt_options, reading_options, source_of, steps_of
from vla_data.cli.help import Grouped
from vla_data.cli.options import image_options, lerobot_options, run_options, settings, show_rehearsal
from vla_data.cli.types import Local, TrainerName
from vla_data.errors import UsageError
from vla_data.formats import open_sink, parse_address
from vla_data.formats.tables import TRAINERS, load_trainer
from vla_data.safety.text import show


@click.command("prepare", cls=Grouped)
@click.argument("dataset")
@click.argument("out", type=Local())
@click.option("--for", "trainer", type=TrainerName("prepare"), required=True, help="Whose code will read it.")
@click.option("--name", help="The dataset's name there: small letters, digits, _.  [default: by its folder]")
@click.option("--action-horizon", type=click.IntRange(1), help="Actions in a chunk.  [default: the trainer's]")
@click.option("--tag", help="rlinf: the tag of the annotation.")
@reading_options
@feature_options
@image_options
@rdt_options
@run_options
def command(
    dataset: str, out: Path, trainer: str, name: str | None, debug: bool, as_json: bool, **options: Any
) -> None:
    """Make everything that a trainer needs beside its code, in the folder OUT, and print the command to type.

    The DATASET of any format becomes one of the trainer's format and version, where the trainer looks for it, with
    the statistics file and the configuration that it reads. Before it is published it is opened as the trainer's
    loader does.
    """
    from vla_data.preparing import prepare

    del debug
    name = name or _name_of(dataset)
    source = source_of(dataset, options)
    steps = steps_of(source, options)
    own = {key: options.pop(key) for key in ("action_horizon", "tag")}
    images = lerobot_options(options)
    if images.pop("version", None) is not None:
        raise UsageError("E001", f"--version is what {trainer} reads; prepare knows it")
    images |= rdt_given(options, trainer)
    if options["dry_run"]:
        module = load_trainer(trainer, "prepare")
        target = out.resolve() / module.place(name)
        sink = open_sink(target, format=module.FORMAT, **module.sink_options(name, images))
        show_rehearsal(
            source, steps, sink, options, as_json=as_json, gates=(trainer,) if TRAINERS[trainer].gate else ()
        )
        return
    chosen = settings(options, quiet=as_json)
    done = prepare(source, steps, trainer=trainer, out=out, name=name, images=images, options=own, **chosen)
    if as_json:
        facts = {"command": list(done.command), "files": list(done.files), "facts": list(done.facts)}
        print_json({**done.report.to_json(), "dataset": str(done.folder), "gate": dict(done.gate), **facts})
    else:
        emit(str(done.report))
        for line in done.gate.get("lines", ()):
            emit(str(line))
        for fact in done.facts:
            say(f"note: {fact}")
        emit(f"\n  Dataset: {show(done.folder)}")
        for file in done.files:
            emit(f"  wrote: {show(out / file)}")
        emit("\n" + "\n".join(done.command))
    if done.report.exit_code:
        raise click.exceptions.Exit(done.report.exit_code)


def _name_of(dataset: str) -> str:
    stem = parse_address(dataset)[1].resolve().name.partition(".")[0]
    return re.sub(r"[^a-z0-9_]+", "_", stem.lower()).strip("_") or "dataset"

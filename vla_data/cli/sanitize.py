"""``vla-data sanitize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vla_data.cli.help import Grouped
from vla_data.cli.options import run_options, settings, show_rehearsal, show_report
from vla_data.cli.types import Local
from vla_data.formats import open_sink, open_source
from vla_data.jobs.run import run


@click.command("sanitize", cls=Grouped)
@click.argument("src", type=Local())
@click.argument("dst", type=Local())
@run_options
def command(src: Path, dst: Path, debug: bool, as_json: bool, **options: Any) -> None:
    """Re-save the pickled rollouts in SRC as plain npz files in DST.

    Nothing in SRC is executed, and nothing in DST needs unpickling: ``np.load(file)`` reads it. DST is sealed
    with SHA256SUMS. Files that can't be read are named and left out.
    """
    source = open_source(f"ppo_rollout:{src}", allow_empty_instruction=True)
    sink = open_sink(dst, format="plain_rollout")
    if options["dry_run"]:
        show_rehearsal(source, (), sink, options, as_json=as_json)
        return
    report = run(source, (), sink, **settings(options, quiet=as_json))
    show_report(report, as_json=as_json, where=dst)

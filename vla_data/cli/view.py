"""``vla-data view``."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit, say
from vla_data.cli.conversion import reading_options, source_of
from vla_data.cli.help import Grouped
from vla_data.cli.options import result_options
from vla_data.cli.outside import keep_out
from vla_data.cli.types import Local
from vla_data.core.unneeded import FACTS
from vla_data.errors import MachineError
from vla_data.formats.open import split
from vla_data.safety.text import show
from vla_data.viewing.beside import beside
from vla_data.viewing.server import Viewer


@click.command("view", cls=Grouped)
@click.argument("source")
@click.option("--flags", type=Local(), help="Where flags are written.  [default: SOURCE's name and -flags.txt]")
@click.option("--tag", help="Which advantages to show, where there are several.")
@click.option("--port", type=click.IntRange(1, 65535), help="Where to listen.  [default: any free port]")
@click.option("--open", "browse", is_flag=True, help="Open a browser, too.")
@reading_options
@result_options
def command(
    source: str,
    flags: Path | None,
    tag: str | None,
    port: int | None,
    browse: bool,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Look at the episodes of SOURCE, of any format, in a browser on this machine; Ctrl-C ends it.

    Cameras in step with actions and states, what became of source frames, success, values and advantages. Flags
    are written as a list that --episodes reads. Nothing leaves the machine, and only the address printed is
    answered.
    """
    if options["episodes"] is not None:
        say("note: positions are those among --episodes")
    name = split(source)[1].rstrip("/").rpartition("/")[2]
    path = flags if flags is not None else Path(f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name) or 'source'}-flags.txt")
    keep_out(source, path, "--flags")
    reader = source_of(source, options, unneeded=FACTS)
    try:
        viewer = Viewer(name, reader, path, beside(source, tag), port=port or 0)
    except OSError as error:
        raise MachineError("E703", f"port {port} can't be had ({error.strerror}); --port names another") from None
    if as_json:
        emit(json.dumps({"address": viewer.address, "flags": str(path)}))
    else:
        emit(f"{viewer.address}\n  {len(viewer.shelf):,} episodes; flags: {show(path)}; Ctrl-C ends it")
    if browse:
        import webbrowser

        webbrowser.open(viewer.address)
    with contextlib.suppress(KeyboardInterrupt):
        viewer.serve()

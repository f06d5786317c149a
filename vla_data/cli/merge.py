"""``vla-data merge``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from vla_data.cli.conversion import TARGETS, sink_of, writing_options
from vla_data.cli.filtering import filter_option, filtered
from vla_data.cli.help import Grouped
from vla_data.cli.options import (
    engine_choice,
    image_options,
    run_options,
    settings,
    show_rehearsal,
    show_report,
)
from vla_data.cli.types import FormatName, Local, Target
from vla_data.errors import UsageError
from vla_data.jobs.run import run
from vla_data.selection.keys import IN_A_MAPPING
from vla_data.selection.mapping import merged

T = TypeVar("T")

_WAYS: Final = {
    "E005": "keep, drop, rename or fill of a [[source]] or of [all]",
    "E231": "open = { fps = 10 }, or declare, of a [[source]]",
}
"""Code -> what of a mapping mends it, where the refusal is of no one source."""


@click.command("merge", cls=Grouped)
@click.argument("target", type=Target())
@click.argument("sources", metavar="SOURCES... [-- BEAM_OPTION]...", nargs=-1, required=True)
@click.option("--map", "mapping", type=Local(), help="TOML file: how they become alike.")
@click.option("--to", "to", type=FormatName(TARGETS), default="lerobot", show_default=True)
@image_options
@writing_options
@filter_option
@run_options
@engine_choice
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
    # click knows one list of words; no source begins as an option does.
    options["engine_options"] = tuple(word for word in sources if word.startswith("--"))
    sources = tuple(word for word in sources if not word.startswith("--"))
    if not sources:
        raise UsageError("E001", "there is nothing to merge; name two datasets or more")
    source = merged(sources, mapping)
    sink = sink_of(target, to, options, source)
    steps = filtered(source, (), options)
    if options["dry_run"]:
        _told_where(lambda: show_rehearsal(source, steps, sink, options, as_json=as_json))
        return
    report = _told_where(lambda: run(source, steps, sink, **settings(options, quiet=as_json)))
    show_report(report, as_json=as_json, where=target)


def _told_where(work: Callable[[], T]) -> T:
    """What ``work`` gives. What one of several sources needs stands in the mapping, not among the options."""
    try:
        return work()
    except UsageError as error:
        if error.code not in _WAYS or "(--map)" in error.message:
            raise
        raise UsageError(error.code, f"{error.message}; {IN_A_MAPPING}: {_WAYS[error.code]}") from None

"""``--filter`` of the commands that copy episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from vla_data.core import Source
from vla_data.core.base import narrowed
from vla_data.core.curate import Step
from vla_data.jobs.progress import Progress
from vla_data.selection.subset import Selection

filter_option: Final = click.option(
    "--filter",
    "condition",
    metavar="CONDITION",
    help="Only episodes of which this is true, as 'idle < 0.3'; see vla-data quality.",
)


def filtered(source: Source, steps: Sequence[Step], options: dict[str, Any]) -> tuple[Step, ...]:
    """The steps, with that of ``--filter`` before them, which is taken out of ``options``.

    Episodes are measured as they are read, without what the steps drop unseen.
    """
    condition = options.pop("condition")
    if condition is None:
        return tuple(steps)
    from vla_data.measuring.table import by_condition

    return (by_condition(condition, narrowed(source, steps), on_progress=Progress("episodes measured")), *steps)


def chosen(source: Source, options: dict[str, Any]) -> Source:
    """The episodes of a source of which ``--filter`` is true; the option is taken out of ``options``."""
    condition = options.pop("condition")
    if condition is None:
        return source
    from vla_data.measuring.table import measure, needs_pictures

    table = measure(source, decode_video=needs_pictures(condition), on_progress=Progress("episodes measured"))
    return Selection(source, tuple(table.positions(condition)))

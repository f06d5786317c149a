"""``vla-data doctor``."""

from __future__ import annotations

import platform
import sys

import click

from vla_data._version import __version__
from vla_data.cli import emit, print_json
from vla_data.cli.options import result_options
from vla_data.report.doctor import examine


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Look up versions alone; import nothing.")
@result_options
def command(quick: bool, debug: bool, as_json: bool) -> None:
    """Say which extras work on this machine, and why the others do not.

    Each package is imported by a process of its own, since one that is broken may end it. An extra that is
    missing is no fault: exit code 0 says that the question was answered.
    """
    found = examine(imports=not quick)
    if as_json:
        print_json(
            {
                "version": __version__,
                "python": platform.python_version(),
                "executable": sys.executable,
                "extras": [health.to_json() for health in found],
            }
        )
        return
    emit(f"vla-data {__version__}, Python {platform.python_version()}")
    for health in found:
        versions = ", ".join(f"{name} {version}" for name, version in health.versions.items())
        emit(f"  {health.extra:<13} {'works' if health.works else 'no':<6} {health.use}")
        if health.works:
            emit(f"  {'':<20} {versions}")
        else:
            emit(f"  {'':<20} {health.problem}")
            if health.remedy:
                emit(f"  {'':<20} {health.remedy}")

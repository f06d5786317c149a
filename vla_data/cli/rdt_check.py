"""``vla-data rdt-check``."""

from __future__ import annotations

from pathlib import Path

import click

from vla_data.cli import emit, print_json, say
from vla_data.errors import VerifyError
from vla_data.formats import open_source


@click.command("rdt-check")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--against", metavar="SRC", help="What it was made from, an episode a file, in this order.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(dataset: Path, against: str | None, as_json: bool, debug: bool) -> None:
    """Look for known mistakes in data for RDT, whoever made it.

    DATASET is a folder of HDF5 files in RDT's layout, or a dataset_stat.json. Found by name: an inverted gripper,
    Euler angles made of rotation vectors, states of after their actions, other units than metres, and more.
    """
    from converters import rdt_read  # HDF5 is an extra

    found = rdt_read.judge(dataset, source=open_source(against) if against is not None else None)
    if as_json:
        print_json({"path": str(dataset), **found.to_json()})
    else:
        emit(str(found))
    for name, bug in found.bugs:
        say(f"{name}: {bug.code}: {bug.message}" if name else f"{bug.code}: {bug.message}")
    if found.bugs:
        raise click.exceptions.Exit(VerifyError.exit_code)

"""``vla-data report``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.conversion import given_options, reading_options
from vla_data.cli.help import Grouped
from vla_data.cli.options import dry_run_option, result_options
from vla_data.cli.outside import keep_out
from vla_data.cli.types import FOLDER, Output
from vla_data.errors import RefusedError, TargetExistsError
from vla_data.files.result import write_result
from vla_data.formats.open import split
from vla_data.formats.sidecar import find_sidecar
from vla_data.remote.address import is_url
from vla_data.report.make import MOST, make_page
from vla_data.report.undeclared import is_useless
from vla_data.safety.text import show

_NAME = "report.html"
_PICTURE = "report.png"


@click.command("report", cls=Grouped)
@click.argument("dataset")
@click.option(
    "--against", metavar="OTHER", help="Show the numbers of this one beside, as of what DATASET was made of."
)
@click.option(
    "-o", "--output", type=Output(), default=_NAME, show_default=True, help="The file, or a folder for it."
)
@click.option("--png", type=Output(), help="Also draw the most of it in one picture, this file.")
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
@click.option("--all", "everything", is_flag=True, help="Read every episode, not a sample.")
@click.option(
    "--most",
    type=click.IntRange(1),
    default=MOST,
    show_default=True,
    help="Episodes that are read, spread evenly.",
)
@reading_options
@dry_run_option
@result_options
def command(
    dataset: str,
    against: str | None,
    output: Path,
    png: Path | None,
    replace: bool,
    everything: bool,
    most: int,
    dry_run: bool,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show DATASET, of any format, on one HTML page that works offline and can be sent around.

    What came in and out and why, pictures, every number in its unit, findings with what mends them, episodes that
    deserve a look, and what the page cannot tell. Options that say how to read are for DATASET; where it is one of
    ours, which needs none, and --against is given, they are for OTHER.
    """
    if output.is_dir() or click.get_current_context().meta.get(FOLDER):
        output = output / _NAME
    if png is not None and png.is_dir():
        png = png / _PICTURE
    for path, option in ((output, "-o"), (png, "--png")):
        if path is None:
            continue
        if path.exists() and not replace:
            raise TargetExistsError("E411", f"{show(path)} exists; --replace replaces it")
        keep_out(dataset, path, option)
    episodes = options.pop("episodes")
    given = given_options(options)
    ours = against is not None and _is_ours(dataset)
    made = make_page(
        dataset,
        against=against,
        everything=everything,
        most=most,
        episodes=episodes,
        against_options=given,
        **({} if ours else given),
    )
    data = made.html.encode("utf-8", "backslashreplace")
    if dry_run:
        say(f"dry run: nothing is written; {show(output)} would have {len(data):,} bytes")
    else:
        write_result(output, data, "the report", replace=replace)
        if png is not None:
            write_result(png, made.png(), "the picture", replace=replace)
    if as_json:
        findings = [finding.to_json() for finding in made.findings]
        print_json({"output": str(output), "bytes": len(data), "findings": findings, **_read(made.facts)})
    else:
        where = "the page" if dry_run else show(output)
        levels = Counter(finding.level for finding in made.findings)
        told = ", ".join(f"{levels[level]} {level}s" for level in ("error", "warning", "note"))
        emit(f"{where}: {len(data):,} bytes; {told}")
        if png is not None and not dry_run:
            emit(f"{show(png)}: the picture")
    if is_useless(made.facts):
        raise click.exceptions.Exit(RefusedError.exit_code)


def _read(facts: Any) -> dict[str, Any]:
    return {key: facts[key] for key in ("format", "episodes", "episodes_read", "readable")}


def _is_ours(address: str) -> bool:
    where = split(address)[1]
    return not is_url(where) and Path(where).is_dir() and find_sidecar(Path(where)) is not None

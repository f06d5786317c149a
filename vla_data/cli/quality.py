"""``vla-data quality``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from vla_data.cli import emit, print_json
from vla_data.cli.conversion import reading_options, source_of
from vla_data.cli.help import Grouped
from vla_data.cli.options import dry_run_option, result_options, watch
from vla_data.cli.types import Local
from vla_data.core.unneeded import NUMBERS
from vla_data.errors import TargetExistsError, UsageError
from vla_data.files.result import write_result
from vla_data.measuring.table import episode_list, measure, needs_pictures
from vla_data.safety.text import show

_SUFFIXES: Final = (".parquet", ".json")


@click.command("quality", cls=Grouped)
@click.argument("source")
@click.option("--filter", "condition", metavar="CONDITION", help="Also list the episodes of which this is true.")
@click.option("--decode-video", is_flag=True, help="Look at pictures inside of videos, too; slow.")
@click.option("-o", "--output", type=Local(), help="Write the table, as .parquet or .json.")
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
@reading_options
@dry_run_option
@result_options
def command(
    source: str,
    condition: str | None,
    decode_video: bool,
    output: Path | None,
    replace: bool,
    dry_run: bool,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure every episode of SOURCE, of any format: a table, whose columns have definitions.

    Idle and still shares, jerk, paths, ranges, gripper switches, frozen and black cameras, copies and near ones.
    None predicts how a policy will do. A CONDITION compares columns with numbers by and, or, not and parentheses,
    as in 'idle < 0.3 and copies == 0'; align, build, convert and merge take it as --filter, too.
    """
    if output is not None:
        _check(output, replace=replace)
    if condition is not None:
        decode_video |= needs_pictures(condition)  # which refuses what is no condition, before any work
    told = {} if as_json else watch(quiet=False)
    table = measure(source_of(source, options, unneeded=NUMBERS), decode_video=decode_video, **told)
    chosen = None if condition is None else table.positions(condition)
    if output is not None and not dry_run:
        as_text = output.suffix == ".json"
        data = json.dumps(table.to_json(), indent=2).encode() + b"\n" if as_text else table.parquet()
        write_result(output, data, "the table", replace=replace)
    if as_json:
        more = (
            {} if chosen is None else {"filter": condition, "chosen": chosen, "episode_list": episode_list(chosen)}
        )
        print_json({**table.to_json(), **more, **({"dry_run": True} if dry_run else {})})
        return
    emit(str(table))
    if chosen is not None:
        emit(f"\n  {len(chosen):,} of {len(table.rows):,} episodes: {show(condition or '')}")
        if chosen:
            emit(f"  --episodes {episode_list(chosen)}")
    if output is not None:
        emit(f"\n  {'Dry run: not written' if dry_run else 'Written'}: {show(output)}")


def _check(output: Path, *, replace: bool) -> None:
    if output.suffix not in _SUFFIXES:
        raise UsageError("E001", f"{show(output)} ends in neither {' nor '.join(_SUFFIXES)}")
    if output.exists() and not replace:
        raise TargetExistsError("E411", f"{show(output)} exists; --replace replaces it")

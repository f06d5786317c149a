"""``vla-data repair``."""

from __future__ import annotations

from pathlib import Path

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.options import dry_run_option, result_options, watch
from vla_data.cli.types import Local
from vla_data.cli.verify import show_verdict
from vla_data.errors import VerifyError
from vla_data.safety.text import show
from vla_data.verification.repair import rehearse, repair


@click.command("repair")
@click.argument("dst", type=Local())
@click.argument("sources", metavar="[SOURCE]...", nargs=-1)
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one a core]")
@dry_run_option
@result_options
def command(
    dst: Path, sources: tuple[str, ...], workers: int | None, dry_run: bool, debug: bool, as_json: bool
) -> None:
    """Give the damaged dataset DST the bytes back that it was published with.

    SOURCE is what it was made from, unchanged since; several for a merged dataset, in its order. Without it, only
    renamed files and SHA256SUMS are repaired. Files that are healthy are not written.
    """
    if dry_run:
        _rehearse(dst, sources, as_json=as_json)
        return
    done = repair(dst, sources, workers=workers, **watch(quiet=as_json))
    if as_json:
        print_json(done.to_json())
        if not done.after.ok:
            raise click.exceptions.Exit(VerifyError.exit_code)
        return
    if done.before.ok:
        emit(f"{show(dst)}: nothing is damaged")
    for damage in done.before.damages:
        say(f"was damaged: {damage.line()}")
    for name in done.replaced:
        emit(f"rebuilt: {show(name)}")
    for name in done.removed:
        emit(f"named back or removed: {show(name)}, which held another file of the dataset")
    for name, aside in done.aside:
        emit(f"moved aside: {show(name)}, now {show(aside)}")
    if not done.before.ok:
        show_verdict(done.after, as_json=False)


def _rehearse(dst: Path, sources: tuple[str, ...], *, as_json: bool) -> None:
    """What is damaged, and would be given its bytes back."""
    verdict = rehearse(dst, sources)
    if as_json:
        print_json({"dry_run": True, **verdict.to_json()})
        return
    emit("Dry run: nothing is written.")
    for damage in verdict.damages:
        emit(f"would be rebuilt: {damage.line()}")
    if verdict.ok:
        emit(f"{show(dst)}: nothing is damaged")

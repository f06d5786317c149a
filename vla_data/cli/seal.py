"""``vla-data seal``."""

from __future__ import annotations

from pathlib import Path

import click

from vla_data.cli import emit, say
from vla_data.cli.options import dry_run_option
from vla_data.cli.types import Local
from vla_data.errors import UsageError
from vla_data.files.folders import LINKED_FOLDER
from vla_data.files.sums import SEAL, write_seal
from vla_data.files.write import machine_errors
from vla_data.formats import open_source
from vla_data.safety.text import show


@click.command("seal")
@click.argument("folder", type=Local())
@dry_run_option
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(folder: Path, dry_run: bool, debug: bool) -> None:
    """Write SHA256SUMS for the rollouts in FOLDER.

    From then on a rollout that changed is refused, and ``sha256sum -c SHA256SUMS`` checks them all. Files that
    are sealed already are checked; new ones are added.
    """
    if not folder.is_dir():
        raise UsageError("E003", f"{show(folder)} is not a folder")
    refs = open_source(f"ppo_rollout:{folder}").episodes()
    names = [ref.where or ref.id for ref in refs]
    linked = [name for name in names if (folder / name).is_symlink() and (folder / name).is_dir()]
    names = [name for name in names if name not in linked]
    if not names:
        raise UsageError("E003", f"{show(folder)} has no rollouts")
    for name in linked:
        say(f"{show(name)}: {LINKED_FOLDER} (left alone)")
    if dry_run:
        emit(f"Dry run: nothing is written. {len(names):,} files would be sealed in {show(folder / SEAL)}")
        return
    with machine_errors("cannot seal"):
        count = write_seal(folder, names)
    emit(f"{count:,} files sealed in {show(folder / SEAL)}")

"""``vla-data push``."""

from __future__ import annotations

from pathlib import Path

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.options import dry_run_option
from vla_data.cli.types import Local
from vla_data.safety.text import show


@click.command("push")
@click.argument("dataset", type=Local())
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--tag", help="Name of this version.  [default: LeRobot's own version, else v1.0]")
@click.option("--license", "license", metavar="ID", help="Your licence for it.  [default: the card asks]")
@click.option("--public", is_flag=True, help="A new repository is for everybody.  [default: for its owner]")
@click.option("--replace", is_flag=True, help="Remove files of another dataset there, and move the tag.")
@dry_run_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for programs.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(
    dataset: Path,
    repo: str,
    tag: str | None,
    license: str | None,
    public: bool,
    replace: bool,
    dry_run: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Send DATASET to the Hugging Face Hub, with a card and a version tag.

    It is verified first. What the repository has already is not sent again, so a run that was interrupted goes on.
    You are who `hf auth login` says.
    """
    from vla_data.hub import push

    del debug
    done = push(
        dataset,
        repo,
        tag=tag,
        license=license,
        private=not public,
        replace=replace,
        dry_run=dry_run,
        progress=(lambda line: None) if as_json else say,
    )
    if as_json:
        print_json({**done.to_json(), "dry_run": dry_run})
        return
    for note in done.notes:
        say(f"note: {note}")
    if dry_run:
        emit(f"Dry run: nothing is sent. {len(done.sent):,} files would be, {done.kept:,} are there")
        return
    removed = f", {len(done.removed):,} removed" if done.removed else ""
    emit(f"{len(done.sent):,} files sent, {done.kept:,} were there{removed}: {show(done.url)} ({show(done.tag)})")

"""``vla-data diff``."""

from __future__ import annotations

from typing import Any

import click

from vla_data.cli import emit, print_json
from vla_data.cli.conversion import given_options, reading_options
from vla_data.cli.help import Grouped
from vla_data.cli.options import result_options, watch
from vla_data.errors import UsageError, VerifyError
from vla_data.formats import open_source
from vla_data.selection.subset import select
from vla_data.verification.diff import diff


@click.command("diff", cls=Grouped)
@click.argument("a")
@click.argument("b")
@click.option("--decode-video", is_flag=True, help="Compare pictures inside of videos, too; slow.")
@reading_options
@result_options
def command(a: str, b: str, decode_video: bool, debug: bool, as_json: bool, **options: Any) -> None:
    """Say what tells two datasets apart: features, conventions, statistics, and episodes by their content.

    A and B may be of different formats. Options that say how to read go to each whose format has them. Exit code
    0: no difference; 6: they differ.
    """
    episodes = options.pop("episodes")
    given = given_options(options)
    sources = [select(_opened(address, given), episodes) for address in (a, b)]
    found = diff(*sources, decode_video=decode_video, on_progress=watch(quiet=as_json).get("on_progress"))
    if as_json:
        print_json(found.to_json())
    else:
        emit(str(found))
    if not found.is_equal:
        raise click.exceptions.Exit(VerifyError.exit_code)


def _opened(address: str, given: dict[str, Any]) -> Any:
    """The source of an address, with the options that its format has."""
    left = dict(given)
    while True:
        try:
            return open_source(address, **left)
        except UsageError as error:
            foreign = next(
                (n for n in left if f"--{n.replace('_', '-')} is not an option of" in error.message), None
            )
            if foreign is None:
                raise
            del left[foreign]

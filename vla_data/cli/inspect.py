"""``vla-data inspect``."""

from __future__ import annotations

from typing import Any

import click

from vla_data.cli import emit, print_json
from vla_data.cli.options import changed, source_options
from vla_data.core import Json
from vla_data.safety.text import show
from vla_data.survey import survey


@click.command("inspect")
@click.argument("source")
@click.option("--all", "everything", is_flag=True, help="Read every rollout, not a sample of 64.")
@source_options
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    ctx: click.Context, /, source: str, everything: bool, debug: bool, as_json: bool, **options: Any
) -> None:
    """Say what a SOURCE holds: features, counts, conventions, problems, and what is undeclared."""
    given = changed(ctx, options)
    if "allow_images" in given:
        given["allow_images"] = frozenset(given["allow_images"])
    facts = survey(source, everything=everything, **given)
    if as_json:
        print_json(facts)
        return
    for line in _lines(facts, 0):
        emit(line)


def _lines(value: Json, depth: int) -> list[str]:
    """Nested facts as indented lines."""
    out = []
    pad = "  " * depth
    for key, item in value.items():
        if isinstance(item, dict) and item:
            out.append(f"{pad}{show(key)}:")
            out.extend(_lines(item, depth + 1))
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            out.append(f"{pad}{show(key)}:")
            for entry in item:
                out.append(f"{pad}  " + ", ".join(f"{k} {show(v)}" for k, v in entry.items()))
        elif isinstance(item, list):
            text = ", ".join(f"{v:.4g}" if isinstance(v, float) else show(v) for v in item)
            out.append(f"{pad}{show(key)}: {text or '-'}")
        else:
            out.append(f"{pad}{show(key)}: {f'{item:.4g}' if isinstance(item, float) else show(item)}")
    return out

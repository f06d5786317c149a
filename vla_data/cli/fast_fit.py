"""``vla-data fast-fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.conversion import reading_options, source_of
from vla_data.cli.help import Grouped
from vla_data.cli.options import choice, dry_run_option, result_options, shown
from vla_data.cli.types import Local, Number
from vla_data.core.unneeded import NUMBERS
from vla_data.errors import TargetExistsError, UsageError
from vla_data.formats import load_tokenizer
from vla_data.safety.text import show
from vla_data.statistics.chunks import parse_mask
from vla_data.statistics.rules import TOKEN_RULES


@click.command("fast-fit", cls=Grouped)
@click.argument("sources", nargs=-1, required=True)
@click.option("-o", "--output", type=Local(), required=True, help="The tokenizer's folder, a new one.")
@click.option("--action-horizon", type=click.IntRange(1), required=True, help="Actions in a chunk.")
@choice(
    "--rule",
    TOKEN_RULES,
    default="openpi.quantile",
    help="How the trainer makes actions small; none: they are of about [-1, 1].",
)
@click.option("--clip", is_flag=True, help="Then clip to [-1, 1], as LeRobot does and openpi does not.")
@shown("--scale", Number(0, min_open=True), 10.0, "Coefficients are whole multiples of 1 / SCALE.")
@shown("--vocab-size", click.IntRange(1), 1024, "Tokens.")
@click.option("--delta-actions", metavar="N,-N,...", help="Elements of an action relative to the state; 6,-1.")
@shown("--action", str, "action", "Array of actions.")
@shown("--state", str, "observation.state", "Array of states, for --delta-actions.")
@shown("--chunks", click.IntRange(1), 100_000, "The most chunks that tokens are fitted on; drawn of more.")
@click.option("--replace", is_flag=True, help="Write over a tokenizer that is there.")
@reading_options
@dry_run_option
@result_options
def command(
    sources: tuple[str, ...],
    output: Path,
    action_horizon: int,
    rule: str,
    clip: bool,
    scale: float,
    vocab_size: int,
    delta_actions: str | None,
    action: str,
    state: str,
    chunks: int,
    replace: bool,
    dry_run: bool,
    as_json: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Fit FAST tokens on the action chunks of SOURCES, and write them as Hugging Face's processor has them.

    Actions are normalised by the exact statistics of SOURCES, which fit.json in the folder keeps: whoever uses the
    tokens must normalise by the same. No image is decoded.
    """
    fast = load_tokenizer("fast")
    if len(sources) > 1 and options["episodes"] is not None:
        raise UsageError("E001", "--episodes is for one source")
    if output.exists() and not replace and not dry_run:
        raise TargetExistsError("E411", f"{show(output)} is there already (--replace)")
    how = fast.FastFit(
        horizon=action_horizon,
        rule=rule,
        clip=clip,
        scale=scale,
        vocab_size=vocab_size,
        action=action,
        state=state,
        delta=() if delta_actions is None else parse_mask(delta_actions),
        limit=chunks,
    )
    if len(set(sources)) != len(sources):
        raise UsageError("E001", "a source is named twice, and its chunks would count twice")
    fitted = how.fit({address: source_of(address, dict(options), unneeded=NUMBERS) for address in sources})
    if not dry_run:
        fitted.save(output, replace=replace)
    if as_json:
        print_json({"output": None if dry_run else str(output), **fitted.to_json()})
    else:
        head = "dry run: nothing is written" if dry_run else show(output)
        emit("\n".join([f"{head}: FAST tokens", *(f"  {line}" for line in fitted.lines())]))
    for left in fitted.left_out:
        say(f"{left.code}: {show(left.id)}: {show(left.message)} (left out)")
    for finding in fitted.findings:
        say(f"warning: {show(finding.message)}")
    if fitted.left_out:
        raise click.exceptions.Exit(3)

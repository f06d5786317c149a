"""``vla-data why``."""

from __future__ import annotations

from typing import Any

import click

from vla_data.cli import emit, print_json
from vla_data.cli.options import changed, recipe_options, result_options, source_options
from vla_data.core import EpisodeRef
from vla_data.core.ledger import Ledger
from vla_data.errors import UsageError
from vla_data.formats import load_builder, parse_address
from vla_data.formats.sidecar import find_sidecar, open_ledger
from vla_data.jobs.part import examine
from vla_data.safety.text import plain, portable, show


@click.command("why")
@click.argument("source")
@click.argument("episode")
@click.argument("frame", type=click.IntRange(0), required=False)
@recipe_options
@source_options
@result_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    source: str,
    episode: str,
    frame: int | None,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what became of an EPISODE, or of one source FRAME of it.

    SOURCE is a dataset, whose ledger answers, or a folder of rollouts, to which the options are applied.
    EPISODE is a source file, a unique part of its name, or the episode's number in the dataset.
    """
    _, path = parse_address(source)
    episode = portable(episode)
    if find_sidecar(path) is not None:
        answer = open_ledger(path).why(episode, frame)
    else:
        builder = load_builder("ppo_sft_aligned")
        definition = builder(changed(ctx, builder.OPTIONS))
        reader = definition.source(path, max_episodes=options["max_episodes"])
        answer = _examine(reader, definition.steps(path), episode, frame)
    if as_json:
        print_json(answer)
        return
    emit("\n".join(_lines(answer)))


def _examine(reader: Any, steps: Any, episode: str, frame: int | None) -> dict[str, Any]:
    """The answer for an episode that no dataset has yet."""
    refs: list[EpisodeRef] = [ref for ref in reader.episodes() if episode in ref.id]
    exact = [ref for ref in refs if ref.id == episode]
    if len(exact or refs) != 1:
        raise UsageError("E007", f"{len(refs)} episodes fit {show(episode)!r}")
    record = examine(reader, steps, (exact or refs)[0])
    return Ledger((record,)).why(record.id, frame)


def _lines(answer: dict[str, Any]) -> list[str]:
    head = f"{show(answer['episode'])}: {plain(answer['status'])}"
    if answer["reason"]:
        head += f" ({plain(answer['reason'])}: {plain(answer['message'])})"
    lines = [head]
    if answer["output_episode"] is not None:
        lines.append(f"  is episode {answer['output_episode']}, split {plain(answer['split'])}")
    if answer["notes"]:
        lines.append(f"  fixed on reading: {plain(', '.join(answer['notes']))}")
    for name, value in answer["meta"].items():
        lines.append(f"  {plain(name)}: {show(value)}")
    if "frame" in answer:
        reason = f" by {plain(answer['frame_reason'])}" if answer["frame_reason"] else ""
        lines.append(f"  source frame {answer['frame']}: {plain(answer['bucket'])}{reason}")
        if answer["output_frame"] is not None:
            lines.append(f"  is frame {answer['output_frame']} of the output episode")
        return lines
    for span in answer["spans"]:
        reason = f" by {plain(span['reason'])}" if span["reason"] else ""
        lines.append(f"  frames {span['start']:>4} to {span['stop'] - 1:>4}: {plain(span['bucket'])}{reason}")
    return lines

"""``vla-data inspect``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from vla_data.cli import emit, print_json
from vla_data.cli.conversion import given_options, reading_options
from vla_data.cli.help import Grouped
from vla_data.cli.options import result_options
from vla_data.core import Array, Json
from vla_data.errors import RefusedError
from vla_data.names import nameless
from vla_data.report.inspect import survey, told
from vla_data.report.sparks import rows
from vla_data.report.undeclared import is_useless
from vla_data.safety.text import show

_WIDTH: Final = 80
_ELEMENTS: Final = 14
# What has lines of its own; everything else that was counted is listed by its name.
_OWN: Final = {
    *("format", "path", "episodes", "episodes_read", "bytes", "readable", "other_files", "features", "kinds"),
    *("undeclared", "problem_files", "fps", "robot", "with_success", "length", "duration_s", "fps_audit", "range"),
    *("beside", "fetched", "left_alone", "problems", "counts", "reasons", "provenance", "content_sha256"),
}


@click.command("inspect", cls=Grouped)
@click.argument("source")
@click.option("--all", "everything", is_flag=True, help="Read every episode, not a sample of 64.")
@reading_options
@result_options
def command(source: str, everything: bool, debug: bool, as_json: bool, **options: Any) -> None:
    """Say what a SOURCE holds: features, counts, conventions, problems, and what is undeclared.

    On a terminal each number is shown with how it is spread.
    """
    kept: dict[str, Array] | None = {} if not as_json and _draws() else None
    episodes = options.pop("episodes")
    facts = survey(source, everything=everything, episodes=episodes, kept=kept, **given_options(options))
    if as_json:
        print_json(facts)
    else:
        for line in _lines(facts, kept or {}):
            emit(line)
    if is_useless(facts):
        raise click.exceptions.Exit(RefusedError.exit_code)


def _draws() -> bool:
    """Whether somebody looks, with a terminal that has the characters."""
    return sys.stdout.isatty() and "utf" in (sys.stdout.encoding or "").lower()


def _lines(facts: Mapping[str, Json], kept: Mapping[str, Array]) -> Iterator[str]:
    """The facts for a person, at most 80 columns wide; ``kept`` are numbers whose spread is shown."""
    yield from _row("Format", f"{facts['format']}   {show(facts['path'])}")
    read = "" if facts["episodes_read"] == facts["episodes"] else f"; {facts['episodes_read']:,} of them were read"
    yield from _row("Episodes", f"{facts['episodes']:,}, {facts['readable']:,} readable{read}")
    if "fetched" in facts:
        part = facts["fetched"]
        yield from _row(
            "Fetched",
            f"{part['files']:,} of {part['of_files']:,} files, {part['bytes']:,} of {part['of_bytes']:,} bytes; "
            "--all copies the rest and reads every episode",
        )
    if "with_success" in facts:
        yield from _row("Solved", f"{facts['with_success']:,} have a success flag set")
    if "length" in facts:
        length = facts["length"]
        steps = f"{length['min']:,} to {length['max']:,}, mean {length['mean']:.1f}"
        seconds = f"; {facts['duration_s']:,.1f} s in all" if "duration_s" in facts else ""
        yield from _row("Steps", steps + seconds)
    if "fps_audit" in facts:
        yield from _row("Rate", _rate(facts["fps_audit"]))
    yield from _row("Robot", show(facts.get("robot") or "not declared"))
    if facts["kinds"] > 1:
        yield from _row("Kinds", f"{facts['kinds']} different schemas; the first is shown")
    yield "Features"
    for name, feature in facts["features"].items():
        yield from _feature(show(name), feature, facts["range"].get(name), kept.get(name))
    if facts["undeclared"]:
        yield from _row("Undeclared", "; ".join(map(show, facts["undeclared"])))
    for key in facts:
        if key not in _OWN:
            yield from _row(key.replace("_", " ").capitalize(), _counted(facts[key]))
    if facts.get("problems"):
        yield from _row("Problems", _counted(facts["problems"]))
    yield from _alike("", facts["problem_files"], sum(facts.get("problems", {}).values()))
    yield from _alike("Left alone", facts["left_alone"], facts["other_files"])
    for line in facts["beside"]:
        yield from _row("Beside", show(line, escaped=True))
    if facts.get("provenance"):
        made = facts["provenance"]
        yield from _row("Made by", "; ".join(show(told(part)) for part in (made["source"], *made["recipe"])))
        yield from _row("Content", facts["content_sha256"])


def _alike(title: str, found: Sequence[Json], count: int) -> Iterator[str]:
    """Episodes or files with what is wrong with them, those with one message in one entry."""
    groups: dict[tuple[str, str], list[Json]] = {}
    for one in found:
        groups.setdefault((one["code"], nameless(one["message"], one["episode"])), []).append(one)
    for (code, _), alike in groups.items():
        more = f" and {len(alike) - 1:,} more" if len(alike) > 1 else ""
        yield from _row(
            title, f"{code} {show(alike[0]['episode'])}{more}: {show(alike[0]['message'], escaped=True)}"
        )
        title = ""
    if count > len(found):
        yield from _row(title, f"and {count - len(found):,} more, which are not listed")


def _row(title: str, text: str) -> Iterator[str]:
    lines = textwrap.wrap(text, _WIDTH - 14, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        yield f"{title if number == 0 else '':<13} {line}"


def _rate(audit: Mapping[str, Json]) -> str:
    if audit["declared"] is None:
        return f"the recorded times say {audit['recorded']:g} steps per second"
    declared = f"{audit['declared']:g} steps per second"
    if audit["recorded"] is None:
        return f"{declared}; the source has no times to compare with"
    if audit["agree"]:
        return f"{declared}, as recorded"
    return f"{declared} declared, but the recorded times say {audit['recorded']:g}"


def _feature(
    name: str, feature: Mapping[str, Json], span: Mapping[str, Json] | None, values: Array | None
) -> Iterator[str]:
    shape = "x".join(map(str, feature["shape"]))
    yield f"  {name:<44} {feature['dtype']:>8} {shape}"
    details = []
    drawn = rows(feature, values) if values is not None else ()
    yield from drawn
    if not drawn and feature["names"] and feature["dtype"] != "image":
        details.append(" ".join(map(show, feature["names"][:_ELEMENTS])))
    words = [f"{key} {_word(value)}" for key, value in feature["convention"].items()]
    details += ["; ".join(words)] if words else []
    if span is not None and not drawn:
        low, high = (value if isinstance(value, list) else [value] for value in (span["min"], span["max"]))
        pairs = [f"{a:.3g}..{b:.3g}" for a, b in zip(low, high, strict=True)]
        more = f" and {len(pairs) - _ELEMENTS} more" if len(pairs) > _ELEMENTS else ""
        details.append(f"range {' '.join(pairs[:_ELEMENTS])}{more}")
    for detail in details:
        yield from textwrap.wrap(detail, _WIDTH, initial_indent="    ", subsequent_indent="      ")


def _word(value: Json) -> str:
    return show(value) if not isinstance(value, dict | list) else show(str(value))


def _counted(values: Json) -> str:
    return "; ".join(f"{show(key)}: {count:,}" for key, count in values.items())

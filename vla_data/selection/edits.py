"""Episodes that a person drops, keeps, trims or deals out, in the words of ``vla-data edit``.

    edits(source, drop="3,7", trim=["5:0-40"])      # {"": (source, steps)}
    edits(source, split=["train=0-5", "val=6,7"])   # {"train": (source, steps), "val": (source, steps)}

Positions are those of the source, and both ends of a range are meant, in episodes as in steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from vla_data.core import Source
from vla_data.core.base import whole
from vla_data.core.curate import Step
from vla_data.errors import UsageError
from vla_data.safety.text import show
from vla_data.selection.subset import Selection, parse_positions
from vla_data.steps.trim import Range, Trim

Part = tuple[Source, tuple[Step, ...]]

_TRIM: Final = re.compile(r"(\d{1,9}):(\d{1,9})-(\d{1,9})?")
_SPLIT: Final = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,99})=(.+)")


def edits(
    source: Source,
    *,
    drop: str | None = None,
    keep: str | None = None,
    trim: Sequence[str] = (),
    split: Sequence[str] = (),
) -> Mapping[str, Part]:
    """What each dataset that is asked for is made of.

    Args:
        source: whose episodes are meant.
        drop: positions to leave out, such as ``3,7-9``.
        keep: positions to keep alone.
        trim: ``POSITION:FIRST-LAST``, steps that are kept of an episode; without LAST, all from FIRST on.
        split: ``NAME=POSITIONS``, of several datasets; an episode in none of them is in no dataset.

    Returns:
        Name -> source and steps; the name is empty where there is one dataset.

    Raises:
        UsageError: E001 for words that contradict one another, mean nothing or name steps that are not there, E007
            for an episode that is not.
    """
    if sum(bool(given) for given in (drop, keep, split)) > 1:
        raise UsageError("E001", "give one of --drop, --keep and --split")
    if not (drop or keep or trim or split):
        raise UsageError("E001", "nothing is to be done; give --drop, --keep, --trim or --split")
    count = len(source.episodes())
    cut = {at: (first, last) for at, first, last in map(_trimmed, trim)}
    if len(cut) != len(trim):
        raise UsageError("E001", "--trim has an episode twice")
    ranges = _ranges(source, cut)
    named: dict[str, tuple[int, ...] | None] = {}
    for word in split:
        found = _SPLIT.fullmatch(word)
        if found is None or found[1] in named:
            raise UsageError("E001", f"--split {show(word)[:80]} is not of the form NAME=0,3,5-9, each NAME once")
        named[found[1]] = parse_positions(found[2])
    if drop:
        gone = set(_checked(parse_positions(drop), count))
        named[""] = tuple(at for at in range(count) if at not in gone)
        if not named[""]:
            raise UsageError("E001", "--drop names every episode; nothing would be left")
    if not named:
        named[""] = parse_positions(keep) if keep else None
    out = {name: _part(source, at, ranges, count) for name, at in named.items()}
    used = {at for positions in named.values() for at in (positions if positions is not None else range(count))}
    if lost := sorted(cut.keys() - used):
        raise UsageError("E001", f"--trim names episode {lost[0]}, which is not kept")
    return out


def _part(source: Source, positions: Sequence[int] | None, ranges: Mapping[int, Range], count: int) -> Part:
    if positions is None:
        own, selected = list(ranges.values()), source
    else:
        at = _checked(positions, count)
        own, selected = [ranges[n] for n in at if n in ranges], Selection(source, tuple(at))
    return selected, (Trim(ranges=tuple(own)),) if own else ()


def _checked(positions: Sequence[int], count: int) -> Sequence[int]:
    if missing := [at for at in positions if at >= count]:
        raise UsageError(
            "E007", f"there is no episode {missing[0]}; the source has {count:,}, from 0 to {count - 1}"
        )
    return positions


def _trimmed(word: str) -> tuple[int, int, int | None]:
    found = _TRIM.fullmatch(word.strip())
    if found is None or (found[3] and int(found[3]) < int(found[2])):
        raise UsageError("E001", f"--trim {show(word)[:80]} is not of the form EPISODE:FIRST-LAST, as 5:0-40")
    return int(found[1]), int(found[2]), int(found[3]) if found[3] else None


def _ranges(source: Source, cut: Mapping[int, tuple[int, int | None]]) -> dict[int, Range]:
    """Position -> what `Trim` is told, checked against what the metadata says of lengths."""
    if not cut:
        return {}
    refs = source.episodes()
    chosen = {at: refs[at] for at in _checked(list(cut), len(refs))}
    told = whole(source).outlines(list(chosen.values()))
    for at, ref in chosen.items():
        first, last = cut[at]
        if ref.id in told and max(first, last or 0) >= told[ref.id].steps:
            steps = told[ref.id].steps
            raise UsageError(
                "E001",
                f"--trim {at}:{first}-{'' if last is None else last}: it has {steps:,} steps, 0 to {steps - 1}",
            )
    return {at: (ref.id, *cut[at]) for at, ref in chosen.items()}

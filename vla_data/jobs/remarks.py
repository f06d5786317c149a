"""What a person should know of a run: episodes that can't be used, other files, and what nobody declares."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from vla_data.core import Schema
from vla_data.core.curate import Remarks
from vla_data.core.ledger import Record
from vla_data.core.notes import lacking, told
from vla_data.names import nameless
from vla_data.safety.text import show
from vla_data.steps.success import RequireSuccess

ALIKE = 10
"""So many episodes with one and the same message have a line each; of more, the first few and a count."""
_FIRST = 3
_CLIPS: Mapping[str, str] = MappingProxyType({"frames_copied": "copied", "frames_encoded": "encoded"})
WAYS: Mapping[str, str] = MappingProxyType(
    {
        RequireSuccess.reason: "where an episode ends at its first success, --min-success-steps 1 is the rule; "
        "--min-success-steps 0 keeps all"
    }
)
"""What keeps episodes that are rejected for a reason."""

_OFF: Final = 2.0
"""Times what was asked, beyond which a share of few episodes is told,"""
_SMALL: Final = 0.25
"""unless it is as small: 1 of 8 episodes is what anybody expects of few."""


def tell(records: Iterable[Record], say: Callable[[str], object], *, failed: str = " (quarantined)") -> None:
    """Call ``say`` with a line for every episode that was quarantined or left alone; alike ones are told
    together.

    Args:
        records: of the episodes.
        say: takes a line.
        failed: the end of the lines on episodes that could not be used.
    """
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.status in ("failed", "ignored"):
            message = nameless(record.message, record.id)
            groups.setdefault((record.status, record.reason, message), []).append(record)
    for (status, _, _), alike in groups.items():
        end = failed if status == "failed" else " (left alone)"
        shown = alike if len(alike) <= ALIKE else alike[:_FIRST]
        for record in shown:
            say(record.line() + end)
        if len(alike) > len(shown):
            say(f"{alike[0].reason}: the same of {len(alike) - len(shown):,} more episodes{end}")


def why(records: Sequence[Record]) -> str:
    """Codes with counts, and the first message of the most frequent one."""
    failed = [record for record in records if record.status == "failed"]
    if not failed:
        return ""
    codes = Counter(record.reason for record in failed).most_common()
    first = next(record for record in failed if record.reason == codes[0][0])
    counts = ", ".join(f"{code} {count:,}" for code, count in codes)
    return f" ({counts}); the first: {show(first.id)}: {first.message}"


def quarantined(records: Sequence[Record]) -> list[str]:
    """A line on episodes that can't be used, where there are any: codes with counts, and the first message."""
    failed = sum(record.status == "failed" for record in records)
    return [f"quarantined: {failed:,} of {len(records):,} episodes{why(records)}"] if failed else []


def nothing_left(reasons: Mapping[str, int]) -> str:
    """Why no episode is left to publish, by how many there are of each reason, and what would keep some."""
    counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    ways = "".join(f"; {way}" for reason, way in WAYS.items() if reason in reasons)
    return f"no episode is left to publish: {counts}{ways}"


def left_alone(records: Sequence[Record]) -> list[str]:
    """A line on files of other kinds, where there are any."""
    ignored = [record for record in records if record.status == "ignored"]
    if not ignored:
        return []
    names = ", ".join(show(record.id) for record in ignored[:_FIRST])
    more = f" and {len(ignored) - _FIRST:,} more" if len(ignored) > _FIRST else ""
    return [f"left alone: {names}{more}"]


def of_steps(steps: Iterable[object], schema: Schema) -> list[str]:
    """What steps say of such episodes."""
    return [line for step in steps if isinstance(step, Remarks) for line in step.remarks(schema)]


def merged_undeclared(published: Iterable[Record], schema: Schema) -> list[str]:
    """A line on actions of several datasets of which nobody says that they are alike."""
    members = sorted({record.meta.member for record in published if record.meta.member is not None})
    action = schema.features.get("action")
    if len(members) < 2 or action is None or action.convention.get("layout"):
        return []
    return [
        f"what action means is undeclared in {', '.join(map(show, members))}, so their grippers, units and frames "
        "may differ, and a gripper may be open at either end: declare (gripper_open, gripper_closed, ...) and "
        "actions in a mapping (--map) compare and convert them"
    ]


def clips(published: Iterable[Record]) -> dict[str, dict[str, int]]:
    """Camera -> how many frames were ``copied`` as packets of the source's video, and how many ``encoded``, where
    a sink copies packets.
    """
    out: dict[str, dict[str, int]] = {}
    for record in published:
        for note in record.notes:
            code, _, details = note.partition(":")
            if code in _CLIPS:
                camera, _, count = details.rpartition("=")
                out.setdefault(camera, {"copied": 0, "encoded": 0})[_CLIPS[code]] += int(count)
    return dict(sorted(out.items()))


def encoded_again(found: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for each camera some of whose frames could not be copied."""
    return [
        f"{show(camera)}: {count['encoded']:,} of {sum(count.values()):,} frames are encoded again: their range "
        "begins at no key frame or has gaps, or the video is of another encoder"
        for camera, count in found.items()
        if count["encoded"]
    ]


def noted(records: Sequence[Record], schema: Schema, parts: Iterable[object]) -> list[str]:
    """What a user should know of a run beside its counts.

    Args:
        records: of all episodes; what the notes of those that were published say.
        schema: of the dataset; what it does not have.
        parts: the steps and the sink, of which some have `Remarks`.
    """
    published = [record for record in records if record.status == "published"]
    there = [record.notes for record in published]
    of_all = [*lacking(schema, there), *merged_undeclared(published, schema), *of_steps(parts, schema)]
    return [*of_all, *encoded_again(clips(published)), *told(there), *left_alone(records)]


def drawn(records: Sequence[Record], share: float) -> list[str]:
    """What to say where a share for "val" was drawn of so few episodes that there is another one.

    Args:
        records: of all episodes, with their splits.
        share: that was asked for, of episodes whose source declares no split.
    """
    free = [one for one in records if one.status == "published" and one.meta.split is None]
    if not share or not free:
        return []
    count = sum(record.split == "val" for record in free)
    if count == 0:
        few = "the only episode is" if len(free) == 1 else f"all {len(free):,} episodes are"
        return [f"{few} in train; val, for which a share of {share:g} was asked, is empty and left out"]
    if count <= max(_OFF * share, _SMALL) * len(free):
        return []
    why = "of so few, neither split is left empty (--val 0 draws none)"
    return [f"val has {count:,} of {len(free):,} episodes, where a share of {share:g} was asked: {why}"]


def one_kind(schemas: Iterable[str]) -> str:
    """What makes one kind of episodes that are of several: what is declared may be all that differs."""
    plain = set()
    for text in schemas:
        schema = json.loads(text)
        for feature in schema["features"].values():
            feature.pop("convention", None)
        plain.add(json.dumps(schema, sort_keys=True))
    if len(plain) == 1:
        way = "declare what is true of each (--declare) or convert it (--actions)"
        return f"{way}; the mapping of merge (--map) has both for each source"
    return "--drop or --keep features, or leave episodes out with --episodes"


def undeclared(schema: Schema) -> list[str]:
    """Facts that nobody has declared and that a trainer would have to guess."""
    out = []
    for name, feature in sorted(schema.features.items()):
        if not feature.convention and name.split(".")[0] == "action":
            out.append(f"{name}: everything")
        out += [f"{name}: {key}" for key, value in sorted(feature.convention.items()) if value == "undeclared"]
    return out

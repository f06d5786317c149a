"""What a person should know of a run: episodes that can't be used, what was left out, and what the result
lacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from vla_data.core import Schema
from vla_data.core.ledger import Record
from vla_data.safety.text import show

ALIKE = 10
"""So many episodes with one and the same message have a line each; of more, the first few and a count."""
_FIRST = 3
_SHOWN = 20
_LEFT_OUT = ("left_out", "leave_out_names_nothing", "masks_left_out", "mask_left_out", "not_declared")
_CHOSEN = ("declared_instead_of", "declared_against_the_data")


def tell(records: Iterable[Record], say: Callable[[str], None]) -> None:
    """Call ``say`` with a line for every episode that was quarantined or left alone; alike ones are told
    together.
    """
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.status in ("failed", "ignored"):
            groups.setdefault((record.status, record.reason, record.message), []).append(record)
    for (status, _, _), alike in groups.items():
        end = " (quarantined)" if status == "failed" else " (left alone)"
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


def remarks(records: Sequence[Record], schema: Schema) -> list[str]:
    """Warnings about what the published episodes were read without, and what the dataset lacks."""
    published = [record for record in records if record.status == "published"]
    out = []
    for what, starts in (("left out", _LEFT_OUT), ("taken by declaration", _CHOSEN)):
        found = Counter(note for record in published for note in record.notes if note.startswith(starts))
        if found:
            listed = [
                f"{show(_plain(note), escaped=True)} ({count:,})" for note, count in found.most_common(_SHOWN)
            ]
            more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
            out.append(f"{what} (episodes): {', '.join(listed)}{more}")
    ignored = [record for record in records if record.status == "ignored"]
    if ignored:
        names = ", ".join(show(record.id) for record in ignored[:_FIRST])
        more = f" and {len(ignored) - _FIRST:,} more" if len(ignored) > _FIRST else ""
        out.append(f"left alone: {names}{more}")
    return [*out, *_lacks(schema)]


def undeclared(schema: Schema) -> list[str]:
    """Facts that nobody has declared and that a trainer would have to guess."""
    out = []
    for name, feature in sorted(schema.features.items()):
        if not feature.convention and name.split(".")[0] == "action":
            out.append(f"{name}: everything")
        out += [f"{name}: {key}" for key, value in sorted(feature.convention.items()) if value == "undeclared"]
    return out


def _plain(note: str) -> str:
    """A note without what all of its kind begin with."""
    kind, _, what = note.partition(":")
    return what if kind == "left_out" else f"{what or kind} ({kind})" if what else kind


def _lacks(schema: Schema) -> list[str]:
    """What every trainer looks for and the dataset has not."""
    out = []
    features = schema.features
    if "action" not in features:
        parts = [name for name in features if name.startswith("action.")]
        has = f"; it has {', '.join(map(show, parts[:_SHOWN]))}, which are not joined" if parts else ""
        out.append(f"the dataset has no feature `action`, without which trainers can't use it{has}")
    if not any(feature.dtype in ("image", "video") for feature in features.values()):
        out.append("the dataset has no camera")
    return out

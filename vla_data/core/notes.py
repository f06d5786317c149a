"""Notes on episodes that a user must see: what was left out, and where a choice was made.

A note is ``code:details``. Most are kept in the ledger alone; those of the codes below are also told when a run
ends, once for each feature, whatever the number of episodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from vla_data.core.episode import Schema
from vla_data.safety.text import show

LEFT_OUT: Final = "left_out"
"""Code of what was left out because the user asked for it."""

NO_TEXT: Final = "no_text"
"""Note on an episode without any instruction."""

_SHOWN: Final = 30
_BY_RULE: Final = "left_out_as_"  # and the reason
_COUNTED: Final = ("video_at_other_rate", "video_of_more_bits")
_SENTENCES: Final[Mapping[str, str]] = {
    "camera_from_numbers": "{} is numbers in the source and a camera now; --images png keeps its pixels",
    "column_left_out": "{} is left out: it is declared nowhere and is neither numbers, texts nor images",
    "data_files_of_no_episode": "{} data files are left out: the metadata lists none of their episodes",
    "declared_against_the_data": "{} is declared, against what the data show",
    "declared_instead_of_the_instruction_of": "--task is the instruction, instead of that of {}",
    "language_left_out": "{} is left out: lerobot's language events have no place in a step",
    "leave_out_names_nothing": "--leave-out names {}, which an episode has not",
    "mask_left_out": "the mask {} is left out",
    "masks_left_out": "masks are left out",
    "names_left_out": "the names of {} are left out: they are not as many as its elements, or in no order",
    "no_column_of": "{} is declared and left out: no data file has it",
    "no_video_of": "{} is declared and left out: there is no video of it",
    "not_declared": "{} is in the records, and declared nowhere",
    "rounded_to_float16": "{} is stored in a wider type and rounded to float16, which is declared",
    "rounded_to_float32": "{} is stored in a wider type and rounded to float32, which is declared",
    "rounded_to_uint8": "{} is rounded to pixels of 8 bits",
    "rows_in_another_file": "rows were not in {}, which the metadata names, but in another file",
    "shape_is_not_as_declared": "{} has another shape than is declared; it is kept as it is stored",
    "video_at_other_rate": "{} frames a second has the video; the times of rows choose among them",
    "video_by_position": "the frames of {} are taken in order, since the times of rows do not name them",
    "video_of_more_bits": "{} bits has the video; they are rounded to 8",
}
"""Code -> what it says, with the details in place of ``{}``. Sorted."""


def told(notes: Iterable[Iterable[str]]) -> list[str]:
    """Lines for a user, most frequent first.

    Args:
        notes: of each episode.
    """
    counts = Counter(note for episode in notes for note in set(episode))
    asked = sorted(note.partition(":")[2] for note in counts if note.partition(":")[0] == LEFT_OUT)
    lines = [f"left out as asked: {', '.join(map(show, asked))}"] if asked else []
    alike: dict[tuple[str, int], list[str]] = {}
    for note, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        code, _, details = note.partition(":")
        one = code if code.startswith(_BY_RULE) else note  # what one rule leaves out has one line
        alike.setdefault((one, count), []).append(details)
    for (one, count), names in alike.items():
        if what := _sentence(one.partition(":")[0], names):
            lines.append(f"{what} ({count:,} episode{'' if count == 1 else 's'})")
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"{more:,} more notes; the ledger has them (vla-data why)"]


def lacking(schema: Schema, notes: Iterable[Iterable[str]]) -> list[str]:
    """Lines on what a dataset does not have and a policy learns from: actions, images, instructions.

    Args:
        schema: of the dataset.
        notes: of each episode.
    """
    names = [name for name in schema.features if name == "action" or name.startswith("action.")]
    lacks = []
    if "action" not in names:
        parts = f" but {', '.join(map(show, names[:_SHOWN]))}, which are not joined" if names else ""
        lacks.append(f"no `action`{parts}")
    if not any(feature.dtype in ("image", "video") for feature in schema.features.values()):
        lacks.append("no image")
    if all(NO_TEXT in own for own in notes):
        lacks.append("no instruction")
    return [f"the dataset has {', '.join(lacks)}"] if lacks else []


def _sentence(code: str, details: Sequence[str]) -> str:
    """What a note says, or nothing for those that the ledger has for its readers alone."""
    if code.startswith(_BY_RULE):
        reason = code.removeprefix(_BY_RULE).replace("_", " ")
        return f"left out as {reason}: {', '.join(map(show, details))}"
    if code not in _SENTENCES:
        return ""
    name, equals, number = details[0].rpartition("=")
    counted = f"{show(name)}: {number}" if equals and code in _COUNTED else show(details[0])
    return _SENTENCES[code].format(counted)

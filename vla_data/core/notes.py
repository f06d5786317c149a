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

NAMES_NOTHING: Final = "leave_out_names_nothing"
"""Code of what was to be left out and is not there."""

NOT_AS_DECLARED: Final = "contradicts_what_is_declared"
"""Code of numbers that can't be what is declared of them."""

NO_TEXT: Final = "no_text"
"""Note on an episode without any instruction."""

_SHOWN: Final = 30
_BY_RULE: Final = "left_out_as_"  # and the reason
_COUNTED: Final = ("instruction_first_of", "video_at_other_rate", "video_of_more_bits")
_SENTENCES: Final[Mapping[str, str]] = {
    "absent_chunks": "chunks of {} are not there; what they hold is the fill value, as zarr reads it",
    "actions_are_poses": "what {} means is undeclared: it is positions, and the file's controller takes deltas",
    "camera_from_numbers": "{} is numbers in the source and a camera now; --images png keeps its pixels",
    "camera_from_texts": "{} is JPEG or PNG files in a column of texts, and a camera now",
    "column_left_out": "{} is left out: it is declared nowhere and is neither numbers, texts nor images",
    "data_files_of_no_episode": "{} data files are left out: the metadata lists none of their episodes",
    "contradicts_what_is_declared": "{}; declare what is true (--declare FEATURE:KEY=VALUE)",
    "declared_against_the_data": "declared, where the data say {}",
    "declared_instead_of_the_instruction_of": "the instruction is as declared, not what {} says",
    "depth_from_video": "{} is depth that was a video of 4,096 levels; it is numbers now, as lerobot reads it",
    "hidden_files_that_lerobot_reads": "{} hidden files are no data; lerobot's own loader reads them: remove them",
    "instruction_first_of": "{} wordings of the instruction; the first that is not empty is taken",
    "instruction_of": "the instruction is what {} says",
    "language_left_out": "{} is left out: it is declared as language, and lerobot knows two such columns alone",
    "language_moved_to_frames": "{} has rows at times of no frame; they hold from the next frame on",
    "language_never_in_effect": "{} has rows that hold at no frame; they are left out",
    NAMES_NOTHING: "{} is not there, and was to be left out",
    "mask_left_out": "the mask {} is left out: it can't be read",
    "masks_left_out": "masks are left out: they can't be read, or are too many",
    "names_left_out": "the names of {} are left out: they are not as many as its elements, or in no order",
    "next_obs_left_out": "next_obs is left out: it is not obs one step later; --next-obs keeps its numbers",
    "no_column_of": "{} is declared and left out: no data file has it",
    "no_video_of": "{} is declared and left out: there is no video of it",
    "not_declared": "{} is left out: the records have it, and nothing declares it",
    "pictures_kept_as_numbers": "{} looks like pictures and stays numbers: cameras are uint8 of three channels",
    "rounded_to_float16": "{} is stored in a wider type and rounded to float16, which is declared",
    "rounded_to_float32": "{} is stored in a wider type and rounded to float32, which is declared",
    "rounded_to_uint8": "{} is rounded to pixels of 8 bits",
    "rows_in_another_file": "rows were not in {}, which the metadata names, but in another file",
    "shape_is_not_as_declared": "{} has another shape than is declared; it is kept as it is stored",
    "subtasks_as_text": "{} is kept as the texts of its table, in the feature `subtask`",
    "task_column_left_out": "the column {} is left out: task_index says what the instruction is",
    "undeclared": "nobody declared {}: images are as stored, observations count as of before the actions",
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
    for note, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        code, _, details = note.partition(":")
        if what := _sentence(code, details):
            lines.append(f"{what} ({count:,} episode{'' if count == 1 else 's'})")
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"{more:,} more notes; the ledger has them (vla-data why)"]


def lacking(schema: Schema, notes: Iterable[Iterable[str]]) -> list[str]:
    """Lines on what a dataset does not have and a policy learns from: actions, images, instructions.

    Args:
        schema: of the dataset.
        notes: of each episode.
    """
    lacks = []
    if not any(name == "action" or name.startswith("action.") for name in schema.features):
        lacks.append("no action")
    elif "action" not in schema.features:
        parts = [name for name in schema.features if name.startswith("action.")]
        lacks.append(f"no `action` that trainers look for, but its parts {_joinable(parts)}")
    if not any(feature.dtype == "image" for feature in schema.features.values()):
        lacks.append("no image")
    if all(NO_TEXT in own for own in notes):
        lacks.append("no instruction")
    return [f"the dataset has {', '.join(lacks)}"] if lacks else []


def no_action(names: Iterable[str]) -> str:
    """What to say where there is no ``action``, of features with these names."""
    parts = [name for name in names if name.startswith("action.")]
    return f"missing key 'action'; there are its parts {_joinable(parts)}" if parts else "missing key 'action'"


def _joinable(parts: Sequence[str]) -> str:
    named = ", ".join(map(show, parts[:_SHOWN]))
    return f"{named} (--join action=PART,PART,... makes one of them, in the order that you know)"


def _sentence(code: str, details: str) -> str:
    """What a note says, or nothing for those that the ledger has for its readers alone."""
    if code.startswith(_BY_RULE):
        return f"{show(details)} is left out as {code.removeprefix(_BY_RULE).replace('_', ' ')}"
    if code not in _SENTENCES:
        return ""
    name, equals, number = details.rpartition("=")
    return _SENTENCES[code].format(f"{show(name)}: {number}" if equals and code in _COUNTED else show(details))

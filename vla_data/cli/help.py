"""How the options of a command are shown: by what they are about, formats apart."""

from __future__ import annotations

import re
from typing import Final

import click

_OWN: Final = "Options"
_READING: Final = "Reading"
_FORMATS: Final = {"Rollouts": "Rollouts", "HDF5": "HDF5", "RLDS": "RLDS", "LeRobot": "LeRobot"}
_SINKS: Final = {"robomimic": "robomimic", "RDT": "RDT"}
_SECTIONS: Final = {
    "Rollouts": ("info_timing", "image_size", "allow_images"),
    _READING: ("fps", "episodes", "task", "leave_out", "instruction", "allow_empty_instruction", "action_limit"),
    "Curation": (
        *("min_success_steps", "success_rule", "pos_thresh", "rot_thresh", "initial_gripper"),
        *("gripper_hysteresis", "gripper_window", "min_length", "max_length", "compat"),
    ),
    "Features": (*("rename", "keep", "drop", "join", "declare", "actions", "base", "resample"),),
    "Images": ("images", "video", "crf", "gop", "preset"),
    "Running": (
        *("workers", "replace", "max_bad", "dedup", "dry_run", "engine", "work", "gates", "debug", "as_json"),
    ),
}
_ORDER: Final = (
    *(_OWN, "Curation", _READING, *_FORMATS.values(), "Features", "Images", *_SINKS.values(), "Running"),
)
_NAMED: Final = re.compile(rf"({'|'.join((*_FORMATS, *_SINKS))}): ")
_FEW: Final = 12
_WIDE, _LINE = 26, 76
_TYPES: Final = (
    *(("INTEGER RANGE", "N"), ("FLOAT RANGE", "X"), ("FLOAT|NONE", "X|none"), ("INTEGER", "N"), ("FLOAT", "X")),
)


class Grouped(click.Command):
    """A command whose options are listed in sections, those of one format together."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Command`."""
        sections: dict[str, list[tuple[str, str]]] = {}
        params = self.get_params(ctx)
        for param in params:
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                title, text = _placed(param, record[1])
                title = title if len(params) > _FEW else _OWN
                sections.setdefault(title, []).append(_fitting(record[0], text))
        for title in sorted(sections, key=_ORDER.index):
            with formatter.section(title):
                formatter.write_dl(sections[title], col_max=_WIDE)


def _placed(param: click.Parameter, text: str) -> tuple[str, str]:
    """The section of an option, and its help without the format's name where the section says it."""
    text = _bounded(text)
    named = _NAMED.findall(text)
    if len(named) == 1 and text.startswith(f"{named[0]}: "):
        rest = text[len(named[0]) + 2 :]
        return {**_FORMATS, **_SINKS}[named[0]], rest[0].upper() + rest[1:]
    for title, names in _SECTIONS.items():
        if param.name in names:
            return title, text
    return _OWN, text


def _fitting(words: str, text: str) -> tuple[str, str]:
    """An option and its help; a choice that is wider than a terminal stands in the help."""
    for long, short in _TYPES:
        words = words.replace(f" {long}", f" {short}")
    names, _, choices = words.partition(" [")
    if len(words) > _LINE and choices:
        return f"{names} NAME".ljust(_WIDE), f"{text} One of {choices.rstrip(']').replace('|', ', ')}."
    return words.ljust(_WIDE), text


def _bounded(text: str) -> str:
    """Bounds that the words beside them say are left out: a count is 1 or more, a share is 0 to 1."""
    text = re.sub(r"  \[(\d+<=?)?x([<>]=?\d+)?\]", "", text)
    return re.sub(r"; x[<>]=?\d+\]", "]", text).replace("<=x<=", " to ")

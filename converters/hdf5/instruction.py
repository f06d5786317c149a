"""Where the instruction of a demo is in an HDF5 file: by name, by declaration, or step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from converters.hdf5.dialects.base import INSTRUCTIONS, Demo, Found, first_text, one_text, words
from converters.hdf5.dialects.odd import below
from vla_data.errors import DataError
from vla_data.safety.hdf5 import Table
from vla_data.safety.text import show

_LONGEST: Final = 300
_SHOWN: Final = 8


class Options(Protocol):
    """The options of `converters.hdf5.source.Hdf5Source` that matter here."""

    @property
    def task(self) -> str | None: ...  # noqa: D102 - see Hdf5Source
    @property
    def instruction(self) -> str | None: ...  # noqa: D102
    @property
    def language(self) -> str: ...  # noqa: D102


def find(demo: Demo, options: Options, file: str) -> Found | None:
    """The instruction, and the rule that told it; None where there is none.

    Args:
        demo: what the file has.
        options: what was declared.
        file: name of the file.

    Raises:
        DataError: E206 for a declared place where no text is.
    """
    found = dict(demo.languages)
    if options.task is not None:
        return Found(options.task, "declared")
    if options.instruction is not None:
        rule, named = _at(demo, options.instruction)
        return Found(named, f"declared:{rule}")
    if options.language == "file_name":
        stem = file.rpartition(".")[0] or file
        return Found(words(stem.removesuffix("_demo"))[0], "file_name")
    if options.language == "attributes":
        for other in ("file_name", "bddl_file_name"):
            found.pop(other, None)
    if (changing := _changing(demo)) is not None:
        return Found(_first(_texts(changing)), f"each_step:{changing[0]}")
    for path, table in _tables(demo):
        if path.rpartition("/")[2] in INSTRUCTIONS and (text := one_text(table.read())) is not None:
            found.setdefault(path, text)
    return next((Found(task, rule) for rule, task in found.items()), None)


def each_step(demo: Demo, options: Options) -> tuple[str, list[str]] | None:
    """The path and the instruction of every action, where it changes within the demo; nobody declared another."""
    if options.task is not None or options.language == "file_name":
        return None
    table = _named(demo, options.instruction) if options.instruction is not None else _changing(demo)
    if table is None or len(texts := _texts(table)) != demo.count or len(set(texts)) < 2:
        return None
    return table[0], texts


def candidates(demo: Demo) -> str:
    """What a refusal says of the texts that there are, under names that are nobody's, or of several wordings."""
    told = [*_attributes(demo), *(path for path, _ in _tables(demo))]
    if several := next((name for name in told if name.rpartition("/")[2] in INSTRUCTIONS), None):
        return f"; {show(several)} has several wordings (--instruction {show(several)} takes the first)"
    names = [
        *(f"attribute {show(name)}" for name in _attributes(demo)),
        *(show(name) for name, _ in _tables(demo)),
    ]
    more = f" and {len(names) - _SHOWN:,} more" if names[_SHOWN:] else ""
    return f"; it has the texts {', '.join(names[:_SHOWN])}{more} (--instruction NAME)" if names else ""


Named = tuple[str, Table]


def _tables(demo: Demo) -> Iterator[Named]:
    """Path below the demo -> dataset of texts."""
    for tables in (demo.extra, demo.seen):
        for table in tables.values():
            if table.kind == "text" and len(table.shape) <= 1:
                yield below(table.path), table


def _attributes(demo: Demo) -> dict[str, Any]:
    """Short texts, and lists of such, among the attributes of the demo and of its file."""
    groups = demo.facts.get("episode_metadata")
    out: dict[str, Any] = {}
    for group in ("demo", "file"):
        facts = groups.get(group, {}) if isinstance(groups, Mapping) else {}
        for name, value in facts.items():
            text = (first_text(name, value) or ("", ""))[1].strip()
            if 0 < len(text) <= _LONGEST and text[0] not in "{[<":
                out.setdefault(name, value)
    return out


def _named(demo: Demo, name: str) -> Named | None:
    return next(((path, table) for path, table in _tables(demo) if path == name.strip("/")), None)


def _changing(demo: Demo) -> Named | None:
    """The dataset called like an instruction that says another one in some step."""
    for path, table in _tables(demo):
        if path.rpartition("/")[2] in INSTRUCTIONS and len(table) == demo.count > 1:
            texts = _texts((path, table))
            if len(set(texts)) > 1 and any(text.strip() for text in texts):
                return path, table
    return None


def _texts(named: Named) -> list[str]:
    table = named[1]
    return table.texts() if table.shape else [str(np.asarray(table.read()).reshape(-1)[0])]


def _at(demo: Demo, name: str) -> tuple[str, str]:
    """(rule, text) of a place that somebody declared."""
    if (table := _named(demo, name)) is not None:
        each = len(table[1]) == demo.count
        return first_text(name, table[1].read()) or (name, "") if not each else (name, _first(_texts(table)))
    known = _attributes(demo)
    if name in known:
        return first_text(name, known[name]) or (name, "")
    raise DataError("E206", f"there is no text {show(name)} in the file{candidates(demo) or '; there is none'}")


def _first(texts: Sequence[str]) -> str:
    return next((text for text in texts if text.strip()), "")

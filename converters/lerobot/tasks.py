"""The task tables of LeRobot datasets, whose numbers other things refer to: GR00T's annotation columns hold them.

**From LeRobot to LeRobot** the source's table is kept: its order, its numbers and the entries that no frame has.
Instructions that it lacks follow it. That holds for any selection of a dataset's episodes, and for merged datasets
that have one and the same table.

**Otherwise** (tables that differ, or whose numbers are not 0, 1, 2, ...) the tasks are numbered in the order in
which they first appear. Integer columns that ``meta/modality.json`` declares as annotations would name other tasks
then, so such a dataset is refused (E005) while it has them.

A table may be large, so that episodes carry its name alone (``task_table``, ``<entries>:<SHA-256>``), and the
source that lists the episodes leaves the table for the sink of the same process.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from vla_data.core import Json, Published, Schema
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import instruction

TABLE: Final = "task_table"
"""Key of ``Episode.meta``: the name of the source's table."""

COLUMNS: Final = "task_columns"
"""Key of ``Episode.meta``: the columns that hold numbers of that table, where there are any."""

FILES: Final = {True: "meta/tasks.parquet", False: "meta/tasks.jsonl"}
"""Whether a dataset is v3.0 -> where its table is."""

_MOST: Final = 16
_DIGITS: Final = 10
_KNOWN: OrderedDict[str, tuple[str, ...]] = OrderedDict()  # what sources of this process listed last


def ordered(tasks: Mapping[int, str]) -> tuple[str, ...] | None:
    """The texts of a table by number; None unless it numbers them 0, 1, 2, ..."""
    try:
        return tuple(tasks[number] for number in range(len(tasks)))
    except KeyError:
        return None


def name_of(table: Sequence[str]) -> str:
    """What a table is called: the number of its entries, and the digest of them."""
    data = json.dumps(list(table)).encode()
    return f"{len(table)}:{hashlib.sha256(data).hexdigest()}"


def leave(table: Sequence[str] | None) -> None:
    """Leave a table, where there is one, for the sink of this process, which finds it by its name."""
    if table is None:
        return
    _KNOWN[name_of(table)] = tuple(table)
    _KNOWN.move_to_end(name_of(table))
    while len(_KNOWN) > _MOST:
        _KNOWN.popitem(last=False)


def annotation_columns(modality: Json) -> tuple[str, ...]:
    """The columns that a ``modality.json`` declares as annotations: ``original_key``, or ``annotation.<name>``."""
    declared = modality.get("annotation") if isinstance(modality, dict) else None
    if not isinstance(declared, dict):
        return ()
    columns = []
    for name, facts in declared.items():
        own = facts.get("original_key") if isinstance(facts, dict) else None
        columns.append(own if isinstance(own, str) else f"annotation.{name}")
    return tuple(columns)


def task_table(episodes: Sequence[Published], schema: Schema) -> list[str]:
    """The instructions of a dataset by their numbers.

    Raises:
        UsageError: E005, the episodes' columns hold numbers of tables that can't be kept.
    """
    names = {episode.summary.get(TABLE) for episode in episodes}
    name = names.pop() if len(names) == 1 else None
    kept = _KNOWN.get(name) if isinstance(name, str) else None
    if kept is None:
        told = {column for episode in episodes for column in episode.summary.get(COLUMNS, ())}
        if lost := sorted(told & schema.features.keys()):
            raise UsageError(
                "E005",
                f"{', '.join(lost)} hold numbers of task tables that differ or have gaps, so that they can't be "
                "kept; convert the datasets one by one or drop these features",
            )
    table = list(kept or ())
    there = set(table)
    for episode in episodes:
        for task in episode.summary["tasks"]:
            if task not in there:
                there.add(task)
                table.append(task)
    return table


def numbers(table: Sequence[str]) -> dict[str, int]:
    """Instruction -> its number; the first one, where a table has a text twice."""
    found: dict[str, int] = {}
    for number, task in enumerate(table):
        found.setdefault(task, number)
    return found


def is_right(table: Sequence[str], names: Iterable[Json], used: Iterable[int]) -> bool:
    """Whether a dataset's table is the one that `task_table` gives.

    Args:
        table: the texts by number.
        names: what each episode's source calls its table, None without one.
        used: the numbers that frames have, in the order in which they first appear.
    """
    named = set(names)
    name = named.pop() if len(named) == 1 else None
    count = 0
    if isinstance(name, str):
        head = name.partition(":")[0]
        count = int(head) if len(head) < _DIGITS and head.isdecimal() else 0
        if count > len(table) or name_of(table[:count]) != name:
            return False
    return [number for number in used if number >= count] == list(range(count, len(table)))


def check_given(task: str) -> None:
    """That an option is an instruction.

    Raises:
        UsageError: it is none.
    """
    try:
        instruction(task, lines=True)
    except DataError as error:
        raise UsageError(error.code, f"task: {error.message}") from None

"""What the metadata of a LeRobot dataset says of its episodes: v3.0, v2.1 and v2.0.

What can't be right refuses the dataset before its first episode.

**Splits.** ``info.json`` gives each split as ``"a:b"``, positions of episodes. A range that goes beyond the last
episode ends there; an entry that is no such range, or begins beyond the end, says nothing. An episode that is in
no range or in ranges of several names has no split. In a dataset of ours an episode has the split that its
source declared, and none where it declared none, whatever the ranges say.

**Ledger.** Facts of an episode that a dataset of ours keeps in ``meta/vla_data/ledger.parquet`` are given
back when the ledger's record for that position has the id that ``meta/episodes`` has for the episode; otherwise
the data were changed by others since, and the record says nothing.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Mapping
from typing import Any, Final

from converters.lerobot import meta, subtasks, tools
from converters.lerobot import tasks as tasks_
from converters.lerobot.camera_stats import CameraStats
from converters.lerobot.places import VERSIONS, Place, Places, Track, whole_numbers
from vla_data.core import Json
from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json

__all__ = ["SIDECAR", "VERSIONS", "Layout", "Place", "Track"]

SIDECAR: Final = "meta/vla_data"

_RANGE: Final = re.compile(r"(\d{1,9}):(\d{1,9})")
_INDEXES: Final = frozenset(meta.INDEX_FEATURES)
_OWN_PREFIXES: Final = ("data/", "videos/", "meta/", "stats/")
_FACTS: Final = ("env", "episode_metadata", "mask_names", "masks", "scene", "seed", "success")
"""Facts of an episode that keep their place; the others say how the first source was read."""

_RUN: Final = ("split", tasks_.TABLE, tasks_.COLUMNS, tools.TOOLS)
"""Facts of the conversion, which the next one finds out for itself."""


class Layout(Places):
    """The metadata of the dataset at ``root``, each file read when it is first needed.

    Raises:
        UsageError: from any method: the dataset can't be read as a whole, with what is wrong in which file.
    """

    @functools.cached_property
    def conventions(self) -> Mapping[str, Mapping[str, Json]]:
        """Feature -> the convention that a dataset of ours declares; empty for those of others."""
        try:
            schema = self.files.json(f"{SIDECAR}/schema.json")
            return {name: dict(feature["convention"]) for name, feature in schema["features"].items()}
        except (DataError, UsageError, KeyError, TypeError, AttributeError, ValueError):
            return {}

    # -- what is known of an episode ----------------------------------------------------------------

    def facts(self, number: int) -> dict[str, Json]:
        """For ``Episode.meta``: ``split``, ``episode_metadata``, ``task_table`` and ``task_columns`` (see
        `converters.lerobot.tasks`) and what our ledger recorded, where known.

        ``episode_metadata`` has the columns of ``meta/episodes`` (or keys of ``episodes.jsonl``) that LeRobot
        does not know, over those that the ledger has. Of a dataset of ours, ``origin`` has the first source's
        ``id`` and how it was read.
        """
        at = self.position(number)
        record = self._recorded(at)
        known = record["meta"] if record else {}
        out = {key: known[key] for key in _FACTS if key in known}
        if record:
            origin = {key: value for key, value in known.items() if key not in (*_FACTS, *_RUN)}
            out["origin"] = origin.get("origin") or {"id": record["id"], **origin}
        told = out.get("episode_metadata")
        own = self._own_columns(at)
        if own or told:
            out["episode_metadata"] = {**(told if isinstance(told, dict) else {}), **own}
        split = known.get("split") if record else self._split(at)
        if split is not None:
            out["split"] = split
        if self.task_table is not None:
            out[tasks_.TABLE] = self._table_name
        if found := tools.declared(self.info):
            out[tools.TOOLS] = found
        if self._task_columns:
            out[tasks_.COLUMNS] = list(self._task_columns)
        return out

    def _split(self, at: int) -> str | None:
        names = {name for name, (start, stop) in self._ranges.items() if start <= at < stop}
        return names.pop() if len(names) == 1 else None

    @functools.cached_property
    def _ranges(self) -> Mapping[str, tuple[int, int]]:
        found = self.info.get("splits")
        out = {}
        for name, text in found.items() if isinstance(found, dict) else ():
            match = _RANGE.fullmatch(text) if isinstance(text, str) else None
            if match:
                out[name] = (int(match[1]), min(int(match[2]), len(self.numbers)))
        return out

    def _own_columns(self, at: int) -> dict[str, Json]:
        if not self.is_v3:
            row = self._episode_lines[at]
            return {key: value for key, value in row.items() if key not in meta.OWN_COLUMNS}
        values = {name: self._table[name][at].as_py() for name in self._other_columns}
        return {name: _plain(value) for name, value in values.items() if value is not None}

    @functools.cached_property
    def _other_columns(self) -> list[str]:
        names = [name for name in self._table.column_names if name not in meta.OWN_COLUMNS]
        return [name for name in names if not name.startswith(_OWN_PREFIXES)]

    def _recorded(self, at: int) -> dict[str, Any]:
        """The ledger's ``id``, ``split`` and ``meta`` of an episode, or nothing."""
        row = self._ledger.get(at)
        if row is None or self._source_ids is None or self._source_ids[at] != row[0]:
            return {}
        try:
            facts = strict_json.loads(row[2].encode(), name="meta")
        except (DataError, AttributeError, UnicodeEncodeError):
            return {}
        return {"id": row[0], "split": row[1], "meta": facts} if isinstance(facts, dict) else {}

    @functools.cached_property
    def _source_ids(self) -> list[Any] | None:
        if not self.is_v3:
            told = [line.get(meta.SOURCE_ID) for line in self._episode_lines]
            return told if any(name is not None for name in told) else None
        return self._table[meta.SOURCE_ID].to_pylist() if meta.SOURCE_ID in self._table.column_names else None

    @functools.cached_property
    def _ledger(self) -> Mapping[int, tuple[Any, Any, Any]]:
        """Position -> id, split and meta of the ledger's published episodes; nothing where there is no ledger."""
        names = ("output_index", "id", "split", "meta")
        try:
            table = self.files.parquet(f"{SIDECAR}/ledger.parquet", lambda name: name in names)
            rows = zip(*(table[name].to_pylist() for name in names), strict=True)
        except (UsageError, KeyError):
            return {}
        return {place: (rest[0], rest[1], rest[2]) for place, *rest in rows if place is not None}

    @functools.cached_property
    def camera_stats(self) -> CameraStats:
        """What is said of the pixels of videos."""
        return CameraStats(self.files, self.numbers, self._cameras, is_v3=self.is_v3)

    # -- tasks --------------------------------------------------------------------------------------

    @functools.cached_property
    def lack_of_tasks(self) -> str:
        """That there is no table of tasks, and why that may be; nothing where there is one."""
        name, other = tasks_.FILES[self.is_v3], tasks_.FILES[not self.is_v3]
        if os.path.lexists(self.root / name):
            return ""
        known = self.info["codebase_version"]
        more = f" {other} is, as if a conversion of it had not finished." if (self.root / other).is_file() else ""
        return f"{name}, in which {known} has the instructions, is not there.{more}"

    def check_tasks(self, task: str | None) -> None:
        """That there is a table of tasks, or ``task``, which all episodes have then.

        Raises:
            UsageError: E003, there is neither.
        """
        if self.lack_of_tasks and task is None:
            raise UsageError("E003", f"{self.lack_of_tasks} --task TEXT gives all episodes one instruction")

    @functools.cached_property
    def tasks(self) -> Mapping[int, str]:
        """``task_index`` -> instruction; empty where there is no such table, see `lack_of_tasks`."""
        if self.lack_of_tasks:
            return {}
        try:
            if not self.is_v3:
                rows = self.files.lines(tasks_.FILES[False])
                pairs = [(row["task_index"], row["task"]) for row in rows]
            else:
                table = self.files.parquet(tasks_.FILES[True], lambda _: True)
                text = "task" if "task" in table.column_names else "__index_level_0__"
                pairs = list(zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True))
            numbered = zip(whole_numbers(number for number, _ in pairs), (task for _, task in pairs), strict=True)
            rows_of = set(numbered)  # recorders that go on append what is there already
            tasks = dict(sorted(rows_of))
        except (KeyError, TypeError, ValueError):
            raise UsageError("E141", "the tasks must be a list of task_index and task") from None
        if len(tasks) != len(rows_of) or not all(isinstance(task, str) for task in tasks.values()):
            raise UsageError("E141", "the tasks must be one text for each number, each number once")
        return tasks

    @functools.cached_property
    def told_tasks(self) -> list[Json]:
        """What the list of episodes says of the instructions of each: as a rule a list of texts."""
        if not self.is_v3:
            return [line.get("tasks") for line in self._episode_lines]
        there = "tasks" in self._table.column_names
        return self._table["tasks"].to_pylist() if there else [None] * len(self._table)

    @functools.cached_property
    def subtasks(self) -> Mapping[int, str]:
        """``subtask_index`` -> text; empty where there is no such table."""
        return subtasks.read(self.files)

    @functools.cached_property
    def task_table(self) -> tuple[str, ...] | None:
        """The tasks by number, where they are numbered as lerobot does."""
        return tasks_.ordered(self.tasks)

    @functools.cached_property
    def _table_name(self) -> str:
        return tasks_.name_of(self.task_table or ())

    @functools.cached_property
    def _task_columns(self) -> tuple[str, ...]:
        """Columns of integers that ``meta/modality.json`` declares as annotations."""
        try:
            named = tasks_.annotation_columns(self.files.json("meta/modality.json"))
        except UsageError:
            return ()
        features = self.info["features"]
        return tuple(n for n in named if "int" in str(features.get(n, {}).get("dtype")) and n not in _INDEXES)


def _plain(value: Any) -> Json:
    """A cell as JSON can say it: what is no finite number, text, list or table of these is given as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.hex() if isinstance(value, bytes) else str(value)

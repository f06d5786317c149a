r"""Advantages in the instruction itself: a copy of the dataset whose tasks end with RECAP's indicator.

Whatever trains on instructions trains RECAP with it, without code: the task of a frame is ``<task>\nAdvantage:
positive`` or ``negative``, the text that `training_adapters.recap.Indicator` gives openpi and RLinf. Type the task
with ``Advantage: positive`` when you evaluate. Frames have another ``task_index``; the tasks of before keep their
numbers, and no frame has one of them. Everything else is as it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from converters.lerobot import meta, v21
from training_adapters import dataset_copy
from training_adapters.recap.indicator import NEGATIVE, POSITIVE, Indicator
from training_adapters.stored import as_lerobot
from vla_data.advantages.annotation import Annotation
from vla_data.advantages.format import Exchanged, labelled, need_labels
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.numbers.flat import Ints
from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.files import arrow
from vla_data.files.tables import MAX_BYTES, read_whole
from vla_data.files.write import files_below, make_folder, open_file, write_file
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show
from vla_data.statistics import vector_stats

INDEX: Final = "task_index"
_STATS: Final = "meta/stats.json"
_INDICATOR: Final = Indicator(target="rlinf")


def files(tag: str) -> tuple[str, ...]:
    """The names of what is written into the dataset: nothing."""
    del tag
    return ()


def write_copy(annotation: Annotation, table: FrameTable, target: Path) -> None:
    """Publish a copy of the dataset with these instructions at ``target``, whole or not at all.

    Raises:
        UsageError: E001 without labels, E302 for an instruction that ends with an indicator already.
        TargetExistsError: E411, ``target`` is there.
    """
    positive = need_labels(annotation, "task-text")
    if unknown := set(table.task.tolist()) - set(table.tasks):
        raise UsageError("E302", f"frames have the task {min(unknown)}, of which the dataset's tasks say nothing")
    pairs = sorted({*zip(table.task.tolist(), positive.tolist(), strict=True)})
    for task, _ in pairs:
        if label_of(table.tasks[task]) is not None:
            raise UsageError("E302", f"the task {show(table.tasks[task])[:80]} has an indicator already")
    first = len(table.tasks)
    if sorted(table.tasks) != list(range(first)):
        raise UsageError("E302", "the dataset's tasks are not numbered 0, 1, 2, ...; convert it first")
    numbers = {pair: first + i for i, pair in enumerate(pairs)}
    texts = dict(table.tasks) | {
        number: _INDICATOR.prompt(table.tasks[task], positive=label) for (task, label), number in numbers.items()
    }
    index = np.asarray([numbers[pair] for pair in zip(table.task.tolist(), positive.tolist(), strict=True)])
    column = dataset_copy.Column(
        make=lambda found, row: arrow.from_numpy(index[row : row + len(found)].astype(np.int64)), leaves=(INDEX,)
    )

    def finish(staging: Path, info: dict[str, Any]) -> None:
        with as_lerobot("what the dataset's metadata say of tasks"):
            info["total_tasks"] = len(texts)
            _write_metadata(table, staging, info, texts, index)

    dataset_copy.write_copy(
        "task-text",
        annotation,
        table,
        target,
        {INDEX: column},
        link=True,
        finish=finish,
        without=[_STATS, v21.TASKS, v21.EPISODES, v21.STATS, "meta/tasks.parquet", *_episode_files(table.root)],
    )


def label_of(task: str) -> bool | None:
    """The label that a task ends with; None without any."""
    return {POSITIVE: True, NEGATIVE: False}.get(task.rpartition("\n")[2])


def _episode_files(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in files_below(root / "meta/episodes", ".parquet")]


def _write_metadata(
    table: FrameTable, staging: Path, info: dict[str, Any], texts: dict[int, str], index: Ints
) -> None:
    """Tasks, the tasks of episodes, and the statistics of ``task_index``, in the dataset's version."""
    starts, ends = table.episodes.starts.tolist(), table.episodes.ends.tolist()
    own = {int(number): index[start:stop] for number, start, stop in zip(table.numbers, starts, ends, strict=True)}
    if info["codebase_version"] == meta.VERSION:
        for name in _episode_files(table.root):
            _write_episodes(table.root, name, staging / name, own, texts)
        meta.write_tasks(staging, [texts[number] for number in range(len(texts))])
    else:
        lines = [
            {**line, "tasks": _told(own[line["episode_index"]], texts)}
            for line in _lines(table.root, v21.EPISODES)
        ]
        _write_lines(staging / v21.EPISODES, lines)
        _write_lines(
            staging / v21.TASKS, [{INDEX: number, "task": text} for number, text in sorted(texts.items())]
        )
        if (table.root / v21.STATS).is_file():
            stats = _lines(table.root, v21.STATS)
            for line in stats:
                if INDEX in line.get("stats", {}):
                    line["stats"][INDEX] = _as_before(line["stats"][INDEX], own[line["episode_index"]])
            _write_lines(staging / v21.STATS, stats)
    if (table.root / _STATS).is_file():
        stats = strict_json.read(table.root / _STATS, root=table.root)
        if INDEX in stats:
            stats[INDEX] = _as_before(stats[INDEX], index)
        meta.write_json(staging / _STATS, stats)


def _as_before(known: dict[str, Json], values: Ints) -> dict[str, Json]:
    """Statistics of ``task_index`` under the names that there were."""
    new = vector_stats(values)
    return {key: new.get(key, value) for key, value in known.items()}


def _told(index: Ints, texts: dict[int, str]) -> list[str]:
    return [texts[number] for number in dict.fromkeys(index.tolist())]


def _write_episodes(root: Path, name: str, target: Path, own: dict[int, Ints], texts: dict[int, str]) -> None:
    """A file of ``meta/episodes`` with other tasks."""
    found = read_whole(root / name, root=root, max_bytes=MAX_BYTES)
    numbers = found["episode_index"].to_pylist()
    changed: dict[str, list[Any]] = {"tasks": [_told(own[number], texts) for number in numbers]}
    names = [name for name in found.column_names if name.startswith(f"stats/{INDEX}/")]
    for name in names:
        key = name.rpartition("/")[2]
        old = found[name].to_pylist()
        changed[name] = [vector_stats(own[n]).get(key, o) for n, o in zip(numbers, old, strict=True)]
    for name, values in changed.items():
        at = found.column_names.index(name)
        found = found.set_column(
            at, found.schema.field(name), arrow.from_rows(values, found.schema.field(name).type)
        )
    make_folder(target.parent)
    with open_file(target) as file:
        pq.write_table(found, file, compression="snappy", write_page_checksum=True)


def _lines(root: Path, name: str) -> Sequence[dict[str, Any]]:
    data = read_file(root / name, root=root)[0]
    return [strict_json.loads(line, name=name, not_finite=True) for line in data.splitlines() if line.strip()]


def _write_lines(path: Path, rows: Sequence[Json]) -> None:
    make_folder(path.parent)
    write_file(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def read(table: FrameTable, tag: str | None) -> Exchanged:
    """The labels that the tasks of the dataset's frames end with."""
    del tag  # tasks have no tag in them
    labels = {number: label_of(text) for number, text in table.tasks.items()}
    found = [labels.get(number) for number in table.task.tolist()]
    return labelled("task-text", table, found)

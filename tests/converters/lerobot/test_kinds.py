"""Records with lists, texts for numbers, tables of tasks and files that are none: right values or a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from converters.lerobot.source import LerobotSource
from tests.lerobot_sets import FILE, numbers, vector, write
from vla_data.core import Episode
from vla_data.errors import DataError, UsageError, VlaDataError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def read(root: Path, **options: Any) -> Episode:
    source = LerobotSource(root=root, **options)
    return source.read(source.episodes()[0])


LISTS = {
    "lists": pa.list_(pa.float32()),
    "fixed": pa.list_(pa.float32(), 2),
    "large": pa.large_list(pa.float64()),
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("declared", [vector(3), None])
def test_a_record_with_lists_is_its_fields_in_their_order(tmp_path: Path, kind: str, declared: Any) -> None:
    rows = numbers()
    record = pa.struct([("arm", LISTS[kind]), ("grip", pa.float32())])
    column = pa.array([{"arm": row[:2].tolist(), "grip": float(row[2])} for row in rows], record)
    features = {"action": declared} if declared else {}
    episode = read(write(tmp_path / "in", [{"action": column}], features))
    assert np.array_equal(episode.arrays["action"], rows)


def test_a_record_with_lists_of_unequal_length_is_refused_by_name(tmp_path: Path) -> None:
    column = pa.array([{"arm": [1.0] * (1 + (t == 2))} for t in range(4)])
    with pytest.raises(DataError, match=r"action.arm has 2 values in row 2.*--drop action leaves"):
        read(write(tmp_path / "in", [{"action": column}], {"action": vector(1)}))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "uint8"])
def test_texts_where_numbers_are_declared_are_refused(tmp_path: Path, dtype: str) -> None:
    texts = [json.dumps(row.tolist()) for row in numbers()]
    root = write(tmp_path / "in", [{"action": texts}], {"action": vector(3, dtype)})
    with pytest.raises(
        DataError, match=f"action is text in row 0, and info.json declares {dtype}; --drop action"
    ) as caught:
        read(root)
    assert caught.value.code == "E208"
    assert "action" not in read(root, leave_out=("action",)).arrays


def tasks(root: Path, *rows: Any) -> Path:
    write(root, [{"action": numbers().tolist()}], {"action": vector()}, version="v2.1")
    (root / "meta/tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_a_task_that_is_listed_again_is_one(tmp_path: Path) -> None:
    row = {"task_index": 0, "task": "lift"}
    assert read(tasks(tmp_path / "a", row, row)).task == "lift"
    with pytest.raises(UsageError, match="one text for each number"):
        read(tasks(tmp_path / "b", row, {**row, "task": "drop"}))


def test_a_task_that_is_not_listed_is_stood_in_for(tmp_path: Path) -> None:
    root = tasks(tmp_path / "a", {"task_index": 7, "task": "lift"})
    with pytest.raises(DataError, match=r"task 0 is not among.*--task stands in"):
        read(root)
    assert read(root, task="pick").task == "pick"


@pytest.mark.parametrize("version", ["3.0", "v3.0"])
def test_a_version_without_its_letter_is_the_version(tmp_path: Path, version: str) -> None:
    root = write(tmp_path / "in", [{"action": numbers().tolist()}], {"action": vector()})
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps({**info, "codebase_version": version}))
    assert np.array_equal(read(root).arrays["action"], numbers())


@pytest.mark.parametrize("name", [FILE, "meta/tasks.parquet", "meta/info.json"])
@pytest.mark.parametrize(("data", "said"), [(POINTER, "a Git LFS pointer"), (b"", "empty|0 bytes|JSON")])
def test_a_file_that_is_none_says_what_it_is(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    root = write(tmp_path / "in", [{"action": numbers().tolist()}], {"action": vector()})
    (root / name).write_bytes(data)
    with pytest.raises(VlaDataError, match=said):
        read(root)


def test_a_column_named_task_is_left_out_for_what_it_is(tmp_path: Path) -> None:
    from vla_data.core.notes import told

    root = write(tmp_path / "in", [{"action": numbers().tolist()}], {"action": vector()})
    table = pq.read_table(root / FILE)
    pq.write_table(table.append_column("task", pa.array(["other"] * len(table))), root / FILE)
    episode = read(root)
    assert told([episode.notes]) == [
        "the column task is left out: task_index says what the instruction is (1 episode)"
    ]

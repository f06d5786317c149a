"""Parquet tables of metadata that mean more than they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from converters.lerobot import data_files
from vla_data.errors import DataError
from vla_data.files.tables import check_rows, open_parquet, read_groups, read_table, read_whole

LIMIT: Final = 16 << 20
_ROWS: Final = 4000
_ONE: Final = pa.DictionaryArray.from_arrays(pa.array([0] * _ROWS, pa.int32()), pa.array(["x" * 100_000]))


def _struct(values: Any) -> Any:
    return pa.StructArray.from_arrays([values, pa.array([1] * len(values))], ["text", "n"])


def _lists(values: Any) -> Any:
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)


def _written(path: Path, column: Any) -> Path:
    """A file of one column; what is repeated is stored once."""
    pq.write_table(pa.table({"a.b": column}), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 200_000
    return path


@pytest.mark.parametrize(
    "column",
    [
        _ONE,
        _lists(_ONE),
        _struct(_ONE),
        _lists(_struct(_ONE)),
        _lists(_lists(_ONE)),
        pa.DictionaryArray.from_arrays(_ONE.indices, pa.array([b"x" * 100_000])),
        pa.nulls(LIMIT // 8 + 1, pa.int64()),
        pa.array([[0] * (LIMIT // 8 + 1)]),
        pa.array([[None] * (LIMIT // 8 + 1)], pa.list_(pa.string())),
    ],
    ids=[
        "text",
        "list",
        "struct",
        "list of structs",
        "list of lists",
        "bytes",
        "nulls",
        "one list",
        "empty texts",
    ],
)
def test_a_table_of_few_bytes_that_means_many_is_refused(column: Any, tmp_path: Path) -> None:
    path = _written(tmp_path / "bomb.parquet", column)
    before = pa.total_allocated_bytes()
    with pytest.raises(DataError) as caught:
        read_whole(path, max_bytes=LIMIT)
    assert caught.value.code == "E107"
    assert pa.total_allocated_bytes() - before < LIMIT


@pytest.mark.parametrize(("rows", "padding"), [(100_001, 0), (300_000, 250_000), (200_001, 300_000)])
def test_more_rows_than_bytes_are_refused(
    rows: int, padding: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vla_data.files.tables.MAX_ROWS", 200_000 if rows == 200_001 else 10_000_000)
    path = tmp_path / "rows.parquet"
    extra = (
        {"padding": pa.array([bytes(range(256)) * (padding // 256 + 1)] + [None] * (rows - 1))} if padding else {}
    )
    pq.write_table(pa.table({"id": pa.nulls(rows), **extra}), path, compression="none")
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert caught.value.code == "E107"


def test_a_ledger_of_many_episodes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    ids = [f"ep_{number}.npz" for number in range(150_000)]
    pq.write_table(pa.table({"id": ids, "status": ["published"] * len(ids)}), path, compression="zstd")
    assert [row["id"] for row in read_table(path)] == ids


def test_other_tables_are_what_pyarrow_reads(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = pa.table(
        {
            "a.b": ["x", None, "x"],
            "a": [1, 2, 3],
            "a.b.list": pa.array([["x", None], [], None], pa.list_(pa.string())),
            "s": pa.array([[{"t": "y", "n": 1}], [], None]),
            "f": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)),
            "d": pa.array(["p", "q", "p"]).dictionary_encode(),
            "b": [b"\xff", b"", None],
        },
        metadata={b"key": b"value"},
    )
    pq.write_table(table, path)
    found = read_whole(path, max_bytes=LIMIT)
    assert found.equals(pq.read_table(path), check_metadata=True)
    some = read_whole(path, wanted=lambda name: name in ("a.b", "s"), max_bytes=LIMIT)
    assert some.equals(pq.read_table(path, columns=["a.b", "s"]))
    assert read_table(path) == table.to_pylist()


@pytest.mark.parametrize("group", [1, 100, 1000])
def test_lists_of_texts_in_several_row_groups_are_read(group: int, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table = pa.table({"i": list(range(1000)), "tasks": [[f"task {number % 7}", "x"] for number in range(1000)]})
    for rows in (table, table.slice(0, 0)):
        pq.write_table(rows, path, row_group_size=group)
        assert read_whole(path, max_bytes=LIMIT).equals(pq.read_table(path), check_metadata=True)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(DataError) as caught:
        read_whole(path, max_bytes=LIMIT)
    assert caught.value.code == "E105"


# -- files of data ----------------------------------------------------------------------------------------


def _data(path: Path, rows: int, text: str) -> pq.ParquetFile:
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))
    table = pa.table({"task": shared, "action": pa.array([[0.5] * 7] * rows, pa.list_(pa.float32(), 7))})
    # Without Arrow's own schema, which would read it as a dictionary again.
    pq.write_table(table, path, compression="zstd", row_group_size=rows // 2, store_schema=False)
    return pq.ParquetFile(path)


@pytest.mark.parametrize("columns", [None, ["task"]])
def test_a_text_that_all_rows_of_a_file_share_is_not_multiplied(columns: Any, tmp_path: Path) -> None:
    reader = _data(tmp_path / "data.parquet", 4000, "x" * 100_000)
    before = pa.total_allocated_bytes()
    with pytest.raises(DataError) as caught:
        read_groups(reader, [0, 1], columns=columns, max_bytes=LIMIT)
    assert caught.value.code == "E107"
    assert pa.total_allocated_bytes() - before < 2 * LIMIT
    assert len(read_groups(reader, [0, 1], columns=["action"], max_bytes=LIMIT)) == 4000


@pytest.mark.parametrize("limit", [1 << 20, 3 << 20, LIMIT])
def test_row_groups_in_pieces_are_those_in_one(limit: int, tmp_path: Path) -> None:
    reader = _data(tmp_path / "data.parquet", 400, "x" * 1000)
    for groups in ([0, 1], [1], []):
        for columns in (None, ["action"], ["task", "action"]):
            found = read_groups(reader, groups, columns=columns, max_bytes=limit)
            assert found.equals(reader.read_row_groups(groups, columns=columns), check_metadata=True)


def test_far_more_rows_than_bytes_of_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"episode_index": pa.nulls(1_000_001, pa.int64())}), path)
    with pytest.raises(DataError, match="1,000,001 rows"):
        check_rows(pq.read_metadata(path), path)
    with pytest.raises(DataError, match="1,000,001 rows"):
        data_files.episodes(path)


def test_names_of_columns_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"column_q": [1, 2]}), path)
    data = path.read_bytes()
    assert data.count(b"column_q") > 1
    path.write_bytes(data.replace(b"column_q", b"column_\x94"))
    with pytest.raises(pa.ArrowException, match="not UTF-8"):
        open_parquet(path)

"""Columns of LeRobot data files: every Arrow type that can hold the same values, and rows that no array has room
for.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn_arrays

import vla_data as vd
from converters.lerobot import values
from converters.lerobot.columns import check_time
from converters.lerobot.names import element_names, flat_names
from converters.lerobot.source import LerobotSource
from tests.lerobot_sets import Here, numbers, vector, write
from vla_data.errors import DataError

WANT: Final = numbers(steps=4, width=3)
ROWS: Final = WANT.tolist()
FLAT: Final = WANT.reshape(-1)


def _lists(kind: pa.DataType) -> pa.Array:
    return pa.array(ROWS, kind)


def _extension() -> pa.Array:
    return pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), [3]), _lists(pa.list_(pa.float32(), 3))
    )


ENCODINGS: Final[dict[str, Callable[[], pa.Array]]] = {
    "list": lambda: _lists(pa.list_(pa.float32())),
    "fixed_size_list": lambda: _lists(pa.list_(pa.float32(), 3)),
    "large_list": lambda: _lists(pa.large_list(pa.float32())),
    "list_view": lambda: _lists(pa.list_view(pa.float32())),
    "large_list_view": lambda: _lists(pa.large_list_view(pa.float32())),
    "nested one deeper": lambda: pa.array([[row] for row in ROWS], pa.list_(pa.list_(pa.float32()))),
    "nested, one a list": lambda: pa.array([[[x] for x in row] for row in ROWS], pa.list_(pa.list_(pa.float32()))),
    "extension": _extension,
    "double": lambda: _lists(pa.list_(pa.float64())),
    "half": lambda: pa.array([[np.float16(x) for x in row] for row in ROWS], pa.list_(pa.float16())),
    "decimal": lambda: pa.array([[Decimal(str(x)) for x in row] for row in ROWS], pa.list_(pa.decimal128(9, 2))),
    "dictionary in lists": lambda: pa.ListArray.from_arrays(
        pa.array(range(0, len(FLAT) + 1, 3), pa.int32()), pa.array(FLAT).dictionary_encode()
    ),
    "records": lambda: pa.array([dict(zip("abc", row, strict=True)) for row in ROWS]),
    "records in another order": lambda: pa.array([{"c": row[2], "a": row[0], "b": row[1]} for row in ROWS]),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_same_numbers_are_read_from_every_type(encoding: str) -> None:
    column = pa.chunked_array([ENCODINGS[encoding]()])
    assert values.holds_array(column.type)
    found, notes = values.array_of(column, "action", vector(names=["a", "b", "c"]))
    assert (found.dtype, found.tolist(), notes) == (np.float32, ROWS, [])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_slices_and_chunks_are_read_as_one(encoding: str) -> None:
    whole = ENCODINGS[encoding]()
    column = pa.chunked_array([whole.slice(0, 1), whole.slice(1)])
    assert values.array_of(column, "action", vector(names=["a", "b", "c"]))[0].tolist() == ROWS


_INTEGERS: Final = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@pytest.mark.parametrize("stored", [*_INTEGERS, "float32", "float64", "bool"])
@pytest.mark.parametrize("declared", [*_INTEGERS, "float32", "float64", "bool"])
def test_flags_are_the_declared_type_whatever_they_are_stored_as(stored: str, declared: str) -> None:
    column = pa.chunked_array([pa.array(np.array([0, 1, 1, 0]).astype(stored))])
    found, notes = values.array_of(column, "next.done", vector(1, declared))
    assert (found.dtype, found.tolist(), notes) == (np.dtype(declared), [0, 1, 1, 0], [])


TYPED: Final = st.sampled_from(["int8", "int64", "uint8", "uint64", "float32", "float64"])


@given(
    stored=TYPED.flatmap(
        lambda kind: drawn_arrays(kind, (3,), elements={"allow_nan": False} if kind[0] == "f" else None)
    ),
    declared=TYPED,
)
def test_a_cast_is_exact_rounded_with_a_note_or_refused(stored: Any, declared: str) -> None:
    column = pa.chunked_array([pa.array(stored)])
    limits = None if declared[0] == "f" else np.iinfo(declared)
    exact = [_holds(number.item(), declared, limits) for number in stored]
    try:
        found, notes = values.array_of(column, "x", vector(1, declared))
    except DataError as error:
        assert error.code == "E208"
        assert not all(exact)
        return
    assert found.dtype == np.dtype(declared)
    if all(exact):
        assert notes == []
        assert [number.item() for number in found] == [number.item() for number in stored]
    else:
        assert notes == [f"rounded_to_{declared}:x"]
        assert stored.dtype.kind == "f"


def _holds(number: Any, declared: str, limits: Any) -> bool:
    """Whether a type holds a Python number exactly, by Python's own arithmetic."""
    if limits is not None:
        return bool(np.isfinite(number) and number == int(number) and limits.min <= int(number) <= limits.max)
    with np.errstate(over="ignore"):
        return bool(np.dtype(declared).type(number).item() == number)


@pytest.mark.parametrize(
    ("cells", "code", "words"),
    [
        ([*ROWS[:3], None], "E203", "action has no value in row 3"),
        ([*ROWS[:2], [1.0, None, 2.0], ROWS[3]], "E203", "action has no value in row 2"),
        ([ROWS[0], [1.0, 2.0], *ROWS[2:]], "E203", "action has 2 values in row 1 and 3 in row 0"),
        ([*ROWS[:3], [1e300, 0.0, 0.0]], "E208", "action is 1e+300 in row 3"),
    ],
)
def test_a_row_that_an_array_has_no_room_for_is_named(cells: Any, code: str, words: str) -> None:
    with pytest.raises(DataError, match="--drop action leaves it out") as caught:
        values.array_of(pa.chunked_array([pa.array(cells)]), "action", vector())
    assert caught.value.code == code
    assert words in caught.value.message


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b"]),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["a", "b"])),
        pa.array([["a"], ["b"]]),
    ],
    ids=lambda column: str(column.type),
)
def test_texts_of_every_type_are_read(column: pa.Array) -> None:
    found, notes = values.array_of(pa.chunked_array([column]), "note", vector(1, "string"))
    assert (found.tolist(), notes) == (["a", "b"], [])


def test_numbers_in_run_ends_are_read() -> None:
    column = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array([1.5, 2.5]))
    assert values.array_of(pa.chunked_array([column]), "x", {})[0].tolist() == [1.5, 1.5, 2.5]


def test_types_that_differ_between_files_become_the_declared_one(tmp_path: Path) -> None:
    write(tmp_path / "in", [{"action": ROWS}] * 3, {"action": vector()}, version="v2.1")
    for number, kind in ((1, pa.float64()), (2, pa.int64())):
        path = tmp_path / f"in/data/chunk-000/episode_{number:06d}.parquet"
        table = pq.read_table(path)
        cells = [[float(number)] * 3] * len(table)
        at = table.column_names.index("action")
        pq.write_table(table.set_column(at, "action", pa.array(cells).cast(pa.list_(kind))), path)
    report = vd.run(vd.open_source(tmp_path / "in"), (), vd.open_sink(tmp_path / "out"), engine=Here())
    assert report.counts["published_episodes"] == 3
    table = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet")
    assert table.schema.field("action").type.value_type == pa.float32()
    assert table["action"].to_pylist()[4:] == [[1.0] * 3] * 4 + [[2.0] * 3] * 4


def test_statistics_read_the_same_columns_as_the_source(tmp_path: Path) -> None:
    columns = {"action": ENCODINGS["dictionary in lists"](), "big": pa.array(ROWS, pa.large_list(pa.float64()))}
    write(tmp_path / "in", [columns] * 2, {"action": vector(), "big": vector()})
    source = LerobotSource(root=tmp_path / "in")
    refs = source.episodes()
    for (name, found), ref in zip(source.columns(refs, ["action", "big"]), refs, strict=True):
        want = source.read(ref).arrays
        assert name == ref.id
        assert not isinstance(found, DataError)
        for key in ("action", "big"):
            assert found[key].dtype == want[key].dtype == np.float32
            np.testing.assert_array_equal(found[key], want[key])


def test_statistics_refuse_the_rows_that_the_source_refuses(tmp_path: Path) -> None:
    write(tmp_path / "in", [{"action": [*ROWS[:3], None]}, {"action": ROWS}], {"action": vector()})
    source = LerobotSource(root=tmp_path / "in")
    (_, first), (_, second) = source.columns(source.episodes(), ["action"])
    assert isinstance(first, DataError)
    assert "row 3" in first.message
    assert not isinstance(second, DataError)


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (["x", "y", "z"], ("x", "y", "z")),
        ([["x", "y", "z"]], ("x", "y", "z")),
        ([["x"], ["y", "z"]], ("x", "y", "z")),
        ({"motors": ["x", "y", "z"]}, ("x", "y", "z")),
        ({"arm": ["x", "y"], "hand": ["z"]}, ("x", "y", "z")),
        ({"x": 0, "z": 2, "y": 1}, ("x", "y", "z")),
        ({"x": 0, "y": 2}, None),
        ({"x": True, "y": 0}, None),
        ([["x", 1]], None),
        ([], None),
        ({}, None),
        ("xyz", None),
        (None, None),
        (3, None),
    ],
)
def test_names_in_every_form(names: Any, want: Any) -> None:
    assert (flat_names(names) or None) == want
    assert element_names(names, (3,)) == want
    assert element_names(names, (4,)) is None


@pytest.mark.parametrize("feature", [{}, vector(1, "float16")])
def test_short_floats_become_longer_ones_with_a_note(feature: Any) -> None:
    column = pa.chunked_array([pa.array([np.float16(0.1), np.float16(65504)], pa.float16())])
    found, notes = values.array_of(column, "x", feature)
    assert (found.dtype, notes) == (np.float32, ["float16_as_float32:x"])
    assert found.tolist() == [float(np.float16(0.1)), 65504.0]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", [pa.duration, pa.timestamp])
def test_times_of_every_unit_are_seconds(kind: Any, unit: str) -> None:
    ticks = np.arange(5, dtype=np.int64) * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    if kind is pa.timestamp:
        ticks += 1_700_000_000 * ticks[1]
    column = pa.chunked_array([pa.array(part, kind(unit)) for part in (ticks[:2], ticks[2:])])
    table = pa.table({"frame_index": pa.array(np.arange(5)), "timestamp": column})
    np.testing.assert_array_equal(check_time(table, 1.0), np.arange(5.0))
    with pytest.raises(DataError, match="E221"):
        check_time(table, 2.0)
    gap = pa.table({"frame_index": pa.array([0, 1]), "timestamp": pa.array([0, None], kind(unit))})
    with pytest.raises(DataError, match="E203"):
        check_time(gap, 1.0)

"""Arrays from buffers are those that Arrow itself makes, and no job imports pandas for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.paths import ROOT, TESTS
from vla_data.files import arrow

SCALARS = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.uint16(): st.integers(0, 65535),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats() | st.integers(-1000, 1000),
    pa.string(): st.text(),
    pa.binary(): st.binary(),
}


@st.composite
def kinds_and_rows(draw: st.DrawFn, depth: int = 2) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
    """A type, and a strategy for its values."""
    form = draw(st.sampled_from(["scalar", "list", "fixed", "record"])) if depth else "scalar"
    if form == "scalar":
        kind = draw(st.sampled_from(sorted(SCALARS, key=str)))
        return kind, st.none() | SCALARS[kind]
    inner, values = draw(kinds_and_rows(depth=depth - 1))
    if form == "list":
        return pa.list_(inner), st.none() | st.lists(values, max_size=4)
    if form == "fixed":
        size = draw(st.integers(1, 3))
        return pa.list_(inner, size), st.none() | st.lists(values, min_size=size, max_size=size)
    other, more = draw(kinds_and_rows(depth=depth - 1))
    record = st.fixed_dictionaries({"a": values}, optional={"b": more})
    return pa.struct([("a", inner), ("b", other)]), st.none() | record


@given(st.data())
def test_rows_become_what_arrow_makes_of_them(data: st.DataObject) -> None:
    kind, values = data.draw(kinds_and_rows())
    rows = data.draw(st.lists(values, max_size=20))
    ours, stock = arrow.from_rows(rows, kind), pa.array(rows, kind)
    ours.validate(full=True)
    assert ours.type == kind
    assert str(ours.to_pylist()) == str(stock.to_pylist())  # as text, for NaN equals NaN there


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (pa.int8(), [128]),
        (pa.uint8(), [-1]),
        (pa.int64(), [1.5]),
        (pa.int64(), ["1"]),
        (pa.int64(), [True]),
        (pa.float32(), ["x"]),
        (pa.bool_(), [1]),
        (pa.string(), [b"x", 3]),
        (pa.list_(pa.int64(), 2), [[1, 2, 3]]),
    ],
)
def test_a_value_of_another_type_is_an_error(kind: pa.DataType, rows: list[Any]) -> None:
    with pytest.raises((pa.ArrowException, TypeError, OverflowError, AttributeError)):
        arrow.from_rows(rows, kind)


ARRAYS = npst.arrays(
    dtype=st.sampled_from(["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", ">i2"]),
    shape=st.tuples(st.integers(0, 40)),
)


@given(ARRAYS, st.integers(1, 3), st.integers(0, 9), st.integers(0, 9))
def test_numbers_go_to_arrow_and_back(values: np.ndarray[Any, Any], every: int, start: int, stop: int) -> None:
    values = values[::every]
    column = arrow.from_numpy(values)
    column.validate(full=True)
    assert column.type == pa.from_numpy_dtype(values.dtype.newbyteorder("="))
    part = column.slice(start, stop)
    back = arrow.to_numpy(part)
    np.testing.assert_array_equal(back, values[start : start + stop])
    np.testing.assert_array_equal(back, part.to_numpy(zero_copy_only=False))
    assert back.dtype == part.to_numpy(zero_copy_only=False).dtype
    pieces = pa.chunked_array([part, column], type=column.type)
    np.testing.assert_array_equal(arrow.to_numpy(pieces), pieces.to_numpy())


@pytest.mark.parametrize("rows", [[1, None], [1.5, None], [True, None], ["a", None]])
def test_what_is_missing_is_as_arrow_gives_it(rows: list[Any]) -> None:
    column = pa.array(rows)
    assert str(arrow.to_numpy(column)) == str(column.to_numpy(zero_copy_only=False))


def test_lists_of_one_size() -> None:
    column = arrow.lists(arrow.from_numpy(np.arange(6)), 3)
    assert column.equals(pa.array([[0, 1, 2], [3, 4, 5]]))


@pytest.mark.parametrize(
    "values",
    [[1, 2], [1, 2.5], [None], [[1], [2.5]], [[[1]], [[2.0], None]], ["a", None], [True], [b"x"], [[], [1]]],
)
def test_types_are_those_that_arrow_infers(values: list[Any]) -> None:
    assert arrow.type_of(values) == pa.infer_type(values)


@pytest.mark.parametrize("values", [[1, "a"], [True, 1], [[1], 1], [object()]])
def test_unlike_types_are_an_error(values: list[Any]) -> None:
    with pytest.raises(TypeError, match="value"):
        arrow.type_of(values)


TRAP = """
import traceback
with open({log!r}, "a") as file:
    file.write("".join(traceback.format_stack(limit=12)) + "\\n\\n")
raise ImportError("a trap of the tests")
"""
ROLLOUTS, LIFT = str(TESTS / "data/rollouts"), str(TESTS / "data/hdf5/robomimic_lift.hdf5")


def test_no_job_reader_or_worker_imports_pandas(tmp_path: Path) -> None:
    """A trap that is first on the path writes who imported it, in this process and in its workers."""
    log = tmp_path / "log"
    (tmp_path / "trap/pandas").mkdir(parents=True)
    (tmp_path / "trap/pandas/__init__.py").write_text(TRAP.format(log=str(log)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path / "trap"), str(ROOT)))}

    def run(*words: str) -> None:
        command = [sys.executable, "-m", "vla_data", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout
        assert not log.exists(), f"{words}\n{log.read_text()}"

    run("align", ROLLOUTS, "lerobot", "--fps", "5", "--workers", "2")
    run("build", "ppo_sft_aligned", "--input", ROLLOUTS, "--data-dir", "data")
    run("convert", LIFT, "lift", "--to", "lerobot", "--workers", "2", "--task", "lift")
    for target in ("rlds", "robomimic"):
        run("convert", "lift", f"lift_{target}", "--to", target)
    run("convert", "lift_rlds", "lift_back", "--to", "lerobot")
    run("inspect", "lift")
    run("verify", "lift", "--deep")
    run("stats", "lift", "--format", "lerobot")
    done = subprocess.run(
        [sys.executable, "-c", "import pandas"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert done.returncode
    assert log.exists(), "the trap is not set"

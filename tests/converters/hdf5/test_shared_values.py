"""HDF5 rows of no fixed size that are all one value, stored once: a few megabytes that mean terabytes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from converters.hdf5 import listing
from vla_data.errors import DataError
from vla_data.safety import hdf5

_REFERENCE = 16  # bytes of a row: length, address of the heap, index in it


def shared(path: Path, value: Any, shape: tuple[int, ...], name: str = "mask/evil") -> Path:
    """A file with a table whose elements are all the same one."""
    kind = h5py.vlen_dtype(np.uint8) if isinstance(value, np.ndarray) else h5py.string_dtype()
    with h5py.File(path, "w") as file:
        table = file.create_dataset(name, shape, dtype=kind)
        table[(0,) * len(shape)] = value
        file.flush()
        at = table.id.get_offset()
    with path.open("r+b") as raw:
        raw.seek(at)
        reference = raw.read(_REFERENCE)
        raw.seek(at)
        raw.write(reference * int(np.prod(shape)))
    return path


@pytest.mark.parametrize("value", ["y" * 100_000, np.ones(100_000, np.uint8)], ids=["text", "bytes"])
def test_rows_that_are_one_value_are_refused_before_they_are_many(
    value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "MAX_VARYING", 8 << 20)
    file = hdf5.File(shared(tmp_path / "a.h5", value, (2000,)), root=tmp_path)
    table = file.top.group("mask").table("evil")
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            table.read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "E107"
    assert peak < 24 << 20
    assert len(table.read(5, 15)) == 10
    assert len(table.read(3, 3)) == 0
    if isinstance(value, str):
        assert table.texts(7, 8) == [value]
    file.close()


def test_many_such_values_in_one_row_are_refused(tmp_path: Path) -> None:
    file = hdf5.File(shared(tmp_path / "a.h5", "y", (2, 65)), root=tmp_path)
    with pytest.raises(DataError) as caught:
        file.top.group("mask").table("evil")
    assert caught.value.code == "E107"
    file.close()


def test_rows_that_differ_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "MAX_VARYING", 10_000)  # 8 rows at a time
    words = [f"word {number} é" for number in range(100)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["words"] = words
        file["pairs"] = np.asarray([[w, w] for w in words], dtype=object)
        file["none"] = np.asarray([], dtype=h5py.string_dtype())
        file["fixed"] = np.asarray(["a", "b", "c"], dtype="S20")
    opened = hdf5.File(tmp_path / "a.h5", root=tmp_path)
    assert opened.top.table("words").texts() == words
    assert opened.top.table("words").texts(13, 57) == words[13:57]
    assert opened.top.table("pairs").read(3, 99).shape == (96, 2)
    assert opened.top.table("none").texts() == []
    assert len(opened.top.table("fixed").read()) == 3
    opened.close()


def test_names_that_are_too_long_taken_together_are_not_sent_to_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for number in range(20):
            file[f"data/demo_{number}/actions"] = np.zeros((2, 7))
        file["mask/all"] = [f"demo_{number}" for number in range(20)]
    file = hdf5.File(path, root=tmp_path)
    assert len(listing.demos(file.top, "robomimic", "all")) == 20
    monkeypatch.setattr(listing, "MAX_NAMES", 100)
    for mask in (None, "all"):
        with pytest.raises(DataError) as caught:
            listing.demos(file.top, "robomimic", mask)
        assert caught.value.code == "E107"
    file.close()

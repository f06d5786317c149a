"""HDF5 files on which the library would never end are told before it sees them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import vla_data as vd
from tests.lerobot_sets import Here
from tests.paths import TESTS
from vla_data.errors import DataError
from vla_data.files.sums import format_sums, hash_file
from vla_data.safety import hdf5_heaps
from vla_data.safety.hdf5_heaps import check_heaps


def without_free_space(path: Path) -> None:
    """Overwrite the size of the free space of the first heap with zeros."""
    data = bytearray(path.read_bytes())
    start = data.index(b"GCOL")
    at = start + 16
    while int.from_bytes(data[at : at + 2], "little"):
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    data[at + 8 : at + 16] = bytes(8)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("piece", [16 << 20, 1024, 11])
def test_free_space_without_a_size_is_told(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_heaps, "_PIECE", piece)
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(300)
        file.attrs["text"] = "some text of no fixed size"
        file["look"] = np.frombuffer(b"GCOL\x01\0\0\0" * 20, np.uint8)  # a look-alike in the data is none
    check_heaps(path, root=tmp_path)
    without_free_space(path)
    with pytest.raises(DataError, match="E105"):
        check_heaps(path, root=tmp_path)


@pytest.mark.timeout(60)
def test_verify_ends(tmp_path: Path) -> None:
    root = tmp_path / "set"
    vd.run(vd.open_source(TESTS / "data/rollouts"), (), vd.open_sink(root, format="robomimic"), engine=Here())
    (file,) = root.rglob("*.hdf5")
    without_free_space(file)
    (sums,) = root.rglob("SHA256SUMS")
    names = [path for path in root.rglob("*") if path.is_file() and path != sums]
    sums.write_bytes(format_sums({path.relative_to(root).as_posix(): hash_file(path) for path in names}))
    found = vd.verify(root, deep=True)
    assert not found.ok
    assert "free space" in str(found.damages)

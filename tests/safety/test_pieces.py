"""Pieces of a file that is read again and again, whatever becomes of it meanwhile."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_data.errors import DataError
from vla_data.safety import pieces
from vla_data.safety.pieces import Pieces


def _cut(path: Path) -> None:
    os.truncate(path, 10)


def _exchange(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def _link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("/dev/zero")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "code"),
    [(_cut, "E109"), (_exchange, "E109"), (_link, "E131"), (_fifo, "E131"), (Path.unlink, "E133")],
    ids=["cut", "exchanged", "a link to a device", "a fifo", "gone"],
)
def test_file_that_is_not_held_and_became_another_is_refused(
    tmp_path: Path, change: Callable[[Path], None], code: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    file = Pieces(path)
    assert file.read(3, 4) == bytes([3, 4, 5, 6])
    pieces._held.cache_clear()
    change(path)
    with pytest.raises(DataError) as refused:
        file.read(3, 4)
    assert refused.value.code == code


def test_end_of_a_file_that_is_cut_while_it_is_held_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    file = Pieces(path)
    assert file.read(0, 100) == bytes(range(100))
    _cut(path)
    assert file.read(3, 4) == bytes([3, 4, 5, 6])
    with pytest.raises(DataError, match=r"E105.*ends 2 bytes"):
        file.read(8, 4)


def test_few_files_are_open_however_many_are_read_and_by_however_many_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = 8
    monkeypatch.setattr(pieces, "_held", pieces.functools.lru_cache(maxsize=few)(pieces._held.__wrapped__))
    files = []
    for number in range(64):
        (tmp_path / str(number)).write_bytes(number.to_bytes(2, "little") * 50)
        files.append(Pieces(tmp_path / str(number)))
    before, most, wrong = len(os.listdir("/dev/fd")), 0, []

    def look(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(300):
            number = draw.randrange(64)
            if files[number].read(10, 2) != number.to_bytes(2, "little"):
                wrong.append(number)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(os.listdir("/dev/fd")))
    assert wrong == []
    assert len(os.listdir("/dev/fd")) <= before + few
    assert most <= before + few + 2 * len(threads)

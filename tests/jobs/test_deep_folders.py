"""Folders nested deeper than Python calls itself: a stranger can make them, and nothing may fail for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import vla_data as vd
from tests.jobs.test_strangers import Here, convert
from tests.rollouts import rollout, save
from vla_data.errors import TargetExistsError
from vla_data.files.folders import folders_below
from vla_data.files.write import files_below, sync_tree
from vla_data.jobs.targets import Seen

_DEPTH = 1100


@pytest.fixture
def rollouts(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "rollouts"
    for number in range(2):
        save(folder, f"{number}.npz", rollout(2, seed=number, size=(8, 8)))
    yield folder
    # Python 3.11 can't remove them either.
    subprocess.run(["rm", "-rf", "--", *map(str, tmp_path.iterdir())], check=True)


def nest(folder: Path, depth: int, last: str = "last") -> None:
    """Folders in one another, the last one with a file."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open(last, os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


def test_they_are_walked(rollouts: Path, tmp_path: Path) -> None:
    nest(tmp_path, _DEPTH, "last.npz")
    found = list(folders_below(tmp_path / "d"))
    assert len(found) == _DEPTH
    assert found[-1][1] == ["last.npz"]
    assert len(files_below(tmp_path / "d", ".npz")) == 1
    sync_tree(tmp_path / "d")


def test_an_old_dataset_with_them_is_not_replaced(rollouts: Path, tmp_path: Path) -> None:
    convert(rollouts, tmp_path / "out")
    nest(tmp_path / "out", _DEPTH)
    with pytest.raises(TargetExistsError, match="nested more than 64 deep"):
        convert(rollouts, tmp_path / "out", lambda: pytest.fail("it has begun"), replace=True)
    assert (tmp_path / "out/meta/info.json").is_file()


def test_64_of_them_are_seen_and_replaced(rollouts: Path, tmp_path: Path) -> None:
    convert(rollouts, tmp_path / "out")
    nest(tmp_path / "out", 64)
    seen = Seen.at(tmp_path / "out")
    assert sum(f"{name}/".startswith("d/") for name in seen.entries) == 65
    assert seen.difference(tmp_path / "out") is None
    assert convert(rollouts, tmp_path / "out", replace=True).exit_code == 0
    assert not (tmp_path / "out/d").exists()


@pytest.mark.parametrize("format", ["lerobot", "rlds", "robomimic", "plain_rollout"])
def test_a_dataset_with_them_is_verified_and_read(format: str, rollouts: Path, tmp_path: Path) -> None:
    options = {"rlds": {"name": "x"}, "lerobot": {"images": "jpeg"}}.get(format, {})
    made = tmp_path / "made"
    vd.run(vd.open_source(rollouts), (), vd.open_sink(made, format=format, **options), engine=Here())
    nest(made / "data" if format == "lerobot" else made, _DEPTH)
    verdict = vd.verify(made, deep=True)
    assert {damage.kind for damage in verdict.damages} <= {"unexpected", "content"}
    assert len(vd.open_source(made).episodes()) == 2


def test_rollouts_with_them_are_listed(rollouts: Path) -> None:
    nest(rollouts, _DEPTH, "last.npz")
    assert len(vd.open_source(rollouts).episodes()) == 3

"""What tools leave in a folder of data is no data, in any format; what somebody names is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vla_data as vd
from tests import calvin_sets, ript_rollouts, zarr_buffers
from tests.converters.rlinf import test_rlinf
from tests.converters.test_contracts import OPTIONS, installed, whole
from tests.hdf5_files import robomimic_file
from tests.paths import TESTS
from vla_data.errors import UsageError
from vla_data.files.folders import has_hidden, is_hidden
from vla_data.formats import detect

DATA = TESTS / "data"
HIDDEN = (".ipynb_checkpoints", ".git", ".cache", ".Trash-0", "__MACOSX")


def _lerobot(folder: Path) -> Path:
    source = vd.open_source(DATA / "rollouts")
    vd.run(source, (), vd.open_sink(folder, images="png"), workers=0)
    return folder


def _copied(name: str) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copytree(DATA / name, folder))


def _hdf5(folder: Path) -> Path:
    folder.mkdir()
    return robomimic_file(folder / "a.hdf5").parent


def _rlinf(folder: Path) -> Path:
    test_rlinf.write(folder, test_rlinf.episode(success=True), number=0)
    return folder


MADE: dict[str, Callable[[Path], Path]] = {
    "calvin": calvin_sets.write,
    "hdf5": _hdf5,
    "lerobot": _lerobot,
    "ppo_rollout": _copied("rollouts"),
    "rlds": _copied("rlds"),
    "ript": lambda folder: ript_rollouts.write(folder, [ript_rollouts.quest(0)]),
    "rlinf": _rlinf,
    "zarr": zarr_buffers.write,
}
ASKED: dict[str, dict[str, Any]] = {**OPTIONS, "hdf5": {"task": "lift"}}


def _littered(folder: Path) -> None:
    """Copies of every file in every kind of hidden place, of all folders."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for here in folders:
        files = [path for path in here.iterdir() if path.is_file()]
        for name in HIDDEN:
            (here / name).mkdir()
            for file in files:
                shutil.copy(file, here / name / file.name)
        for file in files:
            shutil.copy(file, here / f".{file.name}")
            (here / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(60))
        (here / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")


@pytest.mark.parametrize("format", MADE)
def test_nothing_hidden_is_read_or_counted(tmp_path: Path, format: str) -> None:
    if not installed(format):
        pytest.skip(f"{format} is not installed")
    place = MADE[format](tmp_path / ("training" if format == "calvin" else "set"))
    address, options = f"{format}:{place}", ASKED.get(format, {})
    before = vd.open_source(address, **options)
    want = [(ref.id, ref.size, whole(before.read(ref))) for ref in before.episodes()]
    told = detect(place) if format != "ript" else ""
    _littered(place)
    after = vd.open_source(address, **options)
    sizes = format not in ("lerobot", "zarr")  # which share their folder's
    found = [(ref.id, ref.size, whole(after.read(ref))) for ref in after.episodes()]
    assert [(one[0], one[2]) for one in found] == [(one[0], one[2]) for one in want]
    assert not sizes or found == want
    assert format == "ript" or detect(place) == told


def test_what_is_named_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / ".cache/sets").mkdir(parents=True)
    path = robomimic_file(tmp_path / ".cache/sets/.a.hdf5")
    source = vd.open_source(path, task="lift")
    assert [ref.id for ref in source.episodes()] == [".a.hdf5/demo_0"]
    assert len(source.read(source.episodes()[0])) == 5
    shutil.copy(path, path.with_name("b.hdf5"))
    assert [ref.id for ref in vd.open_source(path.parent, task="lift").episodes()] == ["b.hdf5/demo_0"]


@pytest.mark.parametrize("name", [*HIDDEN, "._a.hdf5", ".DS_Store", ".b"])
def test_only_hidden_files_are_no_data(tmp_path: Path, name: str) -> None:
    place = tmp_path / "set" / name
    if "." in name[1:] and not name.startswith(".ipynb") and name != ".Trash-0":
        place.parent.mkdir()
        place.write_bytes(b"x")
    else:
        place.mkdir(parents=True)
        robomimic_file(place / "a.hdf5")
    with pytest.raises(UsageError, match="has no files but hidden ones"):
        detect(tmp_path / "set")
    assert is_hidden(name)
    assert has_hidden(f"a/{name}/b")
    assert has_hidden(name)


@pytest.mark.parametrize("name", ["a.b", "_x", "MACOSX", "a..", "__pycache__x", ".zarray"])
def test_other_names_are_not_hidden(name: str) -> None:
    assert not is_hidden(name)
    assert not has_hidden(f"{name}/{name}")

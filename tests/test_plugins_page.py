"""The code of the page on formats, HDF5 layouts and trainers of one's own, as written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from tests.paths import ROOT
from tests.rollouts import MOVE, rollout, save
from vla_data._version import PACKAGES

PAGE = (ROOT / "docs/plugins.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def script(name: str) -> str:
    (found,) = [block for block in blocks("python") if block.startswith(f"# {name}\n")]
    return found


def vla_data(folder: Path, *words: object, path: str = "", code: int = 0) -> str:
    """What a command prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, str(ROOT))))}
    command = [sys.executable, "-m", "vla_data", *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "rollouts", "a.npz", rollout(actions=[MOVE] * 6))
    save(tmp_path / "rollouts", "b.npz", rollout(actions=[MOVE] * 9, instruction="open the drawer"))
    return tmp_path


@pytest.fixture
def installed(folder: Path) -> str:
    """A folder with the distribution of the page, as pip would leave it."""
    site = folder / "site"
    info = site / "my_lab-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (toml,) = blocks("toml")
    text = toml.replace('[project.entry-points."', "[").replace('"]', "]").replace('"', "")
    (info / "entry_points.txt").write_text(text)
    for name in ("npz_folder.py", "my_trainer.py"):
        (site / name).write_text(script(name))
    return str(site)


def rows(root: Path) -> list[list[float]]:
    (file,) = root.glob("data/*/*.parquet")
    found: list[list[float]] = pq.read_table(file)["action"].to_pylist()
    return found


def test_every_block_is_run() -> None:
    assert [block.split()[1] for block in blocks("python")] == ["npz_folder.py", "lab.py", "my_trainer.py"]
    assert (len(blocks("sh")), len(blocks("toml"))) == (1, 1)


def test_a_format_in_one_file_is_written_and_read(folder: Path) -> None:
    (folder / "npz_folder.py").write_text(script("npz_folder.py"))
    for words in map(shlex.split, blocks("sh")[0].splitlines()):
        told = vla_data(folder, *words[1:])
    assert re.search(r"Compared +2 ", told)
    assert re.search(r"Damages +0\b", told)
    vla_data(folder, "convert", "rollouts", "straight")
    assert rows(folder / "back") == rows(folder / "straight")
    # The dataset says that it is nobody's here, and is not taken for rollouts or for RLDS, which it looks like.
    told = vla_data(folder, "verify", "set", "--deep")
    assert re.search(r"Damages +0\b", told)
    assert "was not examined" in told
    assert "set was written by npz_folder:NpzSink" in vla_data(folder, "inspect", "set", code=2)
    assert "has the sink npz_folder:NpzSink" in vla_data(folder, "verify", "set", "--against", "rollouts", code=6)
    (folder / "set/schema.json").write_text("{}")
    assert "schema.json" in vla_data(folder, "verify", "set", "--deep", code=6)


def test_a_format_of_a_package_is_repeated_by_its_name(folder: Path, installed: str) -> None:
    (commands,) = [block for block in blocks("") if "--to npz_folder\n" in block]
    for words in map(shlex.split, commands.splitlines()[:-1]):
        told = vla_data(folder, *words[1:], path=installed)
    assert re.search(r"Compared +2 ", told)
    assert re.search(r"Damages +0\b", told)
    (folder / "set/episodes/000000.npz").write_bytes(b"")
    told = vla_data(folder, *shlex.split(commands.splitlines()[-1])[1:], path=installed)
    assert "rebuilt: episodes/000000.npz" in told
    assert vd.verify(folder / "set").ok
    told = vla_data(folder, "convert", "rollouts", "x", "--to", "npz_foldr", path=installed, code=2)
    assert "'npz_folder'" in told


def test_a_trainer_of_a_package_judges_before_publishing(folder: Path, installed: str) -> None:
    told = vla_data(folder, "convert", "rollouts", "out", "--gate", "my_trainer", path=installed)
    assert "my_trainer: 5 steps a second" in told
    words = ("convert", "rollouts", "slow", "--fps", 2, "--gate", "my_trainer")
    assert "needs 5 steps a second or more" in vla_data(folder, *words, path=installed, code=6)
    assert not (folder / "slow").exists()
    told = vla_data(folder, "verify", "out", "--gate", "my_trainr", path=installed, code=2)
    assert "'my_trainer'" in told


def test_a_layout_is_one_file_and_one_entry(tmp_path: Path) -> None:
    """In a copy of the packages, changed as the page says."""
    copy = tmp_path / "copy"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "converters/hdf5/dialects/lab.py").write_text(script("lab.py"))
    listing = copy / "converters/hdf5/listing.py"
    text = listing.read_text()
    assert text.count("] = (ManiSkill(),") == 1
    text = text.replace("] = (ManiSkill(),", "] = (Lab(), ManiSkill(),")
    listing.write_text(text.replace("\nDIALECTS", "\nfrom converters.hdf5.dialects.lab import Lab\n\nDIALECTS", 1))
    random = np.random.default_rng(0)
    command = random.normal(size=(5, 7)).astype(np.float32)
    with h5py.File(tmp_path / "take.h5", "w") as file:
        file["command"] = command
        file["seen/joints"] = random.normal(size=(5, 7)).astype(np.float32)
        file["seen/front"] = random.integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
        file.attrs["task_description"] = "lift the cup"
    words = [sys.executable, "-m", "vla_data", "convert", "take.h5", "out", "--fps", "10", "--images", "png"]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    source = vd.open_source(tmp_path / "out")
    episode = source.read(source.episodes()[0])
    assert (episode.task, sorted(episode.frames)) == ("lift the cup", ["observation.images.front"])
    assert sorted(episode.arrays) == ["action", "observation.joints", "observation.state"]
    np.testing.assert_array_equal(episode.arrays["action"], command)

"""The code of the page on steps, sources and builders of one's own runs as written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vla_data as vd
from tests.paths import ROOT
from tests.rollouts import MOVE, STILL, rollout, save

PAGE = (ROOT / "docs/extending.md").read_text()
PRINTED = {
    "smooth.py": "{'kept': 10, 'pruned': 2, 'rejected': 12}",
    "gridworld.py": "2 episodes of 3",
    "lines.py": "24 lines",
}
"""Script -> what it prints of the rollouts here."""
DATASET = "carrots/definition.py"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    actions = [STILL, STILL, *[MOVE] * 10]
    save(tmp_path / "rollouts", "a.npz", rollout(actions=actions))
    save(tmp_path / "rollouts", "b.npz", rollout(actions=actions, instruction="open the drawer"))
    return tmp_path


def run(folder: Path, *command: object, told: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(told) if told else not done.stderr
    return done.stdout.strip()


def refused(folder: Path, *words: object) -> str:
    """What a command says that is wrong."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "vla_data", *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.mark.parametrize("number", range(len(PRINTED)))
def test_a_block_runs_as_it_stands(folder: Path, number: int) -> None:
    script = blocks("python")[number]
    name = script.split()[1]
    (folder / name).write_text(script)
    commands = next(block for block in blocks("sh") if f"python {name}" in block)
    for words in map(shlex.split, commands.splitlines()):
        if words[0] == "python":
            assert run(folder, *words[1:]).endswith(PRINTED[words[1]])
        else:
            assert re.search(r"Damages +0\b", run(folder, "-m", "vla_data", *words[1:]))


def test_every_block_is_run() -> None:
    assert [script.split()[1] for script in blocks("python")] == [*PRINTED, DATASET]


def test_a_dataset_with_steps_of_its_own_builds_as_it_stands(folder: Path) -> None:
    """Its steps are of the file, which only the folder's name says how to import."""
    script = blocks("python")[-1]
    (folder / "carrots").mkdir()
    (folder / DATASET).write_text(script)
    (command,) = blocks("sh")[-1].splitlines()
    words = shlex.split(command)[1:]
    told = run(folder, "-m", "vla_data", *words, "--workers", 2, told="vla-data: warning: the only episode is in")
    assert "data/carrots/" in told
    (made,) = folder.glob("data/carrots/*/1.0.0/vla_data")
    assert {record.reason for record in vd.open_ledger(made.parent).records} == {"", "no_carrot"}
    lacking = script.replace("    RECIPE = staticmethod(recipe)\n", "")
    (folder / DATASET).write_text(lacking)
    assert "class Definition must say RECIPE" in refused(folder, *shlex.split(command)[1:])
    (folder / DATASET).write_text(script)
    told = refused(folder, *shlex.split(command)[1:], "--pos-thresh", "0.5")
    assert "--pos-thresh is no option of carrots" in told


def test_a_dataset_of_another_distribution_is_built_by_its_name(folder: Path) -> None:
    package = folder / "site/my_lab/my_dataset"
    package.mkdir(parents=True)
    text = (ROOT / "builders/ppo_sft_aligned/definition.py").read_text()
    (package / "definition.py").write_text(text.replace('"ppo_sft_aligned"', '"my_dataset"', 1))
    info = folder / "site/my_lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (toml,) = blocks("toml")
    group, line = toml.strip().splitlines()
    section = group.removeprefix('[project.entry-points."').removesuffix('"]')
    (info / "entry_points.txt").write_text(f"[{section}]\n{line.replace(chr(34), '')}\n")
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{ROOT}"}
    (words,) = re.findall(r"`vla-data (build [^`]*)`", PAGE)
    command = [sys.executable, "-m", "vla_data", *words.split()]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "data/my_dataset/default/1.0.0/dataset_info.json").is_file()
    shutil.rmtree(folder / "site")

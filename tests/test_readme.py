"""The README's code and commands work as written, and show what it says they show."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.paths import ROOT
from tests.stores import put_tree, s3_server
from training_adapters.cli import cli as train
from vla_data.cli import COMMANDS

README = (ROOT / "README.md").read_text()
DOCS = [
    README,
    *(
        (ROOT / "docs" / name).read_text()
        for name in (
            *(
                "advantages.md",
                "conventions.md",
                "converting.md",
                "curation.md",
                "errors.md",
                "extending.md",
                "hdf5.md",
            ),
            *("recording.md", "rlds.md", "rollouts.md", "selections.md", "statistics.md", "verifying.md"),
            *("diff.md", "editing.md", "faq.md", "quality.md", "report.md", "view.md"),
        )
    ),
]

MAPPING = """
[all]
actions = "physical"
"""


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in fences if name == language]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "tests/data/rollouts", tmp_path / "rollouts")
    shutil.copy(ROOT / "tests/data/hdf5/libero_spatial0_demo.hdf5", tmp_path / "demos.hdf5")
    (tmp_path / "mapping.toml").write_text(MAPPING)
    rows = [(e, t, t / 100 - 1) for e, length in enumerate((19, 27)) for t in range(length)]
    names = ("episode_index", "frame_index", "value")
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), tmp_path / "values.parquet")
    return tmp_path


def test_the_lines_of_python_run_without_a_guard_and_print_the_report_of_the_readme(folder: Path) -> None:
    (script,) = [block for block in blocks("python") if "vd.run" in block]
    (folder / "eight.py").write_text(script)
    done = subprocess.run([sys.executable, "eight.py"], cwd=folder, capture_output=True, text=True)
    assert done.stderr == ""
    (report,) = [block for block in blocks("") if "Total files" in block]
    assert report in done.stdout


def test_the_lines_of_python_are_eight() -> None:
    (script,) = [block for block in blocks("python") if "vd.run" in block]
    assert len(script.splitlines()) == 8


# s3fs closes its connections when the interpreter ends, and not before.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_commands_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [
        shlex.split(line, comments=True)
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("vla-data ")
    ]
    assert len(commands) >= 6
    monkeypatch.setenv("VLA_DATA_CACHE", str(folder / "cache"))
    with s3_server():
        put_tree(folder / "rollouts", "s3://bucket/rollouts")
        for command in commands:
            run = [sys.executable, "-m", "vla_data", *command[1:]]
            done = subprocess.run(run, cwd=folder, capture_output=True, text=True)
            problems = [
                line for line in done.stderr.splitlines() if not re.match("vla-data: (warning: |note: |  )", line)
            ]
            assert (command, 0, []) == (command, done.returncode, problems)


def test_every_option_that_the_documents_name_exists() -> None:
    helps = ""
    for command in COMMANDS:
        run = [sys.executable, "-m", "vla_data", command, "--help"]
        helps += subprocess.run(run, capture_output=True, text=True, check=True).stdout
    for name, command in train.commands.items():
        helps += command.get_help(click.Context(command, info_name=name))
    # Of tfds, LeRobot and Beam, or a part of a word.
    foreign = {"--manual", "--data", "--dataset", "--config", "--help", "--runner"}
    named = {option for text in DOCS for option in re.findall(r"--[a-z][a-z-]+", text)} - foreign
    assert sorted(option for option in named if option not in helps) == []


def test_links_in_the_documents_lead_somewhere() -> None:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
            if not link.startswith("http"):
                assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_every_code_is_documented() -> None:
    from vla_data.errors import CODES

    text = (ROOT / "docs/errors.md").read_text()
    assert [code for code in CODES if code not in text] == []


@pytest.mark.skipif(os.name != "posix", reason="the scripts are for POSIX shells")
def test_the_scripts_are_executable() -> None:
    for name in ("scripts/demo", "scripts/test", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK)

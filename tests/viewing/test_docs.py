"""The Python of docs/view.md runs, and its commands have the options that it names."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.paths import ROOT
from vla_data.cli import cli
from vla_data.cli.view import command

PAGE = (ROOT / "docs/view.md").read_text()


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "tests/data/rollouts", tmp_path / "rollouts")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    assert [path.name for path in tmp_path.iterdir()] == ["rollouts"]


def test_the_commands_of_the_page_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would not end by themselves, so they are read and not run; the list of flags is given to the reader."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    words = [shlex.split(line, comments=True)[1:] for line in lines]
    for given in [found for found in words if found[0] == "view"]:
        command.make_context("view", given[1:])
    assert words[-1] == ["convert", "rollouts", "rest", "--episodes", "$(cat rollouts-flags.txt)"]
    (tmp_path / "rollouts-flags.txt").write_text("0-1\n")
    shutil.copytree(ROOT / "tests/data/rollouts", tmp_path / "rollouts")
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / "rollouts-flags.txt").read_text().strip()
    cli.main([*words[-1][:-1], text, "--workers", "1"], standalone_mode=False)

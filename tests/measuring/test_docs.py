"""docs/quality.md has the definition of every column, and its Python and commands run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.paths import ROOT
from vla_data.cli import cli
from vla_data.measuring.row import COLUMNS

PAGE = (ROOT / "docs/quality.md").read_text()


def table() -> str:
    return "\n".join(f"| `{name}` | {one.unit} | {one.meaning} |" for name, one in COLUMNS.items())


def test_the_page_defines_every_column_as_the_table_does() -> None:
    assert table() in PAGE


def test_the_commands_and_the_python_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "tests/data/rollouts", tmp_path / "rollouts")
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)[1:]
            done = CliRunner().invoke(cli, words, catch_exceptions=False)
            assert done.exit_code == 0, done.output
    shutil.rmtree("calm")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    assert sorted(os.listdir()) == ["calm", "rollouts", "table.parquet"]

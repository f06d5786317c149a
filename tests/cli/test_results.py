"""Files that commands are asked for: what comes to their names while a command works stays, unless it may go."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.paths import TESTS
from vla_data.cli import cli
from vla_data.errors import VlaDataError
from vla_data.files import write as io

ROLLOUTS = str(TESTS / "data/rollouts")
COMMANDS = {
    "quality.parquet": ["quality", ROLLOUTS, "-o"],
    "report.html": ["report", ROLLOUTS, "-o"],
    "stats.json": ["stats", ROLLOUTS, "--format", "openvla", "--output"],
    "split.json": ["split", ROLLOUTS, "-o"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_comes_while_a_command_works_stays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / name

    def come(step: str, path: Path) -> None:
        if step == "rename" and path == output:
            output.write_text("theirs")

    monkeypatch.setattr(io, "hook", come)
    words = [*COMMANDS[name], str(output)]
    ran = CliRunner().invoke(cli, words)
    assert isinstance(ran.exception, VlaDataError), ran.output
    assert ran.exception.code == "E411"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "theirs")]
    assert CliRunner().invoke(cli, [*words, "--replace"]).exit_code == 0
    assert output.read_bytes() != b"theirs"

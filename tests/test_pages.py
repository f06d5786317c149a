"""Tutorials and how-to pages: every command is one that there is, and (nightly) prints what the page shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest

from tests.pages import Terminal, blocks, commands, same
from tests.paths import ROOT
from tests.stock_lerobot import needed
from training_adapters.cli import cli as train
from vla_data.cli import cli as data

TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
HOWTO = sorted((ROOT / "docs/howto").glob("*.md"))
PROGRAMS: dict[str, click.Group] = {"vla-data": data, "vla-train": train}


def typed(words: list[str]) -> None:
    """Parse a command line as the program does, without running it."""
    group = PROGRAMS[words[0]]
    context = click.Context(group, info_name=words[0])
    name, command, rest = group.resolve_command(context, words[1:])
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
    assert command is not None
    command.make_context(name, rest, parent=context, resilient_parsing=False).close()


@pytest.mark.parametrize("path", [*TUTORIALS, *HOWTO], ids=lambda path: path.stem)
def test_every_command_can_be_typed(path: Path) -> None:
    page = path.read_text()
    found = [shlex.split(line.partition("||")[0]) for line in commands(page)]
    ours = [words for words in found if words[0] in PROGRAMS]
    assert ours or "```python" in page
    for words in ours:
        typed(words)


def run(path: Path, folder: Path) -> None:
    terminal = Terminal(folder)
    for block in blocks(path.read_text()):
        printed = terminal.run(block)
        if block.printed is not None:
            assert same(block, printed), f"{block.code}\nshown:\n{block.printed}\nprinted:\n{printed}"


@pytest.mark.nightly
@pytest.mark.parametrize("path", HOWTO, ids=lambda path: path.stem)
def test_a_how_to_page_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path)


@needed
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path)

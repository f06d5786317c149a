"""Pages whose commands are run and whose printed output is checked, block by block, in one folder.

A ``sh`` or ``python`` block is run. The ``text`` block right after it is what it printed, as a terminal shows it,
with ``...`` where that is not always the same, as in doctest. Seconds are not compared, nor are numbers of a block
that trains, since other machines round otherwise. A ``json`` or ``toml`` block is a file, named by the last code
before it that ends so.

    python -m tests.pages docs/tutorials/rdt.md     # writes anew what is no longer printed
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT
from tests.stock_lerobot import PYTHONS

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SECONDS = re.compile(r"\[ *[\d.]+ s\]")
_NUMBER = re.compile(r"\d[\d,]*(\.\d+)?(e[+-]?\d+)?|nan")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code of a page; ``printed`` is what the page shows of it, None where it shows nothing."""

    language: str
    code: str
    start: int
    printed: str | None = None
    file: str = ""


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that are run or written, in order."""
    found = list(_FENCE.finditer(page))
    for here, after in zip(found, [*found[1:], None], strict=True):
        language, code = here.groups()
        if language == "text":
            continue
        shown = None
        if after is not None and after[1] == "text" and not page[here.end() : after.start()].strip():
            shown = after[2]
        names = re.findall(rf"`([\w./-]+\.{language})`", page[: here.start()])
        yield Block(language, code, here.end(), shown, names[-1] if names else "")


def commands(page: str) -> list[str]:
    """Each command line of a page's shell blocks."""
    joined = [block.code.replace("\\\n", " ") for block in blocks(page) if block.language == "sh"]
    return [line for text in joined for line in text.splitlines() if line.strip()]


class Terminal:
    """Runs blocks in a folder, with this interpreter as ``vla-data`` and lerobot's as ``vla-train``.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.learner = PYTHONS[0] if PYTHONS else sys.executable
        bin = folder.parent / f"{folder.name}-bin"
        bin.mkdir()
        for name, python, code in (
            ("vla-data", sys.executable, "-m vla_data"),
            ("vla-train", self.learner, "-m training_adapters.cli"),
        ):
            (bin / name).write_text(f'#!/bin/sh\nexec "{python}" {code} "$@"\n')
            (bin / name).chmod(0o755)
        path = (str(bin), str(Path(self.learner).parent), os.environ["PATH"])
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "CHECKOUT": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "80",
        }

    def run(self, block: Block) -> str:
        """What a block prints, errors too; a file is written instead.

        Raises:
            AssertionError: it failed.
        """
        if block.language not in ("sh", "python"):
            (self.folder / block.file).write_text(block.code)
            return ""
        command = ["sh", "-ec", block.code] if block.language == "sh" else [self.learner, "-c", block.code]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{block.code}\n{done.stdout[-3000:]}"
        return done.stdout.replace(str(self.folder), "...").replace(str(ROOT), "...")


def same(block: Block, printed: str) -> bool:
    """Whether a page shows what was printed."""
    trains = "vla-train" in block.code
    shown, seen = (_comparable(text, trains=trains) for text in (block.printed or "", printed))
    return doctest.OutputChecker().check_output(shown, seen, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def _comparable(text: str, *, trains: bool) -> str:
    text = _SECONDS.sub("[s]", text)
    return _NUMBER.sub("0", text) if trains else text


def rewritten(path: Path, folder: Path) -> str:
    """The page, with what its blocks print now wherever it shows something else."""
    page, terminal, out, at = path.read_text(), Terminal(folder), "", 0
    for block in blocks(page):
        printed = terminal.run(block)
        if block.printed is not None and not same(block, printed):
            old = page.index("```text\n", block.start) + len("```text\n")
            out += page[at:old] + printed
            at = old + len(block.printed)
    return out + page[at:]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as made:
            (Path(made) / "here").mkdir()
            Path(name).write_text(rewritten(Path(name), Path(made) / "here"))

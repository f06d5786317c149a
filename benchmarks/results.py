"""What a case gave, kept as one JSON file with the state of the code that it speaks of.

A result is old when one of the folders that it speaks of has changed since: their contents are compared by git's
own hashes, so neither dates nor the number of commits play a part.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import harness

FOLDER: Final = harness.REPOSITORY / "benchmarks" / "results"
Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Table:
    """Figures of one comparison. Numbers of a cell are rounded when they are shown."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One case as it was measured.

    Attributes:
        case: such as "P1".
        commit: of the checkout, with a ``+`` where files that it speaks of differed from it.
        code: folder -> git's hash of its content.
        tables: the figures.
        body: Markdown in place of tables, of results that were taken before there were such files.
        machine: see `harness.machine`.
        settings: options of the case.
    """

    case: str
    commit: str
    code: Mapping[str, str]
    tables: Sequence[Table] = ()
    body: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def is_old(self) -> bool:
        """Whether the code that it speaks of is another now."""
        return self.commit.endswith("+") or dict(self.code) != hashes(list(self.code))


def git(*words: str) -> str:
    """What git says of the repository; empty where it says nothing, or is not there."""
    command = ["git", "-C", str(harness.REPOSITORY), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def hashes(folders: Sequence[str], commit: str = "HEAD") -> dict[str, str]:
    """Folder -> git's hash of its content in a commit."""
    return {folder: git("rev-parse", f"{commit}:{folder}") for folder in folders}


def state(folders: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The commit of the checkout and the hashes of some folders, as `Result` has them."""
    changed = "+" if git("status", "--porcelain", "--", *folders) else ""
    return git("rev-parse", "--short=10", "HEAD") + changed, hashes(folders)


def save(result: Result, folder: Path = FOLDER) -> None:
    """Keep a result in place of the last one of its case."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{result.case}.json"
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(asdict(result), indent=1) + "\n")
    os.replace(beside, file)


def load(case: str, folder: Path = FOLDER) -> Result | None:
    """The last result of a case, or None."""
    file = folder / f"{case}.json"
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    return Result(**{**content, "tables": [Table(**table) for table in content["tables"]]})


def tables_of(content: Mapping[str, Any]) -> list[Table]:
    """The tables of a case's JSON: its ``tables``, or one of its ``rows``, whose keys are the columns."""
    if "tables" in content:
        return [Table(**table) for table in content["tables"]]
    rows = content["rows"]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [Table(columns, [[_cell(row.get(column)) for column in columns] for row in rows])]


def _cell(value: object) -> Cell:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)

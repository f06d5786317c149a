"""Files of runs and checkpoints, which may be anybody's: regular files of bounded size, whose content fits or is
refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json
from vla_data.safety.files import MAX_CONFIG, read_file
from vla_data.safety.text import show

MAX_LINES = 256 << 20
"""Bytes of a file with a line for each update."""
_ODD = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError)


@contextmanager
def fitting(what: str) -> Iterator[None]:
    """Refuse values of another type or size than those that vla-train writes, wherever they are found to be so.

    Raises:
        UsageError: E301.
    """
    try:
        yield
    except _ODD as error:
        said = f"{type(error).__name__}: {show(error)[:160]}"
        raise UsageError("E301", f"{what} is not as vla-train writes it ({said})") from error


def read_json(path: Path, *, root: Path) -> dict[str, Any]:
    """The object in a JSON file below ``root``.

    Raises:
        UsageError: E003, it is not there.
        DataError: E141, it holds no object; as `vla_data.safety.strict_json.read`.
    """
    try:
        facts = strict_json.read(path, root=root, max_bytes=MAX_CONFIG)
    except DataError as error:
        if error.code == "E133":
            raise UsageError("E003", f"{show(path)} is missing") from None
        raise
    if not isinstance(facts, dict):
        raise DataError("E141", f"{show(path)} holds no object")
    return facts


def read_lines(path: Path, *, root: Path) -> list[bytes]:
    """The lines of a file below ``root``, without what was cut off by the end of a process; none where it is not.

    Raises:
        DataError: as `vla_data.safety.files.read_file`.
    """
    try:
        data = read_file(path, root=root, max_bytes=MAX_LINES)[0]
    except DataError as error:
        if error.code == "E133":
            return []
        raise
    return [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]

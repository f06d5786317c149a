"""Files of runs, checkpoints and datasets, which may be anybody's: regular files of bounded size, whose content
fits or is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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
def fitting(what: str, *, by: str = "vla-train", code: str = "E301") -> Iterator[None]:
    """Refuse values of another type or size than those that a program writes, wherever they are found to be so.

    Args:
        what: they are.
        by: the program's name.
        code: of the error.

    Raises:
        UsageError: of that code.
    """
    try:
        yield
    except _ODD as error:
        said = f"{type(error).__name__}: {show(error)[:160]}"
        raise UsageError(code, f"{what} is not as {by} writes it ({said})") from error


def as_lerobot(what: str) -> AbstractContextManager[None]:
    """`fitting`, for metadata of a LeRobot dataset; raises UsageError, E302."""
    return fitting(what, by="LeRobot", code="E302")


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

"""The files of a LeRobot dataset, opened with the care that a stranger's files ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from vla_data.errors import DataError, UsageError
from vla_data.files.tables import read_whole
from vla_data.safety import strict_json
from vla_data.safety.files import damage, is_own, read_file
from vla_data.safety.text import show

MAX_ROWS: Final = 10_000_000
MAX_TABLE: Final = 1 << 30  # bytes of metadata once decompressed


@dataclass(frozen=True, slots=True)
class Files:
    """Reads files of metadata below ``root``, by their relative names.

    Raises:
        UsageError: from every method but `path`: E003 for what is not there or damaged, E107 for what is too
            large, E141 for what is no JSON, each with the file's name.
    """

    root: Path

    def path(self, name: str) -> Path:
        """A file of the dataset, which must be its own (see `vla_data.safety.files.is_own`) whatever links lead
        there.

        Raises:
            DataError: E131 or E133.
        """
        path = self.root / name
        try:
            inside = is_own(path.resolve(), path, self.root)
        except (OSError, RuntimeError, ValueError):  # a loop of links (before Python 3.13), or a NUL
            inside = False
        if not inside:
            raise DataError("E131", f"{name} leads outside of the dataset; copy what it leads to (cp -rL)")
        if not path.is_file():
            raise DataError("E133", f"{name} is not there")
        return path

    def json(self, name: str) -> Any:
        """The value of a JSON file."""
        try:
            return strict_json.loads(self.read(name), name=name, not_finite=True)
        except DataError as error:
            raise UsageError(error.code, error.message) from None

    def lines(self, name: str) -> Sequence[dict[str, Any]]:
        """The objects of a file with one a line."""
        lines = enumerate(self.read(name).splitlines(), 1)
        try:
            rows = [
                strict_json.loads(line, name=f"line {number} of {name}", not_finite=True)
                for number, line in lines
                if line.strip()
            ]
        except DataError as error:
            raise UsageError(error.code, error.message) from None
        if not all(isinstance(row, dict) for row in rows):
            raise UsageError("E141", f"{name} has lines that are not JSON objects")
        return rows

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        try:
            return read_file(self.root / name, root=self.root)[0]
        except DataError as error:
            raise UsageError("E003", f"{name} of {show(self.root)}: {error.message}") from None

    def parquet(self, name: str, wanted: Callable[[str], bool]) -> pa.Table:
        """The wanted columns of a Parquet file of metadata."""
        try:
            return read_whole(self.path(name), root=self.root, wanted=wanted, max_bytes=MAX_TABLE)
        except DataError as error:
            raise UsageError("E107" if error.code == "E107" else "E003", error.message) from None
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise UsageError("E003", f"{name} is {damage(self.path(name), error)}") from None

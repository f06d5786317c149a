"""Episodes that a person flagged, in a file with the text that ``--episodes`` reads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from vla_data.errors import UsageError
from vla_data.files.write import machine_errors, write_file
from vla_data.measuring.table import episode_list
from vla_data.safety.files import read_config
from vla_data.safety.text import show
from vla_data.selection.subset import parse_positions


class Flags:
    """The flags of a file, which need not be there yet.

    Args:
        path: the file.
        count: episodes of the source.

    Raises:
        UsageError: E001, the file holds something else.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path, self._count, self._lock = path, count, threading.Lock()
        self._positions: tuple[int, ...] = ()
        if path.exists():
            self._positions = self._checked(read_config(path).decode("utf-8", "replace").strip())

    @property
    def positions(self) -> tuple[int, ...]:
        """In order."""
        return self._positions

    @property
    def text(self) -> str:
        """As ``--episodes`` reads it; empty without flags."""
        return episode_list(self._positions)

    def set(self, positions: Sequence[int]) -> None:
        """Write others.

        Raises:
            UsageError: E001, a position that the source does not have.
            MachineError: the disk refuses.
        """
        with self._lock:
            self._check(positions)
            self._positions = tuple(sorted(set(positions)))
            with machine_errors("cannot write the flags"):
                write_file(self.path, f"{self.text}\n".encode() if self._positions else b"")

    def _checked(self, text: str) -> tuple[int, ...]:
        try:
            positions = parse_positions(text) if text else ()
            self._check(positions)
        except UsageError as error:
            raise UsageError(
                "E001",
                f"{show(self.path)} does not hold flags of this source ({error.message}); --flags names another",
            ) from None
        return tuple(sorted(positions))

    def _check(self, positions: Sequence[int]) -> None:
        for position in positions:
            if type(position) is not int or not 0 <= position < self._count:
                raise UsageError("E001", f"there is no episode {show(position)}; there are {self._count:,}")

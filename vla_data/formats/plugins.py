"""Tables whose rows may come from other distributions, by entry points."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Generic, TypeVar

from vla_data.errors import UsageError
from vla_data.safety.text import show

Row = TypeVar("Row")


class Table(Mapping[str, Row], Generic[Row]):
    """Rows by name: our own, in their order, and then those that entry points of ``group`` name.

    Other distributions are asked only when a name is none of ours, or when all are listed; ours come first, so
    that no other can take the place of one.

    Args:
        group: of entry points; each gives a row, or where rows are texts the text itself.
        rows: our own.
    """

    def __init__(self, group: str, rows: Mapping[str, Row]) -> None:
        self._group = group
        self._rows = dict(rows)
        self._kind = type(next(iter(rows.values())))

    def __getitem__(self, name: str) -> Row:
        return self._rows[name] if name in self._rows else self._foreign(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def names(self) -> list[str]:
        """All names, those of other distributions too."""
        return [*self._rows, *(name for name in sorted(self._points) if name not in self._rows)]

    def row(self, what: str, name: str) -> Row:
        """The row of a name that a user gave.

        Args:
            what: what it should be, for the message.
            name: as it was given.

        Raises:
            UsageError: E002, there is none; E006, its distribution can't be loaded.
        """
        try:
            return self[name]
        except KeyError:
            raise self.missing(what, name) from None

    def missing(self, what: str, name: str, more: str = "") -> UsageError:
        """That there is no row of this name; ``more`` says what else would do."""
        close = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(self.names())}"
        hint += f"; {more}" if more and not close else ""
        return UsageError("E002", f"there is no {what} {show(name)!r}; {hint}")

    @functools.cached_property
    def _points(self) -> Mapping[str, metadata.EntryPoint]:
        return {point.name: point for point in metadata.entry_points(group=self._group)}

    def _foreign(self, name: str) -> Row:
        point = self._points[name]
        if self._kind is str:
            return point.value  # type: ignore[return-value]
        where = f"{show(name)} of {point.dist.name if point.dist else 'an installed package'}"
        try:
            found = point.load()
        except Exception as error:  # whatever a stranger's module raises when it is imported
            raise UsageError("E006", f"{where} can't be loaded: {type(error).__name__}: {show(error)}") from None
        if not isinstance(found, self._kind):
            raise UsageError("E006", f"{where} is {show(point.value)}, which is not a {self._kind.__name__}")
        return found

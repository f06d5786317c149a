"""The table of a source's episodes, and what is done with it: written, filtered, shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vla_data.actions.agreement import spans
from vla_data.core import Json, Source
from vla_data.core.findings import Section, html_of, text_of
from vla_data.core.ledger import Record
from vla_data.core.unneeded import NUMBERS, lenient
from vla_data.errors import DataError, RefusedError, UndeclaredError, UsageError
from vla_data.files.write import write_file
from vla_data.formats import open_source
from vla_data.jobs.part import failed
from vla_data.jobs.remarks import tell, why
from vla_data.measuring.expression import parse
from vla_data.measuring.gauge import Gauge
from vla_data.measuring.looks import looks
from vla_data.measuring.row import COLUMNS, Row
from vla_data.safety.text import show
from vla_data.steps.choose import Choose

_SHOWN: Final = 20
_OF_PICTURES: Final = {"frozen", "black", "damaged", "near_copies"}


@dataclass(frozen=True, slots=True)
class Table:
    """What was measured of every episode of a source.

    Attributes:
        rows: one an episode, in the source's order; `vla_data.measuring.row.COLUMNS` defines the columns.
    """

    rows: tuple[Row, ...]

    def positions(self, condition: str) -> list[int]:
        """Positions of the episodes of which a condition is true, as ``--episodes`` counts them.

        Raises:
            UsageError: E001 for no condition, E231 where a column of it is unknown of every episode.
        """
        return [row.position for row, verdict in self._judged(condition) if verdict]

    def filter(self, condition: str) -> Choose:
        """A step that keeps the episodes of which a condition is true, and those that could not be read: what is
        wrong with them is the run's affair. It knows episodes by their ids.

        Raises:
            UsageError: E001 for no condition, E231 where a column of it is unknown of every episode.
        """
        judged = [(row, verdict) for row, verdict in self._judged(condition) if not row.error]
        return Choose(
            condition=condition,
            rejected=tuple(row.episode for row, verdict in judged if verdict is False),
            unknown=tuple(row.episode for row, verdict in judged if verdict is None),
        )

    def _judged(self, text: str) -> Iterator[tuple[Row, bool | None]]:
        condition = parse(text)
        for column in condition.columns:
            if self.rows and all(row.number(column) is None for row in self.rows):
                raise UndeclaredError("E231", f"{column} is unknown of every episode. {COLUMNS[column].meaning}")
        return ((row, condition.judge(row)) for row in self.rows)

    def to_json(self) -> dict[str, Json]:
        """JSON-ready: ``columns`` with definitions and units, ``episodes`` as one object each."""
        columns = {name: {"meaning": one.meaning, "unit": one.unit} for name, one in COLUMNS.items()}
        return {"columns": columns, "episodes": [row.to_json() for row in self.rows]}

    def write(self, path: Path) -> None:
        """Write a Parquet file, one row an episode.

        Raises:
            MachineError: the disk refuses.
        """
        write_file(path, self.parquet())

    def parquet(self) -> memoryview:
        """The bytes of a Parquet file, one row an episode."""
        from vla_data.files.tables import table_bytes  # pyarrow takes a quarter of a second to import

        return table_bytes(map(Row.to_json, self.rows), {name: one.kind for name, one in COLUMNS.items()})

    def sections(self, *, most: int = _SHOWN) -> tuple[Section, ...]:
        """How each column is spread, and the episodes that deserve a look."""
        found = looks(self.rows)
        unread = [row for row in self.rows if row.error]
        rows = [f"{show(row.episode)}: unreadable, {show(row.error, escaped=True)}" for row in unread]
        rows += [f"{show(id)}: {show('; '.join(why), escaped=True)}" for id, why in found]
        more = (f"And {len(rows) - most:,} more.",) if len(rows) > most else ()
        return (
            Section(
                title=f"{len(self.rows):,} episodes",
                head=("column", "unknown", "min", "median", "max", "unit"),
                rows=tuple(self._spread()),
                right=frozenset({1, 2, 3, 4}),
            ),
            Section(title=f"{len(rows):,} deserve a look", notes=(*rows[:most], *more)),
        )

    def _spread(self) -> Iterator[tuple[str, ...]]:
        for name, column in COLUMNS.items():
            if not column.is_number or name == "position":
                continue
            known = [value for row in self.rows if (value := row.number(name)) is not None]
            told = (min(known), float(np.median(known)), max(known)) if known else ()
            cells = tuple(f"{value:.4g}" for value in told) or ("", "", "")
            yield (name, str(len(self.rows) - len(known)), *cells, column.unit)

    def __str__(self) -> str:
        return text_of(self.sections())

    def _repr_html_(self) -> str:
        return html_of(self.sections())


def episode_list(positions: Sequence[int]) -> str:
    """Positions as ``--episodes`` reads them, ``0-3,7``."""
    return spans(positions).strip("[]")


def measure(
    source: str | Path | Source,
    *,
    decode_video: bool = False,
    on_progress: Callable[[int, int], object] | None = None,
    on_problem: Callable[[str], object] | None = None,
    **options: Any,
) -> Table:
    """Measure every episode of a source, in any format.

    Args:
        source: an address, or a source.
        decode_video: also look at three pictures of each camera inside of videos, which takes decoding them.
        on_progress: called with how many episodes are done, and how many there are.
        on_problem: called with a line for each episode that can't be read; alike ones are told together.
        **options: of the source, where an address is given.

    Raises:
        UsageError: there is no dataset, or it needs an option.
        RefusedError: E402, no episode can be read.
    """
    if isinstance(source, str | Path):
        source = lenient(open_source(source, **options), NUMBERS)
    elif options:
        raise UsageError("E001", "options of a source go with an address; this source has its own")
    gauge = Gauge(video=decode_video)
    refs = source.episodes()
    unread: list[Record] = []
    for position, ref in enumerate(refs):
        try:
            episode = source.read(ref)
            gauge.see(position, source.schema(episode), episode)
        except DataError as error:
            if not error.ignore:
                gauge.fail(position, ref.id, str(error))
                unread.append(failed(ref, error))
        if on_progress is not None:
            on_progress(position + 1, len(refs))
    if on_problem is not None:
        tell(unread, on_problem, failed="")
    if unread and len(unread) == len(refs):
        raise RefusedError("E402", f"none of {len(refs):,} episodes can be read{why(unread)}")
    return Table(tuple(gauge.rows()))


def by_condition(
    condition: str,
    source: Source,
    *,
    on_progress: Callable[[int, int], object] | None = None,
) -> Choose:
    """The step that keeps the episodes of a source of which a condition is true. It reads all of them, and decodes
    pictures inside of videos where the condition takes it.

    Raises:
        UsageError: see `Table.filter`.
    """
    return measure(source, decode_video=needs_pictures(condition), on_progress=on_progress).filter(condition)


def needs_pictures(condition: str) -> bool:
    """Whether a condition looks at a column of pictures."""
    return not _OF_PICTURES.isdisjoint(parse(condition).columns)

"""The numbers of a LeRobot dataset's episodes, column by column: neither images nor videos are touched."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from converters.lerobot import columns, images, meta, values
from converters.lerobot.layout import Layout
from vla_data.core.base import Columns
from vla_data.errors import DataError
from vla_data.files.tables import open_parquet
from vla_data.safety.files import damage
from vla_data.safety.text import show
from vla_data.statistics.columns import chosen

_BATCH: Final = 1 << 16
_NUMBER: Final = "episode_index"


def read_numbers(
    layout: Layout, ids: Sequence[str], names: Collection[str] | None, is_left_out: Callable[[str], bool]
) -> Iterator[tuple[str, Columns | DataError]]:
    """Each episode's id, and its arrays of numbers or why it can't be used; see `BaseSource.columns`.

    Args:
        layout: of the dataset.
        ids: of episodes, ``episode_000012``.
        names: of columns; None for all of numbers.
        is_left_out: whether nobody wants a feature.
    """
    open_ = {int(name.removeprefix("episode_")): name for name in ids}
    asked = sorted(open_)
    lengths = dict(zip(layout.numbers, layout.lengths, strict=True))

    def wanted(field: pa.Field) -> bool:
        if field.name == _NUMBER:
            return True
        asked_for = names is None or field.name in {*names, "frame_index"}
        return asked_for and not is_left_out(field.name) and _is_number(field, layout)

    damaged = ""
    for file in layout.data_files:
        if not open_:
            return
        try:
            for number, table in _episodes(layout.files.path(file), asked, wanted):
                name = open_.pop(number, None)
                if name is not None:
                    yield name, _checked(table, lengths[number], names, layout)
        except (pa.ArrowException, OSError) as error:
            damaged = f"; {file} is {damage(layout.files.path(file), error)}"
        except DataError as error:
            damaged = f"; {error.message}"
    for name in open_.values():
        yield name, DataError("E105" if damaged else "E133", f"the data files have no rows of it{damaged}")


def _is_number(field: pa.Field, layout: Layout) -> bool:
    """Whether a column is one of numbers that are no camera's pixels."""
    kind = values.plain_type(field.type)
    text = values.is_text(values.elements(kind))
    declared = layout.info["features"].get(field.name, {})
    return values.holds_array(kind) and not text and not images.is_pixels(kind, field.name, declared)


def _episodes(
    path: Path, asked: Sequence[int], wanted: Callable[[pa.Field], bool]
) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each episode of a data file, in the file's order; those of others may be left out."""
    reader = open_parquet(path)
    names = [field.name for field in reader.schema_arrow if wanted(field)]
    groups = [g for g in range(reader.num_row_groups) if _may_hold(reader, g, asked)]
    now = -1
    pieces: list[pa.Table] = []
    for batch in reader.iter_batches(_BATCH, row_groups=groups, columns=names):
        if _NUMBER not in batch.schema.names:
            return
        part = values.one_each(pa.Table.from_batches([batch]))
        numbers = columns.numbers(part, _NUMBER)
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for start, stop in itertools.pairwise(edges):
            number = int(numbers[start])
            if number != now and pieces:
                yield now, pa.concat_tables(pieces)
                pieces = []
            now = number
            pieces.append(part.slice(start, stop - start))
    if pieces:
        yield now, pa.concat_tables(pieces)


def _checked(table: pa.Table, length: int, names: Collection[str] | None, layout: Layout) -> Columns | DataError:
    if len(table) != length:
        return DataError("E204", f"{len(table)} rows where the metadata says {show(length)}")
    features = layout.info["features"]
    try:
        arrays = {
            name: columns.numbers(table, name)
            if name in meta.INDEX_FEATURES
            else values.array_of(table[name], name, features.get(name, {}))[0]
            for name in table.column_names
        }
        columns.check_count(arrays.get("frame_index"))
        return chosen(arrays, names)
    except DataError as error:
        return error


def _may_hold(reader: pq.ParquetFile, group: int, asked: Sequence[int]) -> bool:
    facts = reader.metadata.row_group(group)
    for i in range(facts.num_columns):
        column = facts.column(i)
        if column.path_in_schema.partition(".")[0] == _NUMBER:
            stats = column.statistics
            if stats is None or not stats.has_min_max:
                return True
            first = bisect.bisect_left(asked, stats.min)
            return first < len(asked) and asked[first] <= stats.max
    return False

"""The numbers of a LeRobot dataset's episodes, column by column: neither images nor videos are touched."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_data.core import Array
from vla_data.core.base import Columns
from vla_data.errors import DataError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show
from vla_data.statistics.columns import chosen

_BATCH: Final = 1 << 16


def read_numbers(
    root: Path, ids: list[str], names: Collection[str] | None
) -> Iterator[tuple[str, Columns | DataError]]:
    """Each episode's id, and its arrays of numbers or why it can't be used; see `BaseSource.columns`.

    Args:
        root: the dataset.
        ids: of episodes, ``episode_000012``.
        names: of columns; None for all of numbers.
    """
    open_ = {int(name.removeprefix("episode_")): name for name in ids}
    wanted = sorted(open_)
    lengths = _lengths(root)
    damaged = ""
    for path in sorted(root.glob("data/*/*.parquet")):
        if not open_:
            return
        try:
            for number, arrays in _episodes(root, path, wanted, names):
                name = open_.pop(number, None)
                if name is not None:
                    yield name, _checked(arrays, lengths.get(number), names)
        except (pa.ArrowException, OSError) as error:
            damaged = f"; {path.name} is damaged ({type(error).__name__})"
    for name in open_.values():
        yield name, DataError("E105" if damaged else "E133", f"the data files have no rows of it{damaged}")


def _lengths(root: Path) -> dict[int, int]:
    """Steps of each episode by the metadata, of v3.0 or v2.x."""
    out: dict[int, int] = {}
    for path in sorted(root.glob("meta/episodes/*/*.parquet")):
        table = pq.read_table(path, columns=["episode_index", "length"], page_checksum_verification=True)
        out |= dict(zip(table["episode_index"].to_pylist(), table["length"].to_pylist(), strict=True))
    if not out:
        for line in read_file(root / "meta/episodes.jsonl", root=root)[0].splitlines():
            if line.strip():
                row = strict_json.loads(line, name="meta/episodes.jsonl")
                out[int(row["episode_index"])] = int(row["length"])
    return out


def _episodes(
    root: Path, path: Path, asked: Sequence[int], names: Collection[str] | None
) -> Iterator[tuple[int, Columns]]:
    """The rows of each episode of a data file, in the file's order; those of others may be left out."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise OSError("a link to a file outside of the dataset")
    reader = pq.ParquetFile(path, page_checksum_verification=True)
    columns = [
        field.name
        for field in reader.schema_arrow
        if _is_number(field.type) and (names is None or field.name in {*names, "episode_index", "frame_index"})
    ]
    groups = [g for g in range(reader.num_row_groups) if _may_hold(reader, g, asked)]
    now = -1
    pieces: list[dict[str, Array]] = []
    for batch in reader.iter_batches(_BATCH, row_groups=groups, columns=columns):
        arrays = {name: _values(batch.column(name)) for name in columns}
        if "episode_index" not in arrays:
            return
        numbers = arrays["episode_index"].astype(np.int64)
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for start, stop in itertools.pairwise(edges):
            number = int(numbers[start])
            if number != now and pieces:
                yield now, _joined(pieces)
                pieces = []
            now = number
            pieces.append({name: values[start:stop] for name, values in arrays.items()})
    if pieces:
        yield now, _joined(pieces)


def _checked(arrays: Columns, length: int | None, names: Collection[str] | None) -> Columns | DataError:
    steps = len(arrays["episode_index"])
    if steps != length:
        return DataError("E204", f"{steps} rows where the metadata says {show(length)}")
    if "frame_index" in arrays and not np.array_equal(arrays["frame_index"], np.arange(steps)):
        return DataError("E221", "frame_index does not count 0, 1, 2, ...")
    try:
        return chosen(arrays, names)
    except DataError as error:
        return error


def _joined(pieces: list[dict[str, Array]]) -> Columns:
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _is_number(kind: Any) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_number(kind.value_type)
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _may_hold(reader: pq.ParquetFile, group: int, asked: Sequence[int]) -> bool:
    facts = reader.metadata.row_group(group)
    for i in range(facts.num_columns):
        column = facts.column(i)
        if column.path_in_schema == "episode_index":
            stats = column.statistics
            if stats is None or not stats.has_min_max:
                return True
            first = bisect.bisect_left(asked, stats.min)
            return first < len(asked) and asked[first] <= stats.max
    return False


def _values(column: pa.Array) -> Array:
    """``(T,)``, or ``(T, ...)`` for lists; a cell that is empty becomes NaN, which is refused later."""
    shape = [len(column)]
    while not pa.types.is_primitive(column.type):
        inner = column.flatten()
        shape.append(len(inner) // max(1, len(column)))
        if column.null_count or shape[-1] * len(column) != len(inner):
            return np.full(shape[0], np.nan)
        column = inner
    values: Array = column.to_numpy(zero_copy_only=False)
    if values.dtype == object:  # booleans with empty cells
        return np.full(shape[0], np.nan)
    return values.reshape(shape)

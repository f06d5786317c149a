"""The rows of episodes in LeRobot's data files.

``meta/episodes`` of v3.0 names the file of each episode. Datasets that were converted or merged by some versions
of lerobot name the file before; its own reader counts rows and does not notice. So an episode whose file has no
row of it is looked for in the others, by ``episode_index``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from converters.lerobot import values
from vla_data.errors import DataError
from vla_data.files import arrow
from vla_data.files.tables import check_rows, open_parquet, read_groups
from vla_data.safety.files import damage

MAX_EPISODE: Final = 2 << 30  # bytes of the row groups that an episode lies in, once decompressed
_INDEX: Final = "episode_index"


def rows(path: Path, number: int, *, only: Sequence[str] = ()) -> pa.Table:
    """The rows of an episode in a data file, with all columns, or with those of ``only`` that are there.

    Raises:
        DataError: E105 for a damaged file, E107 for an episode of more than 2 GiB, E206 without ``episode_index``.
    """
    try:
        reader = _open(path, *_facts(path))
        low, high = _numbers(path, *_facts(path))
        groups = np.flatnonzero((low <= number) & (number <= high)).tolist()
        size = sum(reader.metadata.row_group(g).total_byte_size for g in groups)
        if size > MAX_EPISODE:
            raise DataError("E107", f"the episode's rows in {path.name} have {size:,} bytes")
        if only:
            table = read_groups(reader, groups, columns=only, max_bytes=MAX_EPISODE)
        else:
            tables = [_row_group(path, *_facts(path), group) for group in groups]
            table = pa.concat_tables(tables) if tables else arrow.from_records([], reader.schema_arrow)
        table = values.one_each(table)
        own = np.flatnonzero(arrow.to_numpy(values.joined(table[_INDEX])) == number)
        first, count = (int(own[0]), len(own)) if len(own) else (0, 0)
        if count == 0 or own[-1] - first == count - 1:  # Arrow filters no views
            return table.slice(first, count)
        return table.take(own)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError("E105", f"{path.name} is {damage(path, error)}") from None


def column_names(path: Path) -> list[str]:
    """The columns of a data file.

    Raises:
        DataError: E105 for a damaged file.
    """
    try:
        names: list[str] = _footer(path, *_facts(path)).schema.to_arrow_schema().names
    except (pa.ArrowException, OSError) as error:
        raise DataError("E105", f"{path.name} is {damage(path, error)}") from None
    return names


def holds(path: Path, number: int) -> bool:
    """Whether a data file has rows of an episode.

    Raises:
        DataError: as `rows`.
    """
    return number in episodes(path)


def episodes(path: Path) -> frozenset[int]:
    """The ``episode_index`` of every episode that a data file has rows of.

    Raises:
        DataError: as `rows`.
    """
    return _episodes(path, *_facts(path))


@functools.lru_cache(maxsize=1024)
def _episodes(path: Path, mtime: int, size: int) -> frozenset[int]:
    """The ``episode_index`` of every episode that a file has rows of."""
    low, high = _numbers(path, mtime, size)
    found = {int(number) for number in low[low == high]}
    try:
        if mixed := np.flatnonzero(low != high).tolist():
            table = read_groups(_open(path, mtime, size), mixed, columns=[_INDEX], max_bytes=MAX_EPISODE)
            table = values.one_each(table)
            found |= set(pc.unique(values.joined(table[_INDEX])).to_pylist())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError("E105", f"{path.name} is {damage(path, error)}") from None
    return frozenset(found)


def _open(path: Path, mtime: int, size: int) -> pq.ParquetFile:
    """A data file whose footer, which grows with the number of episodes in it, is parsed once a process."""
    return open_parquet(path, metadata=_footer(path, mtime, size))


@functools.lru_cache(maxsize=4)
def _footer(path: Path, _mtime: int, _size: int) -> pq.FileMetaData:
    metadata = open_parquet(path).metadata
    check_rows(metadata, path)
    return metadata


@functools.lru_cache(maxsize=4)
def _numbers(path: Path, mtime: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the greatest ``episode_index`` of each row group; everything where it does not say.

    Raises:
        DataError: E206, there is no such column.
    """
    try:
        footer = _footer(path, mtime, size)
    except (pa.ArrowException, OSError) as error:
        raise DataError("E105", f"{path.name} is {damage(path, error)}") from None
    # A list of one number is called ``episode_index.list.element``.
    leaves = [footer.schema.column(i).path.partition(".")[0] for i in range(len(footer.schema))]
    if _INDEX not in leaves:
        raise DataError("E206", f"{path.name} has no {_INDEX}")
    leaf = leaves.index(_INDEX)
    low = np.full(footer.num_row_groups, -np.inf)
    high = np.full(footer.num_row_groups, np.inf)
    for group in range(footer.num_row_groups):
        stats = footer.row_group(group).column(leaf).statistics
        if stats is not None and stats.has_min_max and type(stats.min) is type(stats.max) is int:
            low[group], high[group] = stats.min, stats.max
    return low, high


@functools.lru_cache(maxsize=1)
def _row_group(path: Path, mtime: int, size: int, group: int) -> pa.Table:
    """A row group; the last one is kept, because some writers put all episodes of a file into one."""
    return read_groups(_open(path, mtime, size), [group], max_bytes=MAX_EPISODE)


def _facts(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size

"""What a LeRobot dataset has for an episode, found without this reader's rules, for whoever judges what came of
it.

Arrow itself turns cells into Python objects here, so that an encoding that the reader mistakes, a column that it
passes over or a row that it loses shows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from converters.lerobot import meta
from converters.lerobot.layout import Layout
from vla_data.errors import DataError
from vla_data.files.tables import open_parquet
from vla_data.safety.files import damage


def evidence(layout: Layout, path: Path, number: int) -> Mapping[str, Sequence[Any] | None]:
    """Feature -> its cells, one a row, or None for what has bytes, for videos, and for what is declared alone.

    Args:
        layout: of the dataset.
        path: the data file with the episode's rows.
        number: the ``episode_index``.

    Raises:
        DataError: E105 for a damaged file.
    """
    facts = path.stat()
    try:
        names, table, numbers = _read(path, facts.st_mtime_ns, facts.st_size)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError("E105", f"{path.name} is {damage(path, error)}") from None
    rows = [row for row, own in enumerate(numbers) if own == number]
    whole = bool(rows) and rows == list(range(rows[0], rows[0] + len(rows)))
    features = dict.fromkeys([*layout.info["features"], *names])
    return {
        name: table[name].slice(rows[0], len(rows)).to_pylist() if whole and name in table.column_names else None
        for name in features
        if name not in meta.INDEX_FEATURES and name != "task"
    }


@functools.lru_cache(maxsize=1)
def _read(path: Path, _mtime: int, _size: int) -> tuple[list[str], pa.Table, list[Any]]:
    """The columns of a file, those of them without bytes, and the episode of each row."""
    reader = open_parquet(path)
    small = [field.name for field in reader.schema_arrow if "binary" not in str(field.type)]
    table = reader.read(small)
    return reader.schema_arrow.names, table, table["episode_index"].to_pylist()

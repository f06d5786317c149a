"""What a LeRobot dataset has for an episode, found without this reader's rules, for whoever judges what came of
it.

Arrow itself turns cells into Python objects here, so that an encoding that the reader mistakes, a column that it
passes over or a row that it loses shows.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from converters.lerobot import columns, language, meta, subtasks
from converters.lerobot.data_files import MAX_EPISODE
from converters.lerobot.layout import Layout
from vla_data.errors import DataError
from vla_data.files.tables import check_rows, open_parquet, read_groups
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
    own = table.slice(rows[0], len(rows)) if whole else table.slice(0, 0)
    cells = {name: own[name].to_pylist() if whole and name in own.column_names else None for name in features}
    for name in {*language.COLUMNS} & cells.keys():
        if layout.info["features"].get(name, {}).get("dtype") == "language":
            try:
                cells[name] = None if cells[name] is None else _held(own, name)
            except (KeyError, TypeError, AttributeError, ValueError):  # a reader refuses such rows
                cells[name] = None
    if layout.subtasks and subtasks.TEXT not in cells and cells.get(subtasks.INDEX) is not None:
        cells[subtasks.TEXT] = [layout.subtasks.get(number) for number in cells.pop(subtasks.INDEX) or ()]
    return {name: found for name, found in cells.items() if name not in meta.INDEX_FEATURES and name != "task"}


def _held(table: pa.Table, name: str) -> list[str] | None:
    """The rows of language that hold at each step, as texts, found step by step by their times; None where that
    can't tell, because a row comes again while it holds.
    """
    steps = table[name].to_pylist()
    if name == language.EVENTS:
        return [f"[{','.join(_json(row) for row in rows or ())}]" for rows in steps]
    if "timestamp" not in table.column_names:
        return None
    out = []
    for rows, now in zip(steps, table["timestamp"].to_pylist(), strict=True):
        newest: dict[str, tuple[float, list[str]]] = {}
        for row in sorted(rows or (), key=lambda row: row["timestamp"]):
            at, kind, text = row["timestamp"], _kind(row), _json(row)
            if at > now + columns.TOLERANCE:
                continue
            before, texts = newest.pop(kind, (at, []))
            if at > before and text in texts:
                return None
            newest[kind] = (at, [*texts, text] if at == before else [text])
        # In order of time; rows of one time are as they stand in the list.
        held = [
            text
            for row in sorted(rows or (), key=lambda row: row["timestamp"])
            if newest.get(_kind(row), (None,))[0] == row["timestamp"]
            for text in [_json(row)]
        ]
        out.append(f"[{','.join(held)}]")
    return out


def _json(row: Mapping[str, Any]) -> str:
    told = {key: row.get(key) for key in ("role", "content", "style", "camera")}
    told["tool_calls"] = None if row.get("tool_calls") is None else [_call(call) for call in row["tool_calls"]]
    known = {key: value for key, value in told.items() if value is not None}
    return json.dumps(known, ensure_ascii=False, separators=(",", ":"))


def _kind(row: Mapping[str, Any]) -> str:
    tools = [(_call(call).get("function") or {}).get("name", "") for call in row.get("tool_calls") or ()]
    return json.dumps([row.get("role"), row.get("style"), row.get("camera"), tools])


def _call(call: Any) -> Any:
    found = json.loads(call) if isinstance(call, str) else call
    if isinstance(found, dict):
        return {
            key: _call(value) if isinstance(value, dict) else value
            for key, value in found.items()
            if value is not None
        }
    return found


@functools.lru_cache(maxsize=1)
def _read(path: Path, _mtime: int, _size: int) -> tuple[list[str], pa.Table, list[Any]]:
    """The columns of a file, those of them without bytes, and the episode of each row."""
    reader = open_parquet(path)
    small = [field.name for field in reader.schema_arrow if "binary" not in str(field.type)]
    check_rows(reader.metadata, path)
    table = read_groups(reader, range(reader.num_row_groups), columns=small, max_bytes=MAX_EPISODE)
    return reader.schema_arrow.names, table, table["episode_index"].to_pylist()

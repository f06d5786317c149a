"""LeRobot's two columns of language (huggingface/lerobot 0.6.1, ``datasets/language.py``) as texts a step.

lerobot stores rows ``role, content, style, camera, tool_calls``. ``language_events`` has at each frame the rows of
that frame. ``language_persistent`` has the same list at every frame of an episode, in which each row has the
``timestamp`` from which it holds, until a later one of its kind (role, style, camera and tools) takes its place.

Here both are texts a step, JSON lists of rows without the keys that have no value: of what happens at the step,
and of **what holds at the step**. So a step that is dropped takes its own rows along and no others, a subtask that
outlives the frame at which it began stays, and every format that holds texts holds them. A row that comes again
while it holds has ``"again": 1``, every second time.

Written as LeRobot v3.0, what holds becomes rows with times again, those of the steps at which they appear. A time
that is no frame's is moved to the next frame, with the note ``language_moved_to_frames:<column>``; a row that
holds at no frame is left out, with the note ``language_never_in_effect:<column>``.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from converters.lerobot import values
from converters.lerobot.columns import TOLERANCE
from vla_data.core import Array, Json
from vla_data.errors import DataError
from vla_data.files import arrow
from vla_data.safety import strict_json
from vla_data.safety.text import show

PERSISTENT: Final = "language_persistent"
EVENTS: Final = "language_events"
COLUMNS: Final = (EVENTS, PERSISTENT)

MAX_BYTES: Final = 1 << 30  # of one column of an episode in memory
_KEYS: Final = ("role", "content", "style", "camera", "tool_calls")
_TEXTS: Final = ("role", "content", "style", "camera")
_AGAIN: Final = "again"
_UNPAIRED: Final = re.compile("[\ud800-\udfff]")  # halves of characters, which no file of text may hold

Row = dict[str, Json]
Timed = tuple[int, Row]
"""The step from which a row holds, and the row."""


def arrow_type(name: str) -> pa.DataType:
    """The type of a column in data files; calls of tools are JSON texts, which lerobot's reader takes as such."""
    text = pa.string()
    fields = [pa.field("role", text), pa.field("content", text), pa.field("style", text)]
    if name == PERSISTENT:
        fields.append(pa.field("timestamp", pa.float32()))
    return pa.list_(pa.struct([*fields, pa.field("camera", text), pa.field("tool_calls", pa.list_(text))]))


def hf_feature(name: str) -> Json:
    """What Hugging Face ``datasets`` calls that type."""
    text = {"dtype": "string", "_type": "Value"}
    row: dict[str, Json] = {
        field.name: {"dtype": "float32", "_type": "Value"} if field.name == "timestamp" else text
        for field in arrow_type(name).value_type
    }
    row["tool_calls"] = {"feature": text, "_type": "List"}
    return {"feature": row, "_type": "List"}


def leaves(name: str) -> list[str]:
    """The Parquet paths of a column."""
    paths = [f"{name}.list.element.{field.name}" for field in arrow_type(name).value_type]
    return [*paths[:-1], f"{paths[-1]}.list.element"]


# -- from files -------------------------------------------------------------------------------------------------


def read(column: pa.ChunkedArray, name: str, time: NDArray[np.float64]) -> tuple[Array, list[str]]:
    """A column as ``(T,)`` texts, and notes.

    Args:
        column: of the data file.
        name: ``language_persistent`` or ``language_events``.
        time: ``(T,)`` seconds, of each row.

    Raises:
        DataError: E203 for what is no list of rows, E107 for more than 1 GiB of it.
    """
    array = values.joined(column)
    if pa.types.is_null(array.type):
        return _texts(["[]"] * len(array), name), []
    if not values.is_list(array.type) or not _holds_rows(array.type):
        raise _wrong(name, f"is {array.type}, no lists of rows with a role")
    if name == EVENTS:
        steps = [[_row(item, name, t) for item in items or ()] for t, items in enumerate(array.to_pylist())]
        return _texts([_text(rows) for rows in steps], name), []
    rows, notes = [], []
    for item in _distinct(array):
        at = _number(item.get("timestamp"))
        if at is None:
            raise _wrong(name, "has a row without a timestamp")
        step = int(np.searchsorted(time, at - _slack(at)))
        if step < len(time) and abs(time[step] - at) > _slack(at):
            notes.append(f"language_moved_to_frames:{name}")
        rows.append((step, at, _row(item, name, 0)))
    kept = _in_effect(rows, len(time))
    if len(kept) < len(rows):
        notes.append(f"language_never_in_effect:{name}")
    return _texts(list(_states(kept, len(time))), name), list(dict.fromkeys(notes))


def _holds_rows(kind: pa.DataType) -> bool:
    inner = values.plain_type(kind.value_type)
    return bool(pa.types.is_null(inner) or (pa.types.is_struct(inner) and inner.get_field_index("role") >= 0))


def _slack(time: float) -> float:
    return TOLERANCE + float(np.spacing(np.float32(abs(time))))


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if good else None


def _distinct(array: pa.Array) -> Iterator[dict[str, Any]]:
    """The rows of all steps, each once: where every step has the same list, that list."""
    first = array.slice(0, 1)
    if all(array.slice(t, 1).equals(first) for t in range(1, len(array))):
        yield from (first.to_pylist() or [None])[0] or ()
        return
    seen: dict[str, dict[str, Any]] = {}
    for items in array.to_pylist():
        count: dict[str, int] = {}
        for item in items or ():
            text = json.dumps(item, sort_keys=True, default=str)
            count[text] = count.get(text, 0) + 1
            seen.setdefault(f"{count[text]} {text}", item)
    yield from seen.values()


def _row(item: Any, name: str, step: int) -> Row:
    """A row with the keys that have a value, in one order."""
    if not isinstance(item, dict) or not isinstance(item.get("role"), str):
        raise _wrong(name, f"has a row without a role in step {step}")
    row: Row = {}
    for key in _TEXTS:
        if item.get(key) is not None:
            if not isinstance(item[key], str):
                raise _wrong(name, f"has a {key} in step {step} that is no text")
            row[key] = item[key]
    calls = item.get("tool_calls")
    if calls is not None:
        if not isinstance(calls, list):
            raise _wrong(name, f"has tool_calls in step {step} that are no list")
        row["tool_calls"] = [_call(call) for call in calls]
    more = sorted(key for key in item.keys() - {*_KEYS, "timestamp"} if item[key] is not None)
    if more:
        raise _wrong(name, f"has rows with {show(more[0])[:60]}, which lerobot 0.6.1 does not know")
    return row


def _call(call: Any) -> Json:
    """A call of a tool, stored as JSON or as a record, whose keys without a value come of other records."""
    if isinstance(call, bytes):
        call = call.decode("utf-8", "replace")
    if isinstance(call, str):
        try:
            return strict_json.loads(call.encode(), name="tool_calls")
        except (DataError, UnicodeEncodeError):
            return call
    return _without_gaps(call)


def _without_gaps(value: Any) -> Json:
    if isinstance(value, dict):
        return {key: _without_gaps(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_gaps(item) for item in value]
    sound = isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    return value if sound or value is None else str(value)


def _kind(row: Mapping[str, Json]) -> tuple[Json, ...]:
    """What a row takes the place of: lerobot selects by these."""
    calls = row.get("tool_calls")
    tools = tuple(
        str(call["function"].get("name"))
        if isinstance(call, dict) and isinstance(call.get("function"), dict)
        else ""
        for call in (calls if isinstance(calls, list) else ())
    )
    return row.get("role"), row.get("style"), row.get("camera"), tools


def _in_effect(rows: Sequence[tuple[int, float, Row]], length: int) -> list[Timed]:
    """The rows that hold at some step: those of a kind that come to the same step give way to the last ones."""
    last: dict[tuple[Any, ...], float] = {}
    for step, at, row in rows:
        key = (step, _kind(row))
        last[key] = max(at, last.get(key, at))
    kept = [(step, at, row) for step, at, row in rows if step < length and at == last[step, _kind(row)]]
    return [(step, row) for step, _, row in sorted(kept, key=lambda item: item[0])]


def _states(rows: Sequence[Timed], length: int) -> Iterator[str]:
    """The text of each step: the rows that hold there, in the order in which they came."""
    holding: list[Row] = []
    text, at = "[]", 0
    for t in range(length):
        new = []
        while at < len(rows) and rows[at][0] == t:
            new.append(rows[at][1])
            at += 1
        if new:
            holding = _after(holding, new)
            text = _text(holding)
        yield text


def _after(holding: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """What holds once new rows have come."""
    old, groups = _groups(holding), _groups(new)
    marked = [
        {**row, _AGAIN: 1} if old.get(_kind(row)) == groups[_kind(row)] else row  # it held, without the mark
        for row in new
    ]
    return [row for row in holding if _kind(row) not in groups] + marked


def _groups(rows: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(_kind(row), []).append(row)
    return found


def _text(rows: Sequence[Row]) -> str:
    return _dumped(rows)


def _dumped(value: Json) -> str:
    """JSON on one line, as UTF-8 can hold it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if _UNPAIRED.search(text) is None else json.dumps(value, separators=(",", ":"))


def _texts(items: list[str], name: str) -> Array:
    """Texts as NumPy holds them, each as long as the longest."""
    size = 4 * len(items) * max(map(len, items), default=0)
    if size > MAX_BYTES:
        raise DataError("E107", f"{name} needs {size:,} bytes; {values.way_out(name)}")
    return np.asarray([item.replace("\0", "\\u0000") for item in items], dtype=np.str_)


def _wrong(name: str, problem: str) -> DataError:
    return DataError("E203", f"{name} {show(problem)[:300]}; {values.way_out(name)}")


# -- to files ---------------------------------------------------------------------------------------------------


def checked(texts: Array, name: str) -> Array:
    """The texts as reading gives them back.

    Raises:
        DataError: E232, they are not what lerobot's column can hold.
    """
    steps = [_parsed(str(text), name, t) for t, text in enumerate(texts.reshape(-1))]
    if name == EVENTS:
        return _texts([_text(rows) for rows in steps], name)
    found = list(_states(_timed(steps), len(steps)))
    for t, (rows, text) in enumerate(zip(steps, found, strict=True)):
        if _groups(map(_plain, rows)) != _groups(map(_plain, json.loads(text))):
            way = f"--rename {name}=NAME or --drop {name}"
            problem = f"{name} ends in step {t} without another row of its kind, or is in no order of time"
            raise DataError("E232", f"{problem}, which lerobot can't hold; {way}")
    return _texts(found, name)


def column(texts: Sequence[str], name: str, fps: float) -> pa.Array:
    """The column of one episode, from its texts."""
    steps = [_parsed(text, name, t) for t, text in enumerate(texts)]
    kind = arrow_type(name)
    if name == EVENTS:
        return arrow.from_rows([[stored(row) for row in rows] for rows in steps], kind)
    rows = [{**stored(row), "timestamp": np.float32(step / fps)} for step, row in _timed(steps)]
    once = arrow.from_rows(rows, kind.value_type)
    every = once.take(arrow.from_numpy(np.tile(np.arange(len(rows)), len(steps))))
    offsets = np.arange(len(steps) + 1, dtype=np.int64) * len(rows)
    if offsets[-1] > np.iinfo(np.int32).max:
        raise DataError("E107", f"{name} of {len(rows):,} rows at each of {len(steps):,} steps")
    buffers = [None, pa.py_buffer(offsets.astype(np.int32))]
    return pa.Array.from_buffers(kind, len(steps), buffers, children=[every])


@functools.lru_cache(maxsize=64)
def _known(text: str) -> list[Row]:
    found = strict_json.loads(text.encode(), name="language")
    if not isinstance(found, list):
        raise ValueError("no list")
    rows = [(row, row.pop(_AGAIN, None)) for row in found if isinstance(row, dict)]
    if len(rows) != len(found) or any(mark not in (None, 1) for _, mark in rows):
        raise ValueError("no rows")
    return [{**_row(row, "", 0), **({_AGAIN: 1} if mark else {})} for row, mark in rows]


def _parsed(text: str, name: str, step: int) -> list[Row]:
    try:
        return _known(text)
    except (DataError, ValueError, UnicodeEncodeError):
        way = f"--rename {name}=NAME or --drop {name}"
        raise DataError("E232", f"{name} of step {step} is no list of lerobot's rows of language; {way}") from None


def _timed(steps: Sequence[Sequence[Row]]) -> list[Timed]:
    """The rows of a column of what holds, each with the step at which it appears."""
    found: list[Timed] = []
    before: dict[tuple[Any, ...], list[Row]] = {}
    last: Sequence[Row] | None = None
    for t, rows in enumerate(steps):
        if rows is last:
            continue
        now = _groups(rows)
        found += [(t, _plain(row)) for row in rows if before.get(_kind(row)) != now[_kind(row)]]
        before, last = now, rows
    return found


def _plain(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != _AGAIN}


def stored(row: Mapping[str, Any], *, timed: bool = False) -> Row:
    """A row as Arrow is given it, with its ``timestamp`` where that is asked for."""
    kept = {key: row.get(key) for key in (*_KEYS, *(("timestamp",) if timed else ()))}
    if (calls := row.get("tool_calls")) is not None:
        kept["tool_calls"] = [call if timed and isinstance(call, str) else _dumped(call) for call in calls]
    return kept

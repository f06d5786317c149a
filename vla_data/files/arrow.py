"""Arrow arrays to and from NumPy and Python without pandas.

`pyarrow.array`, `Array.to_numpy` and what calls them import pandas wherever it is installed, which costs every
process of a job 0.2 s of CPU time or more; arrays made from their buffers do not. Their layout is that of
https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_PLAIN: Final[Mapping[pa.DataType, np.dtype[Any]]] = {
    pa.from_numpy_dtype(name): np.dtype(name)
    for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
}
_LIMIT: Final = np.iinfo(np.int32).max
_LISTS: Final = frozenset((list, tuple))


def from_numpy(values: Values) -> pa.Array:
    """Booleans, numbers or texts, none of them missing; numbers that lie in order are not copied.

    Args:
        values: ``(N,)``.

    Raises:
        TypeError: of another shape, or of a type that is none of these.
    """
    if values.ndim != 1:
        raise TypeError(f"an array of shape {values.shape}; expected one dimension")
    if values.dtype.kind == "U":
        return from_rows(values.tolist(), pa.string())
    if values.dtype == np.bool_:
        return _made(pa.bool_(), len(values), np.packbits(values, bitorder="little"))
    kind = pa.from_numpy_dtype(values.dtype.newbyteorder("="))
    if kind not in _PLAIN:
        raise TypeError(f"an array of {values.dtype}; expected booleans, numbers or texts")
    return _made(kind, len(values), np.ascontiguousarray(values, dtype=_PLAIN[kind]))


def to_numpy(column: pa.Array | pa.ChunkedArray) -> Values:
    """The same values as `pyarrow.Array.to_numpy` gives, as ``(N,)``; numbers of one chunk are not copied."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks != 1:
            pieces = [to_numpy(chunk) for chunk in column.chunks]
            return np.concatenate(pieces) if pieces else to_numpy(from_rows([], column.type))
        column = column.chunk(0)
    kind, first, count = column.type, column.offset, len(column)
    if column.null_count == 0 and kind in _PLAIN and count:
        dtype = _PLAIN[kind]
        return np.frombuffer(column.buffers()[1], dtype=dtype, offset=first * dtype.itemsize, count=count)
    if column.null_count == 0 and kind == pa.bool_() and count:
        bits = np.frombuffer(column.buffers()[1], dtype=np.uint8)
        return np.unpackbits(bits, bitorder="little")[first : first + count].astype(np.bool_)
    if count == 0 and (kind in _PLAIN or kind == pa.bool_()):
        return np.empty(0, dtype=_PLAIN.get(kind, np.dtype(np.bool_)))
    out: Values = column.to_numpy(zero_copy_only=False)
    return out


def from_rows(rows: Iterable[Any], kind: pa.DataType) -> pa.Array:
    """Python values as an array of this type; None is a missing value.

    Args:
        rows: of booleans, whole or other numbers, texts, bytes, and lists and records (mappings) of those.
        kind: the type; one that is none of those goes through `pyarrow.array`.

    Raises:
        ArrowException, TypeError, OverflowError: a value is not one of this type.
    """
    rows = rows if isinstance(rows, Sequence) else list(rows)
    there = np.fromiter((row is not None for row in rows), dtype=np.bool_, count=len(rows))
    bits = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
    if kind == pa.bool_():
        return _made(
            kind, len(rows), np.packbits(np.array([*map(_true, rows)], dtype=np.bool_), bitorder="little"), bits
        )
    if kind in _PLAIN:
        return _made(kind, len(rows), _numbers(rows, kind), bits)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        text = pa.types.is_string(kind)
        data = [b"" if row is None else row.encode() if text else bytes(row) for row in rows]
        offsets = _offsets([len(item) for item in data])
        buffers = [bits, pa.py_buffer(offsets), pa.py_buffer(b"".join(data))]
        return pa.Array.from_buffers(kind, len(rows), buffers)
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        if odd := [len(row) for row in rows if row is not None and len(row) != size]:
            raise pa.ArrowInvalid(f"a list of {odd[0]} values; expected {size}")
        inner = [item for row in rows for item in ([None] * size if row is None else row)]
        return pa.Array.from_buffers(kind, len(rows), [bits], children=[from_rows(inner, kind.value_type)])
    if pa.types.is_list(kind):
        offsets = _offsets([0 if row is None else len(row) for row in rows])
        inner = [item for row in rows if row is not None for item in row]
        children = [from_rows(inner, kind.value_type)]
        return pa.Array.from_buffers(kind, len(rows), [bits, pa.py_buffer(offsets)], children=children)
    if pa.types.is_struct(kind):
        children = [
            from_rows([None if row is None else row.get(field.name) for row in rows], field.type) for field in kind
        ]
        return pa.Array.from_buffers(kind, len(rows), [bits], children=children)
    return pa.array(rows, kind)


def from_records(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Records as a table with these columns: what a record has not is missing, and its other keys are left out.

    Raises:
        All of `from_rows`.
    """
    columns = [from_rows([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def table(columns: Mapping[str, Values | pa.Array]) -> pa.Table:
    """A table of these columns, NumPy's or Arrow's.

    Raises:
        All of `from_numpy`.
    """
    arrays = [from_numpy(values) if isinstance(values, np.ndarray) else values for values in columns.values()]
    return pa.Table.from_arrays(arrays, names=list(columns))


def lists(column: pa.Array, size: int) -> pa.Array:
    """An array cut into lists of one size.

    Raises:
        OverflowError: more values than a list's offsets can count.
    """
    if len(column) > _LIMIT:
        raise OverflowError(f"{len(column):,} values")
    offsets = np.arange(0, len(column) + 1, size, dtype=np.int32)
    kind = pa.list_(column.type)
    return pa.Array.from_buffers(kind, len(offsets) - 1, [None, pa.py_buffer(offsets)], children=[column])


def type_of(values: Iterable[Any]) -> pa.DataType:
    """The type that `pyarrow.infer_type` gives these values: of texts, truths, numbers, bytes or lists of them.

    Raises:
        TypeError: a value is none of these, or they are of unlike types.
    """
    values = [value for value in values if value is not None]
    kinds = set(map(type, values))
    if kinds <= _LISTS and values:  # the values of all of them at once
        return pa.list_(type_of(item for value in values for item in value))
    if len(kinds) == 1:
        return _type(values[0])
    return functools.reduce(_common, map(_type, values), pa.null())


def _type(value: Any) -> pa.DataType:
    if value is None:
        return pa.null()
    if isinstance(value, (list, tuple)):
        return pa.list_(type_of(value))
    for python, kind in ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64()), (str, pa.string())):
        if isinstance(value, python):
            return kind
    if isinstance(value, bytes):
        return pa.binary()
    raise TypeError(f"a value of type {type(value).__name__}")


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other or other == pa.null():
        return one
    if one == pa.null():
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_common(one.value_type, other.value_type))
    raise TypeError(f"values of {one} and of {other}; expected one type")


def _made(kind: pa.DataType, count: int, data: Values, bits: pa.Buffer | None = None) -> pa.Array:
    return pa.Array.from_buffers(kind, count, [bits, pa.py_buffer(data)])


def _true(value: Any) -> bool:
    if value is None or isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise pa.ArrowInvalid(f"a value of type {type(value).__name__}; expected a truth value")


def _numbers(rows: Sequence[Any], kind: pa.DataType) -> Values:
    dtype = _PLAIN[kind]
    whole = dtype.kind in "iu"
    good = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if not whole and set(map(type, rows)) == {float}:
        return np.array(rows, dtype=dtype)
    for row in rows:
        if row is not None and (isinstance(row, (bool, np.bool_)) or not isinstance(row, good)):
            raise pa.ArrowInvalid(f"a value of type {type(row).__name__}; expected {kind}")
    if whole:
        limits, given = np.iinfo(dtype), [int(row) for row in rows if row is not None]
        if given and not (limits.min <= min(given) and max(given) <= limits.max):
            raise OverflowError(f"a number that is no {kind}")
    return np.asarray([0 if row is None else row for row in rows], dtype=dtype)


def _offsets(lengths: Sequence[int]) -> Values:
    ends = np.cumsum([0, *lengths], dtype=np.int64)
    if ends[-1] > _LIMIT:
        raise pa.ArrowCapacityError(f"{ends[-1]:,} values in one column")
    return ends.astype(np.int32)

"""The values of a column of a LeRobot data file, in whichever of Arrow's encodings somebody wrote them.

Dictionaries, run ends, views, large and fixed-size types, extension types and decimals hold the same numbers and
texts as the plain types do. A column is what ``info.json`` declares: numbers stored in another type are cast to
the declared one where that is exact, and floats are rounded to a narrower declared float, with the note
``rounded_to_<dtype>:<name>``, as lerobot's reader does. A row without a value, or with another number of values
than the others, is refused with its number: an array has no place for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from converters.lerobot.names import flat_names
from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.files import arrow
from vla_data.safety.text import show

_NUMBERS: Final = frozenset(
    (
        *("bool", "float16", "float32", "float64"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
)


def way_out(name: str) -> str:
    """How a column that can't be read is left out."""
    return f"--drop {shlex.quote(show(name))} leaves it out"


POSITIONS: Final = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that say where a row stands: one number each."""


def one_each(table: pa.Table) -> pa.Table:
    """A table whose `POSITIONS` are numbers, where a writer made lists of one number of them (shape ``[1]``)."""
    for name in POSITIONS:
        at = table.column_names.index(name) if name in table.column_names else -1
        if at < 0 or not _is_list(table.schema.field(at).type):
            continue
        lists = joined(table.column(at))
        flat, lengths = pc.list_flatten(lists), pc.list_value_length(lists)
        if not lists.null_count and len(flat) == len(lists) and pc.all(pc.equal(lengths, 1)).as_py():
            table = table.set_column(at, name, flat)
    return table


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def plain(array: pa.Array) -> pa.Array:
    """The same values in the plain encoding, as far as the outermost level goes."""
    while True:
        kind = array.type
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
        elif pa.types.is_run_end_encoded(kind):
            array = pc.run_end_decode(array)
        elif pa.types.is_string_view(kind):
            array = array.cast(pa.large_string())
        elif pa.types.is_binary_view(kind):
            array = array.cast(pa.large_binary())
        elif pa.types.is_fixed_size_binary(kind):
            array = array.cast(pa.binary())
        else:
            return array


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of what `plain` gives."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        elif pa.types.is_string_view(kind):
            return pa.large_string()
        elif pa.types.is_binary_view(kind):
            return pa.large_binary()
        elif pa.types.is_fixed_size_binary(kind):
            return pa.binary()
        else:
            return kind


def joined(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, in the plain encoding."""
    chunks = [plain(chunk) for chunk in column.chunks]
    if len(chunks) == 1:
        return chunks[0]
    return pa.concat_arrays(chunks) if chunks else arrow.from_rows([], plain_type(column.type))


def is_list(kind: pa.DataType) -> bool:
    """Whether a plain type is one of lists."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in (*lists, pa.types.is_list_view, pa.types.is_large_list_view))


def is_number(kind: pa.DataType) -> bool:
    """Whether a plain type is one of numbers or flags."""
    tests = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def is_text(kind: pa.DataType) -> bool:
    """Whether a plain type is one of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a plain type is one of bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def elements(kind: pa.DataType) -> pa.DataType:
    """The plain type of what is in lists, however deep; the type itself where there are none."""
    kind = plain_type(kind)
    while is_list(kind):
        kind = plain_type(kind.value_type)
    return kind


def holds_array(kind: pa.DataType) -> bool:
    """Whether a column of this type has numbers (or records of them, as x, y, z) or one text a row."""
    inner = elements(kind)
    if pa.types.is_struct(inner):
        return inner.num_fields > 0 and all(is_number(elements(field.type)) for field in inner)
    return is_number(inner) or is_text(inner)


def array_of(column: pa.ChunkedArray, name: str, declared: Mapping[str, Any]) -> tuple[Array, list[str]]:
    """A column as an array with ``T`` rows, of the declared type and shape, and notes.

    Args:
        column: of a type for which `holds_array`.
        name: of the feature.
        declared: the feature in ``info.json``; empty where it has none.

    Raises:
        DataError: E203 for a row without a value or with another number of values, E208 for a number that the
            declared type can't hold, E212 for a text with a NUL, at which NumPy's end.
    """
    values = _nested(joined(column), name, declared)
    if values.dtype.kind == "U":
        if str(declared.get("dtype")) in _NUMBERS:
            raise DataError(
                "E208",
                f"{show(name)} is text in row 0, and info.json declares {declared['dtype']}; {way_out(name)}",
            )
        if values.shape[1:] not in ((), (1,)):
            raise DataError("E203", f"{show(name)} has {values.shape[1]} texts a row, not one; {way_out(name)}")
        return values.reshape(len(values)), []
    values, notes = as_declared(values, name, str(declared.get("dtype")), str(column.type))
    shape, found = _shape(declared.get("shape")), values.shape[1:]
    if shape is not None and found != shape:
        if _is_same(found, shape):
            values = values.reshape(len(values), *shape)
        elif len(values):
            notes.append(f"shape_is_not_as_declared:{name}")
    return values[:, 0] if values.shape[1:] == (1,) else values, notes


def _is_same(found: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    """Whether values are stored flat, or differ from their declared shape by axes of one alone."""
    flat = len([n for n in found if n != 1]) <= 1
    alike = [n for n in found if n != 1] == [n for n in declared if n != 1]
    return alike or (flat and int(np.prod(found)) == int(np.prod(declared)))


def _shape(declared: Any) -> tuple[int, ...] | None:
    good = isinstance(declared, list) and declared and all(type(n) is int and n > 0 for n in declared)
    return tuple(declared) if good else None


def _nested(array: pa.Array, name: str, declared: Mapping[str, Any]) -> Array:
    """Lists in lists as an array, by rows."""
    shape = [len(array)]
    while True:
        each = max(1, int(np.prod(shape[1:], dtype=np.int64)))
        if array.null_count:
            row = int(np.flatnonzero(arrow.to_numpy(array.is_null()))[0]) // each
            raise DataError("E203", f"{show(name)} has no value in row {row} ({array.type}); {way_out(name)}")
        if not is_list(array.type):
            break
        if pa.types.is_fixed_size_list(array.type):
            shape.append(array.type.list_size)
            array = plain(array.flatten())
            continue
        lengths = arrow.to_numpy(pc.list_value_length(array))
        if len(odd := np.flatnonzero(lengths != lengths[:1])):
            row = int(odd[0]) // each
            raise DataError(
                "E203",
                f"{show(name)} has {lengths[odd[0]]} values in row {row} and {lengths[0]} in row 0 "
                f"({array.type}); {way_out(name)}",
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        array = plain(array.flatten())
    if pa.types.is_struct(array.type):
        return _records(array, name, declared).reshape(*shape, -1)
    if is_text(array.type):
        return _texts(array.to_pylist()).reshape(shape)
    return _numbers(array).reshape(shape)


def _numbers(array: pa.Array) -> Array:
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    return arrow.to_numpy(array)


def _records(array: pa.Array, name: str, declared: Mapping[str, Any]) -> Array:
    """Records of numbers, or of lists of them, such as x, y, z: in the order of the declared names where these are
    the fields', or else in that of the record.
    """
    fields = [field.name for field in array.type]
    names = flat_names(declared.get("names"))
    known = names is not None and sorted(names) == sorted(fields)
    flat = not any(is_list(plain_type(field.type)) for field in array.type)
    if names is not None and not known and flat:
        raise DataError(
            "E203",
            f"{show(name)} is records of {show(', '.join(fields))[:200]}, and info.json names "
            f"{show(', '.join(names))[:200]}; {way_out(name)}",
        )
    columns = []
    for field in names if known and names is not None else fields:
        try:
            values = _nested(plain(array.field(field)), f"{name}.{field}", {})
        except DataError as error:
            raise DataError(error.code, error.message.rpartition(";")[0] + f"; {way_out(name)}") from None
        columns.append(values.reshape(len(array), -1))
    return np.concatenate(columns, axis=1)


def as_declared(values: Array, name: str, dtype: str, stored: str) -> tuple[Array, list[str]]:
    """Numbers in the type that ``info.json`` declares, and a note where they had to be rounded or are float16,
    which becomes float32.

    Raises:
        DataError: E208, the type can't hold one of them.
    """
    if values.dtype == np.float16 and dtype in ("float16", "None"):  # no dataset of ours has so short floats
        return values.astype(np.float32), [f"float16_as_float32:{name}"]
    if dtype not in _NUMBERS or values.dtype == np.dtype(dtype):
        return values, []
    want = np.dtype(dtype)
    with np.errstate(all="ignore"):
        cast = values.astype(want)
        wrong = ~_same(values, cast)
    if not wrong.any():
        return cast, []
    if values.dtype.kind == want.kind == "f":
        wrong = np.isfinite(values) & ~np.isfinite(cast)
        if not wrong.any():
            return cast, [f"rounded_to_{dtype}:{name}"]
    at = np.argwhere(wrong)[0]
    raise DataError(
        "E208",
        f"{show(name)} is {values[tuple(at)]} in row {at[0]} ({stored}), which its type in info.json, {dtype}, "
        f"can't hold; {way_out(name)}",
    )


def _same(values: Array, cast: Array) -> Any:
    """Whether numbers are what they were, one by one."""
    if values.dtype.kind in "iu" and cast.dtype.kind in "iu":
        limits = np.iinfo(cast.dtype)
        return (values >= limits.min) & (values <= limits.max)
    back = cast.astype(values.dtype)
    same = back == values
    if values.dtype.kind in "iu" and cast.dtype.kind == "f":  # 2**63 comes back as the largest integer
        same &= cast < float(np.iinfo(values.dtype).max) + 1
    if values.dtype.kind == "f" and cast.dtype.kind in "iu":
        limits = np.iinfo(cast.dtype)
        same &= (values >= float(limits.min)) & (values < float(limits.max) + 1)
    return (
        same | (np.isnan(values) & np.isnan(back)) if values.dtype.kind == "f" and cast.dtype.kind == "f" else same
    )


def _texts(items: Sequence[str]) -> Array:
    for step, text in enumerate(items):
        if "\0" in text:
            raise DataError("E212", f"the text of step {step} has a NUL at {text.index(chr(0))}")
    return np.asarray(items, dtype=np.str_)

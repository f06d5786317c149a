"""Small Parquet tables of metadata, written with checksums and without anything that varies."""

from __future__ import annotations

import errno
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vla_data.errors import DataError
from vla_data.files.arrow import from_records
from vla_data.files.write import write_file
from vla_data.safety.files import opened
from vla_data.safety.text import show

MAX_ROWS: Final = 10_000_000
MAX_BYTES: Final = 1 << 30
_FREE_ROWS: Final = 100_000
"""Rows that a file may have whatever its size; of more, each takes a byte."""
_FREE_DATA_ROWS: Final = 1_000_000
_CELL: Final = 8
_NESTED: Final = 32
_BATCH: Final = 1000
_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "strings": pa.list_(pa.string()),
    "spans": pa.list_(
        pa.struct([("start", pa.int64()), ("stop", pa.int64()), ("bucket", pa.string()), ("reason", pa.string())])
    ),
}


def table_bytes(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> memoryview:
    """A Parquet file of these columns (name -> one of "string", "int64", "double", "bool", "strings", "spans")."""
    schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd", write_page_checksum=True) as writer:
        every = iter(rows)
        while batch := [dict(row) for row in itertools.islice(every, _BATCH)]:
            writer.write_table(from_records(batch, schema))
    return buffer.getbuffer()


def write_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], path: Path) -> None:
    """Write rows; see `table_bytes`."""
    write_file(path, table_bytes(rows, columns))


def open_parquet(path: Path, *, root: Path | None = None, **options: Any) -> pq.ParquetFile:
    """A Parquet file of a stranger, with its checksums verified.

    Args:
        path: the file.
        root: the folder that it must be in, see `vla_data.safety.files.open_regular`.
        options: of `pyarrow.parquet.ParquetFile`.

    Raises:
        ArrowException, OSError: it is no Parquet file, no regular file, or not there.
    """
    try:
        with opened(path, root=root) as name:
            return pq.ParquetFile(name, page_checksum_verification=True, **options)
    except UnicodeDecodeError:
        raise pa.ArrowInvalid("a name in it is not UTF-8") from None
    except DataError as error:
        number = errno.ENOENT if error.code == "E133" else errno.EINVAL
        raise error.__cause__ or OSError(number, error.message, str(path)) from None


def check_rows(metadata: pq.FileMetaData, path: Path) -> None:
    """Refuse a file of data that has far more rows than bytes.

    Raises:
        DataError: E107.
    """
    size = path.stat().st_size
    if metadata.num_rows > max(_FREE_DATA_ROWS, size):
        raise DataError("E107", f"{show(path.name)} has {metadata.num_rows:,} rows in {size:,} bytes")


def read_groups(
    reader: pq.ParquetFile, groups: Sequence[int], *, columns: Sequence[str] | None = None, max_bytes: int
) -> pa.Table:
    """Row groups of a file of data, of which a text that all rows share may be stored once.

    Args:
        reader: the file.
        groups: numbers of row groups.
        columns: the columns to read; None: all.
        max_bytes: of the result.

    Raises:
        DataError: E107 for more bytes.
        ArrowException, OSError: the file is damaged.
    """
    chunks = [
        chunk
        for group in (reader.metadata.row_group(number) for number in groups)
        for chunk in (group.column(i) for i in range(group.num_columns))
        if columns is None or chunk.path_in_schema.partition(".")[0] in columns or chunk.path_in_schema in columns
    ]
    # Of what is stored once for all rows, no value is larger than the whole.
    shared = [
        chunk for chunk in chunks if chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page is not False
    ]
    largest = sum(int(chunk.total_uncompressed_size) for chunk in shared)
    values = _CELL * sum(int(chunk.num_values) for chunk in chunks)
    if values > max_bytes:
        raise DataError("E107", f"{len(groups):,} row groups have more than {max_bytes:,} bytes")
    rows = sum(reader.metadata.row_group(number).num_rows for number in groups)
    if largest * rows <= max_bytes:
        return reader.read_row_groups(list(groups), columns=None if columns is None else list(columns))
    batches, taken = [], 0
    size = max(1, min(rows, max_bytes // largest))
    for batch in reader.iter_batches(size, list(groups), None if columns is None else list(columns)):
        taken += batch.nbytes
        if taken > max_bytes:
            raise DataError("E107", f"{len(groups):,} row groups have more than {max_bytes:,} bytes")
        batches.append(batch)
    return pa.Table.from_batches(batches) if batches else reader.read_row_groups([], columns=columns)


def read_whole(
    path: Path, *, root: Path | None = None, wanted: Callable[[str], bool] = lambda name: True, max_bytes: int
) -> pa.Table:
    """A stranger's table of metadata in memory, which a few bytes of Parquet must not make large.

    Texts are read as dictionaries, as they are stored, and their sizes added up before each row gets its own.

    Args:
        path: the file.
        root: see `open_parquet`.
        wanted: whether a column is read, by its name.
        max_bytes: of the table.

    Raises:
        DataError: E107 for more bytes, or more rows than a table of metadata of that size can have; E105 for two
            columns of one name.
        ArrowException, OSError: as `open_parquet`.
    """
    about = open_parquet(path, root=root)
    names = [name for name in about.schema_arrow.names if wanted(name)]
    if len(set(names)) != len(names):
        raise DataError("E105", f"{show(path.name)} has a column twice")
    # A name may have points in it, which a path has between its parts.
    paths = [about.schema.column(i).path for i in range(len(about.schema))]
    known = set(names)
    leaves = [i for i, leaf in enumerate(paths) if any(part in known for part in _beginnings(leaf))]
    groups = [about.metadata.row_group(group) for group in range(about.num_row_groups)]
    columns = [group.column(i) for group in groups for i in leaves]
    rows, size = about.metadata.num_rows, path.stat().st_size
    if rows > min(MAX_ROWS, max(_FREE_ROWS, size)):
        raise DataError("E107", f"{show(path.name)} has {rows:,} rows in {size:,} bytes")
    declared = max(
        sum(int(column.total_uncompressed_size) for column in columns),
        _CELL * sum(int(column.num_values) for column in columns),
    )
    texts = [paths[i] for i in leaves if about.schema.column(i).physical_type == "BYTE_ARRAY"]
    if declared > max_bytes:
        raise DataError("E107", f"{show(path.name)} has {rows:,} rows of {declared:,} bytes")
    plain = pa.schema([about.schema_arrow.field(name) for name in names], metadata=about.schema_arrow.metadata)
    reader = open_parquet(path, root=root, read_dictionary=texts, metadata=about.metadata)
    # Arrow gives lists of dictionaries of one row group at a time alone.
    pieces = [[group] for group in range(reader.num_row_groups)] if texts else [list(range(reader.num_row_groups))]
    tables, taken = [], 0
    for piece in pieces or [[]]:
        table = reader.read_row_groups(piece, names)
        taken += sum(_expanded(chunk) for column in table.columns for chunk in column.chunks)
        if taken > max_bytes:
            raise DataError("E107", f"{show(path.name)} has {rows:,} rows of more than {max_bytes:,} bytes")
        tables.append(table.cast(plain))
    return pa.concat_tables(tables)


def _beginnings(path: str) -> Iterator[str]:
    parts = path.split(".")
    return (".".join(parts[:end]) for end in range(1, min(len(parts), _NESTED) + 1))


def _expanded(array: pa.Array) -> int:
    """Bytes of an array whose rows have values of their own, also of texts that are a dictionary's."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary)
        return int(pc.sum(lengths.take(array.indices)).as_py() or 0) + _CELL * len(array)
    if pa.types.is_struct(kind):
        return sum(map(_expanded, array.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _CELL * len(array) + _expanded(array.flatten())
    return int(array.nbytes)


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table of metadata, with its checksums verified.

    Raises:
        DataError, ArrowException, OSError: as `read_whole`.
    """
    rows: list[dict[str, Any]] = []
    for batch in read_whole(path, max_bytes=MAX_BYTES).to_batches(_BATCH):
        rows += batch.to_pylist()
    return rows

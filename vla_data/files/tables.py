"""Small Parquet tables of metadata, written with checksums and without anything that varies."""

from __future__ import annotations

import errno
import io
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vla_data.errors import DataError
from vla_data.files.arrow import from_records
from vla_data.files.write import write_file
from vla_data.safety.files import opened
from vla_data.safety.text import show

MAX_ROWS: Final = 10_000_000
MAX_BYTES: Final = 4 << 30
_BATCH: Final = 1000
_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "strings": pa.list_(pa.string()),
    "spans": pa.list_(
        pa.struct([("start", pa.int64()), ("stop", pa.int64()), ("bucket", pa.string()), ("reason", pa.string())])
    ),
}


def write_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], path: Path) -> None:
    """Write rows with these columns (name -> one of "string", "int64", "bool", "strings", "spans")."""
    schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd", write_page_checksum=True) as writer:
        every = iter(rows)
        while batch := [dict(row) for row in itertools.islice(every, _BATCH)]:
            writer.write_table(from_records(batch, schema))
    write_file(path, buffer.getbuffer())


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
    except DataError as error:
        number = errno.ENOENT if error.code == "E133" else errno.EINVAL
        raise error.__cause__ or OSError(number, error.message, str(path)) from None


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table of metadata, with its checksums verified.

    Raises:
        DataError: E107 for more than can be a table of metadata, and all of `open_parquet`.
    """
    reader = open_parquet(path)
    count, size = reader.metadata.num_rows, path.stat().st_size
    if count > MAX_ROWS:
        raise DataError("E107", f"{show(path.name)} has {count:,} rows")
    rows: list[dict[str, Any]] = []
    taken = 0
    # A few bytes may stand for a value that each row repeats: so many rows at a time that all may be the largest.
    for batch in reader.iter_batches(max(1, min(_BATCH, MAX_BYTES // max(size, 1)))):
        taken += batch.nbytes
        if taken > MAX_BYTES:
            raise DataError("E107", f"{show(path.name)} has more than {MAX_BYTES:,} bytes")
        rows += batch.to_pylist()
    return rows

"""Small Parquet tables of metadata, written with checksums and without anything that varies."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vla_data.files.write import write_file

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
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    write_file(path, buffer.getbuffer())


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, with its checksums verified."""
    rows: list[dict[str, Any]] = pq.read_table(path, page_checksum_verification=True).to_pylist()
    return rows

"""Evo-RL's columns (MINT-SJTU/Evo-RL, ``scripts/lerobot_value_infer.py``), in the data files themselves.

    complementary_info.value_<tag>, complementary_info.advantage_<tag>     float32
    complementary_info.acp_indicator_<tag>                                 int64, 1 is positive

Evo-RL writes them into the original. A published dataset is never edited here: the columns are in a copy beside
it, with all of its files but annotations and our ledger, manifest and sums, which do not speak of the copy. Images
and videos are copied byte for byte. What the copy was made of is in its ``meta/vla_data/annotated.json``.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_data.advantages.annotation import FOLDER, Annotation, read_sums
from vla_data.advantages.format import Exchanged, need_labels, need_tag
from vla_data.advantages.frame_table import SIDE, FrameTable, as_flags
from vla_data.advantages.join import cover, place
from vla_data.advantages.numbers.flat import Ints
from vla_data.core.ledger import FILE
from vla_data.core.manifest import MANIFEST
from vla_data.files import arrow
from vla_data.files.sums import SEAL
from vla_data.files.tables import open_parquet
from vla_data.files.write import machine_errors, make_folder, open_file, remove_tree, write_file
from vla_data.jobs.publish import publish
from vla_data.jobs.targets import Seen
from vla_data.jobs.workspace import check_target, workspace
from vla_data.safety import strict_json
from vla_data.safety.files import open_binary

_PIECE: Final = 1 << 20
_LEFT_OUT: Final = tuple(f"{SIDE}/{name}" for name in (SEAL, MANIFEST, FILE))


def columns(tag: str) -> tuple[str, str, str]:
    """Names of value, advantage and indicator."""
    return (
        f"complementary_info.value_{tag}",
        f"complementary_info.advantage_{tag}",
        f"complementary_info.acp_indicator_{tag}",
    )


def files(tag: str) -> tuple[str, ...]:
    """The names of what is written into the dataset: nothing."""
    del tag
    return ()


def write_copy(annotation: Annotation, table: FrameTable, target: Path) -> None:
    """Publish a copy of the dataset with the three columns at ``target``, whole or not at all.

    Raises:
        UsageError: E001 without labels.
        TargetExistsError: E411, ``target`` is there.
    """
    positive = need_labels(annotation, "evo-rl")
    value, advantage, indicator = columns(annotation.tag)
    new = {
        value: arrow.from_numpy(annotation.values.astype(np.float32)),
        advantage: arrow.from_numpy(annotation.advantages.astype(np.float32)),
        indicator: arrow.from_numpy(positive.astype(np.int64)),
    }
    check_target(target, (table.root,), replace=False)
    with workspace(target) as work, machine_errors("cannot write the copy"):
        check_target(target, (table.root,), replace=False)
        seen = Seen.at(target)
        staging = work / "staging"
        remove_tree(staging)
        _copy_others(table, staging)
        row = 0
        for name in table.files:
            row += _add_columns(table.root / name, staging / name, new, row)
        _declare(table.root, staging, new)
        facts = {"layout": "evo-rl", "tag": annotation.tag, **annotation.provenance}
        make_folder(staging / SIDE)
        write_file(staging / SIDE / "annotated.json", json.dumps(facts, indent=2, sort_keys=True).encode() + b"\n")
        publish(staging, target, seen)


def _copy_others(table: FrameTable, staging: Path) -> None:
    done = {*table.files, *_LEFT_OUT, *read_sums(table.root), "meta/info.json"}
    for folder, names, files in os.walk(table.root):
        names.sort()
        for file in sorted(files):
            path = Path(folder, file)
            name = path.relative_to(table.root).as_posix()
            if name not in done and not name.startswith(f"{FOLDER}/") and path.is_file():
                make_folder((staging / name).parent)
                with open_binary(path, root=table.root) as source, open_file(staging / name) as copy:
                    shutil.copyfileobj(source, copy, _PIECE)


def _add_columns(source: Path, target: Path, new: dict[str, Any], row: int) -> int:
    """Copy a data file, row group by row group, with more columns; returns how many rows it has."""
    file = open_parquet(source)
    make_folder(target.parent)
    start, writer = row, None
    with open_file(target) as out:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            for name, values in new.items():
                if name in table.column_names:
                    table = table.drop_columns([name])
                table = table.append_column(name, values.slice(row, len(table)))
            row += len(table)
            table = table.replace_schema_metadata(_metadata(table.schema, new))
            if writer is None:
                writer = pq.ParquetWriter(
                    out, table.schema, compression=_codecs(file, new), write_page_checksum=True
                )
            writer.write_table(table)
        if writer is not None:
            writer.close()
    return row - start


def _codecs(file: pq.ParquetFile, new: dict[str, Any]) -> dict[str, str]:
    """Each column as it was; encoded images are not compressed again."""
    group = file.metadata.row_group(0)
    codecs = {
        column.path_in_schema: "NONE" if column.compression == "UNCOMPRESSED" else column.compression
        for column in (group.column(i) for i in range(group.num_columns))
    }
    return codecs | dict.fromkeys(new, "SNAPPY")


def _metadata(schema: pa.Schema, new: dict[str, Any]) -> dict[bytes, bytes]:
    """Hugging Face's own description of the columns, where there is one, with the new ones."""
    metadata = dict(schema.metadata or {})
    if b"huggingface" in metadata:
        facts = json.loads(metadata[b"huggingface"])
        features = facts.get("info", {}).get("features")
        if isinstance(features, dict):
            features |= {name: {"dtype": _dtype(array), "_type": "Value"} for name, array in new.items()}
        metadata[b"huggingface"] = json.dumps(facts).encode()
    return metadata


def _declare(root: Path, staging: Path, new: dict[str, Any]) -> None:
    info = strict_json.read(root / "meta/info.json", root=root)
    for name, array in new.items():
        info["features"][name] = {"dtype": _dtype(array), "shape": [1], "names": None}
    write_file(staging / "meta/info.json", json.dumps(info, indent=4, ensure_ascii=False).encode())


def _dtype(array: Any) -> str:
    return "float32" if pa.types.is_floating(array.type) else "int64"


def read(table: FrameTable, tag: str | None) -> Exchanged:
    """The columns of a tag in the dataset's own data files. Evo-RL leaves NaN where it was not run.

    Raises:
        UsageError: E001 without a tag, E003 when the columns are not there.
        DataError: E205 for an indicator that is neither 0 nor 1.
    """
    value, advantage, indicator = columns(need_tag(tag, "evo-rl"))
    found = FrameTable.read(table.root, (value, advantage, indicator)).columns
    finite = np.isfinite(found[value]) & np.isfinite(found[advantage])
    rows: Ints = np.flatnonzero(finite)
    return Exchanged(
        layout="evo-rl",
        files=table.files,
        coverage=cover(table, rows),
        advantages=place(rows, found[advantage][rows].astype(np.float64), len(table)),
        values=place(rows, found[value][rows].astype(np.float64), len(table)),
        positive=as_flags(found[indicator], indicator),
    )

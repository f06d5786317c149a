"""A copy of a LeRobot dataset with other columns, for what a trainer looks for in the data files themselves.

A published dataset is never edited. The copy has all of its files but annotations and our ledger, manifest and
sums, which do not speak of the copy; what it was made of is in its ``meta/vla_data/annotated.json``. Images are
copied byte for byte. Videos are hard links where ``link`` says so and the file system can, so that they take no
room; a copy on another file system has copies of them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from training_adapters.stored import as_lerobot
from vla_data.advantages.annotation import FOLDER, Annotation, read_sums
from vla_data.advantages.frame_table import SIDE, FrameTable
from vla_data.core import Json
from vla_data.core.ledger import FILE
from vla_data.core.manifest import MANIFEST
from vla_data.errors import DataError
from vla_data.files.folders import folders_below
from vla_data.files.sums import SEAL
from vla_data.files.tables import open_parquet
from vla_data.files.write import (
    check_space,
    files_below,
    machine_errors,
    make_folder,
    open_file,
    remove_tree,
    write_file,
)
from vla_data.jobs.publish import publish
from vla_data.jobs.targets import Seen
from vla_data.jobs.workspace import check_target, workspace
from vla_data.safety import strict_json
from vla_data.safety.files import open_binary
from vla_data.safety.text import show

INFO: Final = "meta/info.json"
_PIECE: Final = 1 << 20
_LEFT_OUT: Final = tuple(f"{SIDE}/{name}" for name in (SEAL, MANIFEST, FILE))


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that the copy has, instead of one of its name or beside the others.

    Attributes:
        make: gives the column of a row group, from its table and the number of its first row in the dataset.
        feature: what ``info.json`` says of it; None: it is declared as it was.
        hf: what Hugging Face ``datasets`` calls its type; None: as it was.
        leaves: its Parquet paths.
    """

    make: Callable[[pa.Table, int], pa.Array]
    feature: Json = None
    hf: Json = None
    leaves: tuple[str, ...] = ()


def of_numbers(name: str, values: pa.Array, dtype: str) -> Column:
    """A column of one number a frame, ``(N,)`` of the whole dataset."""
    return Column(
        make=lambda table, row: values.slice(row, len(table)),
        feature={"dtype": dtype, "shape": [1], "names": None},
        hf={"dtype": dtype, "_type": "Value"},
        leaves=(name,),
    )


def write_copy(
    layout: str,
    annotation: Annotation,
    table: FrameTable,
    target: Path,
    columns: Mapping[str, Column],
    *,
    link: bool = False,
    finish: Callable[[Path, dict[str, Any]], None] | None = None,
    without: Collection[str] = (),
) -> None:
    """Publish a copy of the dataset at ``target``, whole or not at all.

    Args:
        layout: name of the trainer.
        annotation: what is put into it.
        table: the dataset.
        target: of the copy.
        columns: name -> what it becomes.
        link: whether videos are hard links.
        finish: called with the copy and the content of its ``info.json``, before that is written.
        without: files of metadata that are not copied, because ``finish`` writes them.

    Raises:
        TargetExistsError: E411, ``target`` is there.
    """
    check_target(target, (table.root,), replace=False)
    with workspace(target) as work, machine_errors("cannot write the copy"):
        check_target(target, (table.root,), replace=False)
        seen = Seen.at(target)
        staging = work / "staging"
        remove_tree(staging)
        check_space(work, sum(path.stat().st_size for path in files_below(table.root)))
        _copy_others(table, staging, link=link, without=without)
        row = 0
        for name in table.files:
            row += _copy_data(table, name, staging / name, columns, row)
        info = strict_json.read(table.root / INFO, root=table.root)
        with as_lerobot(INFO):
            info["features"] |= {name: column.feature for name, column in columns.items() if column.feature}
        make_folder(staging / SIDE)
        if finish is not None:
            finish(staging, info)
        write_file(staging / INFO, json.dumps(info, indent=4, ensure_ascii=False).encode())
        facts = {"layout": layout, "tag": annotation.tag, **annotation.provenance}
        write_file(staging / SIDE / "annotated.json", json.dumps(facts, indent=2, sort_keys=True).encode() + b"\n")
        publish(staging, target, seen)


def _copy_others(table: FrameTable, staging: Path, *, link: bool, without: Collection[str]) -> None:
    done = {*table.files, *_LEFT_OUT, *read_sums(table.root), INFO, *without}
    for folder, files in sorted(folders_below(table.root)):
        for file in sorted(files):
            path = Path(folder, file)
            name = path.relative_to(table.root).as_posix()
            if name in done or name.startswith(f"{FOLDER}/") or not path.is_file():
                continue
            make_folder((staging / name).parent)
            if link and name.startswith("videos/") and _is_linked(path, staging / name):
                continue
            with open_binary(path, root=table.root) as source, open_file(staging / name) as copy:
                shutil.copyfileobj(source, copy, _PIECE)


def _is_linked(path: Path, target: Path) -> bool:
    """Whether a file could be linked; what is a link itself is copied with the care that it asks for."""
    if path.is_symlink():
        return False
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        return False
    return True


def _copy_data(table_of: FrameTable, name: str, target: Path, columns: Mapping[str, Column], row: int) -> int:
    """Copy a data file, row group by row group, with these columns; returns how many rows it has."""
    file = open_parquet(table_of.root / name, root=table_of.root)
    make_folder(target.parent)
    start, writer = row, None
    with open_file(target) as out:
        for group in range(file.num_row_groups):
            old = table = file.read_row_group(group)
            for name, column in columns.items():
                with as_lerobot(f"{show(target.name)}: {name}"):
                    made = column.make(old, row)
                if name in table.column_names:
                    table = table.set_column(table.column_names.index(name), name, made)
                else:
                    table = table.append_column(name, made)
            row += len(table)
            table = table.replace_schema_metadata(_metadata(table.schema, columns))
            if writer is None:
                writer = pq.ParquetWriter(
                    out, table.schema, compression=_codecs(file, columns), write_page_checksum=True
                )
            writer.write_table(table)
        if writer is not None:
            writer.close()
    return row - start


def _codecs(file: pq.ParquetFile, columns: Mapping[str, Column]) -> dict[str, str]:
    """Each column as it was; encoded images are not compressed again."""
    group = file.metadata.row_group(0)
    codecs = {
        column.path_in_schema: "NONE" if column.compression == "UNCOMPRESSED" else column.compression
        for column in (group.column(i) for i in range(group.num_columns))
    }
    return codecs | {leaf: "SNAPPY" for column in columns.values() for leaf in column.leaves}


def _metadata(schema: pa.Schema, columns: Mapping[str, Column]) -> dict[bytes, bytes]:
    """Hugging Face's own description of the columns, where there is one, with the new ones."""
    metadata = dict(schema.metadata or {})
    if b"huggingface" in metadata:
        try:
            facts = strict_json.loads(metadata[b"huggingface"], name="huggingface", not_finite=True)
        except DataError:  # nobody else can read it either
            return metadata
        info = facts.get("info") if isinstance(facts, dict) else None
        features = info.get("features") if isinstance(info, dict) else None
        if isinstance(features, dict):
            features |= {name: column.hf for name, column in columns.items() if column.hf}
        metadata[b"huggingface"] = json.dumps(facts).encode()
    return metadata

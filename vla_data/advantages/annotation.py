"""An annotation: what was computed for every frame of a dataset, and how; and its canonical file.

    meta/vla_data/advantages/<tag>.parquet     a row a frame; everything about its making in the file's metadata
    meta/vla_data/advantages/SHA256SUMS        SHA-256 of all annotation files of the dataset, wherever they lie

The dataset's own ``SHA256SUMS`` and manifest stay as they are: they speak of what was published, and an annotation
adds files without changing any of those.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_data.advantages.frame_table import SIDE, FrameTable, to_text
from vla_data.advantages.join import cover, place
from vla_data.advantages.numbers.flat import Bools, Floats, Ints
from vla_data.core import Json
from vla_data.errors import DataError, UsageError
from vla_data.files import arrow
from vla_data.files.sums import SEAL, format_sums, parse_sums
from vla_data.files.tables import check_rows, open_parquet, read_groups
from vla_data.files.write import write_file
from vla_data.safety import strict_json
from vla_data.safety.files import hash_regular, read_file
from vla_data.safety.text import show

FOLDER: Final = f"{SIDE}/advantages"
SUMS: Final = f"{FOLDER}/{SEAL}"
_KEY: Final = b"vla_data"
_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VERSION: Final = 1
_MOST: Final = 8 << 30
"""Bytes of a table with a row for each frame."""


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """Advantages of every frame of a dataset, in the order of its `FrameTable`.

    Attributes:
        tag: its name.
        returns: (N,) int64, R in steps, not normalised.
        normalizers: (N,) int64: what R is divided by.
        values: (N,) float64, V.
        advantages: (N,) float64. Not float32: a label is exactly ``advantage op epsilon``, or forced.
        look_ahead: (N,) int64, how many rewards are in each advantage.
        positive: (N,) bool, or None where no threshold was asked for.
        forced: (N,) bool: positive as a human correction, or None.
        provenance: everything that made it, JSON-ready.
    """

    tag: str
    returns: Ints
    normalizers: Ints
    values: Floats
    advantages: Floats
    look_ahead: Ints
    positive: Bools | None
    forced: Bools | None
    provenance: Mapping[str, Json] = field(repr=False)

    def __post_init__(self) -> None:
        check_tag(self.tag)

    @property
    def thresholds(self) -> Mapping[str, Json] | None:
        """``{"op", "per_task", "bounds": {task_index or "all": Threshold.to_json()}}``."""
        found: Mapping[str, Json] | None = self.provenance.get("thresholds")
        return found

    def epsilons(self, table: FrameTable) -> Floats | None:
        """(N,): the epsilon of each frame, or None without thresholds."""
        if self.thresholds is None:
            return None
        bounds = self.thresholds["bounds"]
        if not self.thresholds["per_task"]:
            return np.full(len(table), bounds["all"]["epsilon"])
        names, task = np.unique(table.task, return_inverse=True)
        return np.array([bounds[str(int(name))]["epsilon"] for name in names])[task.reshape(-1)]


def check_tag(tag: str) -> str:
    """A tag that can be a part of file and column names.

    Raises:
        UsageError: E001 for another.
    """
    if not _TAG.fullmatch(tag):
        raise UsageError(
            "E001",
            f"{show(tag)!r} is not a tag; a tag is 1 to 64 letters, digits, _ and -, and begins with a "
            "letter or digit",
        )
    return tag


def sidecar(tag: str) -> str:
    """The canonical file, relative to the dataset."""
    return f"{FOLDER}/{check_tag(tag)}.parquet"


def write_annotation(annotation: Annotation, table: FrameTable) -> str:
    """Write the canonical file; returns its relative name."""
    columns: dict[str, Any] = {
        "episode_index": table.episode_index,
        "frame_index": table.episodes.frame_index(),
        "index": table.index,
        "return": annotation.returns,
        "normalizer": annotation.normalizers,
        "value": annotation.values,
        "advantage": annotation.advantages,
        "look_ahead": annotation.look_ahead,
    }
    if annotation.positive is not None:
        columns["positive"] = annotation.positive
    if annotation.forced is not None:
        columns["forced"] = annotation.forced
    facts = {"format_version": _VERSION, "tag": annotation.tag, **annotation.provenance}
    name = sidecar(annotation.tag)
    data = parquet_bytes(arrow.table(columns), {_KEY: to_text(facts).encode()})
    write_file(table.root / name, data, root=table.root)
    return name


def read_annotation(table: FrameTable, tag: str) -> Annotation:
    """The canonical file of a tag, put onto the dataset's frames.

    Raises:
        UsageError: E003 without it; E301 when it was made for other data; E302 when it is damaged.
    """
    name = sidecar(tag)
    read = parquet_table(table.root, name)
    try:
        facts = strict_json.loads(read.schema.metadata[_KEY], name=name)
        version, dataset = facts.pop("format_version"), facts["dataset"]
    except (TypeError, KeyError, AttributeError):
        raise UsageError("E302", f"{name} does not say what it was made for") from None
    if version != _VERSION:
        raise UsageError("E002", f"{name} has format version {show(version)}; this program reads {_VERSION}")
    now = table.digest()
    if dataset != now:
        told = dataset if isinstance(dataset, dict) else {}
        wrong = " and ".join(show(key) for key in now if told.get(key) != now[key])
        frames = show(told.get("frames"))
        raise UsageError(
            "E301",
            f"{name} was made for other data: not the same {wrong}; {frames} frames then, {len(table):,} now",
        )
    facts.pop("tag", None)
    rows = table.rows(arrow.to_numpy(read["episode_index"]), arrow.to_numpy(read["frame_index"]))
    cover(table, rows).require(name)

    def column(key: str, dtype: Any) -> Any:
        values = arrow.to_numpy(read[key]) if key in read.column_names else None
        if values is None or values.dtype.kind not in "fiub":
            raise UsageError("E302", f"{name} has no {'column' if values is None else 'numbers in'} {key}")
        if not np.isfinite(values).all():
            raise UsageError("E302", f"{name}: {key} is not finite everywhere")
        return place(rows, values, len(table)).astype(dtype)

    found = Annotation(
        tag=tag,
        returns=column("return", np.int64),
        normalizers=column("normalizer", np.int64),
        values=column("value", np.float64),
        advantages=column("advantage", np.float64),
        look_ahead=column("look_ahead", np.int64),
        positive=column("positive", np.bool_) if "positive" in read.column_names else None,
        forced=column("forced", np.bool_) if "forced" in read.column_names else None,
        provenance=facts,
    )
    _check_labels(found, table, name)
    return found


def _check_labels(found: Annotation, table: FrameTable, name: str) -> None:
    """Refuse labels that do not follow from the advantages beside them, by E302."""
    try:
        bounds = found.epsilons(table)
        op = found.thresholds["op"] if found.thresholds is not None else None
    except (KeyError, TypeError):
        raise UsageError("E302", f"{name} does not say what is positive") from None
    if found.positive is None or bounds is None:
        return
    above = found.advantages > bounds if op == ">" else found.advantages >= bounds
    wrong = int((found.positive != (above if found.forced is None else above | found.forced)).sum())
    if wrong:
        raise UsageError(
            "E302", f"{name}: positive is not what advantage and thresholds give, in {wrong:,} frames"
        )


def parquet_bytes(table: pa.Table, metadata: Mapping[bytes, bytes] | None = None) -> memoryview:
    """A Parquet file with checksums, the same bytes for the same table."""
    if metadata:
        table = table.replace_schema_metadata(dict(metadata))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getbuffer()


def parquet_table(root: Path, name: str) -> pa.Table:
    """A whole Parquet file of a dataset.

    Raises:
        UsageError: E003 when it is not there, E302 when it can't be read or has nulls in it.
    """
    path = root / name
    try:
        file = open_parquet(path, root=root)
        check_rows(file.metadata, path)
        table = read_groups(file, range(file.num_row_groups), max_bytes=_MOST)
    except FileNotFoundError:
        raise UsageError("E003", f"{show(root)} has no {show(name)}") from None
    except (pa.ArrowException, OSError) as error:
        raise UsageError("E302", f"{show(name)} can't be read ({type(error).__name__})") from None
    for key in ("episode_index", "frame_index"):
        if key not in table.column_names or not pa.types.is_integer(table.schema.field(key).type):
            raise UsageError("E302", f"{show(name)} has no whole numbers {key}")
    nulls = [key for key in table.column_names if table[key].null_count]
    if nulls:
        raise UsageError("E302", f"{show(name)}: {show(nulls[0])} has {table[nulls[0]].null_count:,} nulls")
    return table


def read_sums(root: Path) -> dict[str, str]:
    """Annotation file, relative to the dataset -> its SHA-256.

    Raises:
        UsageError: E001 when the file is not in ``sha256sum``'s format.
    """
    try:
        return dict(parse_sums(read_file(root / SUMS, root=root)[0]))
    except DataError as error:
        if error.code == "E133":
            return {}
        raise UsageError("E001", f"{SUMS}: {error.message}") from None


def write_sums(root: Path, names: Iterable[str]) -> None:
    """Put these files, and what is left of those listed before, into the annotations' ``SHA256SUMS``."""
    sums = {name: digest for name, digest in read_sums(root).items() if (root / name).is_file()}
    sums |= {name: hash_regular(root / name, root=root) for name in names}
    write_file(root / SUMS, format_sums(sums), root=root)

"""LeRobot datasets, format v3.0 (https://github.com/huggingface/lerobot, ``src/lerobot/datasets``), without
importing lerobot or torch.

    meta/info.json                                 features, totals, paths
    meta/stats.json                                statistics of the dataset
    meta/tasks.parquet                             task_index of each instruction
    meta/episodes/chunk-000/file-000.parquet       a row an episode: length, place, tasks, statistics
    data/chunk-000/file-000.parquet                a row a frame, a row group an episode; images are encoded bytes
    meta/vla_data/                                 schema, ledger, manifest and checksums of this project
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_data import checks
from vla_data.core import Encoded, Episode, Json, Published, Schema
from vla_data.digest import content_digest
from vla_data.errors import DataError, VerifyError
from vla_data.images import JPEG_QUALITY, Encoding
from vla_data.jobs.io import write_file
from vla_data.statistics import ImageStats, vector_stats

VERSION: Final = "v3.0"
CHUNK_FILES: Final = 1000
DATA_FILE_MB: Final = 100
VIDEO_FILE_MB: Final = 200
DATA_PATH: Final = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH: Final = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

_ROWS: Final = 100
"""Episodes whose metadata is written at a time."""

# The features that every LeRobot dataset has, besides its own.
_INDEX_FEATURES: Final = {
    "timestamp": pa.float32(),
    "frame_index": pa.int64(),
    "episode_index": pa.int64(),
    "index": pa.int64(),
    "task_index": pa.int64(),
}
_IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True, kw_only=True)
class LerobotSink:
    """Writes a LeRobot v3.0 dataset whose images are encoded bytes in Parquet.

    Attributes:
        target: the dataset's root.
        images: "jpeg" (quality ``jpeg_quality``, 4:2:0; images that are JPEG already stay as they are) or
            "png" (lossless).
        jpeg_quality: 1 to 100.
        data_file_mb: a data file is closed when it would grow beyond this; one episode is never split.
        robot: ``robot_type``, or None.
    """

    target: Path = field(repr=False)
    images: Encoding = "jpeg"
    jpeg_quality: int = JPEG_QUALITY
    data_file_mb: int = DATA_FILE_MB
    robot: str | None = None

    def __post_init__(self) -> None:
        checks.one_of("images", self.images, ("jpeg", "png"))
        checks.whole("jpeg_quality", self.jpeg_quality, low=1, high=100)
        checks.whole("data_file_mb", self.data_file_mb, low=1)

    @property
    def one_schema(self) -> bool:
        """All episodes share one schema."""
        return True

    @property
    def sidecar(self) -> str:
        """Folder for the manifest and the ledger."""
        return "meta/vla_data"

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """One Arrow table, and the episode's statistics."""
        if len(episode) == 0:
            raise DataError("E207", "the episode has no steps left, which LeRobot can't hold")
        arrays = {name: episode.arrays[name] for name in schema.features if name in episode.arrays}
        columns: dict[str, pa.Array] = {name: _column(array) for name, array in arrays.items()}
        stats: dict[str, Json] = {name: vector_stats(array) for name, array in arrays.items()}
        counts: dict[str, Json] = {}
        encoded: dict[str, list[bytes]] = {}
        for name, frames in episode.frames.items():
            encoded[name] = list(frames.encoded(self.images, quality=self.jpeg_quality))
            columns[name] = _image_column(encoded[name], self.images)
            counted = ImageStats.of(frames)
            stats[name] = counted.to_json()
            counts[name] = counted.counts.tolist()
        # Statistics travel with the episode's bytes, so that planning never holds those of all episodes.
        facts = {"stats": json.dumps(stats), "counts": json.dumps(counts)}
        table = pa.table(columns).replace_schema_metadata(facts)
        buffer = io.BytesIO()
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
        summary = {"length": len(episode), "task": episode.task, "bytes": buffer.getbuffer().nbytes}
        return Encoded([buffer.getbuffer()], summary, content_digest(episode.task, arrays, encoded))

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write data files, episode metadata, tasks, statistics and ``info.json``."""
        tasks = _tasks(episodes)
        features = _features(schema)
        totals = _Totals(folder / EPISODES_PATH.format(chunk_index=0, file_index=0))
        for number, group in enumerate(self._files(episodes)):
            place = {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}
            path = folder / DATA_PATH.format(**place)
            path.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(
                path,
                _arrow_schema(features),
                compression=dict.fromkeys(_leaves(features), "snappy"),
                use_dictionary=[name for name in features if features[name]["dtype"] != "image"],
                write_page_checksum=True,
            ) as writer:
                for episode in group:
                    table, stats = self._table(episode, schema, features, tasks, totals)
                    totals.add(episode, table, stats, place)
                    writer.write_table(table, row_group_size=len(table))
        totals.close()
        _write_tasks(folder, tasks)
        _write_json(folder / "meta/stats.json", totals.stats())
        _write_json(folder / "meta/info.json", self._info(features, schema, totals, tasks))

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read every row group back, with its checksums, and compare it with what was encoded."""
        at = 0
        for file in sorted((folder / "data").rglob("*.parquet")):
            reader = pq.ParquetFile(file, page_checksum_verification=True)
            for group in range(reader.num_row_groups):
                table = reader.read_row_group(group)
                want = pa.ipc.open_stream(episodes[at].read()).read_all()
                index = table["episode_index"].unique().to_pylist()
                if index != [at] or not table.select(want.column_names).combine_chunks().equals(
                    want.cast(pa.schema([table.schema.field(name) for name in want.column_names])).combine_chunks()
                ):
                    raise VerifyError("E601", f"episode {at} in {file.name} is not what was written")
                at += 1
        if at != len(episodes):
            raise VerifyError("E601", f"{at} of {len(episodes)} episodes were read back")

    def _files(self, episodes: Sequence[Published]) -> Iterator[list[Published]]:
        group: list[Published] = []
        size = 0
        for episode in episodes:
            grown = size + int(episode.summary["bytes"])
            if group and grown > self.data_file_mb << 20:
                yield group
                group, grown = [], int(episode.summary["bytes"])
            group.append(episode)
            size = grown
        yield group

    def _table(
        self,
        episode: Published,
        schema: Schema,
        features: Mapping[str, Json],
        tasks: Mapping[str, int],
        totals: _Totals,
    ) -> tuple[pa.Table, dict[str, Json]]:
        """One episode's rows with the index columns, and its statistics."""
        table = pa.ipc.open_stream(episode.read()).read_all()
        stats: dict[str, Json] = json.loads(table.schema.metadata[b"stats"])
        for name, counts in json.loads(table.schema.metadata[b"counts"]).items():
            totals.add_image(name, ImageStats(np.asarray(counts, dtype=np.int64), len(table)))
        own: dict[str, np.ndarray[Any, Any]] = {
            "timestamp": (np.arange(len(table)) / schema.fps).astype(np.float32),
            "frame_index": np.arange(len(table)),
            "episode_index": np.full(len(table), totals.episodes),
            "index": np.arange(totals.frames, totals.frames + len(table)),
            "task_index": np.full(len(table), tasks[episode.summary["task"]]),
        }
        for name, values in own.items():
            table = table.append_column(name, pa.array(values, _INDEX_FEATURES[name]))
            stats[name] = vector_stats(values)
        arrow = _arrow_schema(features)
        return table.select(arrow.names).cast(arrow), stats

    def _info(
        self,
        features: Mapping[str, Json],
        schema: Schema,
        totals: _Totals,
        tasks: Mapping[str, int],
    ) -> Json:
        return {
            "codebase_version": VERSION,
            "robot_type": self.robot or schema.robot,
            "total_episodes": totals.episodes,
            "total_frames": totals.frames,
            "total_tasks": len(tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": self.data_file_mb,
            "video_files_size_in_mb": VIDEO_FILE_MB,
            "fps": int(schema.fps) if float(schema.fps).is_integer() else schema.fps,
            "splits": {"train": f"0:{totals.episodes}"},
            "data_path": DATA_PATH,
            "video_path": None,
            "features": features,
        }


def _column(array: np.ndarray[Any, Any]) -> pa.Array:
    if array.ndim == 1:
        return pa.array(array)
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, array[0].size)


def _values(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        values: np.ndarray[Any, Any] = array.flatten().to_numpy(zero_copy_only=False)
        return values.reshape(len(array), -1)
    return np.asarray(array.to_numpy(zero_copy_only=False))[:, None]


def _image_column(items: Sequence[bytes], encoding: Encoding) -> pa.Array:
    suffix = "jpg" if encoding == "jpeg" else "png"
    paths = pa.array([f"frame-{i:06d}.{suffix}" for i in range(len(items))], pa.string())
    return pa.StructArray.from_arrays([pa.array(items, pa.binary()), paths], fields=list(_IMAGE))


def _tasks(episodes: Sequence[Published]) -> dict[str, int]:
    """Instruction -> task_index, in the order in which they first appear."""
    tasks: dict[str, int] = {}
    for episode in episodes:
        tasks.setdefault(episode.summary["task"], len(tasks))
    return tasks


def _features(schema: Schema) -> dict[str, Json]:
    """The ``features`` of ``info.json``: ours in order of name, then LeRobot's own."""
    features: dict[str, Json] = {}
    for name in sorted(schema.features):
        feature = schema.features[name]
        features[name] = {
            "dtype": feature.dtype,
            "shape": list(feature.shape),
            "names": list(feature.names) if feature.names else None,
        }
    for name, kind in _INDEX_FEATURES.items():
        dtype = "float32" if kind == pa.float32() else "int64"
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


def _leaves(features: Mapping[str, Json]) -> list[str]:
    """Parquet paths of the columns that are worth compressing; encoded images are not."""
    out = []
    for name, feature in features.items():
        if feature["dtype"] == "image":
            continue
        out.append(name if feature["shape"] == [1] else f"{name}.list.element")
    return out


def _arrow_schema(features: Mapping[str, Json]) -> pa.Schema:
    """Arrow fields with the metadata by which Hugging Face ``datasets`` knows them."""
    fields = []
    hf: dict[str, Json] = {}
    for name, feature in features.items():
        if feature["dtype"] == "image":
            fields.append(pa.field(name, _IMAGE))
            hf[name] = {"_type": "Image"}
            continue
        kind = _INDEX_FEATURES.get(name) or pa.from_numpy_dtype(np.dtype(feature["dtype"]))
        value = {"dtype": feature["dtype"], "_type": "Value"}
        if feature["shape"] == [1]:
            fields.append(pa.field(name, kind))
            hf[name] = value
        else:
            size = int(np.prod(feature["shape"]))
            fields.append(pa.field(name, pa.list_(kind, size)))
            hf[name] = {"feature": value, "length": size, "_type": "List"}
    metadata = {"huggingface": json.dumps({"info": {"features": hf}})}
    return pa.schema(fields, metadata=metadata)


class _Totals:
    """What adds up over the episodes of a dataset, and the file of their metadata, written as it grows."""

    def __init__(self, path: Path) -> None:
        self.episodes = 0
        self.frames = 0
        self._path = path
        self._rows: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        self._vectors: dict[str, list[np.ndarray[Any, Any]]] = {}
        self._images: dict[str, ImageStats] = {}
        path.parent.mkdir(parents=True, exist_ok=True)

    def add_image(self, name: str, stats: ImageStats) -> None:
        """Count an image feature of one more episode."""
        self._images[name] = self._images[name] + stats if name in self._images else stats

    def add(
        self, episode: Published, table: pa.Table, stats: Mapping[str, Json], place: Mapping[str, int]
    ) -> None:
        """One more episode, with the data file that it is in."""
        for name in table.column_names:
            if table.schema.field(name).type != _IMAGE:
                self._vectors.setdefault(name, []).append(_values(table[name]))
        row: dict[str, Any] = {
            "episode_index": self.episodes,
            "tasks": [episode.summary["task"]],
            "length": len(table),
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + len(table),
            "data/chunk_index": place["chunk_index"],
            "data/file_index": place["file_index"],
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            "vla_data/source": episode.id,
        }
        for name in sorted(stats):
            row |= {f"stats/{name}/{key}": value for key, value in stats[name].items()}
        self._rows.append(row)
        self.episodes += 1
        self.frames += len(table)
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        table = pa.Table.from_pylist(self._rows, schema=self._writer.schema if self._writer else None)
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path, table.schema, compression="snappy", write_page_checksum=True
            )
        self._writer.write_table(table)
        self._rows = []

    def close(self) -> None:
        """Finish the file of episode metadata."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def stats(self) -> dict[str, Json]:
        """The content of ``meta/stats.json``: exact over all frames."""
        out = {name: vector_stats(np.concatenate(parts)) for name, parts in self._vectors.items()}
        out |= {name: counted.to_json() for name, counted in self._images.items()}
        return dict(sorted(out.items()))


def _write_tasks(folder: Path, tasks: Mapping[str, int]) -> None:
    # Readers use pandas and want the text as its index, which is a matter of this metadata.
    table = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), "task": pa.array(tasks, pa.string())})
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {
                "name": "task",
                "field_name": "task",
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            },
        ],
        "creator": {"library": "pyarrow", "version": "0"},
        "pandas_version": "2.0.0",
    }
    _write_parquet(folder / "meta/tasks.parquet", table.replace_schema_metadata({"pandas": json.dumps(pandas)}))


def _write_parquet(path: Path, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="snappy", write_page_checksum=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, buffer.getvalue(), sync=False)


def _write_json(path: Path, value: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(value, indent=4, ensure_ascii=False).encode() + b"\n", sync=False)

"""The metadata of LeRobot v3.0 datasets: features, episodes, tasks, statistics, ``info.json``, dataset card."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_data.codec import VideoSettings
from vla_data.core import Json, Published, Schema
from vla_data.jobs.io import write_file
from vla_data.statistics import ImageStats, vector_stats

VERSION: Final = "v3.0"
CHUNK_FILES: Final = 1000
DATA_PATH: Final = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH: Final = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH: Final = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

INDEX_FEATURES: Final[dict[str, pa.DataType]] = {
    "timestamp": pa.float32(),
    "frame_index": pa.int64(),
    "episode_index": pa.int64(),
    "index": pa.int64(),
    "task_index": pa.int64(),
}
"""The features that every LeRobot dataset has, besides its own."""

IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How Hugging Face ``datasets`` stores an image."""

_EPISODE_ROWS: Final = 100  # episodes whose metadata is written at a time


def features_json(schema: Schema, video: VideoSettings | None) -> dict[str, Json]:
    """The ``features`` of ``info.json``: ours in order of name, then LeRobot's own."""
    features: dict[str, Json] = {}
    for name in sorted(schema.features):
        feature = schema.features[name]
        features[name] = {
            "dtype": feature.dtype,
            "shape": list(feature.shape),
            "names": list(feature.names) if feature.names else None,
        }
        if feature.dtype == "image" and video is not None:
            features[name]["dtype"] = "video"
            features[name]["info"] = _video_info(feature.shape, schema.fps, video)
    for name, kind in INDEX_FEATURES.items():
        dtype = "float32" if kind == pa.float32() else "int64"
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


def _video_info(shape: Sequence[int], fps: float, video: VideoSettings) -> Json:
    return {
        "video.height": shape[0],
        "video.width": shape[1],
        "video.codec": video.codec,
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": whole_if_it_is(fps),
        "video.channels": 3,
        "has_audio": False,
        "video.g": video.gop,
        "video.crf": video.crf,
        "video.preset": video.options()["preset"],
    }


def whole_if_it_is(fps: float) -> int | float:
    """LeRobot wants whole rates as integers."""
    return int(fps) if float(fps).is_integer() else fps


def arrow_schema(features: Mapping[str, Json]) -> pa.Schema:
    """Arrow fields of the data files, with the metadata by which Hugging Face ``datasets`` knows them."""
    fields = []
    hf: dict[str, Json] = {}
    for name, feature in features.items():
        if feature["dtype"] == "video":
            continue
        if feature["dtype"] == "image":
            fields.append(pa.field(name, IMAGE))
            hf[name] = {"_type": "Image"}
            continue
        kind = INDEX_FEATURES.get(name) or _arrow_type(feature["dtype"])
        value = {"dtype": feature["dtype"], "_type": "Value"}
        if feature["shape"] == [1]:
            fields.append(pa.field(name, kind))
            hf[name] = value
        else:
            size = int(np.prod(feature["shape"]))
            fields.append(pa.field(name, pa.list_(kind, size)))
            hf[name] = {"feature": value, "length": size, "_type": "List"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": hf}})})


def _arrow_type(dtype: str) -> pa.DataType:
    return pa.string() if dtype == "string" else pa.from_numpy_dtype(np.dtype(dtype))


def compressed_columns(features: Mapping[str, Json]) -> list[str]:
    """Parquet paths of the columns that are worth compressing; encoded images are not."""
    return [
        name if feature["shape"] == [1] else f"{name}.list.element"
        for name, feature in features.items()
        if feature["dtype"] not in ("image", "video")
    ]


def is_numeric(feature: Mapping[str, Json]) -> bool:
    """Whether a feature has statistics over its values."""
    return feature["dtype"] not in ("image", "video", "string")


def column_values(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """A column of a data file as ``(N, ...)``."""
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type) or pa.types.is_list(array.type):
        values: np.ndarray[Any, Any] = array.flatten().to_numpy(zero_copy_only=False)
        return values.reshape(len(array), -1)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def task_table(episodes: Sequence[Published]) -> dict[str, int]:
    """Instruction -> task_index, in the order in which they first appear."""
    tasks: dict[str, int] = {}
    for episode in episodes:
        for task in episode.summary["tasks"]:
            tasks.setdefault(task, len(tasks))
    return tasks


class Episodes:
    """``meta/episodes``, written as the dataset grows, and what adds up over its episodes."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self.frames = 0
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        self._sink: io.BytesIO | None = None
        self._images: dict[str, ImageStats] = {}

    def add(
        self,
        episode: Published,
        length: int,
        stats: Mapping[str, Json],
        counts: Mapping[str, Json],
        places: Mapping[str, Any],
    ) -> None:
        """One more episode: its statistics, counted pixels, and the files that it is in."""
        for name, counted in counts.items():
            more = ImageStats(np.asarray(counted, dtype=np.int64), length)
            self._images[name] = self._images[name] + more if name in self._images else more
        row: dict[str, Any] = {
            "episode_index": self.count,
            "tasks": list(episode.summary["tasks"]),
            "length": length,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + length,
            **places,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            "vla_data/source": episode.id,
        }
        for name in sorted(stats):
            row |= {f"stats/{name}/{key}": value for key, value in stats[name].items()}
        self._rows.append(row)
        self.count += 1
        self.frames += length
        if len(self._rows) == _EPISODE_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        table = pa.Table.from_pylist(self._rows, schema=self._writer.schema if self._writer else None)
        if self._writer is None or self._sink is None:
            self._sink = io.BytesIO()
            self._writer = pq.ParquetWriter(
                self._sink, table.schema, compression="snappy", write_page_checksum=True
            )
        self._writer.write_table(table)
        self._rows = []

    def write(self) -> None:
        """Finish the file of episode metadata."""
        self._flush()
        assert self._writer is not None
        assert self._sink is not None
        self._writer.close()
        path = self._folder / EPISODES_PATH.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, self._sink.getbuffer(), sync=False)

    def stats(self, features: Mapping[str, Json]) -> dict[str, Json]:
        """The content of ``meta/stats.json``, exact over all frames: read back from the data files, one feature
        at a time, so that no more than one is in memory.
        """
        files = sorted((self._folder / "data").rglob("*.parquet"))
        out: dict[str, Json] = {name: counted.to_json() for name, counted in self._images.items()}
        for name, feature in features.items():
            if is_numeric(feature):
                parts = [column_values(pq.read_table(file, columns=[name])[name]) for file in files]
                out[name] = vector_stats(np.concatenate(parts))
        return dict(sorted(out.items()))


def write_tasks(folder: Path, tasks: Mapping[str, int]) -> None:
    """``meta/tasks.parquet``. Readers use pandas and want the text as its index, a matter of metadata."""
    table = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), "task": pa.array(tasks, pa.string())})
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": columns,
        "creator": {"library": "pyarrow", "version": "0"},
        "pandas_version": "2.0.0",
    }
    buffer = io.BytesIO()
    tagged = table.replace_schema_metadata({"pandas": json.dumps(pandas)})
    pq.write_table(tagged, buffer, compression="snappy", write_page_checksum=True)
    write_file(folder / "meta/tasks.parquet", buffer.getbuffer(), sync=False)


def write_json(path: Path, value: Json) -> None:
    """A JSON file as LeRobot formats it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(value, indent=4, ensure_ascii=False).encode() + b"\n", sync=False)


def card(info: Mapping[str, Json], tasks: Mapping[str, int]) -> bytes:
    """The dataset card, ``README.md``, as the Hugging Face Hub reads it."""
    lines = [
        "---",
        "task_categories:",
        "- robotics",
        "tags:",
        "- LeRobot",
        "- vla-data",
        "configs:",
        "- config_name: default",
        "  data_files: data/*/*.parquet",
        "---",
        "",
        f"{info['total_episodes']:,} episodes, {info['total_frames']:,} frames at {info['fps']} Hz, "
        f"{len(tasks):,} tasks. LeRobot {info['codebase_version']}, made by vla-data.",
        "",
        "`meta/vla_data/manifest.json` says from what and how, `meta/vla_data/ledger.parquet` where every source",
        "frame went, and `sha256sum -c meta/vla_data/SHA256SUMS` checks every file.",
        "",
        "| feature | dtype | shape |",
        "|---|---|---|",
        *(f"| {name} | {f['dtype']} | {tuple(f['shape'])} |" for name, f in info["features"].items()),
        "",
    ]
    return "\n".join(lines).encode()


def places(sizes: Sequence[int], limit: int) -> Iterator[tuple[dict[str, int], range]]:
    """Chunk and file index of each file, with the range of episodes in it: a file is closed when the next
    episode would take it beyond ``limit`` bytes; no episode is ever split.
    """
    start = size = number = 0
    for i, more in enumerate([*sizes, None]):
        if more is None or (i > start and size + more > limit):
            yield {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}, range(start, i)
            start, size, number = i, 0, number + 1
        size += more or 0

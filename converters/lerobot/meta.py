"""The metadata of LeRobot v3.0 datasets: features, episodes, tasks, statistics, ``info.json``, dataset card."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from converters.lerobot import depth, language
from converters.lerobot.totals import LANGUAGE, Totals
from vla_data.core import Json, Published, Schema
from vla_data.files import arrow
from vla_data.files.write import write_file
from vla_data.media.video_settings import VideoCopy, VideoSettings, settings_of

VERSION: Final = "v3.0"
V21: Final = "v2.1"
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

SOURCE_ID: Final = "vla_data/source"
"""The column of ``meta/episodes`` that has an episode's id in what it was made from."""

OWN_COLUMNS: Final = (
    *("dataset_from_index", "dataset_to_index", "episode_index", "length", "task_index", "tasks"),
    SOURCE_ID,
)
"""Columns of ``meta/episodes`` that say nothing of what happens in an episode, besides those with a ``/``."""

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}")
"""What a camera may be called: its name becomes a path."""

COLUMN: Final = re.compile(r"[^/\s](?:[^/\x00-\x1f]{0,119}[^/\s])?")
"""What any other feature may be called, which is a column: LeRobot forbids slashes alone."""

DTYPES: Final = (
    *("bool", "float32", "float64", "int16", "int32", "int64", "int8"),
    *("string", "uint16", "uint32", "uint8"),
)
"""Element types that lerobot's reader turns into tensors, and text."""

_SETTINGS: Final = ("video.g", "video.crf", "video.preset")
_EPISODE_ROWS: Final = 100  # episodes whose metadata is written at a time


def features_json(
    schema: Schema,
    video: VideoSettings | VideoCopy | None,
    version: str = VERSION,
    clips: Mapping[str, Mapping[str, Json]] = MappingProxyType({}),
) -> dict[str, Json]:
    """The ``features`` of ``info.json``: ours in order of name, then LeRobot's own.

    v2.1 knows neither columns of language nor depth: there they are texts and numbers. ``clips`` are facts of the
    first episode's videos, where packets may be copied: what they are is then not what would be encoded.
    """
    features: dict[str, Json] = {}
    for name in sorted(schema.features):
        feature = schema.features[name]
        if depth.is_depth(feature) and version == VERSION:
            features[name] = depth.feature_json(feature)
            continue
        features[name] = {
            "dtype": feature.dtype,
            "shape": list(feature.shape),
            "names": list(feature.names) if feature.names else None,
        }
        if depth.is_depth(feature):
            features[name]["info"] = depth.feature_json(feature)["info"]
        if name in language.COLUMNS and feature.dtype == "string" and version == VERSION:
            features[name]["dtype"] = LANGUAGE
        settings = settings_of(video, name)
        if feature.dtype == "image" and settings is not None:
            features[name]["dtype"] = "video"
            features[name]["info"] = _video_info(feature.shape, schema.fps, settings)
            if isinstance(video, VideoCopy):
                features[name]["info"] |= _as_copied(clips.get(name, {}))
                for key in () if name in video.stated else _SETTINGS:
                    del features[name]["info"][key]
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


def _as_copied(clip: Mapping[str, Json]) -> dict[str, Json]:
    return {"video.codec": clip.get("codec"), "video.pix_fmt": clip.get("pixels")} if clip else {}


def whole_if_it_is(fps: float) -> int | float:
    """LeRobot wants whole rates as integers."""
    return int(fps) if float(fps).is_integer() else fps


def arrow_schema(features: Mapping[str, Json], version: str = VERSION) -> pa.Schema:
    """Arrow fields of the data files, with the metadata by which Hugging Face ``datasets`` knows them.

    Readers of v2.1 come with releases of it before 4, which do not know ``List``; later ones know both words.
    """
    word = "List" if version == VERSION else "Sequence"
    fields = []
    hf: dict[str, Json] = {}
    for name, feature in features.items():
        if feature["dtype"] == "video":
            continue
        if feature["dtype"] == "image":
            fields.append(pa.field(name, IMAGE))
            hf[name] = {"_type": "Image"}
            continue
        if feature["dtype"] == LANGUAGE:
            fields.append(pa.field(name, language.arrow_type(name)))
            hf[name] = language.hf_feature(name)
            continue
        kind = INDEX_FEATURES.get(name) or _arrow_type(feature["dtype"])
        shape = feature["shape"]
        value = {"dtype": feature["dtype"], "_type": "Value"}
        if shape == [1]:
            fields.append(pa.field(name, kind))
            hf[name] = value
        elif len(shape) == 1:
            fields.append(pa.field(name, pa.list_(kind, shape[0])))
            hf[name] = {"feature": value, "length": shape[0], "_type": word}
        else:
            fields.append(pa.field(name, nested(kind, len(shape))))
            hf[name] = {"shape": shape, "dtype": feature["dtype"], "_type": f"Array{len(shape)}D"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": hf}})})


def nested(kind: pa.DataType, depth: int) -> pa.DataType:
    """Lists in lists, as ``datasets`` stores its ``Array2D`` to ``Array5D``."""
    return pa.list_(nested(kind, depth - 1)) if depth else kind


def _arrow_type(dtype: str) -> pa.DataType:
    return pa.string() if dtype == "string" else pa.from_numpy_dtype(np.dtype(dtype))


def compressed_columns(features: Mapping[str, Json]) -> list[str]:
    """Parquet paths of the columns that are worth compressing; encoded images are not."""
    out = []
    for name, feature in features.items():
        if feature["dtype"] == LANGUAGE:
            out += language.leaves(name)
        elif feature["dtype"] == "image" and depth.is_declared(feature):
            out.append(f"{name}.bytes")
        elif feature["dtype"] not in ("image", "video"):
            out.append(name if feature["shape"] == [1] else name + ".list.element" * len(feature["shape"]))
    return out


def dictionary_columns(features: Mapping[str, Json]) -> list[str]:
    """Parquet paths of the columns whose values are kept once each."""
    plain = [n for n, f in features.items() if f["dtype"] not in ("image", "video", LANGUAGE)]
    return plain + [leaf for n, f in features.items() if f["dtype"] == LANGUAGE for leaf in language.leaves(n)]


def fact_columns(episodes: Sequence[Published]) -> dict[str, pa.DataType]:
    """Columns of ``meta/episodes`` for what sources know of episodes (``episode_metadata``), with their types.

    Others read them there: OpenTau takes ``success``, SARM its subtasks. A fact that is of several types, or of
    none that a column can have, is in the ledger alone.
    """
    kinds: dict[str, set[pa.DataType | None]] = {}
    for episode in episodes:
        for name, value in episode.summary.get("facts", {}).items():
            if value is not None:
                kinds.setdefault(name, set()).add(_fact_type(value))
    found = {name: kind for name, (kind, *more) in sorted(kinds.items()) if kind is not None and not more}
    return {name: kind for name, kind in found.items() if NAME.fullmatch(name) and name not in OWN_COLUMNS}


def _fact_type(value: Json) -> pa.DataType | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return pa.int64() if -(2**63) <= value < 2**63 else None
    if isinstance(value, list):
        inner = {_fact_type(item) for item in value}
        one = inner.pop() if len(inner) == 1 else None
        return pa.list_(one) if one is not None else None
    scalars: dict[type, pa.DataType] = {bool: pa.bool_(), float: pa.float64(), str: pa.string()}
    return scalars.get(type(value))


class Episodes(Totals):
    """``meta/episodes``, written as the dataset grows."""

    def __init__(self, folder: Path, facts: Mapping[str, pa.DataType]) -> None:
        super().__init__(folder)
        self._facts = facts
        self._rows: list[dict[str, Any]] = []
        self._schema = pa.schema([])
        self._writer: pq.ParquetWriter | None = None
        self._sink: io.BytesIO | None = None

    def add(
        self,
        episode: Published,
        length: int,
        stats: Mapping[str, Json],
        counts: Mapping[str, NDArray[np.int64]],
        places: Mapping[str, Any],
    ) -> None:
        """One more episode: its statistics, counted pixels, and the files that it is in."""
        row: dict[str, Any] = {
            "episode_index": self.count,
            "tasks": list(episode.summary["tasks"]),
            "length": length,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + length,
            **places,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            SOURCE_ID: episode.id,
        }
        told = episode.summary.get("facts", {})
        row |= {name: told.get(name) for name in self._facts}
        for name in sorted(stats):
            row |= {f"stats/{name}/{key}": value for key, value in stats[name].items()}
        self._rows.append(row)
        self.add_counts(episode, length, counts, stats)
        if len(self._rows) == _EPISODE_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None or self._sink is None:
            # The facts have their types already: the first rows of them may all have nothing.
            kinds = {name: arrow.type_of(row[name] for row in self._rows) for name in self._rows[0]}
            self._schema = pa.schema({**kinds, **self._facts})
            self._sink = io.BytesIO()
            self._writer = pq.ParquetWriter(
                self._sink, self._schema, compression="snappy", write_page_checksum=True
            )
        self._writer.write_table(arrow.from_records(self._rows, self._schema))
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


def write_tasks(folder: Path, tasks: Sequence[str]) -> None:
    """``meta/tasks.parquet``. Readers use pandas and want the text as its index, a matter of metadata."""
    table = arrow.table({"task_index": np.arange(len(tasks)), "task": arrow.from_rows(tasks, pa.string())})
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


def card(info: Mapping[str, Json]) -> bytes:
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
        f"{info['total_tasks']:,} tasks. LeRobot {info['codebase_version']}, made by vla-data.",
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


def split_ranges(names: Sequence[str | None]) -> dict[str, str]:
    """``splits`` of ``info.json`` from the split of each episode, in order.

    LeRobot knows contiguous ranges alone: a split with gaps is not named, nor are episodes without a split, so
    that no range claims an episode of another split. The ledger has them all.
    """
    runs = [(name, len(list(members))) for name, members in itertools.groupby(names)]
    times = Counter(name for name, _ in runs)
    ends = itertools.accumulate(count for _, count in runs)
    return {
        name: f"{end - count}:{end}"
        for (name, count), end in zip(runs, ends, strict=True)
        if name is not None and times[name] == 1
    }


def places(
    sizes: Sequence[int], limit: int, kinds: Sequence[object] = ()
) -> Iterator[tuple[dict[str, int], range]]:
    """Chunk and file index of each file, with the range of episodes in it: a file is closed when the next
    episode would take it beyond ``limit`` bytes, or is of another kind; no episode is ever split.
    """
    start = size = number = 0
    for i, more in enumerate([*sizes, None]):
        other = bool(kinds) and more is not None and kinds[i] != kinds[start]
        if more is None or (i > start and (size + more > limit or other)):
            yield {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}, range(start, i)
            start, size, number = i, 0, number + 1
        size += more or 0

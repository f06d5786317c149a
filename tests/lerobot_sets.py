"""Small LeRobot datasets of any odd shape, written with pyarrow and json alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vla_data.jobs.part import Job, Part, make_part
from vla_data.jobs.pool import Limits

DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
FILE = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
TOP = "observation.images.top"
INDEX = ("timestamp", "frame_index", "episode_index", "index", "task_index")
FPS = 10

Columns = Mapping[str, Any]


def numbers(steps: int = 4, width: int = 3, episode: int = 0) -> np.ndarray[Any, Any]:
    """``(steps, width)`` float32 that say which they are."""
    rows = np.arange(steps)[:, None] * 0.25 + np.arange(width) * 8 + episode * 64
    return rows.astype(np.float32)


def vector(width: int = 3, dtype: str = "float32", names: Any = None) -> dict[str, Any]:
    """A feature of numbers as info.json declares it."""
    return {"dtype": dtype, "shape": [width], "names": names}


def camera(dtype: str = "image", shape: Sequence[int] = (8, 12, 3), **info: Any) -> dict[str, Any]:
    """A camera as info.json declares it."""
    return {"dtype": dtype, "shape": list(shape), "names": ["height", "width", "channels"], "info": info}


def picture(step: int = 0, episode: int = 0) -> np.ndarray[Any, Any]:
    """``(8, 12, 3)`` uint8 that says which it is, without an edge that an encoder could blur."""
    return np.full((8, 12, 3), (40 + 10 * step, 30 + 60 * episode, 200), np.uint8)


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """An image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def records(images: Sequence[bytes | None]) -> pa.Array:
    """Images as Hugging Face ``datasets`` stores them."""
    items = [{"bytes": data, "path": None} for data in images]
    return pa.array(items, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def write(
    root: Path,
    episodes: Sequence[Columns],
    features: Mapping[str, Any],
    *,
    version: str = "v3.0",
    tasks: Sequence[str] = ("pick",),
    videos: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    rows: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None,
) -> Path:
    """Write a dataset.

    Args:
        root: where.
        episodes: of each its columns, plain Python or Arrow; columns of the index replace those that are made, and
            one that is None is left out.
        features: of info.json.
        version: v3.0 with one data file, or v2.1.
        tasks: by number.
        videos: camera -> (mp4 bytes, (from, to) of each episode) in v3.0, or the bytes of each episode in v2.1.
        info: more of info.json.
        rows: changes the rows of the episodes' metadata.
    """
    v3 = version == "v3.0"
    at, tables, meta = 0, [], []
    for number, given in enumerate(episodes):
        steps = next(len(column) for column in given.values() if column is not None)
        own: dict[str, Any] = {
            "timestamp": pa.array((np.arange(steps) / FPS).astype(np.float32)),
            "frame_index": pa.array(np.arange(steps)),
            "episode_index": pa.array([number] * steps, pa.int64()),
            "index": pa.array(np.arange(at, at + steps)),
            "task_index": pa.array([0] * steps, pa.int64()),
        }
        columns = {name: column for name, column in {**own, **given}.items() if column is not None}
        tables.append(pa.table(columns))
        meta.append({"episode_index": number, "tasks": [tasks[0]] if tasks else [], "length": steps})
        if v3:
            meta[-1] |= {"dataset_from_index": at, "dataset_to_index": at + steps}
            meta[-1] |= {"data/chunk_index": 0, "data/file_index": 0}
        at += steps
    for camera_, (_, ranges) in (videos or {}).items() if v3 else ():
        for row, (start, stop) in zip(meta, ranges, strict=True):
            places = {"chunk_index": 0, "file_index": 0, "from_timestamp": start, "to_timestamp": stop}
            row |= {f"videos/{camera_}/{key}": value for key, value in places.items()}
    meta = rows(meta) if rows else meta
    index = {name: {"dtype": "int64", "shape": [1], "names": None} for name in INDEX}
    facts = {
        "codebase_version": version,
        "robot_type": "so101",
        "fps": FPS,
        "features": {**features, **index},
        "splits": {},
        "data_path": DATA if v3 else V2_DATA,
        "video_path": (VIDEO if v3 else V2_VIDEO) if videos else None,
        **(info or {}),
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(facts))
    if v3:
        _table(root / FILE, pa.concat_tables(tables))
        _table(root / EPISODES, pa.Table.from_pylist(meta))
        _table(root / "meta/tasks.parquet", pa.table({"task_index": list(range(len(tasks))), "task": list(tasks)}))
        for name, (data, _) in (videos or {}).items():
            _bytes(root / VIDEO.format(video_key=name, chunk_index=0, file_index=0), data)
    else:
        _lines(root / "meta/tasks.jsonl", [{"task_index": n, "task": text} for n, text in enumerate(tasks)])
        _lines(root / "meta/episodes.jsonl", meta)
        for number, table in enumerate(tables):
            _table(root / V2_DATA.format(episode_chunk=0, episode_index=number), table)
        for name, files in (videos or {}).items():
            for number, data in enumerate(files):
                _bytes(root / V2_VIDEO.format(episode_chunk=0, episode_index=number, video_key=name), data)
    return root


def _bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def change_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Rewrite a Parquet file."""
    pq.write_table(change(pq.read_table(path)), path)


class Here:
    """An engine that makes parts in this process, which starts at once and sees what a test has patched."""

    def make(self, job: Job, digest: str, parts: Sequence[Part], *, limits: Limits) -> Iterator[Part]:
        """See `vla_data.jobs.engine.Engine`."""
        for part in parts:
            make_part(job, digest, part)
            yield part

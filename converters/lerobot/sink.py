"""LeRobot datasets, format v3.0 (https://github.com/huggingface/lerobot, ``src/lerobot/datasets``), written
without lerobot or torch.

    meta/info.json                                 features, totals, paths
    meta/stats.json                                statistics of the dataset
    meta/tasks.parquet                             task_index of each instruction
    meta/episodes/chunk-000/file-000.parquet       a row an episode: length, place, tasks, statistics
    data/chunk-000/file-000.parquet                a row a frame, a row group an episode; images are encoded
    videos/<camera>/chunk-000/file-000.mp4         several episodes, one after the other
    meta/vla_data/                                 schema, ledger, manifest and checksums of this project
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from converters.lerobot import meta, rows
from converters.lerobot import tasks as lerobot_tasks
from converters.lerobot.stats import array_stats
from vla_data import options as checks
from vla_data.core import Encoded, Episode, Json, Published, Schema
from vla_data.core.base import BaseSink, Pictures, Traits
from vla_data.core.content import content_digest
from vla_data.errors import DataError, VerifyError
from vla_data.files.write import files_below, open_file, write_file
from vla_data.installed import missing
from vla_data.media.frames import Frames
from vla_data.media.images import JPEG_QUALITY, Encoding
from vla_data.media.video_settings import VideoSettings
from vla_data.statistics import ImageStats, vector_stats

DATA_FILE_MB: Final = 100
VIDEO_FILE_MB: Final = 200


@dataclass(frozen=True, kw_only=True)
class LerobotSink(BaseSink):
    """Writes a LeRobot v3.0 dataset.

    Attributes:
        target: the dataset's root.
        images: "jpeg" (quality ``jpeg_quality``, 4:2:0; images that are JPEG already stay as they are) or
            "png" (lossless), as bytes in Parquet. Plays no part with ``video``.
        video: write every camera as video, with these settings; None: as images.
        jpeg_quality: 1 to 100.
        data_file_mb: a data file is closed when it would grow beyond this; one episode is never split.
        video_file_mb: the same for video files.
        robot: ``robot_type``; None: the schema's, which may have none.
    """

    target: Path = field(repr=False)
    images: Encoding = "jpeg"
    video: VideoSettings | None = None
    jpeg_quality: int = JPEG_QUALITY
    data_file_mb: int = DATA_FILE_MB
    video_file_mb: int = VIDEO_FILE_MB
    robot: str | None = None

    def __post_init__(self) -> None:
        checks.one_of("images", self.images, ("jpeg", "png"))
        checks.whole("jpeg_quality", self.jpeg_quality, low=1, high=100)
        checks.whole("data_file_mb", self.data_file_mb, low=1)
        checks.whole("video_file_mb", self.video_file_mb, low=1)
        if self.video is not None and not isinstance(self.video, VideoSettings):
            raise ValueError(f"video is {self.video!r}, not VideoSettings")
        if self.video is not None and importlib.util.find_spec("av") is None:
            raise missing("av", "video")

    @property
    def traits(self) -> Traits:
        """See `Traits`."""
        return Traits(
            sidecar="meta/vla_data",
            keeps_files=True,
            encoders=("av",) if self.video is not None else (),
            pictures=Pictures(encoding=self.images, jpeg_quality=self.jpeg_quality, video=self.video),
        )

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """An Arrow table with the episode's statistics in its metadata, then an mp4 file for each camera."""
        if len(episode) == 0:
            raise DataError("E207", "the episode has no steps left, which LeRobot can't hold")
        arrays = {
            name: rows.storable(name, episode, schema)
            for name in sorted(episode.arrays)
            if name in schema.features
        }
        rows.check_names(episode, schema, arrays)
        columns: dict[str, pa.Array] = {name: rows.column(array) for name, array in arrays.items()}
        tasks = rows.tasks(episode)
        columns["task"] = pa.array(tasks)
        stats: dict[str, Json] = {
            name: array_stats(array) if array.ndim > 2 else vector_stats(array)
            for name, array in arrays.items()
            if array.dtype.kind in "biuf"
        }
        counts: dict[str, Json] = {}
        content: dict[str, Sequence[bytes]] = {}
        videos: dict[str, bytes] = {}
        for name, frames in episode.frames.items():
            if name not in schema.features:
                continue
            if self.video is None:
                content[name] = list(frames.encoded(self.images, quality=self.jpeg_quality))
                columns[name] = rows.image_column(content[name], self.images)
            else:
                videos[name], content[name] = self._encode_video(frames, schema.fps)
            counted = ImageStats.of(frames)
            stats[name] = counted.to_json()
            counts[name] = counted.counts.tolist()
        # Statistics travel with the episode's bytes, so that planning never holds those of all episodes.
        facts = {"stats": json.dumps(stats), "counts": json.dumps(counts)}
        table = pa.table(columns).replace_schema_metadata(facts)
        buffer = io.BytesIO()
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
        summary: dict[str, Json] = {
            "length": len(episode),
            "tasks": list(dict.fromkeys(tasks)),
            "table": buffer.getbuffer().nbytes,
            "videos": {name: len(data) for name, data in videos.items()},
        }
        if isinstance(episode.meta.get("split"), str):
            summary["split"] = episode.meta["split"]
        if isinstance(episode.meta.get("episode_metadata"), dict):
            summary["facts"] = episode.meta["episode_metadata"]
        for key in (lerobot_tasks.TABLE, lerobot_tasks.COLUMNS):
            if episode.meta["source"] == "lerobot" and key in episode.meta:
                summary[key] = episode.meta[key]
        digest = content_digest(json.dumps(tasks), arrays, content)
        return Encoded([buffer.getbuffer(), *videos.values()], summary, digest)

    def _encode_video(self, frames: Frames, fps: float) -> tuple[bytes, Sequence[bytes]]:
        """An mp4 file, and the digests of its packets, which are what survives joining."""
        from vla_data.media import video  # loads a video library, which images need not

        assert self.video is not None
        data = video.encode((frames.pixels(i) for i in range(len(frames))), self.video, fps=fps)
        return data, video.packet_digests(io.BytesIO(data))

    def split_of(self, episodes: Sequence[Published]) -> dict[str, str | None]:
        """The split of each episode by its id: what the source said of it, None where it said nothing; "train",
        which is lerobot's default, for all where it said nothing of any.
        """
        declared = {episode.id: episode.summary.get("split") for episode in episodes}
        return declared if any(declared.values()) else dict.fromkeys(declared, "train")

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write data and video files, episode metadata, tasks, statistics, ``info.json`` and the card."""
        features = meta.features_json(schema, self.video)
        tasks = lerobot_tasks.task_table(episodes, schema)
        number_of = lerobot_tasks.numbers(tasks)
        where = self._write_videos(episodes, features, schema.fps, folder)
        totals = meta.Episodes(folder, meta.fact_columns(episodes))
        sizes = [int(episode.summary["table"]) for episode in episodes]
        for place, members in meta.places(sizes, self.data_file_mb << 20):
            path = folder / meta.DATA_PATH.format(**place)
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                open_file(path) as file,
                pq.ParquetWriter(
                    file,
                    meta.arrow_schema(features),
                    compression=dict.fromkeys(meta.compressed_columns(features), "snappy"),
                    use_dictionary=[n for n, f in features.items() if f["dtype"] not in ("image", "video")],
                    write_page_checksum=True,
                ) as writer,
            ):
                for i in members:
                    table, stats, counts = _table(episodes[i], schema, features, number_of, totals)
                    data = {f"data/{key}": value for key, value in place.items()}
                    totals.add(episodes[i], len(table), stats, counts, data | where[i])
                    writer.write_table(table, row_group_size=len(table))
        totals.write()
        meta.write_tasks(folder, tasks)
        meta.write_json(folder / "meta/stats.json", totals.stats(features))
        splits = meta.split_ranges(list(self.split_of(episodes).values()))
        info = self._info(features, schema, totals, tasks, splits)
        meta.write_json(folder / "meta/info.json", info)
        write_file(folder / "README.md", meta.card(info), sync=False)

    def _write_videos(
        self, episodes: Sequence[Published], features: Mapping[str, Json], fps: float, folder: Path
    ) -> list[dict[str, Any]]:
        """Write the video files of all cameras; returns the columns that say where each episode is in them."""
        where: list[dict[str, Any]] = [{} for _ in episodes]
        if self.video is None:
            return where
        from vla_data.media import video

        for name in (name for name, feature in features.items() if feature["dtype"] == "video"):
            sizes = [int(episode.summary["videos"][name]) for episode in episodes]
            for place, members in meta.places(sizes, self.video_file_mb << 20):
                path = folder / meta.VIDEO_PATH.format(video_key=name, **place)
                path.parent.mkdir(parents=True, exist_ok=True)
                buffer = io.BytesIO()
                video.join((_video(episodes[i], name) for i in members), buffer)
                write_file(path, buffer.getbuffer(), sync=False)
                at = 0
                for i in members:
                    end = at + int(episodes[i].summary["length"])
                    where[i] |= {f"videos/{name}/{key}": value for key, value in place.items()}
                    # From frame numbers, not by adding durations, which drift.
                    where[i][f"videos/{name}/from_timestamp"] = at / fps
                    where[i][f"videos/{name}/to_timestamp"] = end / fps
                    at = end
        return where

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read rows and video packets back, with checksums, and compare them with what was encoded."""
        at = 0
        for file in files_below(folder / "data", ".parquet"):
            reader = pq.ParquetFile(file, page_checksum_verification=True)
            for group in range(reader.num_row_groups):
                _compare(reader.read_row_group(group), episodes[at], at, file.name)
                at += 1
        if at != len(episodes):
            raise VerifyError("E601", f"{at} of {len(episodes)} episodes were read back")
        if self.video is not None:
            _compare_videos(folder, episodes)

    def _info(
        self,
        features: Mapping[str, Json],
        schema: Schema,
        totals: meta.Episodes,
        tasks: Sequence[str],
        splits: Mapping[str, str],
    ) -> dict[str, Json]:
        return {
            "codebase_version": meta.VERSION,
            "robot_type": self.robot or schema.robot,
            "total_episodes": totals.count,
            "total_frames": totals.frames,
            "total_tasks": len(tasks),
            "chunks_size": meta.CHUNK_FILES,
            "data_files_size_in_mb": self.data_file_mb,
            "video_files_size_in_mb": self.video_file_mb,
            "fps": meta.whole_if_it_is(schema.fps),
            "splits": splits,
            "data_path": meta.DATA_PATH,
            "video_path": meta.VIDEO_PATH if self.video is not None else None,
            "features": features,
        }


def _video(episode: Published, name: str) -> bytes:
    """One camera's mp4 file from an episode's bytes."""
    at = int(episode.summary["table"])
    for camera, size in episode.summary["videos"].items():
        if camera == name:
            return episode.read()[at : at + size]
        at += size
    raise KeyError(name)


def _read_table(episode: Published) -> pa.Table:
    return pa.ipc.open_stream(memoryview(episode.read())[: int(episode.summary["table"])]).read_all()


def _table(
    episode: Published,
    schema: Schema,
    features: Mapping[str, Json],
    tasks: Mapping[str, int],
    totals: meta.Episodes,
) -> tuple[pa.Table, dict[str, Json], dict[str, Json]]:
    """One episode's rows with the index columns, its statistics and its counted pixels."""
    table = _read_table(episode)
    length = len(table)
    stats: dict[str, Json] = json.loads(table.schema.metadata[b"stats"])
    counts: dict[str, Json] = json.loads(table.schema.metadata[b"counts"])
    own: dict[str, np.ndarray[Any, Any]] = {
        "timestamp": (np.arange(length) / schema.fps).astype(np.float32),
        "frame_index": np.arange(length),
        "episode_index": np.full(length, totals.count),
        "index": np.arange(totals.frames, totals.frames + length),
        "task_index": np.asarray([tasks[task] for task in table["task"].to_pylist()], dtype=np.int64),
    }
    for name, values in own.items():
        table = table.append_column(name, pa.array(values, meta.INDEX_FEATURES[name]))
        stats[name] = vector_stats(values)
    arrow = meta.arrow_schema(features)
    return table.select(arrow.names).cast(arrow), stats, counts


def _compare_videos(folder: Path, episodes: Sequence[Published]) -> None:
    from vla_data.media import video

    for name in episodes[0].summary["videos"]:
        files = files_below(folder / "videos" / name, ".mp4")
        found = [digest for file in files for digest in video.packet_digests(str(file))]
        want = [d for e in episodes for d in video.packet_digests(io.BytesIO(_video(e, name)))]
        if found != want:
            raise VerifyError("E601", f"the videos of {name} do not hold the packets that were encoded")


def _compare(found: pa.Table, episode: Published, number: int, file: str) -> None:
    want = _read_table(episode).drop_columns(["task"])
    names = want.column_names
    typed = want.cast(pa.schema([found.schema.field(name) for name in names]))
    if found["episode_index"].unique().to_pylist() != [number] or not (
        all(_same(found[name], typed[name]) for name in names)
    ):
        raise VerifyError("E601", f"episode {number} in {file} is not what was written")


def _same(found: pa.ChunkedArray, want: pa.ChunkedArray) -> bool:
    """Whether two columns of one type are equal; Arrow takes no NaN for another, which a map of depth may have."""
    if found.equals(want):
        return True
    a, b = found.combine_chunks(), want.combine_chunks()
    while pa.types.is_list(a.type) and a.offsets.equals(b.offsets):
        a, b = a.flatten(), b.flatten()
    floats = pa.types.is_floating(a.type)
    return floats and np.array_equal(a.to_numpy(), b.to_numpy(), equal_nan=True)

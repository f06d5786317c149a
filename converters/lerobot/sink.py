"""LeRobot datasets, format v3.0 (https://github.com/huggingface/lerobot, ``src/lerobot/datasets``), written
without lerobot or torch; for v2.1 see `converters.lerobot.v21`.

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
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from converters.lerobot import blob, depth, language, meta, rows, tools, v21, video_files
from converters.lerobot import tasks as lerobot_tasks
from converters.lerobot.stats import array_stats
from converters.lerobot.totals import Totals
from vla_data import options as checks
from vla_data.core import Encoded, Episode, Json, Published, Schema
from vla_data.core.base import BaseSink
from vla_data.core.content import content_digest
from vla_data.core.traits import Pictures, Traits
from vla_data.errors import DataError, VerifyError
from vla_data.files import arrow
from vla_data.files.write import files_below, open_file, write_file
from vla_data.installed import missing
from vla_data.media import images
from vla_data.media.images import JPEG_QUALITY, Encoding
from vla_data.media.video_settings import ENCODED, VideoCopy, VideoSettings, settings_of
from vla_data.statistics import QUANTILES, ImageStats, vector_stats

DATA_FILE_MB: Final = 100
VIDEO_FILE_MB: Final = 200
_COMPARED: Final = 1 << 20  # bytes of short episodes that are compared at a time
_BUFFER: Final = 1 << 18  # Parquet comes in pieces of some bytes, a dozen and more for each row group


@dataclass(frozen=True, kw_only=True)
class LerobotSink(BaseSink):
    """Writes a LeRobot dataset of v3.0 or v2.1.

    Attributes:
        target: the dataset's root.
        images: "jpeg" (quality ``jpeg_quality``, 4:2:0; images that are JPEG already stay as they are), "png"
            (lossless), or "keep" (images that are JPEG or PNG stay as they are, others become PNG), as bytes in
            Parquet. Plays no part for cameras that are video.
        video: write every camera as video, with these settings; None: as images. With a `VideoCopy`, the cameras
            that it names, whose packets are copied where they can be.
        jpeg_quality: 1 to 100.
        data_file_mb: a data file is closed when it would grow beyond this; one episode is never split.
        video_file_mb: the same for video files.
        robot: ``robot_type``; None: the schema's, which may have none.
        version: "v3.0" or "v2.1"; the limits of file sizes play no part in v2.1, where each episode has its own.
    """

    target: Path = field(repr=False)
    images: Encoding | Literal["keep"] = "jpeg"
    video: VideoSettings | VideoCopy | None = None
    jpeg_quality: int = JPEG_QUALITY
    data_file_mb: int = DATA_FILE_MB
    video_file_mb: int = VIDEO_FILE_MB
    robot: str | None = None
    version: str = meta.VERSION

    def __post_init__(self) -> None:
        checks.one_of("images", self.images, ("jpeg", "png", "keep"))
        checks.whole("jpeg_quality", self.jpeg_quality, low=1, high=100)
        checks.whole("data_file_mb", self.data_file_mb, low=1)
        checks.whole("video_file_mb", self.video_file_mb, low=1)
        checks.one_of("version", self.version, (meta.VERSION, meta.V21))
        if self.video is not None and not isinstance(self.video, VideoSettings | VideoCopy):
            raise ValueError(f"video is {self.video!r}, not VideoSettings or VideoCopy")
        if isinstance(self.video, VideoSettings):
            checks.one_of("codec", self.video.codec, ENCODED)
        if self.video is not None and importlib.util.find_spec("av") is None:
            raise missing("av", "video")

    @property
    def traits(self) -> Traits:
        """See `Traits`."""
        return Traits(
            sidecar="meta/vla_data",
            keeps_files=True,
            encoders=("av",) if self.video is not None else (),
            pictures=Pictures(
                encoding=None if self.images == "keep" else self.images,
                jpeg_quality=self.jpeg_quality,
                video=self.video,
            ),
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
        is_v3 = self.version == meta.VERSION
        held = rows.language_in(schema) if is_v3 else ()
        arrays |= {name: language.checked(arrays[name], name) for name in held}
        maps = {name for name in arrays if is_v3 and depth.is_depth(schema.features[name])}
        columns: dict[str, pa.Array] = {
            name: rows.image_column(depth.to_images(array), "tiff") if name in maps else rows.column(array)
            for name, array in arrays.items()
        }
        tasks = rows.tasks(episode)
        columns["task"] = arrow.from_rows(tasks, pa.string())
        stats: dict[str, Json] = {
            name: array_stats(array) if array.ndim > 2 else vector_stats(array)
            for name, array in arrays.items()
            if array.dtype.kind in "biuf"
        }
        stats |= {name: depth.stats_json(stats[name]) for name in maps}
        counts: dict[str, NDArray[np.int64]] = {}
        content: dict[str, Sequence[bytes]] = {}
        videos: dict[str, bytes] = {}
        clips: dict[str, Json] = {}
        copy, known = isinstance(self.video, VideoCopy), []
        for name, frames in episode.frames.items():
            if name not in schema.features:
                continue
            settings = settings_of(self.video, name)
            if settings is not None:
                videos[name], content[name], facts = video_files.encode(
                    frames, settings, fps=schema.fps, copy=copy
                )
                if copy:
                    clips[name] = {**facts, "quantiles": True}
                if copy and frames.stats is not None and (told := frames.stats()) is not None:
                    stats[name] = dict(told)
                    clips[name]["quantiles"] = QUANTILES.keys() <= told.keys()
                    known.append(f"statistics_of_source:{name}")
                    continue
            elif self.images == "keep":
                content[name] = list(frames.kept())
                columns[name] = rows.image_column(content[name], images.header(content[name][0]).encoding)
            else:
                content[name] = list(frames.encoded(self.images, quality=self.jpeg_quality))
                columns[name] = rows.image_column(content[name], self.images)
            counted = ImageStats.of(frames)
            stats[name] = counted.to_json()
            counts[name] = counted.counts
        # Statistics travel with the episode's bytes, so that planning never holds those of all episodes.
        table = pa.table(columns).replace_schema_metadata(blob.facts(stats, counts))
        buffer = io.BytesIO()
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
        summary: dict[str, Json] = {
            "length": len(episode),
            "tasks": list(dict.fromkeys(tasks)),
            "table": buffer.getbuffer().nbytes,
            "videos": {name: len(data) for name, data in videos.items()},
        }
        if copy:
            summary[video_files.CLIPS] = clips
        if isinstance(episode.meta.split, str):
            summary["split"] = episode.meta.split
        if episode.meta.episode_metadata is not None:
            summary["facts"] = episode.meta.episode_metadata
        if episode.meta.tools:
            summary[tools.TOOLS] = list(episode.meta.tools)
        for key in (lerobot_tasks.TABLE, lerobot_tasks.COLUMNS):
            if episode.meta.source == "lerobot" and key in episode.meta:
                summary[key] = episode.meta[key]
        digest = content_digest(json.dumps(tasks), arrays, content)
        notes = (*video_files.notes(clips), *known)
        return Encoded([buffer.getbuffer(), *videos.values()], summary, digest, notes)

    def split_of(self, episodes: Sequence[Published]) -> dict[str, str | None]:
        """The split of each episode by its id: what the source said of it, None where it said nothing; "train",
        which is lerobot's default, for all where it said nothing of any.
        """
        declared = {episode.id: episode.summary.get("split") for episode in episodes}
        return declared if any(declared.values()) else dict.fromkeys(declared, "train")

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write data and video files, episode metadata, tasks, statistics, ``info.json`` and the card."""
        clips = episodes[0].summary.get(video_files.CLIPS, {})
        features = meta.features_json(schema, self.video, self.version, clips)
        tasks = lerobot_tasks.task_table(episodes, schema)
        if self.version == meta.V21:
            totals: Totals = v21.write(episodes, schema, features, tasks, folder)
        else:
            totals = self._write(episodes, schema, features, tasks, folder)
        splits = meta.split_ranges(list(self.split_of(episodes).values()))
        info = self._info(features, schema, totals, tasks, splits)
        if known := tools.joined(episode.summary.get(tools.TOOLS) for episode in episodes):
            info[tools.TOOLS] = known
        meta.write_json(folder / "meta/info.json", info)
        write_file(folder / "README.md", meta.card(info), sync=False)

    def _write(
        self,
        episodes: Sequence[Published],
        schema: Schema,
        features: Mapping[str, Json],
        tasks: Sequence[str],
        folder: Path,
    ) -> Totals:
        """The data, the videos and the metadata of v3.0, without ``info.json``."""
        number_of, typed = lerobot_tasks.numbers(tasks), meta.arrow_schema(features)
        cameras = [name for name, feature in features.items() if feature["dtype"] == "video"]
        where = video_files.write(episodes, cameras, schema.fps, folder, most=self.video_file_mb << 20)
        totals, bare = meta.Episodes(folder, meta.fact_columns(episodes)), video_files.without_quantiles(episodes)
        sizes = [int(episode.summary["table"]) for episode in episodes]
        for place, members in meta.places(sizes, self.data_file_mb << 20):
            path = folder / meta.DATA_PATH.format(**place)
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                io.BufferedWriter(open_file(path), _BUFFER) as file,
                pq.ParquetWriter(
                    file,
                    typed,
                    compression=dict.fromkeys(meta.compressed_columns(features), "snappy"),
                    use_dictionary=meta.dictionary_columns(features),
                    write_page_checksum=True,
                ) as writer,
            ):
                for i in members:
                    table, stats, counts = blob.table_of(episodes[i], typed, number_of, totals, schema.fps, bare)
                    data = {f"data/{key}": value for key, value in place.items()}
                    totals.add(episodes[i], len(table), stats, counts, data | where[i])
                    totals.add_rows(table, features)
                    writer.write_table(table, row_group_size=len(table))
            totals.end_file()
        totals.write()
        meta.write_tasks(folder, tasks)
        meta.write_json(folder / "meta/stats.json", totals.stats(features))
        return totals

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read rows and video packets back, with checksums, and compare them with what was encoded."""
        at, fps = 0, float(json.loads((folder / "meta/info.json").read_bytes())["fps"])
        sizes = [int(episode.summary["table"]) for episode in episodes]
        for file in files_below(folder / "data", ".parquet"):
            reader = pq.ParquetFile(file, page_checksum_verification=True)
            inside = sizes[at : at + reader.num_row_groups]
            if len(inside) < reader.num_row_groups:
                raise VerifyError("E601", f"{file.name} has more episodes than were written")
            for _, groups in meta.places(inside, _COMPARED):
                found = reader.read_row_groups(list(groups))
                blob.compare(found, episodes[at : at + len(groups)], at, file.name, fps)
                at += len(groups)
        if at != len(episodes):
            raise VerifyError("E601", f"{at} of {len(episodes)} episodes were read back")
        if self.video is not None:
            blob.compare_videos(folder, episodes, self.version)

    def _info(
        self,
        features: Mapping[str, Json],
        schema: Schema,
        totals: Totals,
        tasks: Sequence[str],
        splits: Mapping[str, str],
    ) -> dict[str, Json]:
        if self.version == meta.V21:
            return v21.info_json(features, schema, totals, tasks, splits, robot=self.robot)
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

"""LeRobot datasets of v2.1, which lerobot before 0.4, openpi and GR00T read.

    meta/info.json                                       features, totals, paths
    meta/tasks.jsonl                                     task_index of each instruction
    meta/episodes.jsonl                                  a line an episode: length, tasks, what is known of it
    meta/episodes_stats.jsonl                            a line an episode: its statistics
    meta/modality.json                                   GR00T: which numbers are an arm, a hand
    data/chunk-000/episode_000000.parquet                a row a frame; images are encoded
    videos/chunk-000/<camera>/episode_000000.mp4

Columns of language are texts there, and depth is numbers: `converters.lerobot.language` and ``depth`` say which.
There is no ``meta/stats.json``, which v2.1 makes of the statistics of the episodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from converters.lerobot import blob, meta, modality, video_files
from converters.lerobot import tasks as lerobot_tasks
from converters.lerobot.templates import V2_DATA, V2_VIDEO
from converters.lerobot.totals import Totals
from vla_data.core import Json, Published, Schema
from vla_data.files.write import open_file, write_file

EPISODES: Final = "meta/episodes.jsonl"
STATS: Final = "meta/episodes_stats.jsonl"
TASKS: Final = "meta/tasks.jsonl"


def has_stats(name: str, dtype: str) -> bool:
    """Whether a feature's statistics are among those of an episode: lerobot 0.3 takes whatever has "image" in its
    name for a camera, and refuses the dataset where the statistics are not those of three channels.
    """
    return dtype in ("image", "video") or "image" not in name


def write(
    episodes: Sequence[Published],
    schema: Schema,
    features: Mapping[str, Json],
    tasks: Sequence[str],
    folder: Path,
) -> Totals:
    """Write all but ``info.json``.

    Args:
        episodes: encoded.
        schema: of all.
        features: of ``info.json``.
        tasks: by number.
        folder: the dataset, empty.
    """
    totals = Totals(folder)
    number_of, bare = lerobot_tasks.numbers(tasks), video_files.without_quantiles(episodes)
    facts, typed = meta.fact_columns(episodes), meta.arrow_schema(features, meta.V21)
    lines: list[Json] = []
    stats_lines: list[Json] = []
    for episode in episodes:
        number = totals.count
        place = {"episode_chunk": number // meta.CHUNK_FILES, "episode_index": number}
        table, stats, counts = blob.table_of(episode, typed, number_of, totals, schema.fps, bare)
        path = folder / V2_DATA.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            open_file(path) as file,
            pq.ParquetWriter(
                file,
                table.schema,
                compression=dict.fromkeys(meta.compressed_columns(features), "snappy"),
                use_dictionary=meta.dictionary_columns(features),
                write_page_checksum=True,
            ) as writer,
        ):
            writer.write_table(table, row_group_size=len(table))
        for name in episode.summary["videos"]:
            video = folder / V2_VIDEO.format(video_key=name, **place)
            video.parent.mkdir(parents=True, exist_ok=True)
            write_file(video, blob.video_of(episode, name), sync=False)
        told = episode.summary.get("facts", {})
        lines.append(
            {
                "episode_index": number,
                "tasks": list(episode.summary["tasks"]),
                "length": len(table),
                **{name: told[name] for name in facts if told.get(name) is not None},
                meta.SOURCE_ID: episode.id,
            }
        )
        own = {name: stats[name] for name in sorted(stats) if has_stats(name, features[name]["dtype"])}
        stats_lines.append({"episode_index": number, "stats": own})
        totals.add_counts(episode, len(table), counts, stats)
    (folder / "meta").mkdir(exist_ok=True)
    _write_lines(folder / EPISODES, lines)
    _write_lines(folder / STATS, stats_lines)
    _write_lines(folder / TASKS, [{"task_index": i, "task": task} for i, task in enumerate(tasks)])
    meta.write_json(folder / modality.FILE, modality.to_json(schema))
    return totals


def info_json(
    features: Mapping[str, Json],
    schema: Schema,
    totals: Totals,
    tasks: Sequence[str],
    splits: Mapping[str, str],
    *,
    robot: str | None,
) -> dict[str, Json]:
    """The content of ``info.json``."""
    cameras = sum(feature["dtype"] == "video" for feature in features.values())
    return {
        "codebase_version": meta.V21,
        "robot_type": robot or schema.robot,
        "total_episodes": totals.count,
        "total_frames": totals.frames,
        "total_tasks": len(tasks),
        "total_videos": cameras * totals.count,
        "total_chunks": -(-totals.count // meta.CHUNK_FILES),
        "chunks_size": meta.CHUNK_FILES,
        "fps": meta.whole_if_it_is(schema.fps),
        "splits": splits,
        "data_path": V2_DATA,
        "video_path": V2_VIDEO if cameras else None,
        "features": features,
    }


def _write_lines(path: Path, rows: Sequence[Json]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_file(path, text.encode(), sync=False)

"""Encoded episodes as the LeRobot sink keeps them: an Arrow table with statistics, then an mp4 file a camera.

What becomes of one in a dataset, and whether it is there, is found here for every version of the format.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from converters.lerobot import meta, rows
from converters.lerobot.index_columns import index_columns
from converters.lerobot.totals import Totals
from vla_data.core import Json, Published
from vla_data.errors import VerifyError
from vla_data.files import arrow
from vla_data.files.write import files_below
from vla_data.statistics import QUANTILES


def video_of(episode: Published, name: str) -> bytes:
    """One camera's mp4 file from an episode's bytes."""
    at = int(episode.summary["table"])
    for camera, size in episode.summary["videos"].items():
        if camera == name:
            return episode.read()[at : at + size]
        at += size
    raise KeyError(name)


def read_table(episode: Published) -> pa.Table:
    """The rows, with ``task``, and the statistics in the metadata."""
    return pa.ipc.open_stream(memoryview(episode.read())[: int(episode.summary["table"])]).read_all()


def table_of(
    episode: Published,
    typed: pa.Schema,
    tasks: Mapping[str, int],
    totals: Totals,
    fps: float,
    bare: Collection[str] = (),
) -> tuple[pa.Table, dict[str, Json], dict[str, Json]]:
    """One episode's rows with the index columns, its statistics and its counted pixels.

    Args:
        episode: that comes next.
        typed: the columns of the dataset's files.
        tasks: ``task_index`` of each instruction.
        totals: of the episodes before.
        fps: steps a second.
        bare: features whose statistics have no quantiles.
    """
    table = read_table(episode)
    stats: dict[str, Json] = json.loads(table.schema.metadata[b"stats"])
    counts: dict[str, Json] = json.loads(table.schema.metadata[b"counts"])
    for name in bare:
        stats[name] = {key: value for key, value in stats[name].items() if key not in QUANTILES}
    columns, own = index_columns(
        table["task"].to_pylist(), tasks, episode=totals.count, first=totals.frames, fps=fps
    )
    table = rows.with_language(table, typed, fps)
    made = [arrow.from_numpy(columns[name]) if name in columns else table[name] for name in typed.names]
    cast = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(made, typed, strict=True)
    ]
    return pa.table(cast, schema=typed), stats | own, counts


def video_files(folder: Path, name: str, version: str) -> list[Path]:
    """The video files of a camera, in the order of the episodes."""
    if version == meta.VERSION:
        return files_below(folder / "videos" / name, ".mp4")
    return [path for path in files_below(folder / "videos", ".mp4") if path.parent.name == name]


def compare_videos(folder: Path, episodes: Sequence[Published], version: str) -> None:
    """That the videos of a dataset hold the packets that were encoded.

    Raises:
        VerifyError: E601.
    """
    from vla_data.media import packets  # loads a video library, which images need not

    for name in episodes[0].summary["videos"]:
        files = video_files(folder, name, version)
        found = [digest for file in files for digest in packets.packet_digests(str(file))]
        want = [d for e in episodes for d in packets.packet_digests(io.BytesIO(video_of(e, name)))]
        if found != want:
            raise VerifyError("E601", f"the videos of {name} do not hold the packets that were encoded")


def compare(found: pa.Table, episode: Published, number: int, file: str, fps: float) -> None:
    """That a row group holds the episode of this number.

    Raises:
        VerifyError: E601.
    """
    want = rows.with_language(read_table(episode).drop_columns(["task"]), found.schema, fps)
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
    return floats and np.array_equal(arrow.to_numpy(a), arrow.to_numpy(b), equal_nan=True)

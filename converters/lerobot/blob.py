"""Encoded episodes as the LeRobot sink keeps them: an Arrow table with statistics, then an mp4 file a camera.

What becomes of one in a dataset, and whether it is there, is found here for every version of the format.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from converters.lerobot import meta, rows
from converters.lerobot.index_columns import index_columns
from converters.lerobot.totals import Totals
from vla_data.core import Json, Published
from vla_data.errors import VerifyError
from vla_data.files import arrow
from vla_data.files.write import files_below
from vla_data.statistics import QUANTILES

_COUNTS: Final = "counts/"
"""Key of a table's metadata: the counted pixels of the camera that is named after it."""


def facts(stats: Mapping[str, Json], counts: Mapping[str, NDArray[np.int64]]) -> dict[str, str | bytes]:
    """The metadata of an episode's table.

    Args:
        stats: of its features.
        counts: of its cameras' pixels, ``(3, 256)``.
    """
    pixels = {_COUNTS + name: counted.astype("<i8").tobytes() for name, counted in counts.items()}
    return {"stats": json.dumps(stats), **pixels}


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
) -> tuple[pa.Table, dict[str, Json], dict[str, NDArray[np.int64]]]:
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
    counts = {
        key.decode().removeprefix(_COUNTS): np.frombuffer(value, dtype="<i8").reshape(3, -1)
        for key, value in table.schema.metadata.items()
        if key.startswith(_COUNTS.encode())
    }
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


def compare(found: pa.Table, episodes: Sequence[Published], first: int, file: str, fps: float) -> None:
    """That the rows of a file hold these episodes, one after the other.

    Args:
        found: the rows.
        episodes: that should be there.
        first: the number of the first of them.
        file: where they are.
        fps: steps a second.

    Raises:
        VerifyError: E601, with the number of the first episode that is not there.
    """
    lengths = [int(episode.summary["length"]) for episode in episodes]
    numbers = np.repeat(np.arange(first, first + len(episodes)), lengths)
    tables = [read_table(episode).drop_columns(["task"]).replace_schema_metadata() for episode in episodes]
    want = pa.concat_tables([rows.with_language(table, found.schema, fps) for table in tables])
    names = want.column_names
    typed = want.cast(pa.schema([found.schema.field(name) for name in names]))
    if np.array_equal(arrow.to_numpy(found["episode_index"]), numbers) and (
        all(_same(found[name], typed[name]) for name in names)
    ):
        return
    at = 0
    for number, (episode, length) in enumerate(zip(episodes, lengths, strict=True), first):
        if len(episodes) == 1:
            raise VerifyError("E601", f"episode {number} in {file} is not what was written")
        compare(found.slice(at, length), [episode], number, file, fps)
        at += length
    raise VerifyError("E601", f"{file} has other rows than were written")


def _same(found: pa.ChunkedArray, want: pa.ChunkedArray) -> bool:
    """Whether two columns of one type are equal; Arrow takes no NaN for another, which a map of depth may have."""
    if found.equals(want):
        return True
    if len(found) != len(want):
        return False
    a, b = found.combine_chunks(), want.combine_chunks()
    while pa.types.is_list(a.type) and a.offsets.equals(b.offsets):
        a, b = a.flatten(), b.flatten()
    floats = pa.types.is_floating(a.type)
    return floats and np.array_equal(arrow.to_numpy(a), arrow.to_numpy(b), equal_nan=True)

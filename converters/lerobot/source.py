"""Reads LeRobot datasets: v3.0, v2.1 and v2.0, images and video, offline and never outside of their root.

What the metadata says is checked against what is there: an episode whose rows or frames are missing is
quarantined. Instructions may differ from step to step; then the episode has an array ``task``. Columns of numbers
or text that ``info.json`` does not name are kept as features without convention; a column that is neither, or has
gaps, is left out with the note ``column_left_out:<name>``, and so is one named ``task``, because ``task_index``
says what the instruction is. A column of lists with as many numbers as the shape in
``info.json`` has that shape, whether the lists are nested or flat. The rules of time are stated by
`converters.lerobot.columns` and `converters.lerobot.video`, those of splits and facts by
`converters.lerobot.layout`, those of tasks by `converters.lerobot.tasks`, those of files of others by
`converters.lerobot.extra`.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from converters.lerobot import columns, located_images, meta
from converters.lerobot import tasks as lerobot_tasks
from converters.lerobot.extra import CARD, ExtraFile, extra_files
from converters.lerobot.layout import SIDECAR, Layout, Place, Track
from converters.lerobot.numbers import read_numbers
from vla_data import options as checks
from vla_data.actions.limits import WIDE, check_numbers
from vla_data.core import Array, Episode, EpisodeRef, Feature, Schema
from vla_data.core.base import Columns, RootedSource
from vla_data.errors import DataError, UsageError
from vla_data.files.write import files_below, machine_errors
from vla_data.media import images
from vla_data.media.frames import Frames, Stored
from vla_data.media.mapped import Located
from vla_data.safety.files import read_file
from vla_data.safety.text import instruction, show

MAX_EPISODE: Final = 2 << 30  # bytes of the row groups that an episode lies in, once decompressed
_ID: Final = "episode_{:06d}"
_AXES: Final = ("height", "width", "channels")


@dataclass(frozen=True, kw_only=True)
class LerobotSource(RootedSource):
    """Reads a LeRobot dataset, episode by episode; only the frames that are looked at are decoded.

    Attributes:
        root: the dataset's folder.
        allow_empty_instruction: accept episodes whose task is an empty text.
        action_limit: largest absolute action value that a robot can mean.
    """

    root: Path = field(repr=False)
    allow_empty_instruction: bool = False
    action_limit: float = WIDE

    def __post_init__(self) -> None:
        checks.flag("allow_empty_instruction", self.allow_empty_instruction)
        object.__setattr__(self, "action_limit", checks.number("action_limit", self.action_limit, low=0))

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: a worker reads the metadata itself, faster than through a pipe."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every episode that the metadata lists, in order. Sizes are shares of all files, by number of steps."""
        layout = self._layout
        if layout.task_table is not None:
            lerobot_tasks.leave(layout.task_table)
        steps = sum(layout.lengths)
        size = sum(_folder_size(self.root / name) for name in ("data", "videos"))
        return [
            EpisodeRef(_ID.format(number), size * length // max(steps, 1))
            for number, length in zip(layout.numbers, layout.lengths, strict=True)
        ]

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 over the digests of the files that the episode lies in and of the metadata, and its number."""
        place = self._place(ref)
        names = [place.data, *(track.file for track in place.videos.values())]
        digests = [_digest(self._layout.files.path(name)) for name in names]
        digests += [f"{name} {_digest(self._layout.files.path(name))}" for name in self._metadata]
        return hashlib.sha256("\n".join([str(place.number), *digests]).encode()).hexdigest()

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode. See `vla_data.core.Source`.

        ``meta`` also has ``split``, ``episode_metadata``, ``origin`` and what a ledger of ours recorded, where
        known; see `converters.lerobot.layout.Layout.facts`.
        """
        place = self._place(ref)
        sha256 = self.fingerprint(ref)
        try:
            return self._episode(ref.id, place, sha256)
        except DataError as error:
            error.source_sha256 = sha256
            error.frames = place.length
            raise

    def schema(self, episode: Episode) -> Schema:
        """The features of ``info.json``, with the conventions that a dataset of ours declares."""
        info = self._layout.info
        ours = self._layout.conventions
        features: dict[str, Feature] = {}
        for name, frames in episode.frames.items():
            shape = (frames.height, frames.width, 3)
            features[name] = Feature(dtype="image", shape=shape, names=_AXES, convention=ours.get(name, {}))
        for name, array in episode.arrays.items():
            if name == "task":
                continue
            own = columns.flat_names(info["features"].get(name, {}).get("names"))
            shape = array.shape[1:] or (1,)
            wanted = shape[0] if len(shape) == 1 else len(shape)
            features[name] = Feature(
                dtype="string" if array.dtype.kind == "U" else str(array.dtype),
                shape=shape,
                names=own if own and len(own) == wanted else None,
                convention=ours.get(name, {}),
            )
        robot = info.get("robot_type")
        return Schema(features=features, fps=float(info["fps"]), robot=robot if isinstance(robot, str) else None)

    def time_steps(self, refs: Sequence[EpisodeRef]) -> NDArray[np.float64]:
        """Seconds between the recorded times of each step and the next, of all these episodes together.

        Whatever ``info.json`` says of the rate: `read` refuses episodes that contradict it, and this tells what
        they say. Episodes without times, or whose times can't be read or are not finite, are left out.
        """
        found = [np.zeros(0)]
        for ref in refs:
            try:
                table = self._rows(self._place(ref), only=["timestamp", "episode_index"])
                time = columns.numbers(table, "timestamp").astype(np.float64)
            except DataError:
                continue
            if "timestamp" in table.column_names and np.isfinite(time).all():
                found.append(np.diff(time))
        return np.concatenate(found)

    def extra_files(self) -> Sequence[ExtraFile]:
        """The files of others beside the dataset's own; see `converters.lerobot.extra`."""
        ours = (self.root / "meta/vla_data/manifest.json").is_file()  # then the card is ours too
        return [file for file in extra_files(self.root) if not (ours and file.path == CARD)]

    # -- metadata -----------------------------------------------------------------------------------

    def columns(
        self, refs: Sequence[EpisodeRef], names: Collection[str] | None
    ) -> Iterator[tuple[str, Columns | DataError]]:
        """See `BaseSource`."""
        return read_numbers(self.root, [ref.id for ref in refs], names)

    def locate_images(self, ref: EpisodeRef, frames: Mapping[str, Frames]) -> Mapping[str, tuple[Located, ...]]:
        """See `BaseSource`."""
        path = self._layout.files.path(self._place(ref).data)
        found = {name: located_images.find(path, name, images) for name, images in frames.items()}
        return {name: items for name, items in found.items() if items is not None}

    @functools.cached_property
    def _layout(self) -> Layout:
        return Layout(self.root)

    @functools.cached_property
    def _metadata(self) -> Sequence[str]:
        """The files of metadata that decide about what is read, where they are there."""
        names = ["info.json", "modality.json", "tasks.parquet", "tasks.jsonl", "episodes.jsonl"]
        paths = [f"meta/{name}" for name in names]
        paths += [f"{SIDECAR}/{name}" for name in ("ledger.parquet", "schema.json")]
        found = [name for name in paths if (self.root / name).is_file()]
        with machine_errors("cannot list the episodes"):
            more = files_below(self.root / "meta/episodes", ".parquet")
        return sorted([*found, *(path.relative_to(self.root).as_posix() for path in more)])

    def _place(self, ref: EpisodeRef) -> Place:
        number = ref.id.removeprefix("episode_")
        try:
            return self._layout.place(int(number))
        except (KeyError, ValueError):
            raise UsageError("E007", f"the dataset has no episode {show(ref.id)}") from None

    # -- one episode --------------------------------------------------------------------------------

    def _episode(self, name: str, place: Place, sha256: str) -> Episode:
        layout = self._layout
        table = self._rows(place)
        length = len(table)
        if length != place.length:
            raise DataError("E204", f"{length} rows where the metadata says {place.length}")
        if length == 0:
            raise DataError("E207", "the episode has no steps")
        time = columns.check_time(table, float(layout.info["fps"]))
        tasks = [self._task(number) for number in columns.numbers(table, "task_index").tolist()]
        notes = [f"no_video_of:{name}" for name, there in layout.declared_cameras.items() if not there]
        notes += columns.start_note(time)
        arrays: dict[str, Array] = {}
        frames: dict[str, Frames] = {}
        for column in table.column_names:
            if column in meta.INDEX_FEATURES or column in place.videos:
                continue
            if not meta.NAME.fullmatch(column):
                raise DataError("E122", f"a column is named {show(column)[:80]}")
            if column == "task":
                notes.append("column_left_out:task")
                continue
            if columns.is_image(table.schema.field(column).type):
                frames[column] = self._images(table[column], column)
                continue
            values = columns.values(table[column], layout.info["features"].get(column, {}).get("shape"))
            if values is None:
                notes.append(f"column_left_out:{column}")
            else:
                arrays[column] = values
        if "action" in arrays:
            check_numbers("action", arrays["action"], self.action_limit)
        for camera, track in place.videos.items():
            frames[camera], by_position = self._video(track, time)
            notes += [f"video_by_position:{camera}"] if by_position else []
        if len(set(tasks)) > 1:
            arrays["task"] = np.asarray(tasks)
        facts = layout.facts(place.number)
        return Episode(
            id=name,
            arrays=arrays,
            frames=frames,
            task=tasks[0],
            index=np.arange(length),
            meta={**facts, "source": "lerobot", "source_length": length, "source_sha256": sha256},
            notes=tuple(notes),
        )

    def _rows(self, place: Place, *, only: Sequence[str] = ()) -> pa.Table:
        """The rows of an episode, with all columns, or with those of ``only`` that are there."""
        path = self._layout.files.path(place.data)
        try:
            reader = _open(path, *_facts(path))
            low, high = _numbers(path, *_facts(path))
            groups = np.flatnonzero((low <= place.number) & (place.number <= high)).tolist()
            size = sum(reader.metadata.row_group(g).total_byte_size for g in groups)
            if size > MAX_EPISODE:
                raise DataError("E107", f"the episode's rows in {place.data} have {size:,} bytes")
            if only:
                table = reader.read_row_groups(groups, columns=list(only))
            else:
                tables = [_row_group(path, *_facts(path), group) for group in groups]
                table = pa.concat_tables(tables) if tables else reader.schema_arrow.empty_table()
            return table.filter(pc.equal(table["episode_index"], place.number))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise DataError("E105", f"{place.data} is damaged ({type(error).__name__})") from None

    def _task(self, number: Any) -> str:
        try:
            task = self._layout.tasks[number]
        except KeyError:
            raise DataError("E206", f"task {show(number)[:40]} is not among the dataset's tasks") from None
        return instruction(task, allow_empty=self.allow_empty_instruction)

    def _images(self, column: pa.ChunkedArray, name: str) -> Frames:
        items: list[Stored] = []
        for item in column.to_pylist():
            data = item["bytes"] if item else None
            if data is None:
                if not item or not item["path"]:
                    raise DataError("E109", f"an image of {name} is empty")
                data = read_file(self._layout.files.path(item["path"]), root=self.root)[0]
            items.append(data)
        sizes = {(head.height, head.width) for head in map(images.header, items)}  # type: ignore[arg-type]
        if len(sizes) != 1:
            raise DataError("E203", f"images of {name} have {len(sizes)} sizes")
        return Frames(tuple(items), *sizes.pop())

    def _video(self, track: Track, time: NDArray[np.float64]) -> tuple[Frames, bool]:
        from converters.lerobot import video as lerobot_video  # loads a video library, which images need not

        path = self._layout.files.path(track.file)
        return lerobot_video.read(path, track, time, float(self._layout.info["fps"]))


def _open(path: Path, mtime: int, size: int) -> pq.ParquetFile:
    """A data file whose footer, which grows with the number of episodes in it, is parsed once a process."""
    return pq.ParquetFile(path, metadata=_footer(path, mtime, size), page_checksum_verification=True)


@functools.lru_cache(maxsize=4)
def _footer(path: Path, _mtime: int, _size: int) -> pq.FileMetaData:
    return pq.read_metadata(path)


@functools.lru_cache(maxsize=4)
def _numbers(path: Path, mtime: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the greatest ``episode_index`` of each row group; everything where it does not say.

    Raises:
        DataError: E206, there is no such column.
    """
    footer = _footer(path, mtime, size)
    leaves = [footer.schema.column(i).path for i in range(len(footer.schema))]
    if "episode_index" not in leaves:
        raise DataError("E206", f"{path.name} has no episode_index")
    leaf = leaves.index("episode_index")
    low = np.full(footer.num_row_groups, -np.inf)
    high = np.full(footer.num_row_groups, np.inf)
    for group in range(footer.num_row_groups):
        stats = footer.row_group(group).column(leaf).statistics
        if stats is not None and stats.has_min_max and type(stats.min) is type(stats.max) is int:
            low[group], high[group] = stats.min, stats.max
    return low, high


@functools.lru_cache(maxsize=1)
def _row_group(path: Path, mtime: int, size: int, group: int) -> pa.Table:
    """A row group; the last one is kept, because some writers put all episodes of a file into one."""
    return _open(path, mtime, size).read_row_group(group)


def _folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    folders = [folder] if folder.is_dir() else []
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _facts(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


def _digest(path: Path) -> str:
    return _file_digest(path, *_facts(path))


@functools.lru_cache(maxsize=256)
def _file_digest(path: Path, _mtime: int, _size: int) -> str:
    """Each file is hashed once a process, however many episodes lie in it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

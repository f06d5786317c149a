"""Where the episodes of a LeRobot dataset lie: v3.0, v2.1 and v2.0.

The metadata is a stranger's: sizes are looked at before anything is read, and every path is made by a template of
LeRobot's own parts (``data/...``, ``videos/...``) that leads nowhere else.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from converters.lerobot import data_files, meta
from converters.lerobot.files import MAX_ROWS, Files
from converters.lerobot.templates import pattern_of, templates
from converters.lerobot.values import way_out
from vla_data.errors import DataError, UsageError
from vla_data.files.folders import has_hidden
from vla_data.files.write import data_below, machine_errors
from vla_data.safety.text import show

VERSIONS: Final = ("v3.0", "v2.1", "v2.0")

_FROM: Final = "dataset_from_index"
_TO: Final = "dataset_to_index"
_OVERLAP: Final = 0.5  # frames; less is rounding


@dataclass(frozen=True, slots=True)
class Track:
    """Where a camera's frames of an episode lie.

    Attributes:
        file: relative to the dataset.
        start: seconds, of the first frame.
        stop: seconds, of the end; None where the file is the episode's own.
        shared: another episode has some of the same frames.
    """

    file: str
    start: float = 0.0
    stop: float | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an episode lies: rows of a data file, and for each camera a range of a video file."""

    number: int
    length: int
    data: str
    videos: Mapping[str, Track]


class Places:
    """The places of the episodes of the dataset at ``root``; each file of metadata is read when it is first
    needed.

    Args:
        root: the dataset.
        is_left_out: whether nobody wants a camera; what is said of it is not looked at then.

    Raises:
        UsageError: from any method: the dataset can't be read as a whole, with what is wrong in which file.
    """

    def __init__(self, root: Path, is_left_out: Callable[[str], bool] = lambda _: False) -> None:
        self.root = root
        self._is_left_out = is_left_out
        self.files = Files(root)

    @functools.cached_property
    def info(self) -> Mapping[str, Any]:
        """``info.json``, with its version, paths and rate checked. Names of features are strangers' words."""
        info = self.files.json("meta/info.json")
        version = info.get("codebase_version") if isinstance(info, dict) else None
        if f"v{version}" in VERSIONS:
            info["codebase_version"] = version = f"v{version}"
        if version is None:
            raise UsageError(
                "E002", "meta/info.json has no codebase_version, so it is not that of a LeRobot dataset"
            )
        if version not in VERSIONS:
            known = ", ".join(VERSIONS)
            raise UsageError(
                "E002",
                f"LeRobot format {show(version)[:40]} is not read; {known} are; lerobot's scripts convert others",
            )
        storage = info.get("storage_format")
        if storage not in (None, "parquet"):
            what = f"{show(self.root)} keeps its data as {show(storage)[:40]}, not as Parquet files"
            raise UsageError("E002", f"{what}, and is not read; write it again as Parquet with lerobot first")
        features = info.get("features")
        if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
            raise UsageError("E141", "meta/info.json has no table of features")
        fps = info.get("fps")
        if not _is_number(fps) or not 1e-3 <= fps <= 1e6:
            raise UsageError("E221", f"meta/info.json has the fps {show(fps)[:40]}, not a number above 0")
        templates(info)
        return dict(info)

    @property
    def data_path(self) -> str:
        """The template of the data files' paths."""
        return templates(self.info)[0]

    @property
    def video_path(self) -> str:
        """The template of the videos' paths; LeRobot's own where none is given."""
        return templates(self.info)[1]

    @property
    def is_v3(self) -> bool:
        """Whether episodes share files."""
        return bool(self.info["codebase_version"] == "v3.0")

    @functools.cached_property
    def declared_cameras(self) -> Mapping[str, bool]:
        """Each video feature, and whether there is any video of it: some datasets declare cameras they lack.

        One whose name can be no folder's has none.
        """
        names = [name for name, f in self.info["features"].items() if f.get("dtype") == "video"]
        names = [name for name in names if meta.NAME.fullmatch(name) and not self._is_left_out(name)]
        return {name: any(self.root.glob(pattern_of(self.video_path, name))) for name in names}

    # -- episodes -----------------------------------------------------------------------------------

    @functools.cached_property
    def data_files(self) -> Sequence[str]:
        """Every data file that is there, relative to the dataset."""
        with machine_errors("cannot list the data files"):
            files = data_below(self.root / "data", ".parquet") or sorted(self.root.glob("data/*/*.parquet"))
        return [file.relative_to(self.root).as_posix() for file in files]

    @functools.cached_property
    def unlisted(self) -> Sequence[str]:
        """Data files that no listed episode lies in."""
        if self.is_v3:
            keys = ("data/chunk_index", "data/file_index")
            pairs = set(zip(*(self._files[key] for key in keys), strict=True))
            known = {self.data_path.format(chunk_index=chunk, file_index=file) for chunk, file in pairs}
        else:
            known = {self.place(number).data for number in self.numbers}
        return [name for name in self.data_files if name not in known]

    @functools.cached_property
    def notes_on_files(self) -> Sequence[str]:
        """Of data files with episodes that the metadata does not list, and of hidden ones, which lerobot reads."""
        count, known = 0, set(self.numbers)
        for name in self.unlisted:
            with suppress(DataError):
                count += not self.is_v3 or not data_files.episodes(self.files.path(name)) <= known
        notes = [f"data_files_of_no_episode:{count}"] if count else []
        folders = ("data", *(("meta/episodes",) if self.is_v3 else ()))
        read = [path for folder in folders for path in self.root.glob(f"{folder}/*/*.parquet")]
        hidden = sum(has_hidden(path.relative_to(self.root).as_posix()) for path in read)
        return [*notes, *([f"hidden_files_that_lerobot_reads:{hidden}"] if hidden else [])]

    @functools.cached_property
    def _table(self) -> pa.Table:
        """A row an episode, without statistics."""
        if self.info.get("total_episodes") == 0:
            raise UsageError(
                "E003",
                f"{show(self.root)} has no episodes: its recording ended before one was saved; record again",
            )
        if self.is_v3:
            with machine_errors("cannot list the episodes"):
                files = data_below(self.root / "meta/episodes", ".parquet")
            files = files or sorted(self.root.glob("meta/episodes/*/*.parquet"))  # folders may be links
            names = [file.relative_to(self.root).as_posix() for file in files]
            tables = [self.files.parquet(name, _is_wanted) for name in names]
            try:
                table = pa.concat_tables(tables, promote_options="permissive") if tables else None
            except pa.ArrowException:
                raise UsageError("E141", "the files of meta/episodes have unlike columns") from None
        else:
            wanted = ("episode_index", "length")
            try:
                table = pa.table(
                    {name: whole_numbers(row[name] for row in self._episode_lines) for name in wanted}
                )
            except (KeyError, TypeError, ValueError, pa.ArrowException):
                raise UsageError("E141", "meta/episodes.jsonl is not a list of episodes") from None
        if table is None or len(table) == 0:
            raise UsageError("E003", f"{show(self.root)} lists no episodes")
        return table

    @functools.cached_property
    def numbers(self) -> list[int]:
        """The ``episode_index`` of each episode, in the order in which they are listed."""
        numbers = self._column("episode_index")
        if len(set(numbers)) != len(numbers):
            twice = next(number for number, count in Counter(numbers).items() if count > 1)
            file = "a file of meta/episodes" if self.is_v3 else "meta/episodes.jsonl"
            raise UsageError(
                "E004",
                f"{file} lists the episode_index {twice} twice, with unlike facts; remove the row that is wrong",
            )
        return numbers

    @functools.cached_property
    def lengths(self) -> list[int]:
        """Steps of each episode, as the metadata says; of v3.0 also by where its rows begin and end."""
        if not self.is_v3 or "length" in self._table.column_names or _FROM not in self._table.column_names:
            return self._column("length")
        return [stop - start for start, stop in zip(self._column(_FROM), self._column(_TO), strict=True)]

    @functools.cached_property
    def _positions(self) -> Mapping[int, int]:
        return {number: at for at, number in enumerate(self.numbers)}

    def position(self, number: int) -> int:
        """Where an episode stands in the list.

        Raises:
            KeyError: it doesn't.
        """
        return self._positions[number]

    @functools.cached_property
    def _cameras(self) -> list[str]:
        return [name for name, there in self.declared_cameras.items() if there]

    @functools.cached_property
    def _files(self) -> Mapping[str, list[int]]:
        """The columns of v3.0 that name files."""
        keys = ("chunk_index", "file_index")
        columns = {f"data/{key}": self._column(f"data/{key}") for key in keys}
        names = [f"videos/{camera}/{key}" for camera in self._cameras for key in keys]
        return columns | {name: self._column(name, gaps=True) for name in names}

    @functools.cached_property
    def _video_ranges(self) -> Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]]:
        """Camera -> where each episode begins and ends in its file, in seconds; whether it overlaps another."""
        out = {}
        for camera in self._cameras:
            starts, stops = (self._seconds(f"videos/{camera}/{end}_timestamp") for end in ("from", "to"))
            keys = (self._files[f"videos/{camera}/{key}"] for key in ("chunk_index", "file_index"))
            files = list(zip(*keys, strict=True))
            out[camera] = (starts, stops, _overlaps(files, starts, stops, float(self.info["fps"])))
        return out

    def _seconds(self, name: str) -> NDArray[np.float64]:
        """A column of times; NaN where there is none."""
        values = self._table[name].to_pylist() if name in self._table.column_names else [None] * len(self.numbers)
        return np.asarray([float(v) if _is_number(v) and v >= 0 else np.nan for v in values])

    def place(self, number: int) -> Place:
        """Where an episode lies.

        Raises:
            KeyError: there is no such episode.
            DataError: E133, nothing says where one of its videos is.
        """
        at = self.position(number)
        if not self.is_v3:
            facts = {"episode_chunk": number // self._chunk, "episode_index": number}
            videos = {camera: Track(self.video_path.format(video_key=camera, **facts)) for camera in self._cameras}
            return Place(number, self.lengths[at], self.data_path.format(**facts), videos)

        def index(prefix: str) -> dict[str, int]:
            return {key: self._files[f"{prefix}/{key}"][at] for key in ("chunk_index", "file_index")}

        videos = {}
        for camera, (starts, stops, shared) in self._video_ranges.items():
            where = index(f"videos/{camera}")
            if min(where.values()) < 0 or not np.isfinite((starts[at], stops[at])).all():
                raise DataError(
                    "E133", f"meta/episodes does not say where the video of {show(camera)} is; {way_out(camera)}"
                )
            file = self.video_path.format(video_key=camera, **where)
            videos[camera] = Track(file, float(starts[at]), float(stops[at]), bool(shared[at]))
        return Place(number, self.lengths[at], self.data_path.format(**index("data")), videos)

    def video(self, camera: str, track: Track) -> Path:
        """The file of a camera.

        Raises:
            DataError: as `Files.path`, with how to do without the camera.
        """
        try:
            return self.files.path(track.file)
        except DataError as error:
            raise DataError(error.code, f"{error.message}; {way_out(camera)}") from None

    @property
    def _chunk(self) -> int:
        chunk = self.info.get("chunks_size", meta.CHUNK_FILES)
        if not _is_number(chunk) or chunk != int(chunk) or chunk < 1:
            raise UsageError(
                "E141", f"meta/info.json has the chunks_size {show(chunk)[:40]}, not a whole number above 0"
            )
        return int(chunk)

    def _column(self, name: str, *, gaps: bool = False) -> list[int]:
        """A column of counting numbers, of whatever type; -1 in gaps, where there may be some."""
        there = name in self._table.column_names
        if not there and not gaps:
            what = "meta/episodes has" if self.is_v3 else "meta/episodes.jsonl has"
            raise UsageError("E141", f"{what} no {name}")
        cells = self._table[name].to_pylist() if there else [None] * len(self._table)
        try:
            values = whole_numbers(-1 if gaps and (cell is None or cell != cell) else cell for cell in cells)
        except (TypeError, ValueError):
            raise UsageError("E141", f"the episodes' {name} is not a column of integers") from None
        if min(values) < -gaps or max(values) > MAX_ROWS:
            raise UsageError("E141", f"the episodes' {name} goes from {min(values)} to {max(values)}")
        return values

    @functools.cached_property
    def _episode_lines(self) -> Sequence[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        known: dict[str, list[dict[str, Any]]] = {}
        for row in self.files.lines("meta/episodes.jsonl"):
            alike = known.setdefault(str(row.get("episode_index")), [])
            if row not in alike:  # recorders that go on append what is there already
                alike.append(row)
                rows.append(row)
        return rows


def _overlaps(
    files: Sequence[Any], starts: NDArray[np.float64], stops: NDArray[np.float64], fps: float
) -> NDArray[np.bool_]:
    """``(N,)``: whether an episode's range of a file overlaps that of another by half a frame or more."""
    found = np.zeros(len(starts), dtype=bool)
    last: dict[Any, int] = {}  # file -> the episode whose range goes furthest so far
    for i in np.lexsort((stops, starts)).tolist():
        before = last.get(files[i])
        if before is not None and (stops[before] - starts[i]) * fps >= _OVERLAP:
            found[[before, i]] = True
        if before is None or stops[i] > stops[before]:
            last[files[i]] = i
    return found


def whole_numbers(values: Iterable[Any]) -> list[int]:
    """Whole numbers, of whatever type somebody's table gave them: pandas makes floats of integers with gaps.

    Raises:
        TypeError: one is no number.
        ValueError: one is not whole.
    """
    out = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise TypeError(type(value).__name__)
        if value != value // 1:
            raise ValueError(str(value))
        out.append(int(value))
    return out


def _is_wanted(column: str) -> bool:
    return not column.startswith("stats/")


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

"""Where the episodes of a LeRobot dataset lie and what its metadata says of them: v3.0, v2.1 and v2.0.

The metadata is a stranger's: sizes are looked at before anything is read, every path is one of LeRobot's own two
templates, and what can't be right refuses the dataset before its first episode.

**Splits.** ``info.json`` gives each split as ``"a:b"``, positions of episodes. A range that goes beyond the last
episode ends there; an entry that is no such range, or begins beyond the end, says nothing. An episode that is in
no range or in ranges of several names has no split. In a dataset of ours an episode has the split that its
source declared, and none where it declared none, whatever the ranges say.

**Ledger.** Facts of an episode that a dataset of ours keeps in ``meta/vla_data/ledger.parquet`` are given
back when the ledger's record for that position has the id that ``meta/episodes`` has for the episode; otherwise
the data were changed by others since, and the record says nothing.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from converters.lerobot import meta
from converters.lerobot import tasks as tasks_
from converters.lerobot.files import MAX_ROWS, Files
from vla_data.core import Json
from vla_data.errors import DataError, UsageError
from vla_data.files.write import files_below, machine_errors
from vla_data.safety import strict_json
from vla_data.safety.text import show

VERSIONS: Final = ("v3.0", "v2.1", "v2.0")
V2_DATA: Final = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO: Final = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
SIDECAR: Final = "meta/vla_data"

_RANGE: Final = re.compile(r"(\d{1,9}):(\d{1,9})")
_OVERLAP: Final = 0.5  # frames; less is rounding
_INDEXES: Final = frozenset(meta.INDEX_FEATURES)
_OWN_PREFIXES: Final = ("data/", "videos/", "meta/", "stats/")
_FACTS: Final = ("env", "episode_metadata", "mask_names", "masks", "scene", "seed", "success")
"""Facts of an episode that keep their place; the others say how the first source was read."""

_RUN: Final = ("split", tasks_.TABLE, tasks_.COLUMNS)
"""Facts of the conversion, which the next one finds out for itself."""


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


class Layout:
    """The metadata of the dataset at ``root``, each file read when it is first needed.

    Raises:
        UsageError: from any method: the dataset can't be read as a whole, with what is wrong in which file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = Files(root)

    @functools.cached_property
    def info(self) -> Mapping[str, Any]:
        """``info.json``, with its version, paths, rate and names of features checked."""
        info = self.files.json("meta/info.json")
        version = info.get("codebase_version") if isinstance(info, dict) else None
        if version not in VERSIONS:
            known = ", ".join(VERSIONS)
            raise UsageError("E002", f"LeRobot format {show(version)[:40]} is not known; {known} are")
        features = info.get("features")
        if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
            raise UsageError("E141", "meta/info.json has no table of features")
        fps = info.get("fps")
        if not _is_number(fps) or not 1e-3 <= fps <= 1e6:
            raise UsageError("E221", f"meta/info.json has an fps of {show(fps)[:40]}")
        video = any(f.get("dtype") == "video" for f in features.values())
        known_paths = (meta.DATA_PATH, meta.VIDEO_PATH) if version == "v3.0" else (V2_DATA, V2_VIDEO)
        given = (info.get("data_path"), info.get("video_path") if video else known_paths[1])
        if given != known_paths:
            raise UsageError("E122", f"paths {show(given)[:300]} are not LeRobot {version}'s")
        for name in features:
            if not meta.NAME.fullmatch(name):
                raise UsageError("E122", f"a feature is named {show(name)[:80]}")
        return dict(info)

    @property
    def is_v3(self) -> bool:
        """Whether episodes share files."""
        return bool(self.info["codebase_version"] == "v3.0")

    @functools.cached_property
    def conventions(self) -> Mapping[str, Mapping[str, Json]]:
        """Feature -> the convention that a dataset of ours declares; empty for those of others."""
        try:
            schema = self.files.json(f"{SIDECAR}/schema.json")
            return {name: dict(feature["convention"]) for name, feature in schema["features"].items()}
        except (DataError, UsageError, KeyError, TypeError, AttributeError, ValueError):
            return {}

    @functools.cached_property
    def declared_cameras(self) -> Mapping[str, bool]:
        """Each video feature, and whether there is any video of it: some datasets declare cameras they lack."""
        names = [name for name, f in self.info["features"].items() if f.get("dtype") == "video"]
        pattern = "videos/{}/*/*.mp4" if self.is_v3 else "videos/*/{}/*.mp4"
        return {name: any(self.root.glob(pattern.format(name))) for name in names}

    # -- episodes -----------------------------------------------------------------------------------

    @functools.cached_property
    def _table(self) -> pa.Table:
        """A row an episode, without statistics."""
        if self.is_v3:
            with machine_errors("cannot list the episodes"):
                files = files_below(self.root / "meta/episodes", ".parquet")
            names = [file.relative_to(self.root).as_posix() for file in files]
            tables = [self.files.parquet(name, _is_wanted) for name in names]
            try:
                table = pa.concat_tables(tables, promote_options="default") if tables else None
            except pa.ArrowException:
                raise UsageError("E141", "the files of meta/episodes have unlike columns") from None
        else:
            wanted = ("episode_index", "length")
            try:
                table = pa.table({name: [row[name] for row in self._episode_lines] for name in wanted})
            except (KeyError, TypeError, pa.ArrowException):
                raise UsageError("E141", "meta/episodes.jsonl is no list of episodes") from None
        if table is None or len(table) == 0:
            raise UsageError("E003", f"{show(self.root)} lists no episodes")
        return table

    @functools.cached_property
    def numbers(self) -> list[int]:
        """The ``episode_index`` of each episode, in the order in which they are listed."""
        numbers = self._column("episode_index")
        if len(set(numbers)) != len(numbers):
            raise UsageError("E004", "the metadata lists an episode_index twice")
        return numbers

    @functools.cached_property
    def lengths(self) -> list[int]:
        """Steps of each episode, as the metadata says."""
        return self._column("length")

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
        prefixes = ["data", *(f"videos/{camera}" for camera in self._cameras)]
        keys = [f"{prefix}/{key}" for prefix in prefixes for key in ("chunk_index", "file_index")]
        return {key: self._column(key) for key in keys}

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
        """A column of times."""
        values = self._table[name].to_pylist() if name in self._table.column_names else [None]
        numbers = [float(value) for value in values if _is_number(value) and value >= 0]
        if len(numbers) != len(self.numbers):
            raise UsageError("E141", f"{name} of meta/episodes is not there in seconds for every episode")
        return np.asarray(numbers)

    def place(self, number: int) -> Place:
        """Where an episode lies."""
        at = self.position(number)
        if not self.is_v3:
            facts = {"episode_chunk": number // self._chunk, "episode_index": number}
            videos = {camera: Track(V2_VIDEO.format(video_key=camera, **facts)) for camera in self._cameras}
            return Place(number, self.lengths[at], V2_DATA.format(**facts), videos)

        def index(prefix: str) -> dict[str, int]:
            return {key: self._files[f"{prefix}/{key}"][at] for key in ("chunk_index", "file_index")}

        videos = {}
        for camera, (starts, stops, shared) in self._video_ranges.items():
            file = meta.VIDEO_PATH.format(video_key=camera, **index(f"videos/{camera}"))
            videos[camera] = Track(file, float(starts[at]), float(stops[at]), bool(shared[at]))
        return Place(number, self.lengths[at], meta.DATA_PATH.format(**index("data")), videos)

    @property
    def _chunk(self) -> int:
        chunk = self.info.get("chunks_size", meta.CHUNK_FILES)
        if not _is_number(chunk) or chunk != int(chunk) or chunk < 1:
            raise UsageError("E141", f"meta/info.json has a chunks_size of {show(chunk)[:40]}")
        return int(chunk)

    def _column(self, name: str) -> list[int]:
        """A column of counting numbers."""
        table = self._table
        kind = table.schema.field(name).type if name in table.column_names else None
        if kind is None or not pa.types.is_integer(kind) or table[name].null_count:
            raise UsageError("E141", f"the episodes' {name} is not there as integers")
        values: list[int] = table[name].to_pylist()
        if min(values) < 0 or max(values) > MAX_ROWS:
            raise UsageError("E141", f"the episodes' {name} goes from {min(values)} to {max(values)}")
        return values

    # -- what is known of an episode ----------------------------------------------------------------

    def facts(self, number: int) -> dict[str, Json]:
        """For ``Episode.meta``: ``split``, ``episode_metadata``, ``task_table`` and ``task_columns`` (see
        `converters.lerobot.tasks`) and what our ledger recorded, where known.

        ``episode_metadata`` has the columns of ``meta/episodes`` (or keys of ``episodes.jsonl``) that LeRobot
        does not know, over those that the ledger has. Of a dataset of ours, ``origin`` has the first source's
        ``id`` and how it was read.
        """
        at = self.position(number)
        record = self._recorded(at)
        known = record["meta"] if record else {}
        out = {key: known[key] for key in _FACTS if key in known}
        if record:
            origin = {key: value for key, value in known.items() if key not in (*_FACTS, *_RUN)}
            out["origin"] = origin.get("origin") or {"id": record["id"], **origin}
        told = out.get("episode_metadata")
        own = self._own_columns(at)
        if own or told:
            out["episode_metadata"] = {**(told if isinstance(told, dict) else {}), **own}
        split = known.get("split") if record else self._split(at)
        if split is not None:
            out["split"] = split
        if self.task_table is not None:
            out[tasks_.TABLE] = self._table_name
        if self._task_columns:
            out[tasks_.COLUMNS] = list(self._task_columns)
        return out

    def _split(self, at: int) -> str | None:
        names = {name for name, (start, stop) in self._ranges.items() if start <= at < stop}
        return names.pop() if len(names) == 1 else None

    @functools.cached_property
    def _ranges(self) -> Mapping[str, tuple[int, int]]:
        found = self.info.get("splits")
        out = {}
        for name, text in found.items() if isinstance(found, dict) else ():
            match = _RANGE.fullmatch(text) if isinstance(text, str) else None
            if match:
                out[name] = (int(match[1]), min(int(match[2]), len(self.numbers)))
        return out

    def _own_columns(self, at: int) -> dict[str, Json]:
        if not self.is_v3:
            row = self._episode_lines[at]
            return {key: value for key, value in row.items() if key not in meta.OWN_COLUMNS}
        values = {name: self._table[name][at].as_py() for name in self._other_columns}
        return {name: _plain(value) for name, value in values.items() if value is not None}

    @functools.cached_property
    def _other_columns(self) -> list[str]:
        names = [name for name in self._table.column_names if name not in meta.OWN_COLUMNS]
        return [name for name in names if not name.startswith(_OWN_PREFIXES)]

    def _recorded(self, at: int) -> dict[str, Any]:
        """The ledger's ``id``, ``split`` and ``meta`` of an episode, or nothing."""
        row = self._ledger.get(at)
        if row is None or self._source_ids is None or self._source_ids[at] != row[0]:
            return {}
        try:
            facts = strict_json.loads(row[2].encode(), name="meta")
        except (DataError, AttributeError, UnicodeEncodeError):
            return {}
        return {"id": row[0], "split": row[1], "meta": facts} if isinstance(facts, dict) else {}

    @functools.cached_property
    def _source_ids(self) -> list[Any] | None:
        return self._table[meta.SOURCE_ID].to_pylist() if meta.SOURCE_ID in self._table.column_names else None

    @functools.cached_property
    def _ledger(self) -> Mapping[int, tuple[Any, Any, Any]]:
        """Position -> id, split and meta of the ledger's published episodes; nothing where there is no ledger."""
        names = ("output_index", "id", "split", "meta")
        try:
            table = self.files.parquet(f"{SIDECAR}/ledger.parquet", lambda name: name in names)
            rows = zip(*(table[name].to_pylist() for name in names), strict=True)
        except (UsageError, KeyError):
            return {}
        return {place: (rest[0], rest[1], rest[2]) for place, *rest in rows if place is not None}

    @functools.cached_property
    def _episode_lines(self) -> Sequence[dict[str, Any]]:
        return self.files.lines("meta/episodes.jsonl")

    # -- tasks --------------------------------------------------------------------------------------

    @functools.cached_property
    def tasks(self) -> Mapping[int, str]:
        """``task_index`` -> instruction."""
        try:
            if not self.is_v3:
                rows = self.files.lines("meta/tasks.jsonl")
                pairs = [(row["task_index"], row["task"]) for row in rows]
            else:
                table = self.files.parquet("meta/tasks.parquet", lambda _: True)
                text = "task" if "task" in table.column_names else "__index_level_0__"
                pairs = list(zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True))
        except (KeyError, TypeError):
            raise UsageError("E141", "the tasks are no list of task_index and task") from None
        tasks = {number: task for number, task in pairs if isinstance(number, int) and isinstance(task, str)}
        if len(tasks) != len(pairs):
            raise UsageError("E141", "the tasks are not a text for each of different numbers")
        return tasks

    @functools.cached_property
    def task_table(self) -> tuple[str, ...] | None:
        """The tasks by number, where they are numbered as lerobot does."""
        return tasks_.ordered(self.tasks)

    @functools.cached_property
    def _table_name(self) -> str:
        return tasks_.name_of(self.task_table or ())

    @functools.cached_property
    def _task_columns(self) -> tuple[str, ...]:
        """Columns of integers that ``meta/modality.json`` declares as annotations."""
        try:
            named = tasks_.annotation_columns(self.files.json("meta/modality.json"))
        except UsageError:
            return ()
        features = self.info["features"]
        return tuple(n for n in named if "int" in str(features.get(n, {}).get("dtype")) and n not in _INDEXES)


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


def _is_wanted(column: str) -> bool:
    return not column.startswith("stats/")


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> Json:
    """A cell as JSON can say it: what is no finite number, text, list or table of these is given as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.hex() if isinstance(value, bytes) else str(value)

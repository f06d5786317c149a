"""Reads LeRobot datasets: v3.0, v2.1 and v2.0, images and video, offline and never outside of their root.

What ``info.json`` says is checked against what is there: an episode whose rows or frames are missing is
quarantined. Instructions may differ from step to step; then the episode has an array ``task``. Columns of numbers
that ``info.json`` does not name are kept as features without convention.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from converters import lerobot_meta as meta
from vla_data import images
from vla_data.core import Episode, EpisodeRef, Feature, Json, Schema
from vla_data.errors import DataError, UsageError
from vla_data.frames import Frames, Stored
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show

VERSIONS: Final = ("v3.0", "v2.1", "v2.0")
_V2_DATA: Final = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_V2_VIDEO: Final = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}")
_ID: Final = "episode_{:06d}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an episode lies: rows of a data file, and for each camera the first frame in a video file."""

    number: int
    length: int
    data: str
    videos: Mapping[str, tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class LerobotSource:
    """Reads a LeRobot dataset, episode by episode; only the frames that are looked at are decoded.

    Attributes:
        root: the dataset's folder.
    """

    root: Path = field(repr=False)

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every episode that the metadata lists, in order."""
        return [EpisodeRef(_ID.format(number), place.length << 14) for number, place in self._places.items()]

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 over the digests of the files that the episode lies in, and its number."""
        place = self._place(ref)
        names = [place.data, *(name for name, _ in place.videos.values())]
        digests = [_file_digest(self._path(name), *_facts(self._path(name))) for name in names]
        return hashlib.sha256("\n".join([str(place.number), *digests]).encode()).hexdigest()

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode. See `vla_data.core.Source`."""
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
        declared = self._info["features"]
        ours = self._our_schema
        features: dict[str, Feature] = {}
        for name, frames in episode.frames.items():
            names = ("height", "width", "channels")
            features[name] = Feature(
                dtype="image", shape=(frames.height, frames.width, 3), names=names, convention=ours.get(name, {})
            )
        for name, array in episode.arrays.items():
            if name == "task":
                continue
            own = _flat_names(declared.get(name, {}).get("names"))
            shape = array.shape[1:] or (1,)
            features[name] = Feature(
                dtype="string" if array.dtype.kind == "U" else str(array.dtype),
                shape=shape,
                names=own if own and len(own) == shape[0] else None,
                convention=ours.get(name, {}),
            )
        robot = self._info.get("robot_type")
        return Schema(features=features, fps=float(self._info["fps"]), robot=robot if robot else None)

    # -- metadata -----------------------------------------------------------------------------------

    @functools.cached_property
    def _info(self) -> Mapping[str, Any]:
        info = self._json("meta/info.json")
        version = info.get("codebase_version") if isinstance(info, dict) else None
        if version not in VERSIONS:
            known = ", ".join(VERSIONS)
            raise UsageError("E002", f"LeRobot format {show(version)} is not known; {known} are")
        video = any(f.get("dtype") == "video" for f in info["features"].values())
        known_paths = (meta.DATA_PATH, meta.VIDEO_PATH) if version == "v3.0" else (_V2_DATA, _V2_VIDEO)
        given = (info.get("data_path"), info.get("video_path") if video else known_paths[1])
        if given != known_paths:
            raise UsageError("E122", f"paths {show(given)} are not LeRobot {version}'s")
        for name in info["features"]:
            if not _NAME.fullmatch(name):
                raise UsageError("E122", f"a feature is named {show(name)}")
        return dict(info)

    @functools.cached_property
    def _our_schema(self) -> Mapping[str, Mapping[str, Json]]:
        try:
            schema = self._json("meta/vla_data/schema.json")
            return {name: dict(feature["convention"]) for name, feature in schema["features"].items()}
        except (DataError, UsageError, KeyError, TypeError, AttributeError):
            return {}

    @functools.cached_property
    def _places(self) -> Mapping[int, _Place]:
        rows = self._v3_places() if self._info["codebase_version"] == "v3.0" else self._v2_places()
        places = {place.number: place for place in rows}
        if not places:
            raise UsageError("E003", f"{show(self.root)} lists no episodes")
        return places

    @functools.cached_property
    def _declared_cameras(self) -> Mapping[str, bool]:
        """Each video feature, and whether there is any video of it: some datasets declare cameras they lack."""
        names = [name for name, f in self._info["features"].items() if f.get("dtype") == "video"]
        pattern = "videos/{}/*/*.mp4" if self._info["codebase_version"] == "v3.0" else "videos/*/{}/*.mp4"
        return {name: any(self.root.glob(pattern.format(name))) for name in names}

    def _cameras(self) -> list[str]:
        return [name for name, there in self._declared_cameras.items() if there]

    def _v3_places(self) -> Iterator[_Place]:
        cameras = self._cameras()
        wanted = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        for camera in cameras:
            wanted += [f"videos/{camera}/{key}" for key in ("chunk_index", "file_index", "from_timestamp")]
        for file in sorted((self.root / "meta/episodes").rglob("*.parquet")):
            for row in _parquet(self._path(file.relative_to(self.root).as_posix()), wanted).to_pylist():
                videos = {
                    camera: (
                        meta.VIDEO_PATH.format(
                            video_key=camera,
                            chunk_index=row[f"videos/{camera}/chunk_index"],
                            file_index=row[f"videos/{camera}/file_index"],
                        ),
                        float(row[f"videos/{camera}/from_timestamp"]),
                    )
                    for camera in cameras
                }
                data = meta.DATA_PATH.format(
                    chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
                )
                yield _Place(row["episode_index"], row["length"], data, videos)

    def _v2_places(self) -> Iterator[_Place]:
        chunk = int(self._info.get("chunks_size", 1000))
        for row in self._lines("meta/episodes.jsonl"):
            number = int(row["episode_index"])
            facts = {"episode_chunk": number // chunk, "episode_index": number}
            videos = {camera: (_V2_VIDEO.format(video_key=camera, **facts), 0.0) for camera in self._cameras()}
            yield _Place(number, int(row["length"]), _V2_DATA.format(**facts), videos)

    @functools.cached_property
    def _tasks(self) -> Mapping[int, str]:
        if self._info["codebase_version"] != "v3.0":
            return {int(row["task_index"]): str(row["task"]) for row in self._lines("meta/tasks.jsonl")}
        table = _parquet(self._path("meta/tasks.parquet"), None)
        text = "task" if "task" in table.column_names else "__index_level_0__"
        return dict(zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True))

    def _json(self, name: str) -> Any:
        return strict_json.loads(self._read(name), name=name)

    def _lines(self, name: str) -> list[Any]:
        return [strict_json.loads(line, name=name) for line in self._read(name).splitlines() if line.strip()]

    def _read(self, name: str) -> bytes:
        try:
            return read_file(self.root / name, root=self.root)[0]
        except DataError as error:
            raise UsageError("E003", f"{name} of {show(self.root)}: {error.message}") from None

    def _path(self, name: str) -> Path:
        """A file of the dataset, which must be inside of it whatever links lead there."""
        path = self.root / name
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DataError("E131", f"{name} leads outside of the dataset")
        if not path.is_file():
            raise DataError("E133", f"{name} is not there")
        return path

    def _place(self, ref: EpisodeRef) -> _Place:
        return self._places[int(ref.id.removeprefix("episode_"))]

    # -- one episode --------------------------------------------------------------------------------

    def _episode(self, name: str, place: _Place, sha256: str) -> Episode:
        table = self._rows(place)
        length = len(table)
        if length != place.length:
            raise DataError("E204", f"{length} rows where the metadata says {place.length}")
        if length == 0:
            raise DataError("E207", "the episode has no steps")
        _check_time(table)
        tasks = [self._task(number) for number in _numbers(table, "task_index", length)]
        notes = [f"no_video_of:{name}" for name, there in self._declared_cameras.items() if not there]
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        frames: dict[str, Frames] = {}
        for column in table.column_names:
            if column in meta.INDEX_FEATURES:
                continue
            if table.schema.field(column).type == meta.IMAGE:
                frames[column] = self._images(table[column], column)
                continue
            values = _values(table[column])
            if values is None:
                notes.append(f"column_left_out:{column}")
            else:
                arrays[column] = values
        for camera, (file, start) in place.videos.items():
            frames[camera] = self._video(file, start, length)
        if len(set(tasks)) > 1:
            arrays["task"] = np.asarray(tasks)
        return Episode(
            id=name,
            arrays=arrays,
            frames=frames,
            task=tasks[0],
            index=np.arange(length),
            meta={"source": "lerobot", "source_length": length, "source_sha256": sha256},
            notes=tuple(notes),
        )

    def _rows(self, place: _Place) -> pa.Table:
        try:
            reader = pq.ParquetFile(self._path(place.data), page_checksum_verification=True)
            column = reader.schema_arrow.get_field_index("episode_index")
            if column < 0:
                raise DataError("E206", f"{place.data} has no episode_index")
            leaf = [reader.schema.column(i).path for i in range(len(reader.schema))].index("episode_index")
            groups = [g for g in range(reader.num_row_groups) if _may_hold(reader, g, leaf, place.number)]
            table = reader.read_row_groups(groups)
        except (pa.ArrowException, OSError) as error:
            raise DataError("E105", f"{place.data} is damaged ({type(error).__name__})") from None
        return table.filter(pc.equal(table["episode_index"], place.number))

    def _task(self, number: int) -> str:
        try:
            return self._tasks[number]
        except KeyError:
            raise DataError("E206", f"task {number} is not among the dataset's tasks") from None

    def _images(self, column: pa.ChunkedArray, name: str) -> Frames:
        items: list[Stored] = []
        for item in column.to_pylist():
            data = item["bytes"] if item else None
            if data is None:
                if not item or not item["path"]:
                    raise DataError("E109", f"an image of {name} is empty")
                data = read_file(self._path(item["path"]), root=self.root)[0]
            items.append(data)
        sizes = {(head.height, head.width) for head in map(images.header, items)}  # type: ignore[arg-type]
        if len(sizes) != 1:
            raise DataError("E203", f"images of {name} have {len(sizes)} sizes")
        return Frames(tuple(items), *sizes.pop())

    def _video(self, file: str, start: float, length: int) -> Frames:
        from vla_data import video  # loads a video library, which images need not

        path = self._path(file)
        _, height, width, found = video.describe(path)
        fps = float(self._info["fps"])
        if found and abs(float(found) - fps) > 1e-3 * fps:
            raise DataError("E221", f"{file} has {float(found):g} frames a second, the dataset {fps:g}")
        clip = video.Clip(path, round(start * fps), fps)
        return Frames(clip.frames(length), height, width)


def _may_hold(reader: pq.ParquetFile, group: int, leaf: int, number: int) -> bool:
    stats = reader.metadata.row_group(group).column(leaf).statistics
    return stats is None or not stats.has_min_max or stats.min <= number <= stats.max


def _check_time(table: pa.Table) -> None:
    length = len(table)
    if "frame_index" in table.column_names and not np.array_equal(
        _numbers(table, "frame_index", length), np.arange(length)
    ):
        raise DataError("E221", "frame_index does not count 0, 1, 2, ...")
    if "timestamp" in table.column_names:
        time = np.asarray(table["timestamp"].to_numpy(), dtype=np.float64)
        if not np.isfinite(time).all() or (np.diff(time) <= 0).any():
            at = int(np.argmax(~np.isfinite(time) | np.append(False, np.diff(time) <= 0)))
            raise DataError("E221", f"timestamps do not grow at frame {at}")


def _numbers(table: pa.Table, name: str, length: int) -> np.ndarray[Any, Any]:
    if name not in table.column_names:
        return np.zeros(length, dtype=np.int64)
    return np.asarray(table[name].to_numpy())


def _values(column: pa.ChunkedArray) -> np.ndarray[Any, Any] | None:
    """A column as an array with ``T`` rows, or None for what is no number and no text."""
    kind = column.type
    if column.null_count:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.asarray(column.to_pylist(), dtype=np.str_)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        if not (pa.types.is_floating(inner) or pa.types.is_integer(inner) or pa.types.is_boolean(inner)):
            return None
        array = column.combine_chunks()
        flat = array.flatten().to_numpy(zero_copy_only=False)
        if len(flat) % len(array):
            return None
        values: np.ndarray[Any, Any] = flat.reshape(len(array), -1)
        return values if values.shape[1] > 1 else values[:, 0]
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.to_numpy())
    return None


def _flat_names(names: Any) -> tuple[str, ...] | None:
    """``names`` of a feature, which is a list, or in older datasets a dictionary of lists."""
    if isinstance(names, dict):
        lists = [value for value in names.values() if isinstance(value, list)]
        names = lists[0] if len(lists) == 1 else None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _parquet(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UsageError("E003", f"{path.name} can't be read ({type(error).__name__})") from None


def _facts(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


@functools.lru_cache(maxsize=64)
def _file_digest(path: Path, _mtime: int, _size: int) -> str:
    """Each file is hashed once a process, however many episodes lie in it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

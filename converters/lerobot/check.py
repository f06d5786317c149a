"""A second look at LeRobot datasets of ours, v3.0 or v2.1: everything that can be computed again, is.

It shares no code with the writer but the statistics themselves: files are read as a stranger's, in the order in
which readers find them, episode by episode, so that memory stays at one episode and the numbers of each frame.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from converters.lerobot import check_info as infos
from converters.lerobot import check_numbers as numbers
from converters.lerobot import check_v21 as older
from converters.lerobot import tasks as lerobot_tasks
from converters.lerobot.check_videos import Piece, Track
from converters.lerobot.data_files import MAX_EPISODE
from converters.lerobot.files import MAX_TABLE
from converters.lerobot.stats import ArrayStats, VectorTotals, array_stats
from vla_data.core import Array, Json
from vla_data.core.content import content_digest
from vla_data.core.ledger import Record
from vla_data.errors import DataError
from vla_data.files import arrow
from vla_data.files.tables import check_rows, open_parquet, read_groups, read_whole
from vla_data.media import images
from vla_data.media.frames import Frames
from vla_data.safety.text import show
from vla_data.statistics import QUANTILES, ImageStats, vector_stats
from vla_data.verification.audit import Audit

INFO: Final = "meta/info.json"
STATS: Final = "meta/stats.json"
TASKS: Final = "meta/tasks.parquet"


@dataclass
class LerobotAudit(Audit):
    """Read a dataset whole and compare its parts with each other and with its ledger.

    - Parquet with page checksums; every image is decoded and has its feature's size
    - ``episode_index``, ``frame_index`` and ``index`` count without gaps, ``timestamp`` is ``frame_index / fps``
    - each episode has the length, place, tasks and statistics of its row in ``meta/episodes``, the frames that the
      ledger kept, and the ledger's content digest, and in videos the range of frames that comes next
    - ``stats.json``, ``tasks.parquet`` and ``info.json`` follow from the data, the schema and the recipe
    """

    _vectors: dict[str, VectorTotals] = field(default_factory=dict)
    _maps: dict[str, ArrayStats] = field(default_factory=dict)
    _images: dict[str, ImageStats] = field(default_factory=dict)
    _image_rows: dict[str, list[Mapping[str, Json]]] = field(default_factory=dict)
    _splits: list[str | None] = field(default_factory=list)
    _steps: int = 0
    _is_v3: bool = True
    _used: dict[int, None] = field(default_factory=dict)
    _lossy: bool = False
    _row_file: str = "meta/episodes"
    _tracks: dict[str, Track] = field(default_factory=dict)

    def examine(self) -> None:
        """See `Audit`."""
        info = self.read_object(INFO)
        # By the schema: a damaged info.json alone is to blame for itself.
        options = infos.sink_options(self.root)
        self._is_v3 = infos.is_v3(self.root, options)
        stats = self.read_object(STATS) if self._is_v3 else None
        self._tasks = self._read_tasks()
        cameras = infos.cameras(self.root, self.schema, options)
        self._features: Mapping[str, Json] = infos.features(self.schema, videos=cameras, v3=self._is_v3)
        self._videos = [name for name, f in self._features.items() if f.get("dtype") == "video"]
        published = self.published()
        self._steps = sum(record.frames("kept") for record in published)
        self._splits = [record.split for record in published]
        self._tracks = {name: Track(self.root, name) for name in self._videos}
        rows, tables = self._rows(), self._tables()
        for record, row, found in itertools.zip_longest(published, rows, tables):
            if record is None:
                self.blame("." if found is None else found[0], "it has more episodes than the ledger")
                break
            file = found[0] if found else "data"
            if found is None:
                self.blame(file, "the episode is not there", record.id)
                continue
            try:
                self._episode(record, row, *found)
            except Exception as error:  # whatever a damaged table makes of the code above
                self.blame(
                    file,
                    f"can't be examined ({type(error).__name__}: {show(error, escaped=True)[:100]})",
                    record.id,
                )
            self.episodes += 1
            self.frames += len(found[1])
        if info is not None:
            self._compare_info(info, options)
        if stats is not None:
            self._compare_stats(stats)
        own = {r.meta.task_table if r.meta.source == "lerobot" else None for r in published}
        if self._tasks is not None and not lerobot_tasks.is_right(self._tasks, own, self._used):
            self.blame(TASKS, "the tasks are not those of the source, or of the episodes as they first appear")
        for name in self._videos:
            self._examine_videos(name)

    def _read_tasks(self) -> list[str] | None:
        """The instructions by number, or None where it is told already that they can't be read."""
        if not self._is_v3:
            return older.tasks(self)
        try:
            table = read_whole(self.root / TASKS, root=self.root, max_bytes=MAX_TABLE)
            if table["task_index"].to_pylist() != list(range(len(table))):
                self.blame(TASKS, "task_index is not 0, 1, 2, ...")
            return [str(task) for task in table["task"].to_pylist()]
        except (pa.ArrowException, OSError, KeyError, DataError) as error:
            self.blame(TASKS, f"can't be read ({type(error).__name__})")
            return None

    def _files(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))

    def _batches(self, pattern: str) -> Iterator[tuple[str, pa.Table]]:
        """(file, row group) of all Parquet files that match."""
        for path in self._files(pattern):
            name = path.relative_to(self.root).as_posix()
            try:
                reader = open_parquet(path, root=self.root)
                check_rows(reader.metadata, path)
                for group in range(reader.num_row_groups):
                    yield name, read_groups(reader, [group], max_bytes=MAX_EPISODE)
            except (pa.ArrowException, OSError, DataError) as error:
                self.blame(name, f"can't be read ({type(error).__name__}: {show(error, escaped=True)[:100]})")

    def _rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self._is_v3:
            self._row_file = older.EPISODES
            yield from older.rows(self)
            return
        for name, table in self._batches("meta/episodes/*/*.parquet"):
            self._row_file = name
            for row in table.to_pylist():
                yield name, row

    def _tables(self) -> Iterator[tuple[str, pa.Table]]:
        """(file, rows) of each episode, however the file is cut into row groups."""
        last: tuple[str, pa.Table] | None = None
        for name, table in self._batches("data/*/*.parquet"):
            index = arrow.to_numpy(table["episode_index"])
            cuts = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(table)]
            for start, stop in itertools.pairwise(cuts):
                piece = table.slice(start, stop - start)
                if last and last[0] == name and last[1]["episode_index"][-1] == piece["episode_index"][0]:
                    piece = pa.concat_tables([last[1], piece])
                elif last:
                    yield last
                last = name, piece
        if last:
            yield last

    def _episode(self, record: Record, row: tuple[str, dict[str, Any]] | None, file: str, table: pa.Table) -> None:
        """One episode's rows against its metadata and its record."""
        n = len(table)

        def wrong(problem: str, where: str = file) -> None:
            self.blame(where, problem, record.id)

        if n != record.frames("kept"):
            wrong(f"{n:,} rows, but the ledger kept {record.frames('kept'):,} frames")
        counted = {
            "episode_index": np.full(n, self.episodes),
            "frame_index": np.arange(n),
            "index": np.arange(self.frames, self.frames + n),
            "timestamp": (np.arange(n) / self.schema.fps).astype(np.float32),
        }
        for name, want in counted.items():
            if not np.array_equal(arrow.to_numpy(table[name]), want):
                wrong(f"{name} is not what counting gives")
        index = table["task_index"].to_pylist()
        self._used |= dict.fromkeys(index)
        known = self._tasks or ()
        told = list(row[1].get("tasks") or ()) if row else []
        tasks = (
            [known[i] if 0 <= i < len(known) else "" for i in index] if self._tasks is not None else told[:1] * n
        )
        stats: dict[str, Json] = {}
        arrays: dict[str, Array] = {}
        encoded: dict[str, list[bytes]] = {}
        for name, feature in self._features.items():
            if feature["dtype"] == "image":
                encoded[name] = table[name].combine_chunks().field("bytes").to_pylist()
                stats[name] = self._examine_images(name, encoded[name], feature["shape"], wrong)
            elif feature["dtype"] != "video":
                values = numbers.array(table, name, feature)
                if name in self.schema.features:
                    arrays[name] = values
                if values.dtype.kind in "biuf" and values.ndim <= 2:
                    stats[name] = vector_stats(values)
                    width = values.size // max(len(values), 1)
                    self._vectors.setdefault(name, VectorTotals(width)).add(values)
                elif values.dtype.kind in "biuf":
                    stats[name] = numbers.as_stored(array_stats(values), feature)
                    self._maps.setdefault(name, ArrayStats(self._steps, values.shape[1:])).add(values)
        if row is None:
            wrong("the episode has no row", self._row_file)
            return
        shown = {name: track.take(n) for name, track in self._tracks.items()}
        for name, piece in shown.items():
            encoded[name] = piece.packets
        readable = all(track.readable for track in self._tracks.values())
        if readable and content_digest(json.dumps(tasks), arrays, encoded) != record.content_sha256:
            # Of one task, as nearly all have.
            if content_digest(json.dumps(told * n), arrays, encoded) == record.content_sha256:
                wrong("the task of the episode's frames is another", TASKS)
            else:
                wrong("the content is not that of the ledger's digest")
        if not self._is_v3:
            stats = {name: facts for name, facts in stats.items() if older.has_stats(name, self._features)}
        self._compare_row(record, *row, file, n, list(dict.fromkeys(tasks)), stats)
        if readable:
            self._compare_tracks(record, *row, shown)

    def _examine_images(
        self, name: str, data: Sequence[Any], shape: Sequence[int], wrong: Any
    ) -> dict[str, Json] | None:
        try:
            for t, item in enumerate(data):
                head = images.header(item)
                if [head.height, head.width] != list(shape[:2]):
                    wrong(f"{name} of step {t} has {head.height}x{head.width} pixels, not {shape[0]}x{shape[1]}")
                    return None
                self._lossy |= head.encoding == "jpeg"
            counted = ImageStats.of(Frames(tuple(data), shape[0], shape[1]))
        except (DataError, TypeError) as error:
            wrong(f"{name}: {error.message if isinstance(error, DataError) else 'a step has no image'}")
            return None
        self._images[name] = self._images[name] + counted if name in self._images else counted
        return counted.to_json()

    def _compare_row(
        self,
        record: Record,
        where: str,
        row: Mapping[str, Any],
        file: str,
        length: int,
        tasks: Sequence[str],
        stats: Mapping[str, Json],
    ) -> None:
        place: dict[str, Any] = {
            "chunk_index": row.get("data/chunk_index"),
            "file_index": row.get("data/file_index"),
        }
        try:
            named = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet".format(**place)
        except (TypeError, ValueError):
            named = ""
        want = {
            "episode_index": (row.get("episode_index"), self.episodes),
            "length": (row.get("length"), length),
            "tasks": (row.get("tasks"), list(tasks)),
            "dataset_from_index": (row.get("dataset_from_index"), self.frames),
            "dataset_to_index": (row.get("dataset_to_index"), self.frames + length),
            "data/chunk_index and data/file_index": (named, file),
            "vla_data/source": (row.get("vla_data/source"), record.id),
        }
        if not self._is_v3:
            want = {name: want[name] for name in older.KEYS}
            want["the file's number"] = (older.number(file), self.episodes)
        for name, (found, expected) in want.items():
            if found != expected:
                self.blame(where, f"{name} is {show(found)[:60]}, not {show(expected)[:60]}", record.id)
        for name, facts in stats.items():
            found = {key: row.get(f"stats/{name}/{key}") for key in (*numbers.MOMENTS, "count", *QUANTILES)}
            is_image = self._features[name]["dtype"] == "image"
            if is_image:
                self._image_rows.setdefault(name, []).append(found)
            if facts is not None and not numbers.fits(found, facts, lossy=is_image and self._lossy):
                self.blame(where, f"the statistics of {show(name)} are not those of the data", record.id)
        for name in self._videos:
            facts = {key: row.get(f"stats/{name}/{key}") for key in (*numbers.MOMENTS, "count", *QUANTILES)}
            self._image_rows.setdefault(name, []).append(facts)
            taken_over = f"statistics_of_source:{name}" in record.notes  # lerobot's own are of some frames
            if not (facts["count"] == [length] or (taken_over and numbers.is_count(facts["count"]))):
                self.blame(where, f"the statistics of {show(name)} are not of {length:,} frames", record.id)

    def _compare_tracks(
        self, record: Record, where: str, row: Mapping[str, Any], shown: Mapping[str, Piece]
    ) -> None:
        """The places in video files that the metadata names against those where the frames are."""
        for name, piece in shown.items():
            if not self._is_v3:
                if (older.number(piece.file), piece.start) != (self.episodes, 0):
                    self.blame(where, f"the frames of {show(name)} are not in a file of their own", record.id)
                continue
            place: dict[str, Any] = {key: row.get(f"videos/{name}/{key}") for key in ("chunk_index", "file_index")}
            try:
                named = infos.VIDEO.format(video_key=name, **place)
            except (TypeError, ValueError):
                named = ""
            if named != piece.file:
                text = f"{show(name)} is said to be in {show(named)[:80]}, not in {piece.file}"
                self.blame(where, text, record.id)
            for key, frame in (("from_timestamp", piece.start), ("to_timestamp", piece.stop)):
                found, want = row.get(f"videos/{name}/{key}"), frame / self.schema.fps
                if not isinstance(found, float) or not abs(found - want) <= numbers.ABSOLUTE * max(1.0, want):
                    text = f"{key} of {show(name)} is {show(found)[:40]}, not {want:g}"
                    self.blame(where, text, record.id)

    def _compare_info(self, info: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        counted: dict[str, Json] = {"total_episodes": self.episodes, "total_frames": self.frames}
        if self._tasks is not None:
            counted["total_tasks"] = len(self._tasks)
        for problem in infos.problems(self.root, info, self.schema, counted, options):
            self.blame(INFO, problem)
        known = [tool for record in self.published() for tool in record.meta.tools]
        if info.get("tools") != ([t for i, t in enumerate(known) if t not in known[:i]] or None):
            self.blame(INFO, "tools are not those of the ledger")
        if not self._right_splits(info.get("splits")):
            self.blame(INFO, f"splits is {show(info.get('splits'))[:60]}, which is not the ledger's")

    def _right_splits(self, found: Any) -> bool:
        """Whether the ranges are those of the splits that have no gaps; others can't be named."""
        want: dict[str, str] = {}
        for name in dict.fromkeys(self._splits):
            own = [i for i, other in enumerate(self._splits) if other == name]
            if name is not None and own == list(range(own[0], own[-1] + 1)):
                want[name] = f"{own[0]}:{own[-1] + 1}"
        return bool(found == want)

    def _compare_stats(self, stats: Mapping[str, Any]) -> None:
        want: dict[str, Any] = {name: counted.to_json() for name, counted in self._vectors.items()}
        if self.frames == self._steps:  # otherwise it is told already that steps are missing
            maps = {name: counted.to_json() for name, counted in self._maps.items()}
            want |= {name: numbers.as_stored(counted, self._features[name]) for name, counted in maps.items()}
        for name, rows in self._image_rows.items():
            exact = name in self._images and not self._lossy
            want[name] = self._images[name].to_json() if exact else numbers.pooled(rows)
        if sorted(stats) != sorted(want):
            self.blame(STATS, "the features are not those of the data")
        for name in sorted(stats.keys() & want.keys()):
            if want[name] is None or not numbers.fits(stats[name], want[name], lossy=False):
                self.blame(STATS, f"the statistics of {show(name)} are not those of the data")

    def _examine_videos(self, name: str) -> None:
        """That every frame of a camera's files can be decoded, and that they are as many as the data has rows."""
        from vla_data.media import packets, video  # loads a video library, which other datasets need not

        total = 0
        height, width = self._features[name]["shape"][:2]
        for path in infos.video_files(self.root, name):
            where = path.relative_to(self.root).as_posix()
            try:
                frames = len(packets.packet_digests(str(path)))
                clip = video.Clip(path, 0)
                if any(clip.frame(t).shape != (height, width, 3) for t in range(frames)):
                    self.blame(where, f"has frames that are not {height}x{width}")
                total += frames
            except DataError as error:
                self.blame(where, error.message)
            except Exception as error:  # FFmpeg's errors are of many classes
                self.blame(where, f"can't be read ({type(error).__name__})")
        if total != self.frames:
            self.blame(f"videos/{name}", f"{total:,} frames for {self.frames:,} rows")

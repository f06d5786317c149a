"""The frames of a LeRobot dataset without their images: what advantages are computed for and joined on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_data.advantages.numbers.flat import Bools, Episodes, Ints
from vla_data.core import Json
from vla_data.core.ledger import FILE
from vla_data.core.manifest import read_manifest
from vla_data.errors import DataError, UsageError
from vla_data.files import arrow
from vla_data.files.sums import hash_file
from vla_data.files.tables import check_rows, open_parquet, read_whole
from vla_data.files.write import data_below
from vla_data.formats.detection import detect
from vla_data.formats.sidecar import open_ledger
from vla_data.names import natural
from vla_data.safety import strict_json
from vla_data.safety.files import is_own, read_file
from vla_data.safety.text import show

SIDE: Final = "meta/vla_data"
_MOST_FPS: Final = 1e6
_MOST_TASKS: Final = 1 << 30
_MOST_FRAMES: Final = 2.0**53
_COLUMNS: Final = ("episode_index", "index", "timestamp", "task_index")
_EPISODE_COLUMNS: Final = ("success", "is_success", "episode_success")


@dataclass(frozen=True, kw_only=True)
class FrameTable:
    """Every frame of a dataset, in the order of its data files; an episode's frames are together and in order.

    Attributes:
        root: the dataset's folder.
        fps: frames per second.
        episodes: how many frames each has.
        numbers: (E,) ``episode_index`` of each.
        index: (N,) LeRobot's ``index`` of each frame.
        timestamp: (N,) float32, as it is stored.
        task: (N,) ``task_index`` of each frame.
        tasks: instruction by ``task_index``.
        columns: (N,) arrays of the columns that were asked for.
        features: names of the features that ``info.json`` declares.
        files: data files, relative, in order.
    """

    root: Path = field(repr=False)
    fps: float
    episodes: Episodes
    numbers: Ints
    index: Ints
    timestamp: NDArray[np.float32]
    task: Ints
    tasks: Mapping[int, str]
    columns: Mapping[str, NDArray[Any]]
    features: frozenset[str]
    files: tuple[str, ...]

    @classmethod
    def read(cls, root: Path, columns: Sequence[str] = ()) -> FrameTable:
        """Read a LeRobot dataset (v3.0, v2.1, v2.0) and, for every frame, more ``columns`` of numbers.

        Raises:
            UsageError: E003 when there is no such dataset, or a column is not in it.
            DataError: E204 when its rows are not whole episodes, each frame once and in order; E105, E107, E141 or
                E203 for a file that can't be read or has something else.
        """
        if (kind := detect(root)) != "lerobot":
            way = f"vla-data convert {show(root)} OUT makes one of it"
            raise UsageError("E002", f"{show(root)} is no LeRobot dataset but {kind}; {way}")
        info = _json(root, "meta/info.json")
        if not isinstance(info, dict) or not isinstance(info.get("features"), dict) or "fps" not in info:
            raise UsageError("E003", f"{show(root)} has no LeRobot meta/info.json")
        fps = info["fps"]
        if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < _MOST_FPS:
            raise UsageError("E221", f"meta/info.json has an fps of {show(fps)[:40]}")
        missing = [name for name in columns if name not in info["features"]]
        if missing:
            raise UsageError("E003", f"the dataset has no column {show(missing[0])}")
        found = sorted((path.relative_to(root).as_posix() for path in root.glob("data/*/*.parquet")), key=natural)
        if not found:
            raise UsageError("E003", f"{show(root)} has no data files")
        wanted = (*_COLUMNS, *columns)
        if "frame_index" in _file(root, found[0]).schema_arrow.names:
            wanted = (*wanted, "frame_index")
        tables = [_table(root, name, wanted) for name in found]
        flat = {name: np.concatenate([arrow.to_numpy(table[name]) for table in tables]) for name in wanted}
        number = _whole(flat, "episode_index")
        try:
            episodes = Episodes.from_numbers(number)
        except ValueError as error:
            raise DataError("E204", f"{error}") from None
        frame = episodes.frame_index()
        # Some v2.0 datasets have no frame_index; their rows are in order if their times are.
        time = flat["timestamp"].astype(np.float64)
        wrong = (
            flat["frame_index"] != frame
            if "frame_index" in flat
            else (np.diff(time, prepend=-1) <= 0) & (frame > 0)
        )
        if wrong.any():
            at = int(np.argmax(wrong))
            raise DataError("E204", f"episode {number[at]}: frames do not count 0, 1, 2, ... at row {at}")
        return cls(
            root=root,
            fps=float(fps),
            episodes=episodes,
            numbers=number[episodes.starts],
            index=_whole(flat, "index"),
            timestamp=flat["timestamp"].astype(np.float32),
            task=_whole(flat, "task_index"),
            tasks=_tasks(root),
            columns={name: flat[name] for name in columns},
            features=frozenset(info["features"]),
            files=tuple(found),
        )

    def __len__(self) -> int:
        return self.episodes.total

    @property
    def episode_index(self) -> Ints:
        """(N,)."""
        return np.asarray(self.episodes.per_frame(self.numbers))

    @property
    def episode_tasks(self) -> Ints:
        """(E,): the task of each episode's first frame."""
        return np.asarray(self.task[self.episodes.starts])

    def rows(self, episode_index: Any, frame_index: Any) -> Ints:
        """The row of each (episode, frame), -1 for what is not in the dataset."""
        wanted, frame = np.asarray(episode_index, dtype=np.int64), np.asarray(frame_index, dtype=np.int64)
        order = np.argsort(self.numbers, kind="stable")
        at = np.clip(np.searchsorted(self.numbers[order], wanted), 0, len(order) - 1)
        episode = order[at]
        known = (self.numbers[episode] == wanted) & (frame >= 0) & (frame < self.episodes.lengths[episode])
        return np.where(known, self.episodes.starts[episode] + frame, -1)

    def digest(self) -> dict[str, Json]:
        """What identifies the data: ``{"kind", "sha256", "episodes", "frames"}``.

        A dataset of ours has the content digest of its manifest; others the SHA-256 over the names and SHA-256 of
        their data files. ``shape`` is that of the episodes' numbers and lengths, whatever the manifest says.
        """
        shape = hashlib.sha256(np.stack([self.numbers, self.episodes.lengths]).astype("<i8").tobytes()).hexdigest()
        try:
            kind, sha256 = "content_digest", str(read_manifest(self.root / SIDE)["content_sha256"])
        except (DataError, KeyError, TypeError):
            lines = "".join(f"{hash_file(self.root / name)}  {name}\n" for name in self.files)
            kind, sha256 = "data_files", hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
        return {
            "kind": kind,
            "sha256": sha256,
            "shape": shape,
            "episodes": len(self.episodes),
            "frames": len(self),
        }

    def success(self, rule: str = "auto") -> tuple[list[bool | None], str]:
        """(E,) whether each episode succeeded, None where nothing says so, and where that was found.

        Args:
            rule: ``episodes:COLUMN`` of the episodes' metadata; ``frames:COLUMN``, true if any frame's is;
                ``ledger``, the success rule that a dataset of ours was curated by; or ``auto``: the first of
                episodes' ``success``, ``is_success``, ``episode_success``; then, where there are ``next.success``
                flags, ``ledger`` and ``frames:next.success``; without them, what the ledger has from sources that
                said it of the whole episode; then ``none``.

        A frame column is never judged by its mean or its first frame: ``next.success`` may be true at the end
        alone.

        Raises:
            UsageError: E003 when what is named is not there, E001 for another rule.
            DataError: E205 for values that are no booleans.
        """
        kind, _, name = rule.partition(":")
        if rule == "auto":
            return self._found_success()
        if kind == "episodes" and name:
            labels = self._episode_labels(name)
        elif rule == "ledger":
            labels = self._ledger_labels()
        elif kind == "frames" and name:
            labels = self._frame_labels(name)
        else:
            raise UsageError(
                "E001", f"--success is {show(rule)!r}; give auto, ledger, episodes:COLUMN or frames:COLUMN"
            )
        if labels is None:
            raise UsageError("E003", f"the dataset has no {show(rule)}")
        return labels, rule

    def _found_success(self) -> tuple[list[bool | None], str]:
        for name in _EPISODE_COLUMNS:
            labels = self._episode_labels(name)
            if labels is not None:
                return labels, f"episodes:{name}"
        # Without flags to judge by, the ledger calls every episode solved of which nobody says that it is not.
        labels = self._ledger_labels(whole="next.success" not in self.features)
        if labels is not None:
            return labels, "ledger"
        labels = self._frame_labels("next.success")
        if labels is not None:
            return labels, "frames:next.success"
        return [None] * len(self.episodes), "none"

    def _episode_labels(self, name: str) -> list[bool | None] | None:
        rows: dict[int, Any] = {}
        lines = self.root / "meta/episodes.jsonl"
        files = data_below(self.root / "meta/episodes", ".parquet")
        if files:
            for path in files:
                relative = path.relative_to(self.root).as_posix()
                if name not in _file(self.root, relative).schema_arrow.names:
                    return None
                table = _table(self.root, relative, ("episode_index", name), optional=True)
                rows |= dict(zip(table["episode_index"].to_pylist(), table[name].to_pylist(), strict=True))
        elif lines.is_file():
            data = _bytes(self.root, "meta/episodes.jsonl")
            items = _lines(data, "episodes.jsonl")
            if not any(name in item for item in items):
                return None
            if not all(isinstance(item.get("episode_index"), int) for item in items):
                raise DataError("E141", "meta/episodes.jsonl has lines without an episode_index")
            rows = {item["episode_index"]: item.get(name) for item in items}
        else:
            return None
        return [_flag(rows.get(int(number)), name) for number in self.numbers]

    def _ledger_labels(self, *, whole: bool = False) -> list[bool | None] | None:
        """What the ledger says; ``whole``: as far as sources said it of the whole episode, where any did."""
        path = self.root / SIDE / FILE
        if not path.is_file():
            return None
        records = open_ledger(self.root).records
        published = [record for record in records if record.status == "published"]
        if whole and all(record.meta.success is None for record in published):
            return None
        known = {one.output_index: one.meta.success if whole else one.success for one in published}
        return [known.get(int(number)) for number in self.numbers]

    def _frame_labels(self, name: str) -> list[bool | None] | None:
        if name in self.columns:
            flags = as_flags(self.columns[name], name)
        else:
            try:
                flags = as_flags(FrameTable.read(self.root, (name,)).columns[name], name)
            except UsageError:
                return None
        return [bool(flag) for flag in np.logical_or.reduceat(flags, self.episodes.starts)]


def as_flags(column: NDArray[Any], name: str) -> Bools:
    """A column of booleans, or of numbers that are all 0 or 1.

    Raises:
        DataError: E205 for anything else.
    """
    if column.dtype == np.bool_:
        return column
    if column.dtype.kind in "iuf" and np.isin(column, (0, 1)).all():
        return np.asarray(column != 0)
    raise DataError("E205", f"{show(name)} is {column.dtype} with values other than 0 and 1")


def _whole(columns: Mapping[str, NDArray[Any]], name: str) -> Ints:
    column = columns[name]
    if column.dtype.kind == "f" and not (np.isfinite(column) & (np.abs(column) < _MOST_FRAMES)).all():
        raise DataError("E203", f"{show(name)} has values that are no whole numbers")
    return column.astype(np.int64)


def _flag(value: Any, name: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        text = f"{show(name)} is a text, {show(repr(value[:40]))}, where true or false (a boolean) is expected"
        raise DataError("E205", text)
    raise DataError("E205", f"{show(name)} is {show(str(value)[:40])}, not true or false")


def _tasks(root: Path) -> Mapping[int, str]:
    name = "meta/tasks.parquet"
    if (root / name).is_file():
        try:
            table = read_whole(root / name, root=root, max_bytes=_MOST_TASKS)
            text = "task" if "task" in table.column_names else "__index_level_0__"
            numbers, texts = (table[column].to_pylist() for column in ("task_index", text))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise DataError("E105", f"{name} can't be read ({type(error).__name__})") from None
    else:
        name = "meta/tasks.jsonl"
        rows = _lines(_bytes(root, name), "tasks.jsonl")
        numbers, texts = [row.get("task_index") for row in rows], [row.get("task") for row in rows]
    try:
        return {int(number): str(task) for number, task in zip(numbers, texts, strict=True)}
    except (TypeError, ValueError, OverflowError):
        raise DataError("E141", f"{name} is no list of tasks") from None


def _lines(data: bytes, name: str) -> list[dict[str, Any]]:
    """The objects of a file with one a line."""
    items = [strict_json.loads(line, name=name) for line in data.splitlines() if line.strip()]
    if not all(isinstance(item, dict) for item in items):
        raise DataError("E141", f"{name} has lines that are no objects")
    return items


def _json(root: Path, name: str) -> Any:
    return strict_json.loads(_bytes(root, name), name=name)


def _bytes(root: Path, name: str) -> bytes:
    try:
        return read_file(root / name, root=root)[0]
    except DataError as error:
        raise UsageError("E003", f"{name} of {show(root)}: {error.message}") from None


def _file(root: Path, name: str) -> pq.ParquetFile:
    path = root / name
    if not is_own(path.resolve(), path, root):
        raise DataError("E131", f"{show(name)} leads outside of the dataset")
    try:
        return open_parquet(path, root=root)
    except (pa.ArrowException, OSError) as error:
        raise DataError("E105", f"{show(name)} can't be read ({type(error).__name__})") from None


def _table(root: Path, name: str, columns: Sequence[str], *, optional: bool = False) -> pa.Table:
    file = _file(root, name)
    missing = [column for column in columns if column not in file.schema_arrow.names]
    if missing:
        raise DataError("E206", f"{show(name)} has no {show(missing[0])}")
    check_rows(file.metadata, root / name)
    try:
        table = file.read(columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DataError("E105", f"{show(name)} can't be read ({type(error).__name__})") from None
    for column in columns:
        kind = table.schema.field(column).type
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        if not plain or (table[column].null_count and not optional):
            raise DataError("E203", f"{show(name)}: {show(column)} is {kind}, not one number in every row")
    return table


def to_text(value: Json) -> str:
    """One line of JSON, equal for equal values."""
    return json.dumps(value, sort_keys=True, allow_nan=False)

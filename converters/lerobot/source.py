"""Reads LeRobot datasets: v3.0, v2.1 and v2.0, images and video, offline and never outside of their root.

What the metadata says is checked against what is there: an episode whose rows or frames are missing is
quarantined. Instructions may differ from step to step; then the episode has an array ``task``. Columns of numbers
or text that ``info.json`` does not name are kept as features without convention.

**Nothing goes without a word.** A column that ``info.json`` declares, or that holds numbers, texts or images, is
read as that, or the episode is refused with the feature, the row and the option that leaves it out. By rule these
are left out with a note: ``column_left_out:<name>`` for one that is neither declared nor any of these, and for one
named ``task``, because ``task_index`` says what the instruction is; ``language_left_out:<name>`` for one that is
declared as language and none of lerobot's two; ``no_column_of:<name>`` and ``no_video_of:<name>`` for what is
declared and not there; ``data_files_of_no_episode:<count>`` for files that the metadata does not list. What was
not asked for is not read, with the note ``left_out:<name>``. Elements lose names that can't be theirs, with
``names_left_out:<name>``.

The rules of values are stated by `converters.lerobot.values` and `converters.lerobot.images`, those of time by
`converters.lerobot.columns` and `converters.lerobot.video`, those of splits and facts by
`converters.lerobot.layout`, those of tasks by `converters.lerobot.tasks`, those of language, subtasks and depth by
`converters.lerobot.language`, `converters.lerobot.subtasks` and `converters.lerobot.depth`, those of files of
others by `converters.lerobot.extra`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from converters.lerobot import columns, data_files, depth, located_images, meta
from converters.lerobot import tasks as lerobot_tasks
from converters.lerobot.evidence import evidence
from converters.lerobot.extra import CARD, ExtraFile, extra_files
from converters.lerobot.features import Contents
from converters.lerobot.layout import SIDECAR, Layout, Place
from converters.lerobot.names import element_names
from converters.lerobot.numbers import read_numbers
from converters.lerobot.outlines import outlines
from converters.lerobot.sizes import digest, folder_size
from converters.lerobot.videos import declared_videos
from vla_data import options as checks
from vla_data.actions.limits import WIDE, check_numbers
from vla_data.core import Episode, EpisodeMeta, EpisodeRef, Feature, Schema
from vla_data.core.base import Columns, RootedSource, refresh
from vla_data.core.ends import Outline
from vla_data.core.wanted import Unwanted
from vla_data.errors import DataError, UsageError
from vla_data.files.write import data_below, machine_errors
from vla_data.media.frames import Frames
from vla_data.media.located import Located
from vla_data.media.video_settings import VideoCopy
from vla_data.safety.files import state_of
from vla_data.safety.text import instruction, show

_ID: Final = "episode_{:06d}"
_AXES: Final = ("height", "width", "channels")


@dataclass(frozen=True, kw_only=True)
class LerobotSource(RootedSource):
    """Reads a LeRobot dataset, episode by episode; only the frames that are looked at are decoded.

    Attributes:
        root: the dataset's folder.
        allow_empty_instruction: accept episodes whose task is an empty text.
        action_limit: largest absolute action value that a robot can mean.
        task: the instruction of steps whose own is empty; None: they are refused.
        leave_out: features, or patterns of the shell, that are not read.
        unwanted: features that the steps of a job drop before anybody looks at them; see `without`.
    """

    root: Path = field(repr=False)
    allow_empty_instruction: bool = False
    action_limit: float = WIDE
    task: str | None = None
    leave_out: tuple[str, ...] = ()
    unwanted: Unwanted = field(default=Unwanted(), repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "leave_out", checks.texts("leave_out", self.leave_out))
        checks.flag("allow_empty_instruction", self.allow_empty_instruction)
        if self.task is not None:
            lerobot_tasks.check_given(self.task)
        object.__setattr__(self, "action_limit", checks.number("action_limit", self.action_limit, low=0))

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: a worker reads the metadata itself, faster than through a pipe."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __repr__(self) -> str:
        """Options that are not given are not named, so that recipes of earlier versions stay what they are."""
        names = [
            "allow_empty_instruction",
            "action_limit",
            *(n for n in ("task", "leave_out") if getattr(self, n)),
        ]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def without(self, unwanted: Unwanted) -> LerobotSource:
        """The same source, which reads nothing of these features."""
        return replace(self, unwanted=unwanted)

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every episode that the metadata lists, in order. Sizes are shares of all files, by number of steps."""
        refresh(self, state_of(self.root / "meta/info.json"), ("_layout", "_metadata"))
        layout = self._layout
        self._check_left_out()
        steps = sum(layout.lengths)
        layout.check_tasks(self.task)
        lerobot_tasks.leave(layout.task_table)
        size = sum(folder_size(self.root / name) for name in ("data", "videos"))
        return [
            EpisodeRef(_ID.format(number), size * length // max(steps, 1))
            for number, length in zip(layout.numbers, layout.lengths, strict=True)
        ]

    def _check_left_out(self) -> None:
        """That each pattern of ``leave_out`` is of a feature that is declared or a column."""
        if not self.leave_out:
            return
        names = [*self._layout.info["features"]]
        with suppress(DataError):  # whoever reads the file tells what is wrong with it
            for file in self._layout.data_files[:1]:
                names += data_files.column_names(self._layout.files.path(file))
        for pattern in self.leave_out:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UsageError(
                    "E003", f"leave_out names {show(pattern)!r}, which is not a feature of the dataset"
                )

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `vla_data.core.base.BaseSource`: of the files that an episode lies in, and of the metadata."""
        about = hash(tuple(state_of(self.root / name) for name in self._metadata))
        state = functools.cache(lambda name: state_of(self.root / name))
        places = {ref.id: self._place(ref) for ref in refs}
        return {
            name: hash((about, state(place.data), *(state(track.file) for track in place.videos.values())))
            for name, place in places.items()
        }

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 over the digests of the files that the episode lies in and of the metadata, and its number."""
        place = self._place(ref)
        digests = [digest(self._layout.files.path(self._data(place)))]
        digests += [digest(self._layout.video(camera, track)) for camera, track in place.videos.items()]
        digests += [f"{name} {digest(self._layout.files.path(name))}" for name in self._metadata]
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
            shape = array.shape[1:] or (1,)
            declared = info["features"].get(name, {})
            unit = {depth.UNIT: depth.unit_of(declared)} if depth.is_declared(declared) else {}
            features[name] = Feature(
                dtype="string" if array.dtype.kind == "U" else str(array.dtype),
                shape=shape,
                names=element_names(declared.get("names"), shape),
                convention={**ours.get(name, {}), **unit},
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

    def videos(self) -> VideoCopy | None:
        """See `BaseSource`."""
        return declared_videos(self._layout)

    def extra_files(self) -> Sequence[ExtraFile]:
        """The files of others beside the dataset's own; see `converters.lerobot.extra`."""
        ours = (self.root / "meta/vla_data/manifest.json").is_file()  # then the card is ours too
        return [file for file in extra_files(self.root) if not (ours and file.path == CARD)]

    # -- metadata -----------------------------------------------------------------------------------

    def columns(
        self, refs: Sequence[EpisodeRef], names: Collection[str] | None
    ) -> Iterator[tuple[str, Columns | DataError]]:
        """See `BaseSource`."""
        return read_numbers(self._layout, [ref.id for ref in refs], names, self._is_left_out)

    def outlines(self, refs: Sequence[EpisodeRef]) -> Mapping[str, Outline]:
        """See `BaseSource`."""
        return outlines(self._layout, refs)

    def evidence(self, ref: EpisodeRef) -> Mapping[str, Sequence[Any] | None]:
        """See `BaseSource`."""
        place = self._place(ref)
        return evidence(self._layout, self._layout.files.path(self._data(place)), place.number)

    def files_of(self, ref: EpisodeRef) -> Sequence[str]:
        """See `BaseSource`."""
        place = self._place(ref)
        return [place.data, *(track.file for track in place.videos.values())]

    def locate_images(self, ref: EpisodeRef, frames: Mapping[str, Frames]) -> Mapping[str, tuple[Located, ...]]:
        """See `BaseSource`."""
        path = self._layout.files.path(self._data(self._place(ref)))
        found = {name: located_images.find(path, name, images) for name, images in frames.items()}
        return {name: items for name, items in found.items() if items is not None}

    @functools.cached_property
    def _layout(self) -> Layout:
        return Layout(self.root, self._is_left_out)

    @functools.cached_property
    def _metadata(self) -> Sequence[str]:
        """The files of metadata that decide about what is read, where they are there."""
        names = [
            "info.json",
            "modality.json",
            "tasks.parquet",
            "tasks.jsonl",
            "episodes.jsonl",
            "subtasks.parquet",
        ]
        paths = [f"meta/{name}" for name in names]
        paths += [f"{SIDECAR}/{name}" for name in ("ledger.parquet", "schema.json")]
        found = [name for name in paths if (self.root / name).is_file()]
        with machine_errors("cannot list the episodes"):
            more = data_below(self.root / "meta/episodes", ".parquet")
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
        tasks = self._tasks(table, place)
        made = Contents(layout, self._is_left_out, time)
        made.add_missing(table, place)
        made.notes += columns.start_notes(table, time, self.leave_out)
        made.notes += [f"rows_in_another_file:{place.data}"] if self._data(place) != place.data else []
        made.notes += layout.notes_on_files
        for column in table.column_names:
            if column not in meta.INDEX_FEATURES and column not in place.videos:
                made.add(column, table[column])
        if "action" in made.arrays:
            check_numbers("action", made.arrays["action"], self.action_limit)
        for camera, track in place.videos.items():
            made.add_video(camera, track, place.number)
        made.add_subtasks()
        if len(set(tasks)) > 1:
            made.arrays["task"] = np.asarray(tasks)
        facts = layout.facts(place.number)
        return Episode(
            id=name,
            arrays=made.arrays,
            frames=made.frames,
            task=tasks[0],
            index=np.arange(length),
            meta=EpisodeMeta(facts, source="lerobot", source_length=length, source_sha256=sha256),
            notes=tuple(made.notes),
        )

    def _rows(self, place: Place, *, only: Sequence[str] = ()) -> pa.Table:
        """The rows of an episode, with all columns, or with those of ``only`` that are there."""
        path = self._layout.files.path(self._data(place))
        return columns.with_time(data_files.rows(path, place.number, only=only), self.leave_out)

    def _data(self, place: Place) -> str:
        """The file with the rows of an episode: the one that the metadata names, or else the one that has them.

        Raises:
            DataError: E204, several others have some.
        """
        if place.number not in self._files_of:
            self._files_of[place.number] = self._find(place)
        return self._files_of[place.number]

    def _find(self, place: Place) -> str:
        files = self._layout.files
        if not self._layout.is_v3:
            return place.data
        with suppress(DataError):  # what is wrong with it is told by whoever reads it
            if data_files.holds(files.path(place.data), place.number):
                return place.data
        found = []
        for name in self._layout.data_files:
            with suppress(DataError):
                if name != place.data and data_files.holds(files.path(name), place.number):
                    found.append(name)
        if len(found) > 1:
            raise DataError(
                "E204", f"{place.data} has no rows of the episode, and {' and '.join(found[:3])} have some"
            )
        return found[0] if found else place.data

    @functools.cached_property
    def _files_of(self) -> dict[int, str]:
        """Episode -> the data file with its rows, as far as they were looked for."""
        return {}

    def _is_left_out(self, name: str) -> bool:
        """Whether nobody wants a feature."""
        return any(fnmatchcase(name, pattern) for pattern in self.leave_out) or name in self.unwanted

    def _instruction(self, text: str) -> str:
        """A task's text, or the one that was given for those without any."""
        if self.task is not None and not text.strip():
            return self.task
        return instruction(text, allow_empty=self.allow_empty_instruction, lines=True)

    def _tasks(self, table: pa.Table, place: Place) -> list[str]:
        """The instruction of each row.

        Raises:
            DataError: E206 for a number that no task has, or where nothing says which of several tasks it is.
        """
        tasks = self._layout.tasks
        if self._layout.lack_of_tasks:
            return [self.task or ""] * len(table)
        if "task_index" not in table.column_names and len(tasks) != 1:
            raise DataError("E206", f"{place.data} has no task_index, and the dataset has {len(tasks):,} tasks")
        numbers = (
            columns.numbers(table, "task_index").tolist() if "task_index" in table.column_names else list(tasks)
        )
        missing = [number for number in numbers if number not in tasks]
        if missing and self.task is None:
            raise DataError(
                "E206", f"task {show(missing[0])[:40]} is not among the dataset's tasks; --task stands in for it"
            )
        told = {n: self._instruction(tasks.get(n, "")) for n in dict.fromkeys(numbers)}
        return (
            [told[number] for number in numbers] if len(numbers) == len(table) else [*told.values()] * len(table)
        )

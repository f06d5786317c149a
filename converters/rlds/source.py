"""Reads RLDS datasets of anybody (https://github.com/google-research/rlds), without TensorFlow or TFDS.

Every feature of the steps is an array or a camera, called by the rule of `converters.rlds.names`; the values are
read by those of `converters.rlds.values`; every other feature of the record is in ``meta.episode_metadata``.

- the instruction is the first of ``language_instruction`` and ``natural_language_instruction``, in the step, the
  observation, the episode's metadata or the episode, or the one that ``instruction`` names. Where it changes
  within an episode there is an array ``task``. ``task`` is taken where there is none, or an empty one
- ``is_terminal`` is ``next.terminated``; a last step (``is_last``) that is not terminal is ``next.truncated``,
  unless the dataset says that itself (``next/truncated``). Without ``is_terminal`` or ``is_last`` nothing is
  concluded. Where ``is_first`` or ``is_last`` contradict the positions, ``meta.recorded_positions`` has the
  steps that they mark, and a note says so
- of a dataset of ours, ``next.*`` that no episode had is left out: RLDS must say how an episode ended, and where
  that was not recorded the values follow from a rule (`converters.rlds.fields`), which is no recording
- ``fps`` is not in RLDS: it is declared, or taken from a dataset of ours
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from converters.rlds import files as rlds_files
from converters.rlds import instruction
from converters.rlds import names as rlds_names
from converters.rlds import own as rlds_own
from converters.rlds import values as rlds_values
from converters.rlds.evidence import evidence
from converters.rlds.example import parse
from converters.rlds.features import Leaf, of_ours
from converters.rlds.steps import read_steps
from vla_data import options as checks
from vla_data.actions.limits import WIDE, check_numbers
from vla_data.core import Array, Episode, EpisodeMeta, EpisodeRef, Feature, Json, Schema
from vla_data.core.base import RootedSource, refresh
from vla_data.errors import DataError, UsageError
from vla_data.files.folders import INFO
from vla_data.safety.files import state_of
from vla_data.safety.text import show

_MAX_FACTS: Final = 1 << 20  # characters of one episode's facts as JSON text, about
_AXES: Final = ("height", "width", "channels")


@dataclass(frozen=True, kw_only=True)
class RldsSource(RootedSource):
    """Reads an RLDS dataset of TFRecord or ArrayRecord files, record by record.

    Attributes:
        root: the version folder, or a folder above it that has no other dataset.
        fps: control rate in steps per second; None: that of a dataset of ours.
        robot: robot type; None: that of a dataset of ours, or unknown.
        task: the instruction of episodes that have none of their own.
        instruction: path of the instruction, in the record or below ``steps``; "": there is none, every task is
            the empty text, or ``task``; None: the first of `rlds_names.INSTRUCTIONS` that is there.
        allow_empty_instruction: keep episodes whose text is empty.
        splits: only these; none: all.
        leave_out: paths of features, or of folders of them, that are not read, for example
            ``steps/observation/x``; each is in the notes.
        action_limit: largest absolute action value that a robot can mean.
        unwanted, unneeded: features and facts that nobody will look at; see `without` and `not_asking`.
    """

    root: Path = field(repr=False)
    fps: float | None = None
    robot: str | None = None
    task: str | None = None
    instruction: str | None = None
    allow_empty_instruction: bool = False
    splits: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    action_limit: float = WIDE
    unwanted: Container[str] = field(default=(), repr=False, compare=False)
    unneeded: Collection[str] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.flag("allow_empty_instruction", self.allow_empty_instruction)
        object.__setattr__(self, "action_limit", checks.number("action_limit", self.action_limit, low=0))
        if self.task is not None and not self.task:
            raise ValueError("task is empty")
        object.__setattr__(self, "splits", tuple(self.splits))
        object.__setattr__(self, "leave_out", tuple(self.leave_out))
        if self.fps is not None:
            object.__setattr__(self, "fps", checks.number("fps", self.fps, low=1e-3, high=1e6))

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: a worker reads the metadata itself."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def without(self, unwanted: Container[str]) -> RldsSource:
        """The same source, which does not read these features and notes them as ``left_out:<name>``."""
        return replace(self, unwanted=unwanted)

    def not_asking(self, facts: Collection[str]) -> RldsSource:
        """See `vla_data.core.base.BaseSource`."""
        return replace(self, unneeded=frozenset(facts))

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `vla_data.core.base.BaseSource`: of the shard and of the files that say what is in it."""
        found = rlds_files.states(self._dataset, rlds_own.FILES)
        return {ref.id: found[self._places[ref.id][0].shard.name] for ref in refs}

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every record, in the order of splits and shards. Ids are ``<split>/<number>``, or those of a ledger of
        ours. Only the lengths of records are read.
        """
        refresh(self, state_of(self._dataset.folder / INFO), [name for name in vars(self) if name[0] == "_"])
        return [
            EpisodeRef(name, place.length, f"{place.shard.name}:{place.offset}:{place.length}")
            for name, (place, _) in self._places.items()
        ]

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 of the record's bytes."""
        return hashlib.sha256(self._data(ref)).hexdigest()

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode. See `vla_data.core.Source`.

        ``meta`` also has ``split``, ``episode_metadata`` (with the declared types in ``episode_metadata_types``),
        ``instruction_feature``, and of a dataset of ours what its ledger knows.
        """
        data = self._data(ref)
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            return self._episode(ref.id, data, sha256)
        except DataError as error:
            error.source_sha256 = sha256
            raise

    def evidence(self, ref: EpisodeRef) -> Mapping[str, Sequence[Any] | None] | None:
        """See `vla_data.core.base.BaseSource`. Of a dataset of ours, what its records say by a rule is none."""
        cameras = [leaf.path for leaf in self._dataset.leaves if leaf.is_camera]
        text = self._instruction.path if self._instruction is not None else ""
        found = evidence(self._data(ref), cameras, text, self.leave_out)
        if self._own is None:
            return found
        return {name: cells for name, cells in found.items() if name in self._own.schema.features}

    def files_of(self, ref: EpisodeRef) -> Sequence[str]:
        """See `vla_data.core.base.BaseSource`."""
        shard = self._dataset.folder / self._places[ref.id][0].shard.name
        return [shard.relative_to(self.root).as_posix()]

    def schema(self, episode: Episode) -> Schema:
        """The features of an episode, with the conventions that a dataset of ours declares.

        Raises:
            UsageError: E231 when the rate is not known.
        """
        ours = self._own.schema if self._own else None
        fps = self.fps if self.fps is not None else (ours.fps if ours else None)
        if fps is None and "fps" not in self.unneeded:
            raise UsageError("E231", "RLDS does not say how many steps a second has; declare it (--fps NUMBER)")
        known = ours.features if ours else {}
        features: dict[str, Feature] = {}
        for name, frames in episode.frames.items():
            shape = (frames.height, frames.width, 3)
            features[name] = Feature(dtype="image", shape=shape, names=_AXES, convention=_convention(known, name))
        for name, array in episode.arrays.items():
            if name == "task":
                continue
            shape = array.shape[1:] or (1,)
            dtype = "string" if array.dtype.kind == "U" else str(array.dtype)
            names = known[name].names if name in known and known[name].shape == shape else None
            features[name] = Feature(dtype=dtype, shape=shape, names=names, convention=_convention(known, name))
        robot = self.robot if self.robot is not None else (ours.robot if ours else None)
        return Schema(features=features, fps=fps or 0.0, robot=robot)

    # -- the dataset --------------------------------------------------------------------------------

    @functools.cached_property
    def _dataset(self) -> rlds_files.Dataset:
        found = rlds_files.load(self.root, splits=self.splits, leave_out=self.leave_out)
        if rlds_own.load(found.folder) is None:
            return found
        return replace(found, leaves=of_ours(found.leaves))

    @functools.cached_property
    def _own(self) -> rlds_own.Own | None:
        return rlds_own.load(self._dataset.folder)

    @functools.cached_property
    def _places(self) -> Mapping[str, tuple[rlds_files.Place, int]]:
        """Id -> place, and number within its split."""
        found: dict[str, tuple[rlds_files.Place, int]] = {}
        counts: dict[str, int] = {}
        for place in rlds_files.places(self._dataset):
            split = place.shard.split
            number = counts.setdefault(split, 0)
            counts[split] += 1
            found[self._id(split, number)] = (place, number)
        if not found:
            raise UsageError("E003", f"{show(self.root)} has no episodes")
        if len(found) != sum(counts.values()):
            raise UsageError("E004", "the ledger names an episode twice")
        if self._own is not None:
            listed = {split: len(self._own.records.get(split, ())) for split in counts}
            if wrong := [split for split in counts if listed[split] != counts[split]]:
                split = wrong[0]
                raise UsageError(
                    "E204",
                    f"the ledger has {listed[split]:,} episodes in {split}, but there are {counts[split]:,}",
                )
        return found

    def _id(self, split: str, number: int) -> str:
        if self._own is not None:
            records = self._own.records.get(split, ())
            if number < len(records):
                return records[number].id
        return f"{split}/{number:06d}"

    @functools.cached_property
    def _steps(self) -> tuple[Leaf, ...]:
        """The leaves of a step that are read, without the instruction."""
        text = self._instruction
        return tuple(
            leaf
            for leaf in self._dataset.leaves
            if leaf.in_steps and leaf.kind != "unread" and (text is None or leaf.path != text.path)
            if _our_name(leaf) not in self._dropped
        )

    @functools.cached_property
    def _dropped(self) -> frozenset[str]:
        """Features that are not wanted; how an episode ended and what it is about is always looked at."""
        leaves = [leaf for leaf in self._dataset.leaves if leaf != self._instruction]
        names = {_our_name(leaf) for leaf in leaves if leaf.in_steps and leaf.kind != "unread"}
        kept = {*rlds_names.ENDS, *rlds_names.POSITIONS, "next.success", "action"}
        return frozenset(name for name in names - kept if name in self.unwanted)

    @functools.cached_property
    def _names(self) -> Mapping[str, str]:
        """Path of a leaf of a step -> our name. The only camera of a dataset of ours has the name that it had."""
        names = {leaf.path: rlds_names.name_of(_below(leaf), is_camera=leaf.is_camera) for leaf in self._steps}
        if self._own is not None:
            cameras = [name for name, f in self._own.schema.features.items() if f.dtype == "image"]
            found = [leaf.path for leaf in self._steps if leaf.is_camera]
            if len(cameras) == 1 and found == ["steps/observation/image"]:
                names[found[0]] = cameras[0]
        rlds_names.check_names(list(names.values()))
        return names

    @functools.cached_property
    def _instruction(self) -> Leaf | None:
        known = self.fps is not None or self._own is not None
        task = "" if self.task is None and "task" in self.unneeded else self.task
        return instruction.find(self._dataset.leaves, self.instruction, task=task, rate_is_known=known)

    @functools.cached_property
    def _facts(self) -> Mapping[str, Leaf]:
        """Name -> leaf of what concerns the whole episode; four names are our own in a dataset of ours."""
        names: dict[str, Leaf] = {}
        for leaf in self._dataset.leaves:
            if leaf.in_steps or leaf.kind == "unread":
                continue
            name = leaf.path.removeprefix("episode_metadata/")
            if name in names:
                raise UsageError("E232", f"two features of an episode are called {show(name)}; leave out one")
            names[name] = leaf
        return names

    # -- one episode --------------------------------------------------------------------------------

    def _data(self, ref: EpisodeRef) -> bytes:
        if ref.id not in self._places:
            raise DataError("E133", f"there is no episode {show(ref.id)}")
        return rlds_files.read(self._dataset, self._places[ref.id][0])

    def _episode(self, name: str, data: bytes, sha256: str) -> Episode:
        place, number = self._places[name]
        record = parse(data)
        notes = [f"left_out:{name}" for name in (*self.leave_out, *sorted(self._dropped))]
        notes += [f"left_out_as_{leaf.dtype}:{leaf.path}" for leaf in self._unread if leaf.dtype]
        notes += [
            f"not_declared:{path}" for path in sorted(set(record) - self._declared) if not self._is_left(path)
        ]
        steps = self._length(record)
        try:
            arrays, frames, more = read_steps(self._steps, self._names, record, steps, widen=self._own is None)
            tasks, said = instruction.texts_of(
                self._instruction,
                record,
                steps,
                task=self.task,
                allow_empty=self.allow_empty_instruction,
                leaves=self._dataset.leaves if self.instruction is None else (),
            )
            notes += [*more, *said]
            if len(set(tasks)) > 1:
                arrays["task"] = rlds_values.text_array(tasks, "the instruction")
            recorded = rlds_values.positions(arrays, steps)
            notes += [f"{key}_differs_from_positions" for key in recorded]
            for feature, array in arrays.items():  # such numbers spoil every statistic and every trainer
                if feature.split(".")[0] == "action":
                    check_numbers(feature, array, self.action_limit)
                elif feature == "observation.state":
                    check_numbers(feature, array)
            rlds_own.restore(self._own, arrays)
            told = {**self._meta(name, record, place.shard.split, number), **self._without_derived(arrays)}
            meta = EpisodeMeta(told, recorded_positions=recorded) if recorded else EpisodeMeta(told)
        except DataError as error:
            error.frames = steps
            raise
        return Episode(
            id=name,
            arrays=arrays,
            frames=frames,
            task=tasks[0],
            index=np.arange(steps),
            meta=EpisodeMeta(meta, source="rlds", source_length=steps, source_sha256=sha256),
            notes=tuple(notes),
        )

    @functools.cached_property
    def _declared(self) -> frozenset[str]:
        """Names that records may have; of a dataset of ours also facts that ``features.json`` leaves out."""
        ours = {f"episode_metadata/{name}" for name in rlds_own.OWN_FACTS} if self._own else set()
        lists = ("", "/ragged_flat_values", "/ragged_row_lengths_0")
        return frozenset(ours | {leaf.path + end for leaf in self._dataset.leaves for end in lists})

    @functools.cached_property
    def _unread(self) -> tuple[Leaf, ...]:
        return tuple(leaf for leaf in self._dataset.leaves if leaf.kind == "unread")

    def _is_left(self, path: str) -> bool:
        """Whether a name of a record belongs to a feature that is not read, which may have several."""
        return any(path == leaf.path or path.startswith(f"{leaf.path}/") for leaf in self._unread)

    def _length(self, record: rlds_values.Record) -> int:
        counts: dict[int, str] = {}
        for leaf in self._dataset.leaves:
            if leaf.in_steps and leaf.kind != "unread" and _our_name(leaf) not in self._dropped:
                count = rlds_values.count_steps(leaf, record)
                if count is not None:
                    counts.setdefault(count, leaf.path)
        if len(counts) > 1:
            listed = ", ".join(f"{show(path)} {count:,}" for count, path in sorted(counts.items())[:3])
            raise DataError("E204", f"features are of different numbers of steps: {listed}")
        steps = next(iter(counts), 0)
        if steps == 0:
            raise DataError("E207", "the episode has no steps")
        return steps

    def _without_derived(self, arrays: dict[str, Array]) -> dict[str, Json]:
        """Take out what was not recorded.

        Returns:
            For ``Episode.meta``: ``solved``, where it can't be seen in ``next.success`` because curation took the
            step that says so. The rules knew it, and would not find it again.
        """
        derived = {name: arrays.pop(name) for name in (self._own.derived if self._own else ()) if name in arrays}
        end = derived.get("next.terminated", derived.get("next.reward"))
        success = arrays.get("next.success")
        if end is None or success is None or not len(end) == end.size == success.size:
            return {}
        solved = bool(end[-1])
        return {"solved": solved} if solved != bool(success.reshape(-1)[-1]) else {}

    def _meta(self, name: str, record: rlds_values.Record, split: str, number: int) -> EpisodeMeta:
        feature = self._instruction and _below(self._instruction)
        if self._own is not None:
            path = record.get("episode_metadata/file_path")
            if path is None or [bytes(item) for item in path.strings()] != [
                name.encode("utf-8", "surrogateescape")
            ]:
                raise DataError("E204", "the record is not that of the episode that the ledger has in its place")
            said = {} if self._own.is_undivided else {"split": split}  # nobody ever said so
            return EpisodeMeta({**said, **self._own.facts(split, number)}, instruction_feature=feature)
        facts = {key: rlds_values.fact(leaf, record) for key, leaf in self._facts.items()}
        if sum(len(str(value)) for value in facts.values()) > _MAX_FACTS:
            raise DataError("E107", "episode_metadata is too large; leave some of it out (--leave-out PATH)")
        meta = EpisodeMeta(split=split, instruction_feature=feature)
        if not facts:
            return meta
        types = {
            key: leaf.dtype
            for key, leaf in self._facts.items()
            if not leaf.shape and not leaf.lists and not leaf.optional
        }
        return EpisodeMeta(meta, episode_metadata=facts, episode_metadata_types=types)


def _our_name(leaf: Leaf) -> str:
    return rlds_names.name_of(_below(leaf), is_camera=leaf.is_camera)


def _below(leaf: Leaf) -> str:
    return leaf.path.removeprefix("steps/")


def _convention(known: Mapping[str, Feature], name: str) -> Mapping[str, Json]:
    return known[name].convention if name in known else {}

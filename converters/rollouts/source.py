"""PPO rollouts: one ``.npz`` or ``.npy`` file an episode, as RL4VLA's collectors and their forks write them.

A file holds a pickled dictionary (in the npz member ``arr_0`` or a 0-d object array), or the same keys as
plain arrays (what ``vla-data sanitize`` writes):

    image        T or T+1 images: PIL images, arrays, JPEG or PNG bytes; before each action, and the last
    action       (T, 7): translation (m), rotation (rad), gripper (+1 open, -1 closed); of others see action_size
    info         T dictionaries with at least ``success``
    instruction  text
    state        T or T+1 rows, optional; other keys are read by `converters.rollouts.extra`

**Info timing.** ``info[t]`` is what the environment said after action ``t``, except in the files of RL4VLA's
motion planner, which record it before. ``info_timing="auto"`` decides for each file by the first of these
that applies, and records which one did:

1. ``elapsed_steps`` counts 1, 2, ..., T: after. It counts 0, 1, ..., T-1: before. (With T of 2 or more.)
2. T+1 images: after.
3. The key ``is_image_encode`` (only the motion planner writes it): before.
4. Otherwise: after.

With "before", ``success_after[t]`` is ``info[t + 1]``'s. The last one is not in the file: it is True if the
file's name starts with ``success_`` (the motion planner names so what ended in success), else False.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from converters.rollouts.evidence import evidence
from converters.rollouts.extra import read_extra
from converters.rollouts.fields import (
    is_true,
    next_fields,
    read_action,
    read_fps,
    read_info,
    read_instruction,
    read_state,
)
from converters.rollouts.files import LocalFiles, RemoteFiles
from converters.rollouts.images import Allowed, read_images
from converters.rollouts.members import NotARolloutError, load_members
from converters.rollouts.recorded import is_described, read_recorded, recorded_schema
from vla_data import options as checks
from vla_data.actions.convention import MAX_SIZE
from vla_data.core import Episode, EpisodeMeta, EpisodeRef, Feature, Schema
from vla_data.core.base import RootedSource
from vla_data.core.notes import LEFT_OUT
from vla_data.errors import DataError, UsageError
from vla_data.files.folders import APPLE_DOUBLE, is_litter
from vla_data.files.sums import SEAL
from vla_data.media.frames import Frames
from vla_data.media.images import MAX_SIDE
from vla_data.names import natural
from vla_data.recording.npz import ACTION_CONVENTION, ACTION_NAMES
from vla_data.recording.recorded import HEADER
from vla_data.safety import text

if TYPE_CHECKING:
    from vla_data.remote.storage import Storage

InfoTiming = Literal["auto", "after", "before"]

SUFFIXES: Final = (".npz", ".npy")
DEFAULT_FPS: Final = 5.0
CONVENTION: Final = ACTION_CONVENTION
ACTION_LIMIT: Final = 100.0
_NAMED: Final = 8
_STATE: Final = "observation.state"


@dataclass(frozen=True, kw_only=True, repr=False)
class PpoRolloutSource(RootedSource):
    """Reads a folder (with its subfolders) of rollout files, or one file.

    Attributes:
        root: the folder or file; or the `vla_data.remote.storage.Storage` of one, from which rollouts are
            read one by one and never copied.
        info_timing: whether ``info[t]`` holds "after" or "before" action ``t``; "auto" as stated above.
        fps: control rate of the collector, steps per second; None: what the file says (`vla_data.RolloutWriter`
            writes it), else the 5 Hz of RL4VLA's environments.
        camera: name of the camera in ``observation.images.<camera>``.
        image_size: ``(height, width)`` that every image must have, or None.
        allow_images: fixes that may be applied to images: "gray", "rgba" (alpha is dropped), "chw".
        task: the instruction of episodes that have none of their own.
        allow_empty_instruction: keep episodes without a text.
        action_limit: largest absolute action value that a robot can mean. The default is for metres and radians;
            for recorded actions that are not said to be of these it is 1e6.
        action_size: numbers of an action. Seven are those of RL4VLA's collectors; what others are is undeclared.
        max_episodes: read only the first so many files.
        unwanted: features that nobody will look at; see `without`.
        outcomes: also give ``next.reward``, ``next.terminated``, ``next.truncated`` and ``next.done``, where the
            infos have them.
        info: also give what else the infos say, as ``info.<key>``; episodes of collectors that record unlike keys
            then don't fit into one dataset.
    """

    root: Path | Storage = field(repr=False)
    info_timing: InfoTiming = "auto"
    fps: float | None = None
    camera: str = "primary"
    image_size: tuple[int, int] | None = None
    allow_images: frozenset[Allowed] = frozenset()
    task: str | None = None
    allow_empty_instruction: bool = False
    action_limit: float = ACTION_LIMIT
    action_size: int = len(ACTION_NAMES)
    max_episodes: int | None = None
    outcomes: bool = True
    info: bool = False
    unwanted: Container[str] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.one_of("info_timing", self.info_timing, ("auto", "after", "before"))
        if self.fps is not None:
            object.__setattr__(self, "fps", checks.number("fps", self.fps, low=1e-3, high=1e6))
        object.__setattr__(self, "action_limit", checks.number("action_limit", self.action_limit, low=0))
        checks.whole("action_size", self.action_size, low=1, high=MAX_SIZE)
        if self.image_size is not None:
            if len(self.image_size) != 2:
                raise ValueError(f"image_size is {self.image_size!r}, not a height and a width")
            height, width = (checks.whole("image_size", n, low=1, high=MAX_SIDE) for n in self.image_size)
            object.__setattr__(self, "image_size", (height, width))
        if isinstance(self.allow_images, str):
            raise ValueError(f"allow_images is {self.allow_images!r}, not a list of names")
        allowed = frozenset(checks.one_of("allow_images", name, get_args(Allowed)) for name in self.allow_images)
        object.__setattr__(self, "allow_images", allowed)
        checks.flag("allow_empty_instruction", self.allow_empty_instruction)
        checks.flag("outcomes", self.outcomes)
        checks.flag("info", self.info)
        if self.max_episodes is not None:
            checks.whole("max_episodes", self.max_episodes, low=1)

    def __repr__(self) -> str:
        """Every option in a fixed order; a set has none of its own. A text is named where there is one."""
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.repr}
        if self.task is None:
            del options["task"]
        options["allow_images"] = sorted(self.allow_images)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items())})"

    def without(self, unwanted: Container[str]) -> PpoRolloutSource:
        """The same source, which does not look at these features and notes them as ``left_out:<name>``; a
        rollout's own image, action and info are always read.
        """
        return replace(self, unwanted=unwanted)

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every rollout file below the root by natural order of its relative path; and what a seal misses."""
        found = self._files.sizes(SUFFIXES)
        if found is None:
            raise UsageError("E003", f"{text.show(self.root)} is not there")
        for name in self._files.seal() or ():
            if name.lower().endswith(SUFFIXES):
                found.setdefault(name, 0)  # sealed and gone: reading it says so
        if not found:
            raise UsageError("E003", f"{text.show(self.root)} has no rollouts (.npz, .npy)")
        refs = [_ref(name, size) for name, size in found.items()]
        return sorted(refs, key=lambda ref: natural(ref.id))[: self.max_episodes]

    @property
    def _files(self) -> LocalFiles | RemoteFiles:
        return LocalFiles(self.root) if isinstance(self.root, Path) else RemoteFiles(self.root)

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `vla_data.core.base.BaseSource`: of the file, or of the object that it is."""
        found = self._files.states([ref.where or ref.id for ref in refs])
        return {ref.id: found[ref.where or ref.id] for ref in refs}

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 of the file. See `vla_data.core.Source`."""
        return self._files.read(ref.where or ref.id)[1]

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one rollout. See `vla_data.core.Source`."""
        name = ref.where or ref.id
        files = self._files
        data, sha256 = files.read(name)
        if is_litter(name.rpartition("/")[2]) and data[:4] == APPLE_DOUBLE:
            raise NotARolloutError("E206", "a file of macOS with attributes of another file; it can be removed")
        try:
            seal = files.seal()
            if seal is not None and seal.get(name, sha256) != sha256:
                raise DataError(
                    "E132",
                    f"its SHA-256 is not the one in {SEAL}; get the file back, or remove {SEAL} and seal again",
                )
            return self.parse(ref.id, data, sha256)
        except DataError as error:
            error.source_sha256 = sha256
            raise

    def evidence(self, ref: EpisodeRef) -> Mapping[str, Sequence[Any] | None] | None:
        """See `vla_data.core.base.BaseSource`. Recorded files say themselves what they have."""
        name = ref.where or ref.id
        rollout = load_members(self._files.read(name)[0], ref.id)
        if HEADER in rollout or "action" not in rollout:
            return None
        found = evidence(rollout, self.camera)
        return {key: cells for key, cells in found.items() if key not in self.unwanted}

    def parse(self, name: str, data: bytes, sha256: str) -> Episode:
        """The episode in the bytes of one file.

        Args:
            name: of the file, which becomes the episode's id; its ending says what the file is.
            data: the bytes.
            sha256: of the bytes.

        Raises:
            DataError: the episode can't be used.
        """
        rollout = load_members(data, name)
        if HEADER not in rollout:
            return self._episode(name, rollout, sha256)
        return read_recorded(
            name,
            rollout,
            sha256,
            fps=self.fps,
            outcomes=self.outcomes,
            image_size=self.image_size,
            allow_empty_instruction=self.allow_empty_instruction,
            action_limit=None if self.action_limit == ACTION_LIMIT else self.action_limit,
        )

    def schema(self, episode: Episode) -> Schema:
        """What the arrays and frames of ``episode`` mean."""
        if is_described(episode):
            return recorded_schema(episode, fps=self.fps, info=self.info)
        features: dict[str, Feature] = {}
        for name, frames in episode.frames.items():
            features[name] = Feature(
                dtype="image",
                shape=(frames.height, frames.width, 3),
                names=("height", "width", "channels"),
                convention={"colour": "rgb", "orientation": "as_recorded", "time": "before_action"},
            )
        for name, array in episode.arrays.items():
            if name == "task" or (name.startswith("info.") and not self.info):  # collectors record what they like
                continue
            is_action = name == "action" and array.shape[1:] == (len(ACTION_NAMES),)
            features[name] = Feature(
                dtype=str(array.dtype),
                shape=array.shape[1:] or (1,),
                names=ACTION_NAMES if is_action else None,
                convention=CONVENTION if is_action else {},
            )
        return Schema(features=features, fps=self.fps or episode.meta.fps or DEFAULT_FPS)

    def _episode(self, name: str, rollout: Mapping[str, Any], sha256: str) -> Episode:
        for key in ("action", "image", "info"):
            if key not in rollout:
                has = ", ".join(map(text.show, list(rollout)[:_NAMED]))
                raise DataError("E206", f"missing key {key!r}; the rollout has {has or 'nothing'}")
        notes: list[str] = []
        final: dict[str, Frames | NDArray[Any]] = {}
        action = read_action(rollout["action"], self.action_limit, notes, self.action_size)
        steps = len(action)
        try:
            frames = read_images(
                rollout["image"],
                encoded=is_true(rollout.get("is_image_encode", False)),
                allowed=self.allow_images,
                size=self.image_size,
                notes=notes,
            )
            if len(frames) == steps + 1:
                notes.append("last_image_dropped")
            elif len(frames) != steps:
                raise DataError("E204", f"{len(frames)} images for {steps} actions")
            info = read_info(rollout["info"], steps)
            success = info["success"]
            timing, rule = self._timing(rollout, info.get("elapsed_steps"), len(frames), steps)
            fps = read_fps(rollout.get("fps"))
            if self.fps is not None and fps not in (None, self.fps):
                raise DataError("E221", f"the file says {fps:g} steps a second, not {self.fps:g}")
            told, key = read_instruction(rollout, steps)
            notes += [f"instruction_of:{key}"] if key != "instruction" else []
            tasks = [self._instruction(text) for text in told]
            arrays: dict[str, NDArray[Any]] = {
                "action": action,
                "next.success": _aligned(success, timing, name),
                **(next_fields(info, timing) if self.outcomes else {}),
                # As recorded, before any shift: `Rl4vlaCompat` repeats what was done with that.
                **{f"info.{key}": column for key, column in info.items()},
            }
            if "state" in rollout and _STATE in self.unwanted:
                notes.append(f"{LEFT_OUT}:{_STATE}")
            elif "state" in rollout:
                state = read_state(rollout["state"], steps)
                arrays[_STATE] = state[:steps]
                if len(state) > steps:
                    final[_STATE] = state[steps:]
            others = {name: value for name, value in rollout.items() if name != key}
            extra = read_extra(
                others, steps, allowed=self.allow_images, size=self.image_size, unwanted=self.unwanted
            )
            notes += extra.notes
            if len(set(tasks)) > 1:
                arrays["task"] = np.asarray(tasks)
            final |= extra.final
        except DataError as error:
            error.frames = steps
            raise
        camera = f"observation.images.{self.camera}"
        if len(frames) > steps:
            final[camera] = frames.take([steps])
        return Episode(
            id=name,
            arrays={**extra.arrays, **arrays},
            frames={camera: frames.take(range(steps)), **extra.frames},
            final=final,
            task=tasks[0],
            index=np.arange(steps),
            meta=EpisodeMeta(
                source="ppo_rollout",
                source_length=steps,
                source_sha256=sha256,
                info_timing=timing,
                info_timing_rule=rule,
                motion_planner="is_image_encode" in rollout,
                fps=fps,
            ),
            notes=tuple(notes),
        )

    def _instruction(self, told: str) -> str:
        """A text that can be stored, or the one that was given where there is none."""
        wanted = told if told.strip() or self.task is None else self.task
        return text.instruction(wanted, allow_empty=self.allow_empty_instruction, lines=True)

    def _timing(
        self, rollout: Mapping[str, Any], counter: NDArray[Any] | None, images: int, steps: int
    ) -> tuple[Literal["after", "before"], str]:
        if self.info_timing != "auto":
            return self.info_timing, "declared"
        if counter is not None and counter.dtype.kind in "iu" and steps > 1:
            # A 1-step episode at 1 is "after"; an aliased counter (all values alike) matches neither.
            if np.array_equal(counter, np.arange(1, steps + 1)):
                return "after", "elapsed_steps"
            if np.array_equal(counter, np.arange(steps)):
                return "before", "elapsed_steps"
        if images == steps + 1:
            return "after", "last_image"
        if "is_image_encode" in rollout:
            return "before", "motion_planner"
        return "after", "default"


def _ref(name: str, size: int) -> EpisodeRef:
    plain = text.portable(name)
    return EpisodeRef(plain, size, "" if plain == name else name)


def _aligned(success: NDArray[np.bool_], timing: str, name: str) -> NDArray[np.bool_]:
    if timing == "after":
        return success
    return np.append(success[1:], Path(name).name.startswith("success_"))

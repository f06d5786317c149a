"""Rollouts of ript-vla, read from pickles without running anything. See `converters.ript.layout` for the files.

An episode has one of two forms:

- of `LiberoRunner_rl` (QueST): ``actions`` (T, 7), every observation (T+1, ...), under the environment's own
  keys, ``agentview_rgb`` and so on; tokens of each inference, which are no steps and are left out;
- of `OpenVLAOFTLiberoRunner`: a list for each key, with an item an *inference*: the first action of a chunk of 8
  and what was seen before it; the chunk as the policy gave it (``actions_normalized``), and its log-probability.
  After success the items are fillers (``valid`` is False), and are not read.

The files do not say what actions mean and, but for OpenVLA-OFT, what the instruction is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.ript import layout
from converters.ript.layout import ACTIONS, CHUNKS, Told
from converters.rollouts.images import read_images
from converters.rollouts.pickled import (
    SUFFIXES,
    Pickles,
    array_of,
    check_finite,
    described,
    flag,
    narrow,
    rows,
    steps_of,
)
from vla_data import options as checks
from vla_data.core import Episode, EpisodeMeta, EpisodeRef, Json, Schema
from vla_data.core.base import refresh
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames
from vla_data.names import natural
from vla_data.safety import unpickle
from vla_data.safety.text import instruction, show

DEFAULT_FPS: Final = 20.0
_OF_INFERENCES: Final = ("context_tokens", "action_indices", "policy_inference_steps")
_FACTS: Final = ("success", "init_hash")
_OFT_CAMERAS: Final = {"full_image": "primary", "wrist_image": "wrist"}


@dataclass(frozen=True, kw_only=True)
class RiptSource(Pickles):
    """Reads a folder (with its subfolders) of pickled rollouts of ript-vla, or one file.

    Attributes:
        root: the folder or file.
        fps: actions per second, which the files do not say; LIBERO has 20.
        task: the instruction of episodes that have none.
        allow_empty_instruction: keep episodes without one.
    """

    root: Path = field(repr=False)
    fps: float = DEFAULT_FPS
    task: str | None = None
    allow_empty_instruction: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "fps", checks.number("fps", self.fps, low=1e-3, high=1e6))
        checks.some_text("task", self.task)
        checks.flag("allow_empty_instruction", self.allow_empty_instruction)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every episode of every pickle, by natural order of the files; one in a list is ``FILE/NUMBER``.

        A file that can't be read is an episode, which says why when it is read.
        """
        found = self._files.sizes(SUFFIXES)
        if found is None:
            raise UsageError("E003", f"{show(self.root)} is not there")
        if not found:
            raise UsageError("E003", f"{show(self.root)} has no files that end in .pkl")
        out = []
        for name in sorted(found, key=natural):
            try:
                told, several = self._told(name)[:2]
            except DataError:
                out.append(EpisodeRef(name, found[name]))
                continue
            ids = [f"{name}/{number:06d}" for number in range(len(told))] if several else [name]
            out += [EpisodeRef(one, found[name] // len(ids)) for one in ids]
        return out

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `vla_data.core.base.BaseSource`."""
        files = {ref.id: _split(ref.id)[0] for ref in refs}
        found = self._files.states(sorted(set(files.values())))
        return {one: found[file] for one, file in files.items()}

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 of the file; of one of several episodes, of that and its number. See `vla_data.core.Source`."""
        file, number = _split(ref.id)
        return _digest(self._files.read(file)[1], number)

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode. See `vla_data.core.Source`."""
        file, number = _split(ref.id)
        sha256 = self._files.read(file)[1]
        try:
            told, several, sha256 = self._told(file)
            if several != (number is not None) or (number or 0) >= len(told):
                raise UsageError("E007", f"the files have no episode {show(ref.id)}")
            return self._episode(ref.id, told[number or 0], _digest(sha256, number))
        except DataError as error:
            error.source_sha256 = _digest(sha256, number)
            raise

    def schema(self, episode: Episode) -> Schema:
        """What the arrays and frames are. Of chunks the rate is that of inferences: of a chunk's first actions."""
        chunk = episode.arrays.get(CHUNKS)
        return described(episode, self.fps if chunk is None else self.fps / chunk.shape[1])

    def _told(self, file: str) -> tuple[list[Told], bool, str]:
        """The episodes of a file, which is read once for all of them in a row."""
        state = self._files.states([file])[file]
        refresh(self, (file, state), ("_read",))
        kept: dict[str, Any] = vars(self)
        if "_read" not in kept:
            data, sha256 = self._files.read(file)
            kept["_read"] = (*layout.episodes(unpickle.loads(data, tensors=True)), sha256)
        found: tuple[list[Told], bool, str] = kept["_read"]
        return found

    # -- one episode --------------------------------------------------------------------------------------------

    def _episode(self, name: str, told: Told, sha256: str) -> Episode:
        notes: list[str] = []
        final: dict[str, Frames | NDArray[Any]] = {}
        text = self.task or ""
        if CHUNKS in told.episode or "valid" in told.episode:
            arrays, frames, said = _inferences(told.episode, notes)
            text = said or text
        else:
            arrays, frames = _steps(told.episode, notes, final)
        steps = len(arrays["action"])
        facts: dict[str, Json] = {}
        init = told.episode.get("init_hash")
        for key, value in (
            ("init_hash", init if isinstance(init, str) and len(init) <= 128 else None),
            ("total_reward", told.reward),
            ("task_id", told.task),
        ):
            if value is not None:
                facts[key] = value
        meta = EpisodeMeta(source="ript", source_length=steps, source_sha256=sha256)
        if told.success is not None:
            meta["success"] = flag(told.success)
            # When it was solved is not said; that it was by its end is.
            arrays["next.success"] = np.arange(steps) == (steps - 1 if meta.success else steps)
        if facts:
            meta["episode_metadata"] = facts
        check_finite(arrays)
        return Episode(
            id=name,
            arrays=arrays,
            frames=frames,
            final=final,
            task=instruction(text, allow_empty=self.allow_empty_instruction),
            index=np.arange(steps),
            meta=meta,
            notes=tuple(notes),
        )


def _split(name: str) -> tuple[str, int | None]:
    """The file and the number of an episode."""
    file, slash, number = name.rpartition("/")
    if slash and file.lower().endswith(SUFFIXES) and number.isdigit():
        return file, int(number)
    return name, None


def _digest(sha256: str, number: int | None) -> str:
    return sha256 if number is None else hashlib.sha256(f"{sha256}\0{number}".encode()).hexdigest()


def _steps(
    told: Mapping[str, Any], notes: list[str], final: dict[str, Frames | NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], dict[str, Frames]]:
    """An episode of QueST: the arrays of its steps, with what was seen after the last one in ``final``."""
    action = rows("actions", steps_of("actions", told[ACTIONS]))
    arrays: dict[str, NDArray[Any]] = {"action": narrow(action)}
    frames: dict[str, Frames] = {}
    for key in sorted(told.keys() - {ACTIONS, *_FACTS}, key=str):
        if not isinstance(key, str):
            raise DataError("E203", f"the episode has the key {show(key)}, which is no text")
        value = array_of(key, told[key])
        if key in _OF_INFERENCES:
            notes.append(f"left_out_as_of_inferences:{key}")
            continue
        if len(value.reshape(-1)) == 0 or value.ndim < 2 or len(value) != len(action) + 1:
            raise DataError("E204", f"{key} has shape {value.shape} for {len(action):,} actions, not one row more")
        if value.dtype == np.uint8 and value.ndim == 4:
            seen = read_images(list(value), encoded=False, allowed=frozenset(), size=None, notes=notes)
            name = f"observation.images.{key}"
            frames[name], final[name] = seen.take(range(len(action))), seen.take([len(action)])
        else:
            arrays[f"observation.{key}"], final[f"observation.{key}"] = value[:-1], value[-1:]
    if final:
        notes.append("last_observation_dropped")
    return arrays, frames


def _inferences(
    told: Mapping[str, Any], notes: list[str]
) -> tuple[dict[str, NDArray[Any]], dict[str, Frames], str]:
    """An episode of OpenVLA-OFT: the arrays of its inferences, and the instruction."""
    lists = {}
    for key in (ACTIONS, CHUNKS, "valid", "log_prob", "observations"):
        if key not in told:
            raise DataError("E206", f"the episode has no {key}")
        lists[key] = steps_of(key, told[key])
    if len({len(found) for found in lists.values()}) != 1:
        counts = ", ".join(f"{len(found):,} {key}" for key, found in lists.items())
        raise DataError("E204", f"an item an inference was expected: {counts}")
    valid = array_of("valid", lists["valid"]).astype(np.bool_).reshape(-1)
    count = int(valid.sum())
    if not count:
        raise DataError("E207", "the episode has no steps")
    if len(valid) != len(lists["valid"]) or not valid[:count].all():
        raise DataError("E205", "valid is True again after it was False")
    if count < len(valid):
        notes.append("fillers_after_success_left_out")
    seen = lists["observations"][:count]
    if not all(isinstance(one, dict) and one.keys() == seen[0].keys() for one in seen):
        raise DataError("E203", "the observations are no dictionaries of the same keys")
    arrays: dict[str, NDArray[Any]] = {
        "action": narrow(rows("actions", lists[ACTIONS][:count])),
        CHUNKS: _chunks(CHUNKS, lists[CHUNKS][:count]),
        "log_prob": _chunks("log_prob", lists["log_prob"][:count]),
    }
    frames = {}
    for key in sorted(seen[0], key=str):
        values = [array_of(show(key), one[key]) for one in seen]
        if key in _OFT_CAMERAS:
            found = read_images(values, encoded=False, allowed=frozenset(), size=None, notes=notes)
            frames[f"observation.images.{_OFT_CAMERAS[key]}"] = found
        elif isinstance(key, str):
            arrays[f"observation.{key}"] = narrow(rows(key, values))
    texts = told.get("task_description")
    text = texts[0] if isinstance(texts, list) and texts else texts
    return arrays, frames, text if isinstance(text, str) else ""


def _chunks(name: str, values: Sequence[Any]) -> NDArray[np.float32]:
    """``(T, chunk, D)``."""
    found = [array_of(name, value) for value in values]
    shapes = {one.shape for one in found}
    if len(shapes) != 1 or found[0].ndim != 2 or not found[0].size:
        raise DataError(
            "E203", f"{name} has shapes {', '.join(map(str, sorted(shapes)))}, not one chunk each time"
        )
    return narrow(np.stack(found))

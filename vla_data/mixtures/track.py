"""One episode as the contract wants it, before rows of it are picked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_data.actions import Convention, convert, resolve
from vla_data.actions.base import base_pose
from vla_data.actions.plausible import implausible
from vla_data.core import Array, Episode, Schema
from vla_data.core.notes import LEFT_OUT
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames
from vla_data.mixtures.config import Entry
from vla_data.mixtures.contract import Contract
from vla_data.safety.text import show
from vla_data.steps.resample import Resample

CAMERA = "observation.images.{}"
STATE_FEATURE = "observation.state"
"""What makes the state, where nothing else is said."""
_UNREAD = f"{LEFT_OUT}:"

STATE, ACTION, TIME, TASK, INDEX = "state", "action", "time", "task", "index"
"""Names of arrays of a track; extras have their own, after ``extra:``."""
EXTRA = "extra:{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """An episode of ``T`` rows.

    Attributes:
        id: of the episode, in its dataset.
        length: ``T``.
        task: the instruction, where it does not change.
        arrays: ``state`` (T, S), ``action`` (T, A) and ``time`` (T,) in float64, seconds; ``index`` (T,), the
            frame of the dataset that each row shows, which is its own number unless rows were resampled; ``task``
            (T,) where the instruction changes; ``extra:<feature>``.
        frames: camera of the contract -> its images; a camera that the dataset lacks is not here.
        size: bytes of memory, about.
    """

    id: str
    length: int
    task: str
    arrays: Mapping[str, Array]
    frames: Mapping[str, Frames]
    size: int

    def task_at(self, row: int) -> str:
        """The instruction of a row."""
        return str(self.arrays[TASK][row]) if TASK in self.arrays else self.task


def make(episode: Episode, schema: Schema, entry: Entry, contract: Contract) -> Track:
    """The track of an episode.

    Raises:
        UsageError: E231 for a convention that nobody declared, E003 for a feature that is not there, E232 for what
            does not fit the contract.
        DataError: this episode can't be used.
    """
    cameras = {
        camera: feature for camera in contract.cameras if (feature := camera_feature(camera, episode, entry))
    }
    state_names = state_features(episode, entry, contract)
    arrays = {name: _array(episode, name) for name in (*state_names, *contract.extras)}
    arrays["action"] = _array(episode, entry.action)
    task = entry.task or ("task" if "task" in episode.arrays else "")
    if task:
        arrays[TASK] = _array(episode, task)
    if entry.time:
        arrays[TIME] = _array(episode, entry.time)
    fps = entry.fps or schema.fps
    entry = replace(entry, state=state_names)
    step = _resampling(schema, entry, contract)
    if step is not None:
        reduced = replace(
            episode, arrays=arrays, frames={name: episode.frames[name] for name in cameras.values()}, final={}
        )
        episode = step.apply(reduced)
        arrays = dict(episode.arrays)
        fps = step.fps
    length = len(episode)
    if length == 0:
        raise DataError("E207", "the episode has no steps")
    state = [_numbers(arrays[name], name) for name in state_names]
    out: dict[str, Array] = {
        STATE: np.concatenate(state, axis=1) if state else np.zeros((length, 0)),
        ACTION: _numbers(arrays["action"], entry.action),
        INDEX: np.asarray(episode.index, dtype=np.int64),
        TIME: _numbers(arrays[TIME], entry.time)[:, 0] if entry.time else np.arange(length) / fps,
    }
    if contract.convention is not None:
        out[ACTION] = _converted(out, entry, contract, schema)
    for name, index in ((STATE, entry.state_index), (ACTION, entry.action_index)):
        if index and max(index) >= out[name].shape[1]:
            raise UsageError("E232", f"{name}_index has {max(index)}; there are {out[name].shape[1]} numbers")
        out[name] = out[name][:, list(index)] if index else out[name]
    if TASK in arrays:
        if arrays[TASK].dtype.kind != "U" or arrays[TASK].ndim != 1:
            raise UsageError("E232", f"{show(task)} is not one text a step")
        out[TASK] = arrays[TASK]
    for name in contract.extras:
        out[EXTRA.format(name)] = arrays[name]
    frames = {camera: episode.frames[feature] for camera, feature in cameras.items()}
    size = sum(array.nbytes for array in out.values()) + sum(map(_bytes_of, frames.values()))
    return Track(id=episode.id, length=length, task=episode.task, arrays=out, frames=frames, size=size)


def camera_feature(camera: str, episode: Episode, entry: Entry) -> str:
    """The feature that a camera of the contract is, or "" where the dataset has none by declaration.

    Raises:
        UsageError: E231 when that is not declared, and no feature has its name.
    """
    if camera in entry.cameras:
        feature = entry.cameras[camera]
        if feature and feature not in episode.frames:
            raise UsageError("E003", f"camera {show(camera)} is {show(feature)}, which the dataset does not have")
        return feature
    for feature in (CAMERA.format(camera), camera):
        if feature in episode.frames:
            return feature
    unread = {note.removeprefix(_UNREAD) for note in episode.notes if note.startswith(_UNREAD)}
    have = ", ".join(map(show, sorted({*episode.frames, *unread}))) or "no images"
    raise UsageError("E231", f'camera {show(camera)} (cameras = {{ {show(camera)} = "" }} is none); {have}')


def state_features(episode: Episode, entry: Entry, contract: Contract) -> tuple[str, ...]:
    """The features that make the state; none where the dataset has nothing that could be one.

    Raises:
        UsageError: E231 when a state is needed, none is declared, and there are features to choose from.
    """
    if entry.state is not None:
        return entry.state
    if STATE_FEATURE in episode.arrays:
        return (STATE_FEATURE,)
    have = sorted(
        name
        for name, array in episode.arrays.items()
        if name.startswith("observation.") and array.dtype.kind in "fiub"
    )
    if have and contract.needs_state:
        raise UsageError("E231", f"state (state = [] is none); there is {', '.join(map(show, have))}")
    return ()


def action_convention(schema: Schema, entry: Entry) -> Convention | None:
    """What the actions of a dataset mean, where it is declared.

    Raises:
        UsageError: E232 when it is declared twice, and not alike.
    """
    feature = schema.features.get(entry.action)
    own = Convention.from_json(feature.convention) if feature is not None and feature.convention else None
    if own is None or not own.layout:
        return entry.convention or own
    if entry.convention is not None and entry.convention != own:
        raise UsageError(
            "E232",
            f"the dataset declares another convention of {show(entry.action)} itself; leave convention out, or "
            "convert it with what is true (--declare)",
        )
    return own


def action_layout(convention: Convention | None) -> tuple[str, ...]:
    """The parts of an action, where they are declared."""
    return () if convention is None else tuple(convention.layout)


def handed_out(schema: Schema, entry: Entry, contract: Contract) -> Convention | None:
    """What actions mean once they are resampled and converted; None where nobody declares it."""
    meaning = _at_rate(schema, entry, contract)
    return meaning if meaning is None or contract.target is None else resolve(meaning, _target(meaning, contract))


def state_conventions(schema: Schema, entry: Entry) -> list[tuple[int, Convention | None]]:
    """Width and declared meaning of each feature of the state."""
    out = []
    for name in entry.state or ():
        feature = schema.features[name]
        own = Convention.from_json(feature.convention) if feature.convention else None
        if entry.state == (name,) and entry.state_convention is not None:
            own = entry.state_convention
        out.append((math.prod(feature.shape), own))
    return out


def doubts(episode: Episode, schema: Schema, entry: Entry) -> list[str]:
    """What actions and states can't be though it is declared of them; see `vla_data.actions.plausible`."""
    meant: dict[str, Convention | None] = {entry.action: action_convention(schema, entry)}
    for name, (_, convention) in zip(entry.state or (), state_conventions(schema, entry), strict=True):
        meant[name] = convention
    return [
        f"{name} {said}"
        for name, convention in meant.items()
        if name in episode.arrays
        for said in implausible(episode.arrays[name], convention)
    ]


def _resampling(schema: Schema, entry: Entry, contract: Contract) -> Resample | None:
    fps = entry.fps or schema.fps
    if contract.resample != "commands" or contract.action_freq in (None, fps):
        return None
    meaning = action_convention(schema, entry)
    facts = {} if meaning is None else {"action": meaning.to_json()}
    of_states = zip(entry.state or (), state_conventions(schema, entry), strict=True)
    facts |= {name: convention.to_json() for name, (_, convention) in of_states if convention is not None}
    return Resample(conventions=facts, source_fps=fps, fps=contract.action_freq or fps)


def _at_rate(schema: Schema, entry: Entry, contract: Contract) -> Convention | None:
    """What actions mean at the contract's rate."""
    meaning, step = action_convention(schema, entry), _resampling(schema, entry, contract)
    if meaning is None or step is None:
        return meaning
    features = {"action": replace(schema.features[entry.action], convention=meaning.to_json())}
    after = step.describe(Schema(features=features, fps=step.source_fps)).features["action"]
    return Convention.from_json(after.convention)


def _target(meaning: Convention, contract: Contract) -> Convention:
    target = contract.target
    if target is None:
        raise AssertionError("the contract has a convention")
    if contract.action_freq is not None and contract.resample == "commands" and meaning.control_rate is not None:
        # The steps are at that rate by now; `rates` reports a label that a convention contradicts.
        target = replace(target, control_rate=meaning.control_rate)
    return target


def _converted(out: Mapping[str, Array], entry: Entry, contract: Contract, schema: Schema) -> NDArray[np.float64]:
    meaning = _at_rate(schema, entry, contract)
    if meaning is None:
        raise UsageError("E231", f"the convention of {show(entry.action)} (convention)")
    of_states = state_conventions(schema, entry)
    of_state = of_states[0][1] if len(of_states) == 1 else None
    state = out[STATE] if entry.state else None
    target = _target(meaning, contract)
    base = base_pose(entry.base) if entry.base else None
    return convert(out[ACTION], meaning, target, state=state, state_convention=of_state, base=base)


def _array(episode: Episode, name: str) -> Array:
    if name not in episode.arrays:
        raise UsageError("E003", f"the dataset has no {show(name)}; it has {', '.join(sorted(episode.arrays))}")
    return episode.arrays[name]


def _numbers(array: Array, name: str) -> NDArray[np.float64]:
    """``(T, D)`` float64.

    Raises:
        UsageError: E232 for what is no number, DataError: E201 for what is not finite.
    """
    if array.dtype.kind not in "fiub":
        raise UsageError("E232", f"{show(name)} is not an array of numbers")
    values = array.reshape(len(array), -1).astype(np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError("E201", f"{name}[{row}][{column}] is not finite")
    return values


def _bytes_of(frames: Frames) -> int:
    sizes = (
        len(item) if isinstance(item, bytes | memoryview) else getattr(item, "nbytes", 64) for item in frames.items
    )
    return sum(sizes)

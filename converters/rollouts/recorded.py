"""Recorded rollouts of any features, in the layout of `vla_data.recording.recorded`, as episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.rollouts.images import read_images
from vla_data.actions.convention import Convention
from vla_data.actions.limits import WIDE, check_numbers
from vla_data.core import Episode, EpisodeMeta, Feature, Json, Schema
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames
from vla_data.recording.recorded import HEADER, IMAGE_CONVENTION, SIZES, Header
from vla_data.safety import text
from vla_data.safety.text import show

RULE: Final = "recorder"
"""``info_timing_rule`` of such an episode: what is called ``next.*`` or ``info.*`` is of after the action."""
METRES: Final = 100.0
"""Largest absolute action in metres and radians that a robot can mean."""
FLAGS: Final = ("next.success", "next.terminated", "next.truncated", "next.done")
OUTCOMES: Final = ("next.reward", "next.terminated", "next.truncated", "next.done")


def is_described(episode: Episode) -> bool:
    """Whether an episode came from here."""
    return episode.meta.info_timing_rule == RULE


def read_recorded(
    name: str,
    members: Mapping[str, Any],
    sha256: str,
    *,
    fps: float | None,
    outcomes: bool,
    image_size: tuple[int, int] | None,
    allow_empty_instruction: bool,
    action_limit: float | None,
) -> Episode:
    """One recorded rollout.

    Args:
        name: the episode's id.
        members: of the file, by name.
        sha256: of the file.
        fps: see `converters.rollouts.source.PpoRolloutSource`.
        outcomes: see there.
        image_size: see there; of every camera.
        allow_empty_instruction: see there.
        action_limit: see there; None: 100 for actions that are said to be metres and radians, else 1e6.

    Raises:
        DataError: E141 for a header that is none, E203, E204, E206 for arrays that are not what it says, E201 and
            E202 for numbers that are not finite or beyond the limit, E221 for another rate than ``fps``.
    """
    head = members[HEADER]
    if not isinstance(head, np.ndarray) or head.dtype.kind != "U" or head.shape != ():
        raise DataError("E141", f"{HEADER} is not a text")
    header = Header.from_text(str(head))
    try:
        return _episode(
            name, members, header, sha256, fps, outcomes, image_size, allow_empty_instruction, action_limit
        )
    except DataError as error:
        error.frames = header.steps
        raise


def _episode(
    name: str,
    members: Mapping[str, Any],
    header: Header,
    sha256: str,
    fps: float | None,
    outcomes: bool,
    image_size: tuple[int, int] | None,
    allow_empty: bool,
    action_limit: float | None,
) -> Episode:
    if header.steps < 1:
        raise DataError("E207", "the episode has no steps")
    if fps is not None and header.schema.fps != fps:
        raise DataError("E221", f"the file says {header.schema.fps:g} steps a second, not {fps:g}")
    features = header.schema.features
    wanted = {
        HEADER,
        *features,
        *(f"{SIZES}{name}" for name, feature in features.items() if feature.dtype == "image"),
    }
    if odd := sorted(wanted ^ members.keys()):
        what = "missing" if odd[0] in wanted else "not in the header"
        raise DataError("E206", f"{show(odd[0])} is {what}")
    arrays: dict[str, NDArray[Any]] = {}
    frames: dict[str, Frames] = {}
    final: dict[str, Frames | NDArray[Any]] = {}
    notes: list[str] = []
    for key, feature in features.items():
        _check_convention(key, feature)
        rows = header.steps + (key in header.final)
        if feature.dtype == "image":
            camera = _camera(key, members[key], members[f"{SIZES}{key}"], feature, rows, image_size)
            frames[key] = camera.take(range(header.steps))
            if key in header.final:
                final[key] = camera.take([header.steps])
        else:
            array = _array(key, members[key], feature, rows)
            if key in OUTCOMES and not outcomes:
                continue
            arrays[key] = array[: header.steps]
            if key in header.final:
                final[key] = array[header.steps :]
    if final:
        notes.append("last_image_dropped" if final.keys() & frames.keys() else "last_observation_dropped")
    for key, array in arrays.items():
        if not key.startswith("info."):
            check_numbers(key, array, _limit(features[key], action_limit) if key == "action" else np.inf)
    told = {
        "robot": header.schema.robot,
        "episode_metadata": dict(header.facts) or None,
        "declared_features": _meanings(features) or None,
    }
    meta = EpisodeMeta(
        source="ppo_rollout",
        source_length=header.steps,
        source_sha256=sha256,
        info_timing="after",
        info_timing_rule=RULE,
        motion_planner=False,
        fps=header.schema.fps,
        **{name: fact for name, fact in told.items() if fact is not None},
    )
    return Episode(
        id=name,
        arrays=arrays,
        frames=frames,
        final=final,
        task=text.instruction(header.task, allow_empty=allow_empty, lines=True),
        index=np.arange(header.steps),
        meta=meta,
        notes=tuple(notes),
    )


def recorded_schema(episode: Episode, *, fps: float | None, info: bool) -> Schema:
    """What a recorded episode holds, and what was declared of it."""
    meanings = episode.meta.declared_features
    features: dict[str, Feature] = {}
    for name, frames in episode.frames.items():
        told = {"names": ["height", "width", "channels"], "convention": IMAGE_CONVENTION, **meanings.get(name, {})}
        features[name] = _feature("image", (frames.height, frames.width, 3), told)
    for name, array in episode.arrays.items():
        if name == "task" or (name.startswith("info.") and not info):
            continue
        dtype = "string" if array.dtype.kind == "U" else str(array.dtype)
        features[name] = _feature(dtype, array.shape[1:] or (1,), meanings.get(name, {}))
    rate = fps or episode.meta.fps
    assert rate is not None, "a recording has its rate"
    return Schema(features=features, fps=rate, robot=episode.meta.robot)


def _feature(dtype: str, shape: tuple[int, ...], told: Mapping[str, Json]) -> Feature:
    names = told.get("names")
    return Feature(
        dtype=dtype, shape=shape, names=tuple(names) if names else None, convention=told.get("convention", {})
    )


def _meanings(features: Mapping[str, Feature]) -> dict[str, Json]:
    """What is known of features beyond their type and shape, and beyond what every image means."""
    out: dict[str, Json] = {}
    for name, feature in features.items():
        told: dict[str, Json] = {}
        if feature.names and feature.dtype != "image":
            told["names"] = list(feature.names)
        if feature.convention and not (feature.dtype == "image" and feature.convention == IMAGE_CONVENTION):
            told["convention"] = dict(feature.convention)
        if told:
            out[name] = told
    return out


def _check_convention(name: str, feature: Feature) -> None:
    if feature.convention and feature.dtype != "image":
        try:
            Convention.from_json(feature.convention)
        except UsageError as error:
            raise DataError(error.code, f"{show(name)}: {error.message}") from None


def _limit(feature: Feature, limit: float | None) -> float:
    if limit is not None:
        return limit
    units = {feature.convention.get("translation_unit"), feature.convention.get("rotation_unit")}
    return METRES if units == {"m", "rad"} else WIDE


def _camera(name: str, data: Any, sizes: Any, feature: Feature, rows: int, size: tuple[int, int] | None) -> Frames:
    ok = isinstance(sizes, np.ndarray) and sizes.dtype == np.int64 and sizes.shape == (rows,)
    ok = ok and isinstance(data, np.ndarray) and data.ndim == 1 and data.dtype == np.uint8
    if not ok or (sizes < 0).any():
        raise DataError("E204", f"{show(name)} and its sizes are not {rows} encoded images")
    total = sum(sizes.tolist())  # in Python's integers, which don't overflow
    if total != len(data):
        raise DataError("E204", f"the sizes of {show(name)} add up to {total:,}, not to {len(data):,} bytes")
    ends = np.cumsum(sizes)
    items = [data[end - length : end] for end, length in zip(ends, sizes, strict=True)]
    try:
        frames = read_images(items, encoded=False, allowed=frozenset(), size=size, notes=[])
    except DataError as error:
        raise DataError(error.code, f"{show(name)}: {error.message}") from None
    if feature.shape != (frames.height, frames.width, 3):
        raise DataError("E203", f"{show(name)} is {frames.height}x{frames.width}, not {feature.shape} as declared")
    return frames


def _array(name: str, array: Any, feature: Feature, rows: int) -> NDArray[Any]:
    """The array of a feature, if it is as its header says."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufU":
        raise DataError("E203", f"{show(name)} is not an array of numbers or texts")
    kind = "string" if array.dtype.kind == "U" else str(array.dtype)
    if array.shape[:1] != (rows,):
        raise DataError("E204", f"{show(name)} has shape {array.shape} for {rows} steps")
    if name in FLAGS and (kind, array.ndim) != ("bool", 1):
        raise DataError("E205", f"{show(name)} is {kind}{array.shape[1:]}, not one True or False a step")
    if kind != feature.dtype or (array.shape[1:] or (1,)) != (feature.shape or (1,)):
        raise DataError(
            "E203",
            f"{show(name)} is {kind}{array.shape[1:]}; the header says {show(feature.dtype)[:40]}{feature.shape}",
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)

"""Writes rollouts as plain ``.npz`` files, one an episode, in the layout of `vla_data.recording.npz`.

Recorded rollouts of any features, and episodes of other formats, get that of `vla_data.recording.recorded`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from converters.rollouts.recorded import is_described
from vla_data.core import Array, Encoded, Episode, Feature, Published, Schema
from vla_data.core.base import BaseSink
from vla_data.core.content import content_digest
from vla_data.core.traits import Traits
from vla_data.errors import DataError, VerifyError
from vla_data.files.write import write_file
from vla_data.media.frames import Frames
from vla_data.media.images import encode
from vla_data.recording.npz import Member, as_array, image_members, npz_pieces
from vla_data.recording.recorded import Header, check_name
from vla_data.recording.recorded import members as recorded_members

STATE: Final = "observation.state"
CAMERA: Final = "observation.images."


@dataclass(frozen=True, kw_only=True)
class PlainRolloutSink(BaseSink):
    """Writes a folder of plain rollouts, under the names that they had.

    Attributes:
        target: the folder.
    """

    target: Path = field(repr=False)

    @property
    def traits(self) -> Traits:
        """See `Traits`."""
        return Traits(
            one_schema=False,  # each file stands for itself
            sidecar=".",  # the folder itself, so that its checksums are a seal
        )

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """The bytes of one npz file."""
        if len(episode) == 0:
            raise DataError("E207", "the episode has no steps left")
        members = _plain(episode) if is_plain(episode) else _recorded(episode, schema)
        arrays = {name: as_array(member) for name, member in members.items()}
        data = b"".join(npz_pieces(members))
        return Encoded([data], {"length": len(episode)}, content_digest(episode.task, arrays, {}))

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write one file an episode."""
        for name, episode in zip(_names(episodes), episodes, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(folder / name, episode.read(), sync=False)

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Compare every file with what was encoded."""
        for name, episode in zip(_names(episodes), episodes, strict=True):
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != episode.blob_sha256:
                raise VerifyError("E601", f"{name} is not what was written")


def _names(episodes: Sequence[Published]) -> list[str]:
    """Each file's own name with ``.npz``; where two would be one, with both suffixes, and then a number."""
    stems = [episode.id.rsplit(".", 1)[0] for episode in episodes]
    often = Counter(stems)
    taken: set[str] = set()
    names = []
    for stem, episode in zip(stems, episodes, strict=True):
        base = stem if often[stem] == 1 else episode.id
        tries = (f"{base}{f'_{n}' if n else ''}.npz" for n in itertools.count())
        name = next(name for name in tries if name not in taken)
        taken.add(name)
        names.append(name)
    return names


def is_plain(episode: Episode) -> bool:
    """Whether the layout of `vla_data.recording.npz` is what an episode came in."""
    return episode.meta.source == "ppo_rollout" and not is_described(episode)


def _plain(episode: Episode) -> dict[str, Member]:
    camera, *others = episode.frames  # the rollout's own comes first
    members: dict[str, Member] = {
        "action": episode.arrays["action"],
        "instruction": episode.arrays.get("task", np.asarray(episode.task)),
        **_image_members(_with_last(episode, camera), "image"),
        **{name: array for name, array in episode.arrays.items() if name.startswith("info.")},
    }
    for name in others:
        members |= _image_members(_with_last(episode, name), name.removeprefix(CAMERA))
    for name in episode.arrays:
        if not name.startswith(("info.", "next.")) and name not in ("action", "task", STATE):
            key = name.removeprefix("observation.") if name in episode.final else name
            members[key] = _with_final(episode, name)
    if STATE in episode.arrays:
        members["state"] = _with_final(episode, STATE)
    if episode.meta.fps:
        members["fps"] = np.asarray(episode.meta.fps)
    if episode.meta.motion_planner:
        members["is_image_encode"] = np.asarray(False)
    return members


def _recorded(episode: Episode, schema: Schema) -> dict[str, Member]:
    """Any episode, in the layout of `vla_data.recording.recorded`."""
    features = {**schema.features}
    for name, array in episode.arrays.items():  # a schema leaves out what a source gives on request only
        dtype = "string" if array.dtype.kind == "U" else str(array.dtype)
        features.setdefault(name, Feature(dtype=dtype, shape=array.shape[1:] or (1,)))
    columns: dict[str, Member] = {check_name(name): _with_final(episode, name) for name in episode.arrays}
    for name in episode.frames:
        columns[check_name(name)] = _encoded(_with_last(episode, name))
    header = Header(
        schema=replace(schema, features={name: features[name] for name in columns}),
        steps=len(episode),
        task=episode.task,
        facts=episode.meta.episode_metadata or {},
        final=tuple(name for name in episode.final if name in columns),
    )
    return recorded_members(header, columns)


def _with_last(episode: Episode, camera: str) -> Frames:
    frames, last = episode.frames[camera], episode.final.get(camera)
    return replace(frames, items=(*frames.items, *last.items)) if isinstance(last, Frames) else frames


def _with_final(episode: Episode, name: str) -> Array:
    array, last = episode.arrays[name], episode.final.get(name)
    return np.concatenate((array, last)) if isinstance(last, np.ndarray) else array


def _encoded(frames: Frames) -> list[bytes]:
    """Encoded images; pixels as PNG, which loses nothing."""
    return [
        bytes(item) if isinstance(item, bytes | memoryview) else encode(frames.pixels(i), "png")
        for i, item in enumerate(frames.items)
    ]


def _image_members(frames: Frames, key: str) -> dict[str, Member]:
    if all(isinstance(item, np.ndarray) for item in frames.items):
        return {key: np.stack([np.asarray(item) for item in frames.items])}
    return image_members(_encoded(frames), key)

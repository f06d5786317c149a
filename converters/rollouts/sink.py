"""Writes rollouts as plain ``.npz`` files, one an episode, in the layout of `vla_data.files.npz`."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vla_data.core import Encoded, Episode, Published, Schema
from vla_data.core.base import BaseSink, Traits
from vla_data.core.content import content_digest
from vla_data.errors import DataError, VerifyError
from vla_data.files.npz import Member, as_array, image_members, npz_pieces
from vla_data.files.write import write_file
from vla_data.media.frames import Frames
from vla_data.media.images import encode


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
        if len(episode.frames) != 1:
            raise DataError("E203", f"a rollout file has one camera, not {len(episode.frames)}")
        (camera,) = episode.frames
        frames = episode.frames[camera]
        if camera in episode.final:
            last = episode.final[camera]
            frames = Frames((*frames.items, *last.items), frames.height, frames.width)
        members: dict[str, Member] = {
            "action": episode.arrays["action"],
            "instruction": np.asarray(episode.task),
            **_image_members(frames),
            **{name: array for name, array in episode.arrays.items() if name.startswith("info.")},
        }
        if "observation.state" in episode.arrays:
            members["state"] = episode.arrays["observation.state"]
        if episode.meta.get("fps"):
            members["fps"] = np.asarray(episode.meta["fps"])
        if episode.meta.get("motion_planner"):
            members["is_image_encode"] = np.asarray(False)
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


def _image_members(frames: Frames) -> dict[str, Member]:
    if all(isinstance(item, np.ndarray) for item in frames.items):
        return {"image": np.stack([np.asarray(item) for item in frames.items])}
    return image_members(
        [encode(item, "png") if isinstance(item, np.ndarray) else bytes(item) for item in frames.items]  # type: ignore[arg-type]
    )

"""Rollouts as plain ``.npz`` files, one an episode: arrays that ``np.load`` reads with ``allow_pickle=False``.

image             (T or T+1, H, W, 3) uint8; or encoded images one after the other, with image_sizes
image_sizes       (T or T+1,) int64, bytes of each encoded image
action            (T, 7) float32
instruction       text
info.<key>        (T,) what the environment said, as recorded; info.success is always there
state             (T, D) float32, where the rollout has it
is_image_encode   only where the rollout has the mark of RL4VLA's motion planner
"""

from __future__ import annotations

import hashlib
import io
import itertools
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from vla_data.core import Array, Encoded, Episode, Published, Schema
from vla_data.digest import content_digest
from vla_data.errors import DataError, VerifyError
from vla_data.frames import Frames
from vla_data.images import encode
from vla_data.jobs.io import write_file

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class PlainRolloutSink:
    """Writes a folder of plain rollouts, under the names that they had.

    Attributes:
        target: the folder.
    """

    target: Path = field(repr=False)

    @property
    def one_schema(self) -> bool:
        """Each file stands for itself."""
        return False

    @property
    def sidecar(self) -> str:
        """The folder itself, so that its checksums are a seal."""
        return "."

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """The bytes of one npz file."""
        if len(episode) == 0:
            raise DataError("E207", "the episode has no steps left")
        (camera,) = episode.frames
        frames = episode.frames[camera]
        if camera in episode.final:
            last = episode.final[camera]
            frames = Frames((*frames.items, *last.items), frames.height, frames.width)
        arrays: dict[str, Array] = {
            "action": episode.arrays["action"],
            "instruction": np.asarray(episode.task),
            **_image_arrays(frames),
            **{name: array for name, array in episode.arrays.items() if name.startswith("info.")},
        }
        if "observation.state" in episode.arrays:
            arrays["state"] = episode.arrays["observation.state"]
        if episode.meta.get("motion_planner"):
            arrays["is_image_encode"] = np.asarray(False)
        data = _npz(arrays)
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


def _image_arrays(frames: Frames) -> dict[str, Array]:
    if all(isinstance(item, np.ndarray) for item in frames.items):
        return {"image": np.stack([np.asarray(item) for item in frames.items])}
    data = [encode(item, "png") if isinstance(item, np.ndarray) else bytes(item) for item in frames.items]
    return {
        "image": np.frombuffer(b"".join(data), dtype=np.uint8),
        "image_sizes": np.asarray([len(item) for item in data], dtype=np.int64),
    }


def _npz(arrays: Mapping[str, Array]) -> bytes:
    """Like ``np.savez_compressed``, but without the time of day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(arrays[name], order="C"), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            archive.writestr(info, member.getbuffer(), zipfile.ZIP_DEFLATED, compresslevel=1)
    return buffer.getvalue()

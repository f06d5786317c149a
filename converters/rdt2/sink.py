"""RDT2's datasets: shards of samples for its training.

::

    shards/shard-000000.tar   see `converters.rdt2.shards`
    instruction.json          key -> instruction
    dataset.yaml              RDT2's configuration of the dataset, for a program that is started in this folder
    vla_data/rdt2/            manifest, ledger, schema, SHA256SUMS

An episode of T steps, at 30 Hz, gives T - 24 samples. **What is lost:** everything but the poses of two arms,
their grippers and two cameras; pictures are JPEG.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from converters.rdt2 import shards
from converters.rdt2.arms import chunks, poses_of
from converters.rdt2.pictures import cameras_of, joined
from converters.rdt2.shards import Sample
from vla_data import options as checks
from vla_data.core import Encoded, Episode, Json, Published, Schema
from vla_data.core.base import BaseSink
from vla_data.core.content import content_digest
from vla_data.core.traits import Pictures, Traits
from vla_data.errors import UsageError, VerifyError
from vla_data.files.sums import hash_file
from vla_data.files.write import machine_errors, make_folder, write_file
from vla_data.media import images
from vla_data.media.images import JPEG_QUALITY
from vla_data.safety.text import show

SIDECAR: Final = "vla_data/rdt2"
CONFIG: Final = "dataset.yaml"
NORMALIZER: Final = "umi_normalizer_wo_downsample_indentity_rot.pt"
"""RDT2's own file, which its authors publish."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Rdt2Sink(BaseSink):
    """Writes one dataset for fine-tuning RDT2.

    Attributes:
        target: the folder.
        name: of the dataset in RDT2's configuration.
        gripper_opening: metres between the fingers of an open gripper, where the state does not say it.
        cam_right_wrist: the camera on the right wrist; None: told by names.
        cam_left_wrist: the one on the left wrist.
        jpeg_quality: of the pictures.
    """

    target: Path = field(repr=False)
    name: str = "vla_data"
    gripper_opening: float | None = None
    cam_right_wrist: str | None = None
    cam_left_wrist: str | None = None
    jpeg_quality: int = JPEG_QUALITY

    def __post_init__(self) -> None:
        if self.gripper_opening is not None:
            opening = checks.number("gripper_opening", self.gripper_opening, low=1e-3, high=1)
            object.__setattr__(self, "gripper_opening", opening)
        checks.whole("jpeg_quality", self.jpeg_quality, low=1, high=100)
        if not _NAME.fullmatch(self.name):
            raise UsageError("E001", f"{show(self.name)} is no name of a dataset; use letters, digits, _ . - /")

    @property
    def traits(self) -> Traits:
        """See `Traits`."""
        return Traits(sidecar=SIDECAR, pictures=Pictures(encoding="jpeg", jpeg_quality=self.jpeg_quality))

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """The samples of an episode.

        Raises:
            DataError: see `converters.rdt2.arms.poses_of` and `pictures.cameras_of`.
        """
        found = chunks(poses_of(episode, schema, opening=self.gripper_opening))
        declared = {"cam_right_wrist": self.cam_right_wrist, "cam_left_wrist": self.cam_left_wrist}
        left, right = (episode.frames[name] for name in cameras_of(list(episode.frames), declared))
        pictures = [
            images.encode(joined(left.pixels(t), right.pixels(t)), "jpeg", quality=self.jpeg_quality)
            for t in range(len(found))
        ]
        blob = shards.pack(pictures, map(shards.npy_bytes, found))
        summary: dict[str, Json] = {
            "length": len(episode),
            "samples": len(found),
            "task": episode.task,
            "split": str("train" if episode.meta.split is None else episode.meta.split),
        }
        return Encoded([blob], summary, content_digest(episode.task, {"action": found}, {"image": pictures}))

    def split_of(self, episodes: Sequence[Published]) -> dict[str, str]:
        """Id -> the split that the source gave it, or ``train``. RDT2 reads all shards."""
        return {episode.id: str(episode.summary["split"]) for episode in episodes}

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write shards and tables; one episode is in memory at a time."""
        del schema
        make_folder(folder / shards.FOLDER)
        for name, pieces in _shards(episodes):
            write_file(folder / name, pieces, sync=False)
        for name, content in self._tables(episodes).items():
            write_file(folder / name, content, sync=False)

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read everything back and compare it with what is made again from the episodes."""
        for name, pieces in _shards(episodes):
            sha256 = hashlib.sha256()
            for piece in pieces:
                sha256.update(piece)
            with machine_errors("cannot read back"):
                if hash_file(folder / name) != sha256.hexdigest():
                    raise VerifyError("E601", f"{name} is not what was written")
        for name, content in self._tables(episodes).items():
            with machine_errors("cannot read back"):
                if (folder / name).read_bytes() != content:
                    raise VerifyError("E601", f"{name} is not what was written")

    def _tables(self, episodes: Sequence[Published]) -> dict[str, bytes]:
        tasks = {str(episode.summary["task"]) for episode in episodes}
        told = {shards.key_of(task): task for task in tasks}
        return {
            shards.INSTRUCTIONS: json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n",
            CONFIG: config(self.name, Path(), Path(NORMALIZER)).encode(),
        }


def config(name: str, folder: Path, normalizer: Path) -> str:
    """RDT2's configuration of a dataset; JSON texts are YAML too.

    Args:
        name: of the dataset.
        folder: the dataset.
        normalizer: RDT2's file of it.
    """
    return "\n".join(
        [
            f"name: {json.dumps(name)}",
            "type: single",
            f"shards_dir: {json.dumps(str(folder / shards.FOLDER))}",
            "kwargs:",
            f"  instruction_path: {json.dumps(str(folder / shards.INSTRUCTIONS))}",
            f"  normalizer_path: {json.dumps(str(normalizer))}",
            "",
        ]
    )


def _samples(episodes: Sequence[Published]) -> Iterator[Sample]:
    """Of all episodes, numbered through."""
    number = itertools.count()
    for episode in episodes:
        key = shards.key_of(str(episode.summary["task"]))
        for image, action in shards.unpack(episode.read()):
            yield Sample(next(number), image, action, key)


def _shards(episodes: Sequence[Published]) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Name and content of each shard; each content is taken before the next one is asked for."""
    samples = _samples(episodes)
    total = sum(int(episode.summary["samples"]) for episode in episodes)
    for number in range(-(-total // shards.PER_SHARD)):
        some = itertools.islice(samples, shards.PER_SHARD)
        yield f"{shards.FOLDER}/shard-{number:06d}.tar", shards.pieces(some)

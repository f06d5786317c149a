"""RLDS datasets in TFDS's layout on disk, read by TFDS, OpenVLA, Octo and dlimp.

An episode is one ``tf.train.Example``: nested names are joined by ``/``, a feature of ``steps`` holds all steps
one after the other. The order of episodes is that of a hash of their ids, so that neighbours in a shard are no
neighbours in collection; the same for every number of workers and on every machine.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np

from converters.rlds import fields as rlds_fields
from converters.rlds import own as rlds_own
from converters.rlds import tfds_json as tfds_files
from converters.rlds import tfrecord
from vla_data import options as checks
from vla_data.core import Encoded, Episode, Json, Published, Schema
from vla_data.core.base import BaseSink
from vla_data.core.content import content_digest
from vla_data.core.notes import no_action
from vla_data.core.traits import Pictures, Traits
from vla_data.errors import DataError, UsageError, VerifyError
from vla_data.files.write import machine_errors, write_file
from vla_data.media.images import JPEG_QUALITY, Encoding
from vla_data.names import unit_hash
from vla_data.safety.text import show

StepFields = Literal["rl4vla", "rlds"]
Metadata = Literal["full", "rl4vla"]

SHARD_BYTES: Final = 512 << 20
SPLITS: Final = ("train", "val")
_SEVEN: Final = "Translation, rotation, gripper."
_SPLIT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True)
class RldsSink(BaseSink):
    """Writes one TFDS dataset (name, config, version).

    Attributes:
        target: the version folder, ``DATA_DIR/<name>/<config>/<version>``.
        name: dataset name.
        config: TFDS config name.
        version: dataset version.
        description: one paragraph for ``dataset_info.json``.
        step_fields: "rl4vla": images, action and instruction, as RL4VLA's SFT builder; "rlds": every feature, and
            ``is_first``, ``is_last``, ``is_terminal``, ``reward``, ``discount``; see `converters.rlds.fields`.
        metadata: which ``episode_metadata`` the features declare: "full" (file_path, source, original_length,
            filtered_length, and with "rlds" what the source says of an episode) or "rl4vla" (file_path alone; the
            others are in the records all the same).
        val_fraction: share of episodes in ``val``, by hash of their ids; the others are in ``train``. Episodes
            whose source declares their split (``meta.split``) stay in it. `vla_data.open_sink` draws none
            unless it is told to, for a conversion makes up no split.
        num_shards: shards of each split; None: as many as keep them below 512 MiB.
        jpeg_quality: for images that are not JPEG yet.
        images: "jpeg", or "png" (lossless). Images that are encoded so already stay as they are.
        float32: write float64 as float32, rounded to the nearest, for trainers that know no other type.
    """

    target: Path = field(repr=False)
    name: str
    config: str = "default"
    version: str = "1.0.0"
    description: str = field(default="", repr=False)
    step_fields: StepFields = "rl4vla"
    metadata: Metadata = "full"
    val_fraction: float = 0.05
    num_shards: int | None = None
    jpeg_quality: int = JPEG_QUALITY
    images: Encoding = "jpeg"
    float32: bool = False

    def __post_init__(self) -> None:
        checks.one_of("step_fields", self.step_fields, get_args(StepFields))
        checks.one_of("metadata", self.metadata, get_args(Metadata))
        checks.whole("jpeg_quality", self.jpeg_quality, low=1, high=100)
        checks.one_of("images", self.images, get_args(Encoding))
        checks.flag("float32", self.float32)
        object.__setattr__(
            self, "val_fraction", checks.number("val_fraction", self.val_fraction, low=0, high=0.99)
        )
        if self.num_shards is not None:
            checks.whole("num_shards", self.num_shards, low=1, high=100_000)

    @property
    def traits(self) -> Traits:
        """See `Traits`."""
        return Traits(
            holds_empty=True,  # RL4VLA's builder writes some
            pictures=Pictures(encoding=self.images, jpeg_quality=self.jpeg_quality),
            val=self.val_fraction,
        )

    def remarks(self, schema: Schema) -> Sequence[str]:
        """What RL4VLA's steps have no field for; see `vla_data.core.curate.Remarks`."""
        if self.step_fields == "rlds":
            return ()
        rest = [
            show(name)
            for name, feature in sorted(schema.features.items())
            # what success was is the curation's own question, and the episode's metadata say what came of it
            if feature.dtype != "image" and name not in ("action", "next.success")
        ]
        said = f"RL4VLA's steps have no field for {', '.join(rest)}: left out; --step-fields rlds keeps them"
        return [said] if rest else []

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """One framed record."""
        frames = {
            name: list(camera.encoded(self.images, quality=self.jpeg_quality))
            for name, camera in episode.frames.items()
        }
        fields: dict[str, tfrecord.Value] = {
            "episode_metadata/file_path": [episode.id.encode("utf-8", "surrogateescape")],
            "episode_metadata/source": [str(episode.meta.source or "ppo_rollout").encode()],
            "episode_metadata/original_length": np.asarray([episode.meta.source_length], np.int64),
            "episode_metadata/filtered_length": np.asarray([len(episode)], np.int64),
        }
        summary: dict[str, Json] = {"length": len(episode)}
        if self.step_fields == "rlds":
            content = rlds_fields.content_of(episode, list(schema.features), frames, float32=self.float32)
            fields |= rlds_fields.record_fields(content, schema)
            facts, types = rlds_fields.facts_of(episode)
            fields |= {f"episode_metadata/{key}": value for key, value in facts.items()}
            summary["scalars"] = rlds_fields.scalars(content, list(schema.features))
            summary["facts"] = types
            digest = content.digest()
        else:
            digest = _rl4vla_fields(episode, frames, fields)
        if (split := episode.meta.split) is not None:
            if not isinstance(split, str) or not _SPLIT.fullmatch(split):
                raise DataError("E122", f"a split is called {show(split)[:80]!r}, which can't be a name in TFDS")
            summary["split"] = split
        record = tfrecord.frame(tfrecord.example(fields))
        summary["bytes"] = sum(map(len, record)) - tfrecord.FRAME
        return Encoded(record, summary, digest)

    def split_of(self, episodes: Sequence[Published]) -> dict[str, str]:
        """Id -> split: the declared one, for others by hash of the ids. Of the latter, episodes with the same
        content go where the first of them goes, so that no split has what the other has; with two or more
        contents, neither split is empty. Hashes of a few ids may well be alike: val has no more episodes than
        three standard deviations above what was asked for, those with the lowest hashes.
        """
        declared = {e.id: str(e.summary["split"]) for e in episodes if "split" in e.summary}
        contents = {episode.id: episode.content for episode in episodes if episode.id not in declared}
        first: dict[str, str] = {}
        for name, content in contents.items():
            first.setdefault(content, name)
        rank = {name: unit_hash(name, salt="vla-data split") for name in first.values()}
        split = {name: "val" if rank[name] < self.val_fraction else "train" for name in rank}
        for name in _too_many([name for name in rank if split[name] == "val"], rank, self.val_fraction):
            split[name] = "train"
        if len(rank) > 1 and self.val_fraction > 0 and "val" not in split.values():
            split[min(rank, key=lambda name: (rank[name], name))] = "val"
        if split and "train" not in split.values():
            split[max(rank, key=lambda name: (rank[name], name))] = "train"
        return {**declared, **{name: split[first[content]] for name, content in contents.items()}}

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write shards, ``features.json`` and ``dataset_info.json``."""
        splits = [self.write_split(folder, name, members) for name, members in self._splits(episodes).items()]
        info = tfds_files.dataset_info(
            name=self.name,
            version=self.version,
            config=self.config,
            module=f"builders.{self.name}.{self.name}_dataset_builder",
            description=self.description,
            splits=splits,
        )
        plain = _common([episode.summary.get("scalars", []) for episode in episodes])
        if plain is None:
            raise UsageError(
                "E005",
                "a feature has a number a step in some episodes and a list of one number in others; "
                "convert them one by one",
            )
        types = _common([episode.summary.get("facts", {}) for episode in episodes])
        _write_json(folder / "features.json", self.features(schema, scalars=plain, facts=types or {}))
        _write_json(folder / "dataset_info.json", info)

    def write_split(self, folder: Path, name: str, members: Sequence[Published]) -> tfds_files.Split:
        """Write the shards of one split."""
        shards = self._cut(members)
        for number, shard in enumerate(shards):
            file = folder / tfds_files.shard_name(self.name, name, number, len(shards))
            write_file(file, (episode.read() for episode in shard), sync=False)
        size = sum(int(episode.summary["bytes"]) for episode in members)
        return tfds_files.Split(name, size, tuple(len(shard) for shard in shards))

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read every record back, with its checksums, and compare it with what was encoded."""
        for name, members in self._splits(episodes).items():
            shards = self._cut(members)
            for number, shard in enumerate(shards):
                file = tfds_files.shard_name(self.name, name, number, len(shards))
                with machine_errors("cannot read back"), (folder / file).open("rb") as handle:
                    try:
                        found = [digest_of(data) for data in tfrecord.records(handle, name=file)]
                    except DataError as error:
                        raise VerifyError("E601", error.message) from None
                if found != [episode.blob_sha256 for episode in shard]:
                    raise VerifyError("E601", f"{file} does not hold the episodes that were written")

    def features(
        self, schema: Schema, *, scalars: Sequence[str] = (), facts: Mapping[str, str] | None = None
    ) -> Json:
        """The content of ``features.json``.

        Args:
            schema: of all episodes.
            scalars: features whose ``(1,)`` is a single number.
            facts: types of the source's own facts that all records have as fields.
        """
        metadata = {"file_path": tfds_files.text("Source file, relative to the rollout folder.")}
        if self.metadata == "full":
            metadata["source"] = tfds_files.text("Kind of source.")
            metadata["original_length"] = tfds_files.scalar("int32", "Steps in the source.")
            metadata["filtered_length"] = tfds_files.scalar("int32", "Steps here.")
        if self.step_fields == "rlds":
            step = rlds_fields.step_features(schema, self.images, scalars, float32=self.float32)
            if self.metadata == "full":
                metadata[rlds_fields.SOURCE_METADATA] = tfds_files.text("What the source says, as JSON.")
        else:
            step, facts = self._rl4vla_step(schema), None
        kept = facts if facts and self.metadata == "full" else {}
        return tfds_files.folder(
            {
                "steps": tfds_files.steps(step),
                "episode_metadata": rlds_fields.metadata_features(metadata, kept),
            }
        )

    def _rl4vla_step(self, schema: Schema) -> Json:
        cameras = {name: f.shape for name, f in schema.features.items() if f.dtype == "image"}
        observation = {
            _camera_key(name, len(cameras)): tfds_files.image(
                shape[0], shape[1], self.images, "Image before the action."
            )
            for name, shape in cameras.items()
        }
        action = schema.features["action"].shape if "action" in schema.features else (7,)
        return tfds_files.folder(
            {
                "action": tfds_files.tensor(
                    action, "float32", _SEVEN if action == (7,) else "What a robot was told."
                ),
                "language_instruction": tfds_files.text("The instruction."),
                "observation": tfds_files.folder(observation),
            }
        )

    def _splits(self, episodes: Sequence[Published]) -> dict[str, list[Published]]:
        """Split -> its episodes, in the order of their records."""
        split = self.split_of(episodes)
        out = {}
        for name in (*SPLITS, *sorted(set(split.values()) - set(SPLITS))):
            members = [episode for episode in episodes if split[episode.id] == name]
            members.sort(key=lambda e: rlds_own.order(e.id))
            if members:
                out[name] = members
        return out

    def _cut(self, members: Sequence[Published]) -> list[list[Published]]:
        """Contiguous shards of about equal bytes."""
        total = sum(int(member.summary["bytes"]) for member in members)
        wanted = self.num_shards or -(-total // SHARD_BYTES) or 1
        shards: list[list[Published]] = [[] for _ in range(min(wanted, len(members)))]
        at = 0
        for i, member in enumerate(members):
            by_bytes = at * len(shards) // max(total, 1)
            # Never leave a later shard without an episode.
            floor = len(shards) - (len(members) - i)
            shards[max(by_bytes, floor)].append(member)
            at += int(member.summary["bytes"])
        return [shard for shard in shards if shard]


def _too_many(chosen: Sequence[str], rank: Mapping[str, float], share: float) -> Sequence[str]:
    """The names beyond the share that chance gives, those with the highest ranks."""
    mean = share * len(rank)
    most = max(1, int(mean + 3 * math.sqrt(mean * (1 - share))))
    return sorted(chosen, key=lambda name: (rank[name], name))[most:]


def _rl4vla_fields(episode: Episode, frames: Mapping[str, list[bytes]], fields: dict[str, tfrecord.Value]) -> str:
    """Add the fields of RL4VLA's SFT builder; returns the digest of the content."""
    if "action" not in episode.arrays:
        raise DataError("E206", no_action(episode.arrays))
    named = {_camera_key(name, len(frames)): items for name, items in frames.items()}
    action = episode.arrays["action"].astype(np.float32, copy=False)
    tasks = episode.arrays.get("task", [episode.task] * len(episode))
    fields |= {f"steps/observation/{key}": items for key, items in named.items()}
    fields["steps/action"] = action
    fields["steps/language_instruction"] = [str(task).encode() for task in tasks]
    return content_digest(episode.task, {"action": action}, named)


def _common(values: Sequence[Json]) -> Json:
    """What all episodes say, or None when they differ."""
    return values[0] if all(value == values[0] for value in values) else None


def _camera_key(name: str, cameras: int) -> str:
    """RL4VLA's and OpenVLA's ``image`` for the only camera, else the camera's own name."""
    return "image" if cameras == 1 else name.removeprefix("observation.images.")


def digest_of(record: bytes) -> str:
    """SHA-256 of a record with its frame, as `Published` has it."""
    return hashlib.sha256(b"".join(tfrecord.frame([record]))).hexdigest()


def _write_json(path: Path, value: Json) -> None:
    write_file(path, json.dumps(value, indent=4, sort_keys=True, ensure_ascii=False).encode() + b"\n", sync=False)

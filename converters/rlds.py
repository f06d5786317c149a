"""RLDS datasets in TFDS's layout on disk, read by TFDS, OpenVLA, Octo and dlimp.

An episode is one ``tf.train.Example``: nested names are joined by ``/``, a feature of ``steps`` holds all steps
one after the other. The order of episodes is that of a hash of their ids, so that neighbours in a shard are no
neighbours in collection; the same for every number of workers and on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from converters import tfds_files, tfrecord
from vla_data import checks, images
from vla_data.core import Encoded, Episode, Json, Published, Schema
from vla_data.digest import content_digest
from vla_data.errors import DataError, VerifyError
from vla_data.jobs.io import machine_errors, write_file
from vla_data.sorting import unit_hash

StepFields = Literal["rl4vla", "rlds"]
Metadata = Literal["full", "rl4vla"]

SHARD_BYTES: Final = 512 << 20
SPLITS: Final = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class RldsSink:
    """Writes one TFDS dataset (name, config, version) with splits ``train`` and ``val``.

    Attributes:
        target: the version folder, ``DATA_DIR/<name>/<config>/<version>``.
        name: dataset name.
        config: TFDS config name.
        version: dataset version.
        description: one paragraph for ``dataset_info.json``.
        step_fields: "rl4vla": image, action and instruction, as RL4VLA's SFT builder; "rlds": also
            ``is_first``, ``is_last``, ``is_terminal``, ``reward``, ``discount``, and the state if there is one.
        metadata: which ``episode_metadata`` the features declare: "full" (file_path, source, original_length,
            filtered_length) or "rl4vla" (file_path alone; the others are in the records all the same).
        val_fraction: share of episodes in ``val``, by hash of their ids.
        num_shards: shards of each split; None: as many as keep them below 512 MiB.
        jpeg_quality: for images that are not JPEG yet.
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
    jpeg_quality: int = images.JPEG_QUALITY

    def __post_init__(self) -> None:
        checks.one_of("step_fields", self.step_fields, get_args(StepFields))
        checks.one_of("metadata", self.metadata, get_args(Metadata))
        checks.whole("jpeg_quality", self.jpeg_quality, low=1, high=100)
        object.__setattr__(
            self, "val_fraction", checks.number("val_fraction", self.val_fraction, low=0, high=0.99)
        )
        if self.num_shards is not None:
            checks.whole("num_shards", self.num_shards, low=1, high=100_000)

    @property
    def holds_empty(self) -> bool:
        """An episode may have no steps, as RL4VLA's builder writes some."""
        return True

    @property
    def one_schema(self) -> bool:
        """All episodes share one schema."""
        return True

    @property
    def sidecar(self) -> str:
        """Folder for the manifest and the ledger."""
        return "vla_data"

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """One framed record."""
        if "action" not in episode.arrays:
            raise DataError("E206", "missing key 'action'")
        frames = {
            _camera_key(name, len(episode.frames)): list(camera.encoded("jpeg", quality=self.jpeg_quality))
            for name, camera in episode.frames.items()
        }
        action = episode.arrays["action"].astype(np.float32, copy=False)
        tasks = episode.arrays.get("task", [episode.task] * len(episode))
        features: dict[str, tfrecord.Value] = {
            **{f"steps/observation/{key}": items for key, items in frames.items()},
            "steps/action": action,
            "steps/language_instruction": [str(task).encode() for task in tasks],
            "episode_metadata/file_path": [episode.id.encode("utf-8", "surrogateescape")],
            "episode_metadata/source": [str(episode.meta.get("source", "ppo_rollout")).encode()],
            "episode_metadata/original_length": np.asarray([episode.meta["source_length"]], np.int64),
            "episode_metadata/filtered_length": np.asarray([len(episode)], np.int64),
        }
        if self.step_fields == "rlds":
            features.update(_rlds_fields(episode))
        record = tfrecord.frame(tfrecord.example(features))
        summary = {"length": len(episode), "bytes": sum(map(len, record)) - tfrecord.FRAME}
        content = content_digest(episode.task, {"action": action}, frames)
        return Encoded(record, summary, content)

    def split_of(self, contents: Mapping[str, str]) -> dict[str, str]:
        """Id -> split, from id -> content digest. By hash of the ids; episodes with the same content go where the
        first of them goes, so that no split has what the other has; with two or more contents, neither split is
        empty.
        """
        first: dict[str, str] = {}
        for name, content in contents.items():
            first.setdefault(content, name)
        rank = {name: unit_hash(name, salt="vla-data split") for name in first.values()}
        split = {name: "val" if rank[name] < self.val_fraction else "train" for name in rank}
        if len(rank) > 1 and self.val_fraction > 0 and "val" not in split.values():
            split[min(rank, key=lambda name: (rank[name], name))] = "val"
        if split and "train" not in split.values():
            split[max(rank, key=lambda name: (rank[name], name))] = "train"
        return {name: split[first[content]] for name, content in contents.items()}

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write shards, ``features.json`` and ``dataset_info.json``."""
        splits = []
        for name, shards in self._shards(episodes).items():
            for number, shard in enumerate(shards):
                file = folder / tfds_files.shard_name(self.name, name, number, len(shards))
                write_file(file, (episode.read() for episode in shard), sync=False)
            size = sum(int(episode.summary["bytes"]) for shard in shards for episode in shard)
            splits.append(tfds_files.Split(name, size, tuple(len(shard) for shard in shards)))
        info = tfds_files.dataset_info(
            name=self.name,
            version=self.version,
            config=self.config,
            module=f"builders.{self.name}.{self.name}_dataset_builder",
            description=self.description,
            splits=splits,
        )
        _write_json(folder / "features.json", self.features(schema))
        _write_json(folder / "dataset_info.json", info)

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read every record back, with its checksums, and compare it with what was encoded."""
        for name, shards in self._shards(episodes).items():
            for number, shard in enumerate(shards):
                file = tfds_files.shard_name(self.name, name, number, len(shards))
                with machine_errors("cannot read back"), (folder / file).open("rb") as handle:
                    try:
                        found = [_digest(data) for data in tfrecord.records(handle, name=file)]
                    except DataError as error:
                        raise VerifyError("E601", error.message) from None
                if found != [episode.blob_sha256 for episode in shard]:
                    raise VerifyError("E601", f"{file} does not hold the episodes that were written")

    def features(self, schema: Schema) -> Json:
        """The content of ``features.json``."""
        cameras = {name: f.shape for name, f in schema.features.items() if f.dtype == "image"}
        observation = {
            _camera_key(name, len(cameras)): tfds_files.image(
                shape[0], shape[1], "jpeg", "Image before the action."
            )
            for name, shape in cameras.items()
        }
        action = schema.features["action"].shape if "action" in schema.features else (7,)
        step: dict[str, Json] = {
            "action": tfds_files.tensor(action, "float32", "Translation, rotation, gripper."),
            "language_instruction": tfds_files.text("The instruction."),
        }
        if self.step_fields == "rlds":
            if "observation.state" in schema.features:
                observation["state"] = tfds_files.tensor(
                    schema.features["observation.state"].shape, "float32", "Robot state before the action."
                )
            step["is_first"] = tfds_files.scalar("bool", "First step of the episode.")
            step["is_last"] = tfds_files.scalar("bool", "Last step of the episode.")
            step["is_terminal"] = tfds_files.scalar("bool", "Last step, and the task is solved.")
            step["reward"] = tfds_files.scalar("float32", "The recorded one, or 1 on a terminal step.")
            step["discount"] = tfds_files.scalar("float32", "0 on a terminal step, else 1.")
        step["observation"] = tfds_files.folder(observation)
        metadata = {"file_path": tfds_files.text("Source file, relative to the rollout folder.")}
        if self.metadata == "full":
            metadata["source"] = tfds_files.text("Kind of source.")
            metadata["original_length"] = tfds_files.scalar("int32", "Steps in the source.")
            metadata["filtered_length"] = tfds_files.scalar("int32", "Steps here.")
        return tfds_files.folder(
            {
                "steps": tfds_files.steps(tfds_files.folder(step)),
                "episode_metadata": tfds_files.folder(metadata),
            }
        )

    def _shards(self, episodes: Sequence[Published]) -> dict[str, list[list[Published]]]:
        split = self.split_of({episode.id: episode.content for episode in episodes})
        out = {}
        for name in SPLITS:
            members = [episode for episode in episodes if split[episode.id] == name]
            members.sort(key=lambda e: (unit_hash(e.id, salt="vla-data order"), e.id))
            if members:
                out[name] = self._cut(members)
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


def _rlds_fields(episode: Episode) -> dict[str, tfrecord.Value]:
    """The other step fields of RLDS (https://github.com/google-research/rlds#dataset-format).

    An episode that was cut by a limit is not terminal: its last step has ``is_last`` alone.
    """
    last = np.arange(len(episode)) == len(episode) - 1
    terminal = last
    if "solved" in episode.meta:  # the flag itself may be on a step that was pruned
        return _rlds_arrays(episode, last, last & bool(episode.meta["solved"]))
    for flag in ("next.success", "next.done"):  # without either, a recording ends because the task is done
        if flag in episode.arrays:
            terminal = last & episode.arrays[flag].astype(bool)
            break
    return _rlds_arrays(episode, last, terminal)


def _rlds_arrays(
    episode: Episode, last: NDArray[np.bool_], terminal: NDArray[np.bool_]
) -> dict[str, tfrecord.Value]:
    reward = episode.arrays.get("next.reward", terminal)
    fields: dict[str, tfrecord.Value] = {
        "steps/is_first": (np.arange(len(episode)) == 0).astype(np.int64),
        "steps/is_last": last.astype(np.int64),
        "steps/is_terminal": terminal.astype(np.int64),
        "steps/reward": reward.astype(np.float32),
        "steps/discount": (1 - terminal).astype(np.float32),
    }
    if "observation.state" in episode.arrays:
        fields["steps/observation/state"] = episode.arrays["observation.state"].astype(np.float32)
    return fields


def _camera_key(name: str, cameras: int) -> str:
    """RL4VLA's and OpenVLA's ``image`` for the only camera, else the camera's own name."""
    return "image" if cameras == 1 else name.removeprefix("observation.images.")


def _digest(record: bytes) -> str:
    return hashlib.sha256(b"".join(tfrecord.frame([record]))).hexdigest()


def _write_json(path: Path, value: Json) -> None:
    write_file(path, json.dumps(value, indent=4, sort_keys=True, ensure_ascii=False).encode() + b"\n", sync=False)

"""RDT's datasets: an HDF5 file for each episode, and the configuration that goes with them.

::

    <task>/episode_<number>.hdf5                     see `converters.rdt.file`
    <task>/expanded_instruction_gpt-4-turbo.json     the instruction, under RDT's three keys
    configs/dataset_stat.json                        and control frequency, image keys, names, weights
    rdt.json                                         slots, conventions, cameras, rules
    vla_data/rdt/                                    manifest, ledger, schema, SHA256SUMS

States and actions are in RDT's 128 slots and physical units (`converters.rdt.vectors`), read with
`training_adapters.rdt.Hdf5VlaDataset` in the place of RDT's class, which every user of RDT must write anew for
other robots than AgileX's. With ``layout="agilex"``, for two arms of six joints, RDT's class reads the files as it
is. **What is lost:** everything but state, action, three cameras and the instruction; images are JPEG unless
``images="png"``.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import h5py
import numpy as np

from converters.rdt import config as rdt_config
from converters.rdt import file as rdt_file
from converters.rdt import slots as rdt_slots
from converters.rdt.cameras import choose
from converters.rdt.sample import CLASS_SHORTEST, Rules, first_step, instruction_of
from converters.rdt.vectors import Vectors, vectors
from vla_data import options as checks
from vla_data.actions import Convention
from vla_data.core import Encoded, Episode, Json, Published, Schema
from vla_data.core.base import BaseSink
from vla_data.core.content import content_digest
from vla_data.core.traits import Pictures, Traits
from vla_data.errors import DataError, UsageError, VerifyError
from vla_data.files.sums import hash_file
from vla_data.files.write import machine_errors, make_folder, write_file
from vla_data.media.images import JPEG_QUALITY, Encoding
from vla_data.safety.text import show

FileLayout = Literal["pose_delta", "velocity", "velocity_per_step", "absolute", "agilex"]
FACTS: Final = "rdt.json"
SIDECAR: Final = "vla_data/rdt"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class RdtSink(BaseSink):
    """Writes one dataset for fine-tuning RDT.

    Attributes:
        target: the folder.
        name: of the dataset in RDT's configuration.
        layout: where the numbers of an action go; see `converters.rdt.vectors`, and "agilex" in this module.
        action_convention: what the actions mean, as a preset of `vla_data.actions`; None: what the source says.
        state_convention: the same of ``observation.state``.
        gripper_opening: metres between the fingers of the open gripper; None: the robot's, where it is known.
        cam_high: the camera that looks at the robot; None: told by names; "none": there is none.
        cam_right_wrist: the one on the only, or the right, wrist.
        cam_left_wrist: the one on the left wrist.
        images: "jpeg", or "png" (lossless, and read by RDT too).
        jpeg_quality: for images that are not in this form yet.
        channel_order: "bgr": red and blue exchanged, so that RDT's class, which exchanges them again, sees the
            right colours; "rgb": as everyone else stores them.
        shortest: steps below which an episode is quarantined; RDT's configuration has 32.
    """

    target: Path = field(repr=False)
    name: str = "vla_data"
    layout: FileLayout = "pose_delta"
    action_convention: str | None = None
    state_convention: str | None = None
    gripper_opening: float | None = None
    cam_high: str | None = None
    cam_right_wrist: str | None = None
    cam_left_wrist: str | None = None
    images: Encoding = "jpeg"
    jpeg_quality: int = JPEG_QUALITY
    channel_order: rdt_file.Channels = "bgr"
    shortest: int = 32

    def __post_init__(self) -> None:
        checks.one_of("layout", self.layout, get_args(FileLayout))
        checks.one_of("images", self.images, get_args(Encoding))
        checks.one_of("channel_order", self.channel_order, get_args(rdt_file.Channels))
        if self.gripper_opening is not None:
            opening = checks.number("gripper_opening", self.gripper_opening, low=1e-3, high=1)
            object.__setattr__(self, "gripper_opening", opening)
        checks.whole("jpeg_quality", self.jpeg_quality, low=1, high=100)
        checks.whole("shortest", self.shortest, low=1)
        if not _NAME.fullmatch(self.name):
            raise UsageError("E001", f"{show(self.name)} is not a name for a dataset; use letters, digits, _ . -")

    @property
    def traits(self) -> Traits:
        """See `Traits`."""
        return Traits(
            sidecar=SIDECAR,
            pictures=Pictures(
                encoding=self.images, jpeg_quality=self.jpeg_quality, swapped=self.channel_order == "bgr"
            ),
        )

    @property
    def rules(self) -> Rules:
        """How samples are cut from what is written."""
        return Rules(shortest=self.shortest)

    def encode(self, episode: Episode, schema: Schema) -> Encoded:
        """One HDF5 file.

        Raises:
            DataError: see `converters.rdt.vectors.vectors`, `cameras.choose`, `sample.first_step`.
        """
        task = instruction_of(episode)
        found = vectors(
            episode,
            schema,
            layout="absolute" if self.layout == "agilex" else self.layout,
            action_convention=self.action_convention,
            state_convention=self.state_convention,
            opening=self.gripper_opening,
        )
        declared = {slot: getattr(self, slot) for slot in ("cam_high", "cam_right_wrist", "cam_left_wrist")}
        cameras = choose(list(episode.frames), declared)
        state, action, masks = self._stored(found, cameras)
        first = first_step(state, self.rules)
        blob, images = rdt_file.encode(
            state=state,
            action=action,
            masks=masks,
            frames={slot: episode.frames[name] for slot, name in cameras.items()},
            encoding=self.images,
            quality=self.jpeg_quality,
            channels=self.channel_order,
            facts={"instruction": task, "vla_data_id": episode.id, "control_freq": float(schema.fps)},
        )
        summary: dict[str, Json] = {
            "length": len(episode),
            "first": first,
            "task": task,
            "cameras": cameras,
            "fps": float(schema.fps),
            "slots": {"state": _used(found.state_mask), "action": _used(found.action_mask)},
            "conventions": {
                "action": found.action_convention.to_json(),
                "state": found.state_convention.to_json(),
                "source_action": found.source.to_json(),
            },
            "rules": dict(found.rules),
            "split": str("train" if episode.meta.split is None else episode.meta.split),
        }
        return Encoded([blob], summary, content_digest(task, {"action": action, "state": state}, images))

    def _stored(
        self, found: Vectors, cameras: Mapping[str, str]
    ) -> tuple[rdt_file.Floats, rdt_file.Floats, tuple[np.ndarray, np.ndarray] | None]:
        """State and action as the file has them, and their masks where it has such."""
        if self.layout != "agilex":
            return found.state, found.action, (found.state_mask, found.action_mask)
        slots = set(rdt_file.AGILEX)
        if {*_used(found.state_mask)} != slots or {*_used(found.action_mask)} != slots:
            raise DataError("E232", "the layout agilex needs two arms of six joints and a gripper each")
        if len(cameras) != 3:
            raise DataError("E206", f"RDT's class needs three cameras; there are {', '.join(cameras)}")
        at = list(rdt_file.AGILEX)
        state = found.state[:, at] * rdt_file.AGILEX_STATE
        return state, found.action[:, at] * rdt_file.AGILEX_ACTION, None

    def split_of(self, episodes: Sequence[Published]) -> dict[str, str]:
        """Id -> the split that the source gave it, or ``train``. RDT reads all files."""
        return {episode.id: str(episode.summary["split"]) for episode in episodes}

    def assemble(self, episodes: Sequence[Published], schema: Schema, folder: Path) -> None:
        """Write files and configuration; one episode is in memory at a time.

        Raises:
            UsageError: E005 for episodes whose numbers mean different things.
        """
        for number, episode in enumerate(episodes):
            place = folder / file_name(number, str(episode.summary["task"]))
            make_folder(place.parent)
            write_file(place, episode.read(), sync=False)
            text = place.parent / rdt_file.INSTRUCTIONS
            if not text.exists():
                write_file(text, rdt_file.instructions_text(str(episode.summary["task"])), sync=False)
        for name, content in self._tables(episodes).items():
            make_folder((folder / name).parent)
            write_file(folder / name, content, sync=False)

    def _tables(self, episodes: Sequence[Published]) -> dict[str, bytes]:
        """Name -> content of what is said of all episodes."""
        facts = dataset_facts(self.name, self.layout, self.rules, [e.summary for e in episodes])
        facts |= {"images": self.images, "channel_order": self.channel_order}
        stat = rdt_config.statistics(self.name, (_trained(e) for e in episodes))
        files = rdt_config.configs(self.name, fps=facts["control_freq"], cameras=facts["cameras"], stat=stat)
        tables = {FACTS: facts} | {f"{rdt_config.FOLDER}/{name}": content for name, content in files.items()}
        return {
            name: json.dumps(content, indent=4, ensure_ascii=False).encode() + b"\n"
            for name, content in tables.items()
        }

    def check(self, folder: Path, episodes: Sequence[Published]) -> None:
        """Read every file back, by its digest, and instructions and configuration whole."""
        for number, episode in enumerate(episodes):
            task = str(episode.summary["task"])
            place = folder / file_name(number, task)
            with machine_errors("cannot read back"):
                same = place.is_file() and hash_file(place) == episode.blob_sha256
                text = place.parent / rdt_file.INSTRUCTIONS
                same = same and text.is_file() and text.read_bytes() == rdt_file.instructions_text(task)
            if not same:
                raise VerifyError(
                    "E601", f"{file_name(number, task)} is not what was written ({show(episode.id)})"
                )
        for name, content in self._tables(episodes).items():
            with machine_errors("cannot read back"):
                if (folder / name).read_bytes() != content:
                    raise VerifyError("E601", f"{name} is not what was written")


def file_name(number: int, task: str) -> str:
    """Where an episode's file is: a folder for each instruction, since RDT has one file of instructions a folder.

    The folder's name ends in eight digits of the text's SHA-256, so that two texts never share one.
    """
    digest = hashlib.sha256(task.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "_", task.lower()).strip("_")[:60].strip("_") or "task"
    return f"{slug}_{digest}/episode_{number:06d}.hdf5"


def dataset_facts(
    name: str, layout: str, rules: Rules, summaries: Sequence[Mapping[str, Json]]
) -> dict[str, Json]:
    """What `FACTS` says of all episodes.

    Raises:
        UsageError: E005 where they differ in it.
    """
    keys = ("slots", "conventions", "cameras", "rules", "fps")
    for key in keys:
        kinds = {json.dumps(summary[key], sort_keys=True) for summary in summaries}
        if len(kinds) > 1:
            raise UsageError("E005", f"the episodes have {len(kinds)} different {key}")
    first = summaries[0]
    lengths = [int(summary["length"]) for summary in summaries]
    return {
        "dataset_name": name,
        "layout": layout,
        "size": rdt_slots.SIZE,
        "slot_names": {key: [rdt_slots.name_of(s) for s in slots] for key, slots in first["slots"].items()},
        "control_freq": first["fps"],
        "chunk": rules.chunk,
        "history": rules.history,
        "shortest": rules.shortest,
        "moves": rules.moves,
        "episodes": len(lengths),
        "left_out_by_rdts_class": sum(length < CLASS_SHORTEST for length in lengths),
        **{key: first[key] for key in ("slots", "conventions", "cameras", "rules")},
    }


def action_convention(facts: Mapping[str, Json]) -> tuple[Convention, Convention]:
    """From `FACTS`: what the actions of the files mean, and what those of the simulator do; for `to_actions`."""
    found = facts["conventions"]
    return Convention.from_json(found["action"]), Convention.from_json(found["source_action"])


def _used(mask: np.ndarray) -> list[int]:
    return [int(slot) for slot in np.flatnonzero(mask)]


def _trained(episode: Published) -> rdt_config.Pair:
    """States and actions in the slots, of the steps that are trained on."""
    first = int(episode.summary["first"])
    with h5py.File(io.BytesIO(episode.read()), "r") as file:
        state, action = file["observations/qpos"][first:], file["action"][first:]
    if state.shape[1] == rdt_slots.SIZE:
        return state, action
    return rdt_file.placed(state / rdt_file.AGILEX_STATE), rdt_file.placed(action / rdt_file.AGILEX_ACTION)

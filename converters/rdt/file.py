"""One episode of RDT as an HDF5 file, in the layout that its ``data/hdf5_vla_dataset.py`` reads.

::

    observations/qpos             (T, 128), or (T, 14) in the layout of AgileX's robot
    action                        the same
    observations/images/<camera>  T JPEG or PNG files; cam_high, cam_right_wrist, cam_left_wrist
    state_indicator               (128,) which slots of qpos are filled; not of (T, 14)
    action_indicator              (128,)
    attributes                    instruction, control_freq, channel_order, vla_data_id

and ``expanded_instruction_gpt-4-turbo.json`` beside it, for all episodes of the folder.

**Channels.** RDT's class decodes images with OpenCV, which gives BGR, and takes them for RGB. It sees the right
colours only of files whose channels were swapped before encoding (``channel_order`` bgr), as AgileX's are.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from converters.hdf5.images import encoded_frames
from converters.rdt import cameras as rdt_cameras
from converters.rdt import slots as rdt_slots
from converters.robomimic.file import LIBVER, attribute, dataset
from vla_data.core import Json
from vla_data.errors import DataError
from vla_data.media.frames import Frames
from vla_data.media.images import Encoding
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.hdf5 import File, Group
from vla_data.safety.hdf5_heaps import check_heaps
from vla_data.safety.text import show

Floats = NDArray[np.float64]
Channels = Literal["bgr", "rgb"]

INSTRUCTIONS: Final = "expanded_instruction_gpt-4-turbo.json"
KINDS: Final = ("instruction", "simplified_instruction", "expanded_instruction")
"""Keys of that file; RDT's class draws one of the three and fails where one is missing."""

AGILEX: Final = (*range(50, 56), 60, *range(6), 10)
"""Slots of the 14 numbers: left arm and gripper, right arm and gripper."""
AGILEX_STATE: Final = np.array([1.0] * 6 + [4.7908] + [1.0] * 6 + [4.7888])
AGILEX_ACTION: Final = np.array([1.0] * 6 + [11.8997] + [1.0] * 6 + [13.9231])
"""What RDT's class divides by, so that grippers are in [0, 1]."""

MAX_STEPS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RdtFile:
    """What a file holds.

    Attributes:
        raw: ``(T, D)``: ``qpos`` as it lies in the file, by which RDT's class finds the first motion.
        state: ``(T, 128)``.
        action: ``(T, 128)``.
        state_mask: ``(128,)``.
        action_mask: ``(128,)``.
        declared: the file has these masks; otherwise they are of the slots that are ever other than 0.
        frames: camera -> images.
        instructions: key -> wordings.
        facts: attributes.
    """

    raw: Floats
    state: Floats
    action: Floats
    state_mask: NDArray[np.bool_]
    action_mask: NDArray[np.bool_]
    declared: bool
    frames: Mapping[str, Frames]
    instructions: Mapping[str, Sequence[str]]
    facts: Mapping[str, Any] = field(default_factory=dict)


def encode(
    *,
    state: Floats,
    action: Floats,
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None,
    frames: Mapping[str, Frames],
    encoding: Encoding,
    quality: int,
    channels: Channels,
    facts: Mapping[str, str | float],
) -> tuple[bytes, dict[str, list[bytes]]]:
    """The bytes of a file, the same for the same content; and its encoded images by camera."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=LIBVER) as file:
        for path, values in (("observations/qpos", state), ("action", action)):
            dataset(file, path, values.shape, np.dtype("<f8"), gzip=4)[...] = values
        if masks is not None:
            for name, mask in zip(("state_indicator", "action_indicator"), masks, strict=True):
                file.create_dataset(name, data=mask, track_times=False)
        images = {}
        for camera, shot in frames.items():
            images[camera] = list(_encoded(shot, encoding, quality, channels))
            rows = np.asarray(images[camera], dtype=f"S{max(map(len, images[camera]))}")
            dataset(file, f"observations/images/{camera}", rows.shape, rows.dtype, gzip=0)[...] = rows
        for key, value in facts.items():
            file.attrs[key] = attribute(key, value) if isinstance(value, str) else value
        file.attrs["channel_order"] = channels
        file.attrs["compress"] = True
    return buffer.getvalue(), images


def _encoded(frames: Frames, encoding: Encoding, quality: int, channels: Channels) -> Sequence[bytes]:
    if channels == "rgb":
        return list(frames.encoded(encoding, quality=quality))
    swapped = Frames(tuple(_Swapped(frames, i) for i in range(len(frames))), frames.height, frames.width)
    return list(swapped.encoded(encoding, quality=quality))


@dataclass(frozen=True, slots=True)
class _Swapped:
    """An image with red and blue exchanged, made when it is encoded."""

    frames: Frames
    at: int

    def pixels(self) -> NDArray[np.uint8]:
        """``(height, width, 3)``."""
        return np.ascontiguousarray(self.frames.pixels(self.at)[..., ::-1])


def instructions_text(task: str) -> bytes:
    """The content of the file of instructions: one wording under all keys."""
    return json.dumps(dict.fromkeys(KINDS, task), indent=4, ensure_ascii=False).encode() + b"\n"


def read(path: Path, *, root: Path, channels: Channels | None = None, images: bool = True) -> RdtFile:
    """Read a file, ours or another's in the same layout.

    Args:
        path: the file.
        root: the folder that no link may lead out of.
        channels: of its images; None: what the file says, else "bgr", which is what RDT's class takes them for.
        images: read them too.

    Raises:
        DataError: for what it can't be, by the codes of `vla_data.errors`.
    """
    check_heaps(path, root=root)
    file = File(path, root=root)
    top = file.top
    qpos = _numbers(top.group("observations"), "qpos")
    action = _numbers(top, "action")
    if qpos.shape != action.shape:
        raise DataError("E204", f"qpos has shape {qpos.shape} and action {action.shape}; they must be alike")
    facts = top.attributes()
    state_mask, action_mask, declared = _masks(top, qpos, action)
    if qpos.shape[1] == len(AGILEX):
        state, acts = placed(qpos / AGILEX_STATE), placed(action / AGILEX_ACTION)
    else:
        state, acts = qpos, action
    order = channels or ("rgb" if facts.get("channel_order") == "rgb" else "bgr")
    frames: dict[str, Frames] = {}
    observations = top.group("observations")
    if images and "images" in observations:
        cameras = observations.group("images")
        for slot in rdt_cameras.SLOTS:
            if slot in cameras:
                frames[slot] = encoded_frames(cameras.table(slot), "none", order)
                if len(frames[slot]) != len(qpos):
                    raise DataError("E204", f"{slot} has {len(frames[slot]):,} images for {len(qpos):,} steps")
    return RdtFile(
        raw=qpos,
        state=state,
        action=acts,
        state_mask=state_mask,
        action_mask=action_mask,
        declared=declared,
        frames=frames,
        instructions=_instructions(path, root, facts),
        facts=facts,
    )


def _numbers(group: Group, name: str) -> Floats:
    table = group.table(name)
    width = table.shape[1] if len(table.shape) == 2 else 0
    if width not in (rdt_slots.SIZE, len(AGILEX)) or table.kind != "number" or table.dtype.kind not in "fiu":
        raise DataError("E203", f"{show(name)} is {table.shape} {table.dtype}, not (T, 128) or (T, 14) numbers")
    if not 0 < len(table) <= MAX_STEPS:
        raise DataError("E207" if len(table) == 0 else "E107", f"{show(name)} has {len(table):,} steps")
    values = table.read().astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            "E201", f"{show(name)} is not finite at step {int(np.argwhere(~np.isfinite(values))[0][0])}"
        )
    return values


def placed(values: Floats) -> Floats:
    """``(T, 128)`` of AgileX's 14 numbers, already divided."""
    out = np.zeros((len(values), rdt_slots.SIZE))
    out[:, AGILEX] = values
    return out


def _masks(top: Group, qpos: Floats, action: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_], bool]:
    if qpos.shape[1] == len(AGILEX):
        mask = np.zeros(rdt_slots.SIZE, dtype=np.bool_)
        mask[list(AGILEX)] = True
        return mask, mask.copy(), True
    found = []
    for name, values in (("state_indicator", qpos), ("action_indicator", action)):
        if name not in top:
            found.append((values != 0).any(axis=0))
            continue
        table = top.table(name)
        if table.shape != (rdt_slots.SIZE,):
            raise DataError("E203", f"{name} is {table.shape}, not (128,)")
        found.append(table.read().astype(np.float64) != 0)
    return found[0], found[1], "state_indicator" in top and "action_indicator" in top


def _instructions(path: Path, root: Path, facts: Mapping[str, Any]) -> dict[str, list[str]]:
    beside = path.parent / INSTRUCTIONS
    if not beside.exists():
        told = facts.get("instruction")
        return {"instruction": [told]} if isinstance(told, str) else {}
    value: Json = strict_json.loads(read_file(beside, root=root)[0], name=INSTRUCTIONS)
    out = {}
    for key in KINDS:
        wordings = value.get(key) if isinstance(value, dict) else None
        wordings = [wordings] if isinstance(wordings, str) else wordings
        if not isinstance(wordings, list) or not wordings or not all(isinstance(w, str) for w in wordings):
            raise DataError("E211", f"{INSTRUCTIONS} has no {key}")
        out[key] = wordings
    return out

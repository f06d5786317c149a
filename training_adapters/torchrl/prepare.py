"""What TorchRL needs beside its code: the dataset, its metadata, a program that makes a replay buffer of them.

TorchRL (0.14.1) has a schema for such data (``torchrl.data.vla``) and ``LeRobotExperienceReplay``, which samples
slices of episodes from tensors that are mapped from disk. The program of ours makes these tensors once, by its
``lerobot_columns_to_tensordict``, checks them with its ``validate_vla_tensordict``, and gives the buffer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from vla_data.core import Feature, Json
from vla_data.preparing import Extras, Prepared
from vla_data.statistics import VectorStats

FORMAT: Final = "lerobot"
NEEDS_GATE: Final = False
CHUNK: Final = 8
_KINDS: Final = {
    ("absolute", "joints"): "joint_position",
    ("absolute", "translation"): "eef_pose",
    ("delta", "joints"): "joint_delta",
    ("delta", "translation"): "eef_delta",
}
_TYPES: Final = {"bool": 1, "uint8": 1, "int8": 1, "float16": 2, "int16": 2, "uint16": 2, "float32": 4, "int32": 4}


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `vla_data.preparing.job.Preparation`."""
    del name
    return given


def place(name: str) -> str:
    """See `vla_data.preparing.job.Preparation`."""
    return name


def action_space(action: Feature) -> str:
    """What TorchRL calls an action's meaning; "unknown" where nobody declared it."""
    kind = str(action.convention.get("kind", "undeclared"))
    if kind == "velocity":
        return "velocity"
    parts = {part.rpartition("_")[2] for part in action.convention.get("layout") or {}}
    found = {name for (told, part), name in _KINDS.items() if told == kind and part in parts}
    return "unknown" if not found else found.pop() if len(found) == 1 else "mixed"


def gripper_mode(action: Feature) -> str:
    """What TorchRL calls a gripper's command."""
    layout = action.convention.get("layout") or {}
    if not layout:
        return "unknown"
    if not any(part.rpartition("_")[2] == "gripper" for part in layout):
        return "none"
    control = action.convention.get("gripper_control")
    return {"direction": "binary", "position": "continuous"}.get(str(control), "unknown")


def metadata(prepared: Prepared) -> dict[str, Json]:
    """The fields of TorchRL's ``RobotDatasetMetadata``, as its ``from_json`` reads them."""
    action = prepared.feature("action")
    stats: VectorStats | None = None
    for ref in prepared.source.episodes():
        values = np.asarray(prepared.source.read(ref).arrays["action"], dtype=np.float64)
        stats = VectorStats.of(values) if stats is None else stats.update(values)
    assert stats is not None
    return {
        "dataset_id": f"local/{prepared.name}",
        "embodiment_id": prepared.schema.robot,
        "action_dim": int(action.shape[0]),
        "action_space": action_space(action),
        "gripper_mode": gripper_mode(action),
        "control_frequency_hz": float(prepared.schema.fps),
        "camera_keys": [["observation", "image", name.rpartition(".")[2]] for name in prepared.cameras],
        "action_mean": np.asarray(stats.mean).tolist(),
        "action_std": np.asarray(stats.std).tolist(),
        "action_low": np.asarray(stats.min).tolist(),
        "action_high": np.asarray(stats.max).tolist(),
    }


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    told = metadata(prepared)
    chunk = int(prepared.options.get("action_horizon") or CHUNK)
    row = sum(
        math.prod(feature.shape) * _TYPES.get(feature.dtype, 1 if feature.dtype == "image" else 8)
        for feature in prepared.schema.features.values()
    )
    return Extras(
        files={
            "metadata.json": json.dumps(told, indent=2) + "\n",
            "torchrl_replay.py": _PROGRAM.format(
                dataset=repr(str(prepared.folder)),
                root=repr(str(prepared.out / "replay")),
                name=prepared.name,
                metadata=repr(str(prepared.out / "metadata.json")),
                chunk=chunk,
            ),
        },
        command=[f"python {prepared.word('torchrl_replay.py')}   # makes the buffer once, and shows a batch"],
        facts=[
            f"actions are {told['action_space']}, grippers {told['gripper_mode']}, as declared",
            f"the buffer holds pixels: {row:,} bytes a step, which are in memory once while it is made",
            "in Python: from torchrl_replay import buffer, METADATA",
        ],
    )


_PROGRAM: Final = '''"""A replay buffer of one dataset, in TorchRL's schema for VLA data. Made by vla-data."""

from pathlib import Path

import numpy as np
import torch
from torchrl.data.datasets import LeRobotExperienceReplay
from torchrl.data.datasets.lerobot import lerobot_columns_to_tensordict
from torchrl.data.vla import RobotDatasetMetadata, validate_vla_tensordict

import vla_data as vd

DATASET = {dataset}
ROOT = Path({root})
NAME = "local/{name}"
CHUNK = {chunk}
METADATA = RobotDatasetMetadata.from_json({metadata})


def columns():
    """LeRobot's columns of the whole dataset; images as (N, 3, height, width) uint8.

    Double precision becomes single, which TorchRL's policies take.
    """
    source = vd.open_source(DATASET)
    out = {{}}
    for number, ref in enumerate(source.episodes()):
        episode = source.read(ref)
        own = {{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in episode.arrays.items()
               if array.dtype.kind in "biuf"}}
        for name, frames in episode.frames.items():
            pixels = np.stack([frames.pixels(t) for t in range(len(frames))])
            own[name] = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        own["episode_index"] = torch.full((len(episode),), number)
        own["frame_index"] = torch.arange(len(episode))
        for name, tensor in own.items():
            out.setdefault(name, []).append(tensor.float() if tensor.dtype == torch.float64 else tensor)
        out.setdefault("task", []).extend([episode.task] * len(episode))
    return {{name: values if name == "task" else torch.cat(values) for name, values in out.items()}}


def make():
    """Make the tensors on disk, unless they are there."""
    place = ROOT / NAME.replace("/", "_")
    if not place.exists():
        data = lerobot_columns_to_tensordict(columns())
        validate_vla_tensordict(data)
        making = place.with_name(place.name + ".making")
        data.memmap(making)
        making.rename(place)


def buffer(batch_size=16, slice_len=CHUNK, **options):
    """The replay buffer, which samples slices of episodes."""
    make()
    return LeRobotExperienceReplay(
        NAME, root=ROOT, download=False, batch_size=batch_size, slice_len=slice_len, **options
    )


if __name__ == "__main__":
    print(buffer(batch_size=2 * CHUNK).sample())
'''

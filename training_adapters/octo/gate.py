"""What Octo's RLDS loader makes of a dataset, by its documented rules, on TFDS and TensorFlow themselves.

Octo (octo-models/octo, ``octo/data/dataset.py``, ``traj_transforms.py``, ``obs_transforms.py``) normalises actions
by mean and standard deviation except the gripper, takes windows of past frames and chunks of future actions, and
resizes primary images to 256x256 and wrist images to 128x128. It can't be installed from PyPI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from training_adapters.rlds_trajectories import Opened, config, instruction, open_rlds, readable, row, shrunk
from vla_data.core import Array, Json
from vla_data.errors import VerifyError
from vla_data.safety.text import show

WINDOW: Final = 2
HORIZON: Final = 4
BATCH: Final = 8
_SIDES: Final = {"primary": 256, "secondary": 256, "wrist": 128}


def read_back(folder: Path) -> dict[str, Json]:
    """Read every action and make one batch of windows and chunks.

    Raises:
        VerifyError: E601 for what Octo can't train on: actions that are not finite, episodes of one kind only that
            are shorter than needed, no text.
    """
    opened = open_rlds(folder, "octo")
    entry = config(opened)
    actions, unlabelled, batch, text = [], 0, None, ""
    with readable():
        for trajectory in opened.episodes():
            actions.append(trajectory["action"].astype(np.float32))
            found = instruction(trajectory)
            unlabelled += not found.strip()
            if batch is None:
                batch, text = _batch(opened, entry, trajectory), found
    every = np.concatenate(actions) if actions else np.zeros((0, 0), np.float32)
    if batch is None or not every.size or not np.isfinite(every).all():
        raise VerifyError("E601", "octo: no trajectory with finite actions")
    seen = {name: f"{value.dtype} {value.shape}" for name, value in batch.items()}
    warnings = list(_warnings(every, unlabelled, opened))
    lines = [
        f"  octo: {len(actions):,} trajectories, {len(every):,} transitions",
        f"  {json.dumps(entry['image_obs_keys'])}",
        f"  action mean {row(every.mean(axis=0, dtype=np.float64))}",
        f"  action std  {row(every.std(axis=0, dtype=np.float64))}",
        "  a batch:",
        *(f"    {name}: {what}" for name, what in seen.items()),
        f"    task.language_instruction: {show(text)}",
        *(f"  warning: {line}" for line in warnings),
    ]
    facts: dict[str, Json] = {"trajectories": len(actions), "transitions": len(every), "config": entry}
    return {**facts, "batch": seen, "warnings": warnings, "lines": lines}


def _batch(opened: Opened, entry: Json, trajectory: Any) -> dict[str, Array]:
    length = len(trajectory["action"])
    count = min(BATCH, length)
    past = np.arange(count)[:, None] + np.arange(1 - WINDOW, 1)
    ahead = np.clip(past, 0, None)[:, :, None] + np.arange(HORIZON)
    actions = trajectory["action"][np.clip(ahead, 0, length - 1)].astype(np.float32)
    # Octo's own rule, which counts two steps less than its comment says: it masks later than where padding begins.
    reached = np.arange(count)[:, None, None] + np.arange(WINDOW)[None, :, None] + np.arange(HORIZON) - WINDOW - 1
    is_action = reached < length - 1
    batch: dict[str, Array] = {
        "observation.timestep_pad_mask": past >= 0,
        "action": actions,
        "action_pad_mask": np.broadcast_to(is_action[..., None], actions.shape),
    }
    for slot, camera in entry["image_obs_keys"].items():
        if camera is None:
            continue
        data = [trajectory["observation"][camera][t] for t in range(count)]
        pixels = np.stack([opened.pixels(camera, item) for item in data])
        batch[f"observation.image_{slot}"] = shrunk(pixels, _SIDES[slot])[np.clip(past, 0, None)]
    if entry["state_obs_keys"]:
        state = np.asarray(trajectory["observation"]["state"], np.float32)
        batch["observation.proprio"] = state[np.clip(past, 0, None)]
    return batch


def _warnings(every: Array, unlabelled: int, opened: Opened) -> Iterator[str]:
    if unlabelled:
        yield f"{unlabelled:,} trajectories without an instruction"
    still = np.flatnonzero(every.std(axis=0) < 1e-6)
    if len(still):
        yield f"action dimensions {', '.join(map(str, still))} are constant: they are divided by 1e-8"
    if not any(slot == "wrist" and camera for slot, camera in config(opened)["image_obs_keys"].items()):
        yield "there is no wrist camera; Octo pads it with black, masked"

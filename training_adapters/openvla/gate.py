"""What OpenVLA's RLDS loader makes of a dataset, by its documented rules, on TFDS and TensorFlow themselves.

OpenVLA (``prismatic/vla/datasets/rlds``) standardises each trajectory by an entry in its tables, computes
statistics over all splits, maps actions to [-1, 1] by the 1 % and 99 % quantiles except the gripper, resizes
images to 224x224 (lanczos3) and turns each action dimension into one of 256 tokens. It can't be installed from
PyPI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from training_adapters.rlds_trajectories import Opened, config, instruction, open_rlds, readable, row, shrunk
from vla_data.core import Array, Json
from vla_data.errors import VerifyError
from vla_data.safety.text import show

SIDE: Final = 224
BATCH: Final = 8
_VOCABULARY: Final = 32_000
_BINS: Final = np.linspace(-1, 1, 256)


def read_back(folder: Path) -> dict[str, Json]:
    """Read every action and one batch of images.

    Raises:
        VerifyError: E601 for what OpenVLA can't train on: no seven-vector of finite actions, no text at all.
    """
    opened = open_rlds(folder, "openvla")
    entry = config(opened)
    actions, texts, unlabelled, batch = [], set(), 0, None
    with readable():
        for trajectory in opened.episodes():
            actions.append(trajectory["action"].astype(np.float32))
            text = instruction(trajectory)
            unlabelled += not text.strip()
            texts.add(text)
            if batch is None:
                batch = _images(opened, trajectory)
    every = np.concatenate(actions) if actions else np.zeros((0, 0), np.float32)
    if every.ndim != 2 or every.shape[1] != 7 or not np.isfinite(every).all():
        raise VerifyError("E601", f"openvla: actions of shape {every.shape[1:]}, not 7 finite numbers")
    if batch is None or unlabelled == len(actions):
        raise VerifyError("E601", "openvla: no episode has an instruction")
    low, high = (np.quantile(every, q, axis=0).astype(np.float64) for q in (0.01, 0.99))
    tokens = _tokens(_normalised(every[:1], low, high, every))
    first = min(text for text in texts if text.strip())
    warnings = list(_warnings(opened, every, unlabelled))
    lines = [
        f"  openvla: {len(actions):,} trajectories, {len(every):,} transitions, {len(texts):,} instructions",
        f"  OXE_DATASET_CONFIGS[{opened.name!r}]: {json.dumps(entry['image_obs_keys'])}, ActionEncoding.EEF_POS",
        f"  q01 {row(low)}",
        f"  q99 {row(high)}",
        f"  pixel values: {batch.dtype} {batch.shape}",
        f"  prompt: In: What action should the robot take to {show(first.lower())}?",
        f"  first action as tokens: {tokens.tolist()}",
        *(f"  warning: {line}" for line in warnings),
    ]
    return {
        "trajectories": len(actions),
        "transitions": len(every),
        "config": entry,
        "q01": low.tolist(),
        "q99": high.tolist(),
        "tokens": tokens.tolist(),
        "warnings": warnings,
        "lines": lines,
    }


def _images(opened: Opened, trajectory: Json) -> Array:
    """The first steps' primary images, ``(B, 224, 224, 3)`` uint8."""
    data = trajectory["observation"][opened.cameras[0]][:BATCH]
    return shrunk(np.stack([opened.pixels(opened.cameras[0], item) for item in data]), SIDE)


def _normalised(actions: Array, low: Array, high: Array, every: Array) -> Array:
    """In float32, as TensorFlow does it there: a last bit more decides which token a value at an edge becomes."""
    mask = np.arange(actions.shape[1]) < actions.shape[1] - 1
    width = (high - low + 1e-8).astype(np.float32)
    scaled = np.clip(2 * (actions - low.astype(np.float32)) / width - 1, -1, 1)
    out = np.where(mask, scaled, actions)
    return np.where(every.min(axis=0) == every.max(axis=0), 0.0, out)


def _tokens(actions: Array) -> Array:
    tokens: Array = _VOCABULARY - np.digitize(np.clip(actions[0], -1, 1), _BINS)
    return tokens


def _warnings(opened: Opened, every: Array, unlabelled: int) -> Iterator[str]:
    if unlabelled:
        yield f"{unlabelled:,} trajectories without an instruction are left out"
    still = np.flatnonzero(every.min(axis=0) == every.max(axis=0))
    if len(still):
        yield f"action dimensions {', '.join(map(str, still))} are constant; OpenVLA trains on 0 there"
    gripper = every[:, -1]
    if gripper.min() < 0:
        yield "the gripper goes below 0; OpenVLA's own sets have 0 for closed and 1 for open"
    if "val" not in opened.splits:
        yield "there is no split val; OpenVLA takes the last 5 % of train"

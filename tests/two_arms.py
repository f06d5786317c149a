"""Recordings of two arms with a camera on each wrist, under UMI's names, at 30 Hz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import vla_data as vd

LENGTHS = (26, 28, 25)
TASKS = ("Fold the cloth.", "Fold the cloth.", "Pick up the apple.")
CAMERAS = ("camera0_rgb", "camera1_rgb")  # right, left


def steps(number: int) -> dict[str, np.ndarray[Any, Any]]:
    """Name -> array of an episode."""
    random, count = np.random.default_rng(number), LENGTHS[number % 3]
    out: dict[str, np.ndarray[Any, Any]] = {}
    for arm in (0, 1):
        walk = np.cumsum(random.normal(0, 0.01, (count, 3)), axis=0)
        out[f"observation.robot{arm}_eef_pos"] = (walk + np.array([0.4, 0.1 * arm, 0.2])).astype(np.float32)
        turn = random.normal(0, 1, 3) + np.cumsum(random.normal(0, 0.05, (count, 3)), axis=0)
        out[f"observation.robot{arm}_eef_rot_axis_angle"] = turn.astype(np.float32)
        out[f"observation.robot{arm}_gripper_width"] = random.uniform(0, 0.08, (count, 1)).astype(np.float32)
        colour = np.uint8([200, 30, 40] if arm == 0 else [20, 60, 210])
        pictures = np.broadcast_to(colour, (count, 48, 64, 3)).copy()
        pictures[:, :, :, 1] += np.arange(count, dtype=np.uint8)[:, None, None]
        out[f"observation.images.camera{arm}_rgb"] = pictures
    return out


def write(folder: Path, count: int = 3) -> Path:
    """Some recordings."""
    with vd.RolloutWriter(folder, fps=30) as writer:
        for number in range(count):
            episode = writer.episode(task=TASKS[number % 3])
            told = steps(number)
            for t in range(LENGTHS[number % 3]):
                episode.add({name: values[t] for name, values in told.items()})
            episode.end()
    return folder

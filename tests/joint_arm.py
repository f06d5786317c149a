"""Recordings of one arm: absolute joints and a gripper, the state in the same units, two cameras, at 10 Hz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import vla_data as vd
from vla_data.steps.features import Declare

LENGTHS = (9, 7)
TASKS = ("open the_drawer", "close the drawer")
_MEANS = (
    ("kind", "absolute"),
    ("layout", {"joints": [0, 1, 2, 3], "gripper": [4]}),
    ("joint_unit", "rad"),
    ("gripper_control", "position"),
    ("gripper_open", 1.0),
    ("gripper_closed", 0.0),
)
DECLARED = Declare(conventions=(("action", _MEANS), ("observation.state", _MEANS)))


def write(folder: Path) -> Path:
    """The recordings, in which nothing is declared yet."""
    with vd.RolloutWriter(folder, fps=10) as writer:
        for number, (length, task) in enumerate(zip(LENGTHS, TASKS, strict=True)):
            random, episode = np.random.default_rng(number), writer.episode(task=task)
            state = np.cumsum(random.normal(0, 0.1, (length, 5)), axis=0).astype(np.float32)
            action = state + random.normal(0, 0.05, (length, 5)).astype(np.float32)
            state[:, 4], action[:, 4] = random.uniform(0, 1, (2, length))
            for t in range(length):
                step: dict[str, Any] = {"action": action[t], "observation.state": state[t]}
                for camera, name in enumerate(("base", "wrist")):
                    picture = random.integers(0, 255, (24, 32, 3), dtype=np.uint8)
                    picture[:, :, camera] = 20 * number + t
                    step[f"observation.images.{name}"] = picture
                episode.add(step)
            episode.end()
    return folder

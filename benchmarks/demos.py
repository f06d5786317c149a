"""Seeded demonstrations in LIBERO's HDF5 layout, as OpenVLA's script regenerates them (observation before action).

    write_demos(folder, files=2, demos=4, size=128, steps=80)

Two cameras, bottom row first, uncompressed as LIBERO's files are; actions and frames as `benchmarks.episodes`
makes them. `DECLARED` is what such files do not say themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import h5py
import numpy as np

from benchmarks.episodes import make_actions, render

FPS: Final = 20
DECLARED: Final = (
    *("--layout", "libero", "--fps", str(FPS), "--observation-time", "before"),
    *("--image-orientation", "vflip"),
)
CAMERAS: Final = ("agentview_rgb", "eye_in_hand_rgb")


def write_demos(folder: Path, *, files: int, demos: int, size: int = 128, steps: int = 80, seed: int = 0) -> None:
    """Write ``files`` files of ``demos`` demos; demo ``i`` of file ``f`` depends on ``(seed, f, i)`` alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        with h5py.File(folder / f"pick_up_the_object_number_{number:04d}_demo.hdf5", "w") as file:
            for i in range(demos):
                _write(file.create_group(f"data/demo_{i}"), np.random.default_rng([seed, number, i]), size, steps)


def _write(demo: h5py.Group, rng: np.random.Generator, size: int, steps: int) -> None:
    actions, carrying = make_actions(rng, steps)
    pose = np.cumsum(actions[:, :6].astype(np.float64), axis=0)
    fingers = np.repeat(actions[:, 6:].astype(np.float64) * 0.02 + 0.02, 2, axis=1)
    joints = rng.normal(size=(steps, 7))
    demo["actions"] = actions.astype(np.float64)
    demo["dones"] = (np.arange(steps) == steps - 1).astype(np.uint8)
    demo["rewards"] = (np.arange(steps) == steps - 1).astype(np.uint8)
    demo["states"] = rng.normal(size=(steps, 92))
    demo["robot_states"] = np.concatenate([fingers, joints], axis=1)
    for key, value in {
        "ee_states": pose,
        "ee_pos": pose[:, :3],
        "ee_ori": pose[:, 3:],
        "gripper_states": fingers,
        "joint_states": joints,
    }.items():
        demo[f"obs/{key}"] = value
    for camera in CAMERAS:
        frames = render(rng, actions, carrying, size=(size, size), count=steps)
        demo[f"obs/{camera}"] = np.stack([frame[::-1] for frame in frames])

"""HDF5 files for tests: real cuts, the same as others would have recorded them, and synthetic ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from converters.hdf5.source import Hdf5Source
from tests.paths import TESTS
from vla_data.core import Episode

DATA = TESTS / "data/hdf5"
LIBERO = DATA / "libero_spatial0_demo.hdf5"
ROBOMIMIC = DATA / "robomimic_lift.hdf5"
MANISKILL = DATA / "maniskill_PickCube.h5"
ALOHA = DATA / "aloha_episode_0.hdf5"
DECLARED: Mapping[Path, Mapping[str, Any]] = {
    LIBERO: {},
    ROBOMIMIC: {"task": "lift the cube"},
    MANISKILL: {"task": "pick up the cube", "fps": 20},
    ALOHA: {"task": "hand over the cube", "fps": 50, "channel_order": "rgb"},
}
"""The real files, with what each of them does not say."""


def source(path: Path, **options: Any) -> Hdf5Source:
    return Hdf5Source(root=path, **{**DECLARED.get(path, {}), **options})


def read(path: Path, at: int = 0, **options: Any) -> Episode:
    opened = source(path, **options)
    return opened.read(opened.episodes()[at])


def pixels(episode: Episode, camera: str) -> NDArray[np.uint8]:
    frames = episode.frames[camera]
    return np.stack([frames.pixels(i) for i in range(len(frames))])


def regenerated(original: Path, target: Path) -> Path:
    """A LIBERO file as OpenVLA's script would have written it of the same motions: views of before each action.

    LIBERO's file has views of after each, so the first action, whose view nobody recorded, is not in it. As in the
    script's files there is no attribute, and the first state is the one before the arm had settled.
    """
    with h5py.File(original) as old, h5py.File(target, "w") as new:
        for name in old["data"]:
            demo, made = old["data"][name], new.create_group(f"data/{name}")
            for key in ("actions", "rewards", "dones"):
                made[key] = demo[key][1:]
            states = demo["states"][1:]
            states[0] = demo.attrs["init_state"]
            made["states"] = states
            made["robot_states"] = demo["robot_states"][:-1]
            for key in demo["obs"]:
                made[f"obs/{key}"] = demo[f"obs/{key}"][:-1]
    return target


def robomimic_file(path: Path, *, steps: int = 5, demos: tuple[str, ...] = ("demo_0",), **changed: Any) -> Path:
    """A small file in robomimic's layout. ``changed``: dataset -> its value, or None for no such dataset."""
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(
            {"env_name": "Toy", "env_kwargs": {"control_freq": 10}}
        )
        for number, name in enumerate(demos):
            rng = np.random.default_rng(number)
            content: dict[str, Any] = {
                "actions": rng.uniform(-1, 1, (steps, 7)),
                "obs/eef": rng.normal(size=(steps, 3)),
                "obs/front": rng.integers(0, 256, (steps, 8, 10, 3), dtype=np.uint8),
            }
            content.update({key.replace("__", "/"): value for key, value in changed.items()})
            for key, value in content.items():
                if value is not None:
                    file[f"data/{name}/{key}"] = value
    return path


def edited(original: Path, target: Path, edit: Callable[[h5py.File], object]) -> Path:
    """A copy of a real file after ``edit`` of it."""
    shutil.copy(original, target)
    side = original.with_suffix(".json")
    if side.exists():
        shutil.copy(side, target.with_suffix(".json"))
    with h5py.File(target, "r+") as file:
        edit(file)
    return target


def replace(file: h5py.File, name: str, value: Any, **options: Any) -> None:
    if name in file:
        del file[name]
    file.create_dataset(name, data=value, **options)

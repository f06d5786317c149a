"""Small CALVIN datasets, written with NumPy as CALVIN writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

TASKS = ("turn off the light", "open the drawer", "push the block left")
KINDS = ("turn_off_led", "open_drawer", "push_block_left")
WINDOWS = ((10, 13), (12, 16), (20, 22))
PLAY = ((10, 16), (20, 22))


def frame(number: int) -> dict[str, Any]:
    """What is in a frame; its number can be told from everything."""
    pick = np.random.default_rng(number)
    state = pick.uniform(-1, 1, 15)
    state[6] = pick.uniform(0, 0.08)  # the width of the gripper
    action = np.append(state[:6] + pick.uniform(-0.03, 0.03, 6), pick.choice((-1.0, 1.0)))
    scale = np.asarray([0.02] * 3 + [0.05] * 3)
    relative = np.append(np.clip(action[:6] - state[:6], -scale, scale) / scale, action[6])
    return {
        "actions": action,
        "rel_actions": relative,
        "robot_obs": state,
        "scene_obs": pick.uniform(-1, 1, 24),
        "rgb_static": np.full((16, 20, 3), number, np.uint8),
        "rgb_gripper": pick.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        "rgb_tactile": pick.integers(0, 256, (6, 4, 6), dtype=np.uint8),
        "depth_static": pick.random((16, 20)).astype(np.float32),
    }


def annotations(windows: Any = WINDOWS, tasks: Any = TASKS, kinds: Any = KINDS) -> Any:
    """``auto_lang_ann.npy``."""
    emb = np.zeros((len(tasks), 1, 4), np.float32)
    return {
        "language": {"ann": list(tasks), "task": list(kinds), "emb": emb},
        "info": {"episodes": [], "indx": [tuple(window) for window in windows]},
    }


def save(path: Path, value: Any) -> None:
    """What ``np.save`` makes of anything."""
    np.save(path, value, allow_pickle=True)


def write(root: Path, *, language: bool = True) -> Path:
    """A split: two recordings, three windows."""
    root.mkdir(parents=True)
    for first, last in PLAY:
        for number in range(first, last + 1):
            np.savez_compressed(root / f"episode_{number:07d}.npz", **frame(number))
    save(root / "ep_start_end_ids.npy", np.asarray(PLAY))
    save(root / "scene_info.npy", {"calvin_scene_D": [0, 16], "calvin_scene_A": [17, 30]})
    if language:
        (root / "lang_annotations").mkdir()
        save(root / "lang_annotations/auto_lang_ann.npy", annotations())
    return root

"""Rollouts as ript-vla's runners give them, in both forms."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 5
TASK = "put the bowl on the plate"


def quest(seed: int = 0) -> dict[str, Any]:
    """One environment's part of ``LiberoRunner_rl.run_episode``."""
    random = np.random.default_rng(seed)
    return {
        "agentview_rgb": random.integers(0, 255, (STEPS + 1, 16, 16, 3)).astype(np.uint8),
        "eye_in_hand_rgb": random.integers(0, 255, (STEPS + 1, 12, 12, 3)).astype(np.uint8),
        "gripper_states": random.normal(size=(STEPS + 1, 2)),
        "joint_states": random.normal(size=(STEPS + 1, 7)),
        "actions": random.uniform(-1, 1, (STEPS, 7)).astype(np.float32),
        "context_tokens": random.normal(size=(2, 3, 4)).astype(np.float32),
        "action_indices": random.integers(0, 100, (2, 4)),
        "policy_inference_steps": np.array([2]),
        "init_hash": f"{seed:064x}",
    }


def oft(seed: int = 0, *, fillers: int = 2) -> dict[str, Any]:
    """One environment's part of ``OpenVLAOFTLiberoRunner.run_episode``."""
    random = np.random.default_rng(seed)

    def seen() -> dict[str, Any]:
        return {
            "full_image": random.integers(0, 255, (16, 16, 3)).astype(np.uint8),
            "wrist_image": random.integers(0, 255, (12, 12, 3)).astype(np.uint8),
            "state": random.normal(size=8),
        }

    chunks = [random.normal(size=(8, 7)).astype(np.float32) for _ in range(STEPS)]
    nothing: list[Any] = [None] * fillers
    return {
        "actions": [random.uniform(-1, 1, 7).tolist() for _ in range(STEPS)] + [[0, 0, 0, 0, 0, 0, -1]] * fillers,
        "valid": [True] * STEPS + [False] * fillers,
        "actions_normalized": chunks + nothing,
        "log_prob": [-np.abs(chunk) for chunk in chunks] + nothing,
        "observations": [seen() for _ in range(STEPS)] + nothing,
        "task_description": [TASK] * (STEPS + fillers),
        "init_hash": f"{seed:064x}",
    }


def write(folder: Path, told: Any, name: str = "rollouts.pkl") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(told))
    return folder

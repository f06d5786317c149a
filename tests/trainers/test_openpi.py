"""openpi itself trains a step on what was prepared for it, and the numbers that its model gets are ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import joint_arm
from tests.trainers.judging import LIBERO, Trainer, chunk, episodes, made, matching
from training_adapters.openpi.gate import resize_with_pad
from vla_data.core import Array, Episode

OPENPI = Trainer("openpi")
pytestmark = [pytest.mark.nightly, OPENPI.needed]

HORIZON, BATCH, WIDTH = 10, 4, 32
SMALL = [
    *("set", "--exp-name=first", "--model.paligemma-variant=dummy", "--model.action-expert-variant=dummy"),
    *(f"--batch-size={BATCH}", "--num-train-steps=1", "--no-wandb-enabled", "--log-interval=1"),
]
"""What a user types to make the model small."""


def quantiles(values: Array) -> Any:
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    return np.quantile(flat, 0.01, axis=0), np.quantile(flat, 0.99, axis=0)


def normalised(values: Array, pair: Any) -> Array:
    """As pi0.5 takes numbers, filled up with zeros."""
    low, high = pair
    scaled = (values - low) / (high - low + 1e-6) * 2 - 1
    return np.pad(scaled, [(0, 0)] * (scaled.ndim - 1) + [(0, WIDTH - scaled.shape[-1])])


def relative(episode: Episode, t: int, relative_to_state: tuple[int, ...]) -> Array:
    actions = chunk(episode.arrays["action"], t, HORIZON).astype(np.float64)
    for i in relative_to_state:
        actions[:, i] -= episode.arrays["observation.state"][t, i]
    return actions


@pytest.mark.parametrize("kind", ["deltas", "absolute joints"])
def test_a_step_is_trained_on_our_numbers(kind: str, tmp_path: Path) -> None:
    out, steps, joints = tmp_path / "out", (), ()
    workers = "--num-workers=2"  # started anew, so that they import the generated module; openpi's own number
    if kind == "deltas":
        source = LIBERO
    else:
        source, steps, joints = joint_arm.write(tmp_path / "in"), (joint_arm.DECLARED,), (0, 1, 2, 3)
        workers = "--num-workers=0"
    made(out, "openpi", source, steps, options={"action_horizon": HORIZON})
    told = OPENPI.judge(
        *("openpi_step.py", out, "set", tmp_path / "seen.npz", *SMALL),
        *(workers, f"--checkpoint-base-dir={tmp_path}/checkpoints"),
        cwd=OPENPI.repo,
        HF_LEROBOT_HOME=str(out / "lerobot"),
        OPENPI_DATA_HOME=str(tmp_path / "data"),
        HF_HOME=str(tmp_path / "hf"),
        HOME=str(tmp_path / "home"),
        JAX_PLATFORMS="cpu",
    )
    assert told["steps"] == 1
    (loss,) = told["losses"]
    assert np.isfinite(loss)
    assert (tmp_path / "checkpoints/set/first/0/params").is_dir()

    seen = np.load(tmp_path / "seen.npz")
    frames = [(episode, t) for episode in episodes(source) for t in range(len(episode))]
    chunks = np.stack([relative(episode, t, joints) for episode, t in frames])
    states = np.stack([episode.arrays["observation.state"][t] for episode, t in frames])
    wanted = normalised(chunks, quantiles(chunks)), normalised(states, quantiles(states))
    assert seen["actions"].shape == (BATCH, HORIZON, WIDTH)
    rows = matching(seen["actions"], wanted[0])
    np.testing.assert_allclose(seen["state"], wanted[1][rows], rtol=1e-6, atol=1e-6)
    for number, row in enumerate(rows):
        episode, t = frames[row]
        bins = np.digitize(seen["state"][number], np.linspace(-1, 1, 257)[:-1]) - 1
        text = episode.task.strip().replace("_", " ")
        assert told["prompts"][number] == f"Task: {text}, State: {' '.join(map(str, bins))};\nAction: "
        for slot, camera in zip(("base_0_rgb", "left_wrist_0_rgb"), sorted(episode.frames), strict=True):
            pixels = resize_with_pad(episode.frames[camera].pixels(t), 224)
            np.testing.assert_allclose(seen[f"image.{slot}"][number], pixels / 127.5 - 1, atol=1e-6)
        assert (seen["image.right_wrist_0_rgb"][number] == -1).all()
    for slot, there in (("base_0_rgb", True), ("left_wrist_0_rgb", True), ("right_wrist_0_rgb", False)):
        assert (seen[f"mask.{slot}"] == there).all()

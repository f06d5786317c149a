"""The command that is printed for lerobot, as it is typed: a step is taken, and the policy's numbers are ours."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.paths import TESTS
from tests.stock_lerobot import PYTHONS, needed
from tests.trainers.judging import LIBERO, chunk, episodes, made, matching, said

pytestmark = [needed, pytest.mark.nightly]

HORIZON, BATCH = 8, 4
SMALL = [
    *("--steps=1", f"--batch_size={BATCH}", "--num_workers=0", "--log_freq=1", "--wandb.enable=false"),
    *("--policy.device=cpu", "--policy.pretrained_backbone_weights=null", "--policy.dim_model=64"),
    *("--policy.n_heads=4", "--policy.dim_feedforward=64"),
    *(f"--policy.chunk_size={HORIZON}", f"--policy.n_action_steps={HORIZON}", "--dataset.video_backend=pyav"),
]
"""What makes the policy small, and its backbone random."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What lerobot normalises cameras by, mean and standard deviation."""


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.split(os.sep)[-3])
def test_the_printed_command_trains_on_our_numbers(python: str, tmp_path: Path) -> None:
    done = made(tmp_path, "lerobot", LIBERO)
    program, *words = shlex.split(done.command[-1])
    assert (Path(python).parent / program).is_file()
    judge = TESTS / "judges/lerobot_step.py"
    told = said(
        [python, judge, tmp_path / "seen.npz", *words, *SMALL],
        cwd=tmp_path,
        HF_HOME=str(tmp_path / "hf"),
        PYTHONPATH="",
    )
    assert len(told["losses"]) == 1
    assert np.isfinite(told["losses"]).all()
    assert list((tmp_path / "train/checkpoints").glob("*1/pretrained_model/model.safetensors"))

    seen = np.load(tmp_path / "seen.npz")
    own = episodes(LIBERO)
    frames = [(episode, t) for episode in own for t in range(len(episode))]
    scaled = {}
    for name in ("action", "observation.state"):
        values = np.concatenate([episode.arrays[name] for episode in own]).astype(np.float64)
        scaled[name] = (values.mean(axis=0), values.std(axis=0) + 1e-8)
    mean, std = scaled["action"]
    chunks = np.stack([(chunk(e.arrays["action"], t, HORIZON) - mean) / std for e, t in frames])
    rows = matching(seen["action"], chunks)
    mean, std = scaled["observation.state"]
    for number, row in enumerate(rows):
        episode, t = frames[row]
        state = (episode.arrays["observation.state"][t] - mean) / std
        np.testing.assert_allclose(seen["observation.state"][number], state, rtol=1e-6, atol=5e-6)
        assert seen["task"][number] == episode.task
        np.testing.assert_array_equal(seen["action_is_pad"][number], t + np.arange(HORIZON) >= len(episode))
        for camera, pictures in episode.frames.items():
            pixels = (pictures.pixels(t) / 255 - IMAGENET[0]) / (np.array(IMAGENET[1]) + 1e-8)
            np.testing.assert_allclose(seen[camera][number], pixels.transpose(2, 0, 1), atol=1e-5)

"""The command that is printed for lerobot, as it is typed: a step is taken, and the policy's numbers are ours."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from tests.paths import TESTS
from tests.stock_lerobot import PYTHONS, needed
from tests.trainers.judging import LIBERO, chunk, episodes, made, matching, said
from training_adapters.task_text.advantages import write_copy
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.labels import Labels

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


EVERY = pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.split(os.sep)[-3])


@EVERY
def test_the_printed_command_trains_on_our_numbers(python: str, tmp_path: Path) -> None:
    done = made(tmp_path, "lerobot", LIBERO)
    program, *words = shlex.split(done.command[-1])
    assert (Path(python).parent / program).is_file()
    told, seen = _step(python, tmp_path, words)
    assert len(told["losses"]) == 1
    assert np.isfinite(told["losses"]).all()
    assert list((tmp_path / "train/checkpoints").glob("*1/pretrained_model/model.safetensors"))

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


@EVERY
def test_a_step_on_instructions_that_carry_the_indicator(python: str, tmp_path: Path) -> None:
    """RECAP's labels as text: each frame that the policy gets is asked for as its label says."""
    words = shlex.split(made(tmp_path, "lerobot", LIBERO).command[-1])[1:]
    (root,) = (Path(word.partition("=")[2]) for word in words if word.startswith("--dataset.root="))
    frames = FrameTable.read(root)
    values = np.random.default_rng(0).uniform(-1, 0, len(frames))
    place = {
        "episode_index": frames.episodes.per_frame(frames.numbers),
        "frame_index": frames.episodes.frame_index(),
    }
    table = {**place, "value": values}
    pq.write_table(pa.table(table), tmp_path / "values.parquet")
    labelled = {"tag": "v1", "labels": Labels(share=0.4), "unlabelled": "success"}
    done = vd.annotate(root, values=tmp_path / "values.parquet", **labelled).annotation
    write_copy(done, frames, tmp_path / "copy")
    told, seen = _step(python, tmp_path, [word.replace(str(root), str(tmp_path / "copy")) for word in words])
    assert np.isfinite(told["losses"]).all()
    actions = np.concatenate([episode.arrays["action"] for episode in episodes(LIBERO)]).astype(np.float64)
    rows = matching(seen["action"][:, 0], (actions - actions.mean(axis=0)) / (actions.std(axis=0) + 1e-8))
    assert done.positive is not None
    for number, row in enumerate(rows):
        word = "positive" if done.positive[row] else "negative"
        assert seen["task"][number] == f"{frames.tasks[int(frames.task[row])]}\nAdvantage: {word}"


def _step(python: str, folder: Path, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one step of the command says, and what its policy was given."""
    command = [python, TESTS / "judges/lerobot_step.py", folder / "seen.npz", *words, *SMALL]
    told = said(command, cwd=folder, HF_HOME=str(folder / "hf"), PYTHONPATH="")
    return told, dict(np.load(folder / "seen.npz"))

"""OpenVLA and Octo themselves read what was prepared and take a step on it; the numbers are ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.trainers.judging import LIBERO, Trainer, chunk, episodes, made, matching
from vla_data.core import Array

OCTO, OPENVLA = Trainer("octo"), Trainer("openvla")
pytestmark = pytest.mark.nightly

BATCH, HORIZON = 4, 4
GRIPPER = 6


def frames() -> list[Any]:
    return [(episode, t) for episode in episodes(LIBERO) for t in range(len(episode))]


def actions() -> Array:
    """In single precision, which RLDS of these trainers has."""
    return np.concatenate([episode.arrays["action"] for episode in episodes(LIBERO)]).astype(np.float32)


def is_picture_of(seen: Array, wanted: list[Array], row: int) -> None:
    """Enlarged by the trainer's own filter: made small again it is that picture, and no other is as near."""
    side = seen.shape[0] // 32
    small = seen.astype(np.float64).reshape(32, side, 32, side, 3).mean(axis=(1, 3))
    distances = [np.abs(small - picture).mean() for picture in wanted]
    assert distances[row] == min(distances)
    assert distances[row] < 2


@OPENVLA.needed
def test_openvla_trains_on_our_numbers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = made(out, "openvla", LIBERO)
    told = OPENVLA.judge(
        *("openvla_step.py", out, "set", tmp_path / "seen.npz"), cwd=OPENVLA.repo, HOME=str(tmp_path / "home")
    )
    assert np.isfinite(told["loss"])
    assert told["changed"] > 0
    seen, rows = np.load(tmp_path / "seen.npz"), actions()

    low, high = np.quantile(rows, 0.01, axis=0), np.quantile(rows, 0.99, axis=0)
    wanted = np.clip(2 * (rows - low) / (high - low + 1e-8) - 1, -1, 1)
    wanted[:, GRIPPER] = rows[:, GRIPPER]
    found = matching(seen["action"], wanted)
    edges = np.linspace(-1, 1, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    bins = np.clip(np.digitize(np.clip(seen["action"], -1, 1), edges) - 1, 0, 254)
    np.testing.assert_allclose(seen["decoded"], centres[bins], atol=1e-12)
    own = frames()
    pictures = [episode.frames["observation.images.agentview_rgb"].pixels(t) for episode, t in own]
    for number, row in enumerate(found):
        task = own[row][0].task.lower()
        assert told["prompts"][number] == f"In: What action should the robot take to {task}?\nOut: "
        is_picture_of(seen["image"][number], pictures, row)

    statistics = json.loads((out / "dataset_statistics.json").read_text())["set"]["action"]
    for key, values in told["statistics"].items():
        np.testing.assert_allclose(statistics[key], values, rtol=1e-6, atol=1e-7, err_msg=key)
    assert vd.verify(done.folder).ok


SMALL = [
    *("--debug", "--config.num_steps=1", f"--config.batch_size={BATCH}", "--config.shuffle_buffer_size=100"),
    *("--config.log_interval=1", "--config.optimizer.learning_rate.warmup_steps=0"),
    "--config.viz_kwargs.eval_batch_size=4",
]


@OCTO.needed
def test_octo_trains_on_our_numbers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = made(out, "octo", LIBERO)
    program, *words = done.command[-1].split()[1:]
    assert program == "scripts/finetune.py"
    model = tmp_path / "model"
    words = [word for word in words if "pretrained_path" not in word and "save_dir" not in word]
    told = OCTO.judge(
        *("octo_step.py", tmp_path / "seen.npz", model, "7", *words, f"--config.pretrained_path={model}", *SMALL),
        cwd=OCTO.repo,
        HOME=str(tmp_path / "home"),
        JAX_PLATFORMS="cpu",
    )
    (loss,) = told["losses"]
    assert np.isfinite(loss)
    seen, own = np.load(tmp_path / "seen.npz"), frames()

    rows = actions()
    mean, std = rows.mean(axis=0), rows.std(axis=0) + 1e-8
    mean[GRIPPER], std[GRIPPER] = 0, 1
    chunks = np.stack([chunk((e.arrays["action"].astype(np.float32) - mean) / std, t, HORIZON) for e, t in own])
    assert seen["action"].shape == (BATCH, 1, HORIZON, 7)
    found = matching(seen["action"][:, 0], chunks)
    states = np.concatenate([e.arrays["observation.state"] for e in episodes(LIBERO)]).astype(np.float32)
    scaled = (states - states.mean(axis=0)) / (states.std(axis=0) + 1e-8)
    # Of a number that hardly changes the mean is taken away, in whose single precision much of it goes.
    np.testing.assert_allclose(seen["proprio"][:, 0], scaled[found], rtol=1e-4, atol=1e-4)
    assert seen["pad_mask"].all()
    cameras = {"primary": "agentview_rgb", "wrist": "eye_in_hand_rgb"}
    for number, row in enumerate(found):
        episode, t = own[row]
        assert seen["text"][number] == episode.task
        # Octo's rule, which masks two steps later than where the last action is repeated.
        reached = t + np.arange(HORIZON) - 2 < len(episode) - 1
        np.testing.assert_array_equal(seen["action_pad_mask"][number, 0], np.tile(reached[:, None], 7))
    for name in cameras:
        assert seen[f"image_{name}"].shape[2:] == ((256, 256, 3) if name == "primary" else (128, 128, 3))
    assert vd.verify(done.folder).ok

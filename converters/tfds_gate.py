"""Reads a dataset back with stock TFDS, the way that trainers do, and compares it with its ledger."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up messages are not ours to show

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from vla_data.core import Json
from vla_data.errors import VerifyError
from vla_data.locate import open_ledger
from vla_data.safety.text import show


def read_back(folder: Path) -> dict[str, Json]:
    """Open every episode of every split, decode every image, and check what comes out.

    Returns:
        "splits": name -> episodes and frames; "lines": what a person should see.

    Raises:
        VerifyError: E601, the dataset does not hold what its ledger says.
    """
    tf.config.set_visible_devices([], "GPU")
    builder = tfds.builder_from_directory(str(folder))
    want = {
        record.id: record.frames("kept") for record in open_ledger(folder).records if record.status == "published"
    }
    seen: dict[str, int] = {}
    splits: dict[str, Json] = {}
    low, high = np.full(7, np.inf), np.full(7, -np.inf)
    for split in builder.info.splits:
        frames = episodes = 0
        for episode in tfds.as_numpy(builder.as_dataset(split=split)):
            name = episode["episode_metadata"]["file_path"].decode("utf-8", "surrogateescape")
            steps = list(episode["steps"])
            _check_steps(name, steps, builder.info.features["steps"]["observation"]["image"].shape)
            if steps:
                actions = np.stack([step["action"] for step in steps])
                low, high = np.minimum(low, actions.min(axis=0)), np.maximum(high, actions.max(axis=0))
            if name in seen:
                raise VerifyError("E601", f"{show(name)} is there twice")
            seen[name] = len(steps)
            episodes += 1
            frames += len(steps)
        splits[split] = {"episodes": episodes, "frames": frames}
    if seen != want:
        wrong = sorted(name for name in {*seen, *want} if seen.get(name) != want.get(name))
        raise VerifyError("E601", f"{len(wrong)} episodes differ from the ledger, the first is {show(wrong[0])}")
    total = sum(seen.values())
    lines = [
        f"  Read back with TFDS {tfds.__version__}: {len(seen):,} episodes, {total:,} frames, all as recorded"
    ]
    lines += [
        f"    {name:<6}{part['episodes']:>7,} episodes{part['frames']:>10,} frames"
        for name, part in splits.items()
    ]
    lines.append(f"    action min {np.array2string(low, precision=3, suppress_small=True)}")
    lines.append(f"    action max {np.array2string(high, precision=3, suppress_small=True)}")
    return {"splits": splits, "lines": lines}


def _check_steps(name: str, steps: list[Json], shape: tuple[int, ...]) -> None:
    for t, step in enumerate(steps):
        image = step["observation"]["image"]
        if image.shape != shape or image.dtype != np.uint8:
            raise VerifyError("E601", f"{show(name)} step {t}: image {image.shape} {image.dtype}")
        if step["action"].shape != (7,) or not np.isfinite(step["action"]).all():
            raise VerifyError("E601", f"{show(name)} step {t}: action {step['action']}")

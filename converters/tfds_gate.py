"""Reads a dataset back with stock TFDS, the way that trainers do, and compares it with its ledger."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vla_data.core import Json
from vla_data.digest import content_digest
from vla_data.errors import VerifyError
from vla_data.ledger import Record
from vla_data.locate import open_ledger
from vla_data.safety.text import show


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep TensorFlow's start-up messages, which its libraries write themselves, off the user's terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with _silence():
    import tensorflow as tf
    import tensorflow_datasets as tfds

_ENCODED = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}


def read_back(folder: Path) -> dict[str, Json]:
    """Open every episode of every split, decode every image, and compare all with the ledger: which episodes
    there are, in which split, with how many steps, and by their digests the actions, images and texts.

    Returns:
        "splits": name -> episodes and frames; "lines": what a person should see.

    Raises:
        VerifyError: E601, the dataset does not hold what its ledger says.
    """
    want = {record.id: record for record in open_ledger(folder).records if record.status == "published"}
    seen: set[str] = set()
    splits: dict[str, Json] = {}
    low, high = np.full(7, np.inf), np.full(7, -np.inf)
    try:
        builder = tfds.builder_from_directory(str(folder))
        image = builder.info.features["steps"]["observation"]["image"]
        for split in builder.info.splits:
            frames = episodes = 0
            for episode in tfds.as_numpy(builder.as_dataset(split=split, decoders=_ENCODED)):
                name = episode["episode_metadata"]["file_path"].decode("utf-8", "surrogateescape")
                if name in seen:
                    raise VerifyError("E601", f"{show(name)} is there twice")
                if name not in want or want[name].split != split:
                    raise VerifyError("E601", f"{show(name)} is in {split}, against the ledger")
                seen.add(name)
                actions = _check(want[name], list(episode["steps"]), image)
                low, high = np.minimum(low, actions.min(axis=0)), np.maximum(high, actions.max(axis=0))
                episodes += 1
                frames += len(actions)
            splits[split] = {"episodes": episodes, "frames": frames}
    except (tf.errors.OpError, OSError) as error:
        reason = show((str(error).splitlines() or [""])[0])
        raise VerifyError("E601", f"TFDS can't read {show(folder)}: {reason}") from None
    if missing := sorted(want.keys() - seen):
        raise VerifyError("E601", f"{len(missing):,} episodes are missing, the first is {show(missing[0])}")
    total = sum(part["frames"] for part in splits.values())
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


def _check(record: Record, steps: list[Json], image: tfds.features.Image) -> np.ndarray:
    """The actions of an episode, when it is what the ledger says."""
    name = show(record.id)
    if len(steps) != record.frames("kept") or not steps:
        raise VerifyError("E601", f"{name} has {len(steps):,} steps, not {record.frames('kept'):,}")
    frames = [step["observation"]["image"] for step in steps]
    for t, data in enumerate(frames):
        try:
            image.decode_example(data)
        except (tf.errors.OpError, ValueError):
            raise VerifyError("E601", f"{name} step {t}: no image of {image.shape}") from None
    actions = np.stack([step["action"] for step in steps])
    if actions.shape[1:] != (7,) or not np.isfinite(actions).all():
        raise VerifyError("E601", f"{name}: actions of shape {actions.shape}, or not finite")
    texts = {step["language_instruction"] for step in steps}
    found = content_digest(texts.pop().decode("utf-8", "surrogateescape"), {"action": actions}, {"image": frames})
    if texts or found != record.content_sha256:
        raise VerifyError("E601", f"{name} has other content than the ledger says")
    return actions

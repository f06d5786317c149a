"""A dataset with every kind of feature that RLDS datasets have, written by stock TFDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

LENGTHS = {"train": (5, 1, 7), "test": (3,)}


def features(tfds: Any) -> Any:
    """Nested observations, five kinds of images, tensors of many types, encodings, lists, labels and texts."""
    f = tfds.features
    observation = {
        "image": f.Image(shape=(24, 32, 3), encoding_format="jpeg"),
        "wrist": {"left": f.Image(shape=(16, 16, 3), encoding_format="png")},
        "depth": f.Image(shape=(24, 32, 1), dtype=np.uint16, encoding_format="png"),
        "depth_metres": f.Image(shape=(8, 10, 1), dtype=np.float32, encoding_format="png"),
        "mask": f.Image(shape=(24, 32, 1), dtype=np.uint8, encoding_format="png"),
        "rgba": f.Image(shape=(8, 8, 4), encoding_format="png"),
        "state": f.Tensor(shape=(8,), dtype=np.float32),
        "pose": f.Tensor(shape=(4, 4), dtype=np.float32),
        "pose64": f.Tensor(shape=(2, 3), dtype=np.float64, encoding="bytes"),
        "small": f.Tensor(shape=(3,), dtype=np.int8),
        "wide": f.Tensor(shape=(2,), dtype=np.uint64),
        "half": f.Tensor(shape=(2,), dtype=np.float16),
        "packed": f.Tensor(shape=(5, 5), dtype=np.int32, encoding="zlib"),
        "gripper": f.Scalar(dtype=np.float32),
        "label": f.ClassLabel(num_classes=4),
        "notes": f.Text(),
    }
    step = {
        "observation": observation,
        "action": f.Tensor(shape=(7,), dtype=np.float32),
        "action_dict": {"joint": f.Tensor(shape=(6,), dtype=np.float64)},
        "language_instruction": f.Text(),
        "language_embedding": f.Tensor(shape=(16,), dtype=np.float32),
        "points": f.Sequence(f.Tensor(shape=(2,), dtype=np.float32)),
        "is_first": f.Scalar(dtype=np.bool_),
        "is_last": f.Scalar(dtype=np.bool_),
        "is_terminal": f.Scalar(dtype=np.bool_),
        "reward": f.Scalar(dtype=np.float32),
        "discount": f.Scalar(dtype=np.float32),
    }
    metadata = {
        "file_path": f.Text(),
        "number": f.Scalar(dtype=np.int32),
        "weight": f.Scalar(dtype=np.float32),
        "good": f.Scalar(dtype=np.bool_),
        "tags": f.Sequence(f.Text()),
        "camera": {"matrix": f.Tensor(shape=(3, 3), dtype=np.float32)},
    }
    return f.FeaturesDict({"steps": f.Dataset(step), "episode_metadata": metadata, "uid": f.Text()})


def episode(seed: int, length: int) -> dict[str, Any]:
    """Random values; odd seeds end because the task does, even ones are cut."""
    pick = np.random.default_rng(seed)

    def pixels(*shape: int, dtype: Any = np.uint8) -> Any:
        return pick.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)

    def step(t: int) -> dict[str, Any]:
        last = t == length - 1
        return {
            "observation": {
                "image": pixels(24, 32, 3),
                "wrist": {"left": pixels(16, 16, 3)},
                "depth": pixels(24, 32, 1, dtype=np.uint16),
                "depth_metres": pick.normal(size=(8, 10, 1)).astype(np.float32),
                "mask": pixels(24, 32, 1),
                "rgba": pixels(8, 8, 4),
                "state": pick.normal(size=8).astype(np.float32),
                "pose": pick.normal(size=(4, 4)).astype(np.float32),
                "pose64": pick.normal(size=(2, 3)),
                "small": pick.integers(-128, 128, 3, dtype=np.int8),
                "wide": pick.integers(0, 2**64 - 1, 2, dtype=np.uint64),
                "half": pick.normal(size=2).astype(np.float16),
                "packed": pick.integers(-(2**31), 2**31 - 1, (5, 5), dtype=np.int32),
                "gripper": np.float32(pick.normal()),
                "label": int(pick.integers(0, 4)),
                "notes": f"Schritt {t} · 步 {seed}",
            },
            "action": pick.normal(size=7).astype(np.float32),
            "action_dict": {"joint": pick.normal(size=6)},
            "language_instruction": f"put {seed} on {t // 4}",
            "language_embedding": pick.normal(size=16).astype(np.float32),
            "points": pick.normal(size=(3, 2)).astype(np.float32),
            "is_first": t == 0,
            "is_last": last,
            "is_terminal": last and seed % 2 == 1,
            "reward": np.float32(pick.normal()),
            "discount": np.float32(0.5 if last else 1),
        }

    return {
        "steps": [step(t) for t in range(length)],
        "episode_metadata": {
            "file_path": f"/data/{seed}.pkl",
            "number": seed,
            "weight": np.float32(0.1 * seed),
            "good": seed % 3 == 0,
            "tags": [f"tag{i}" for i in range(seed % 3)],
            "camera": {"matrix": pick.normal(size=(3, 3)).astype(np.float32)},
        },
        "uid": f"u-{seed}",
    }


def write(folder: Path) -> Path:
    """The version folder of the dataset."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():
        builder = _builder(tfds)(data_dir=str(folder))
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _builder(tfds: Any) -> Any:
    class Zoo(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(builder=self, features=features(tfds))

        def _split_generators(self, dl_manager: Any) -> Any:
            del dl_manager
            return {split: self._generate_examples(split) for split in LENGTHS}

        def _generate_examples(self, split: str) -> Iterator[Any]:
            for i, length in enumerate(LENGTHS[split]):
                yield i, episode(10 * (split == "test") + i, length)

    return Zoo

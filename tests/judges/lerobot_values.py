"""Run by an interpreter that has stock lerobot: what its reader, its loader and its statistics make of a dataset.

Usage: lerobot_values.py ROOT OUT.npz. Every column goes to the file as Hugging Face ``datasets`` gives it; the
line has the rest. Imports nothing of ours.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import numpy as np
import torch
from lerobot.datasets.compute_stats import aggregate_stats, compute_episode_stats
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def plain(stats: dict[str, dict[str, np.ndarray]]) -> dict[str, object]:
    return {
        name: {key: np.asarray(value).reshape(-1).tolist() for key, value in facts.items()}
        for name, facts in stats.items()
    }


def stock_stats(
    dataset: LeRobotDataset, columns: dict[str, np.ndarray], encoded: dict[str, list[bytes]]
) -> object:
    """The statistics that stock lerobot gives: of each episode, and of all of them."""
    features = {name: f for name, f in dataset.meta.features.items() if name in columns or name in encoded}
    numbers = columns["episode_index"]
    each = []
    with tempfile.TemporaryDirectory() as folder:
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            data: dict[str, object] = {n: columns[n][rows] for n in columns if columns[n].dtype.kind in "biuf"}
            for name, items in encoded.items():
                paths = [Path(folder, f"{name}-{i}.png") for i in rows]
                for path, i in zip(paths, rows, strict=True):
                    path.write_bytes(items[i])
                data[name] = [str(path) for path in paths]
            each.append(compute_episode_stats(data, features))
    return {"episodes": [plain(stats) for stats in each], "all": plain(aggregate_stats(each))}


def see(root: str, out: str) -> dict[str, object]:
    dataset = LeRobotDataset("judge/set", root=root, video_backend="pyav")
    raw = dataset.hf_dataset.with_format(None)
    images = [name for name, f in raw.features.items() if isinstance(f, datasets.Image)]
    for name in images:
        raw = raw.cast_column(name, datasets.Image(decode=False))
    encoded = {name: [item["bytes"] for item in raw[name]] for name in images}
    dtypes = {n: f["dtype"] for n, f in dataset.meta.features.items() if n in raw.column_names and n not in images}
    columns = {
        name: np.asarray(list(raw[name]), dtype=np.str_ if dtype == "string" else dtype)
        for name, dtype in dtypes.items()
    }
    np.savez(out, **columns)
    loader = torch.utils.data.DataLoader(dataset, batch_size=5, num_workers=2)
    batches = list(loader)
    item = dataset[0]
    return {
        "types": {name: repr(feature) for name, feature in raw.features.items()},
        "item": {name: list(value.shape) for name, value in item.items() if hasattr(value, "shape")},
        "loaded": torch.cat([batch["index"] for batch in batches]).tolist(),
        "loaded_actions": torch.cat([batch["action"] for batch in batches]).tolist(),
        "loaded_shapes": {n: list(v.shape) for n, v in batches[0].items() if hasattr(v, "shape")},
        "bytes": {name: [hashlib.sha256(item).hexdigest() for item in items] for name, items in encoded.items()},
        "stock": stock_stats(dataset, columns, encoded),
        "ours": plain(dataset.meta.stats),
        "robot": dataset.meta.robot_type,
        "splits": dict(getattr(dataset.meta.info, "splits", None) or dataset.meta.info["splits"]),
    }


if __name__ == "__main__":
    print("JUDGE " + json.dumps(see(sys.argv[1], sys.argv[2])))

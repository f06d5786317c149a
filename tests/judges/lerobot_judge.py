"""Run by an interpreter that has stock lerobot: prints what `LeRobotDataset` sees. Imports nothing of ours."""

import hashlib
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import lerobot
import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def see(root: str, pixels: bool) -> dict[str, object]:
    dataset = LeRobotDataset("judge/set", root=root, video_backend="pyav")
    frames = []
    images: dict[str, list[str]] = {name: [] for name in dataset.meta.camera_keys}
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in dataset.meta.camera_keys}
    for i in range(len(dataset)):
        item = dataset[i]
        row = {}
        for name, value in item.items():
            if name in images:
                rgb = (value * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
                images[name].append(hashlib.sha256(rgb.tobytes()).hexdigest())
                arrays[name].append(rgb)
            else:
                row[name] = value.tolist() if hasattr(value, "tolist") else value
        frames.append(row)
    if pixels:
        np.savez(f"{root}.pixels.npz", **{name: np.stack(value) for name, value in arrays.items()})
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=0)
    batch = next(iter(loader))
    windows = LeRobotDataset(
        "judge/set", root=root, video_backend="pyav", delta_timestamps={"action": [0.0, 1 / dataset.fps]}
    )
    return {
        "version": lerobot.__version__ if hasattr(lerobot, "__version__") else "",
        "frames": frames,
        "images": images,
        "episodes": dataset.num_episodes,
        "total": len(dataset),
        "fps": dataset.fps,
        "tasks": {str(task): int(row.task_index) for task, row in dataset.meta.tasks.iterrows()},
        "stats": {
            name: {key: np.asarray(value).reshape(-1).tolist() for key, value in stats.items()}
            for name, stats in dataset.meta.stats.items()
        },
        "batch": {name: list(value.shape) for name, value in batch.items() if hasattr(value, "shape")},
        "window": list(windows[0]["action"].shape),
        "last_is_pad": windows[len(windows) - 1]["action_is_pad"].tolist(),
    }


if __name__ == "__main__":
    print("JUDGE " + json.dumps(see(sys.argv[1], len(sys.argv) > 2)))

"""Run by an interpreter with a lerobot that reads v2.1 (0.3): what its reader and its loader give.

Usage: lerobot_v21.py ROOT. Imports nothing of ours.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

if (
    not torch.cuda.is_available()
):  # a torchvision for CUDA looks for two operators by their names when it is loaded
    names = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

try:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
except ImportError:  # where it was before 0.3
    from lerobot.common.datasets.lerobot_dataset import LeRobotDataset

dataset = LeRobotDataset("judge/set", root=sys.argv[1], video_backend="pyav")
frames = []
for i in range(len(dataset)):
    item = dataset[i]
    frames.append(
        {
            name: value if isinstance(value, str) else [list(value.shape), float(value.double().sum())]
            for name, value in item.items()
        }
    )
batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=2)))
stats = {name: {key: v.reshape(-1).tolist() for key, v in own.items()} for name, own in dataset.meta.stats.items()}
shapes = {name: list(v.shape) for name, v in batch.items() if isinstance(v, torch.Tensor)}
told = {"episodes": dataset.num_episodes, "frames": frames, "batch": shapes, "stats": stats}
print("JUDGE " + json.dumps(told))

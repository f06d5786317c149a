"""lerobot's own statistics, and openpi's way through a LeRobot dataset, for comparison.

A script for an interpreter of its own that has lerobot. Its last line is `benchmark-result: ` and a JSON object.

    python lerobot_stats.py arrays ROWS.npy STEPS          every STEPS rows an episode, then aggregated
    python lerobot_stats.py chunks DATASET H FRAMES DIR    batches of 32 chunks of H actions into RunningStats
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def arrays(file: str, steps: str) -> dict[str, Any]:
    from lerobot.datasets.compute_stats import aggregate_stats, get_feature_stats

    rows = np.load(file)
    start = time.perf_counter()
    parts = [
        {"action": get_feature_stats(rows[i : i + int(steps)], axis=0, keepdims=False)}
        for i in range(0, len(rows), int(steps))
    ]
    found = aggregate_stats(parts)["action"]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **{key: np.ravel(value).tolist() for key, value in found.items()}}


def chunks(root: str, horizon: str, frames: str, here: str) -> dict[str, Any]:
    sys.path.insert(0, here)
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from openpi_stats import RunningStats

    plain = LeRobotDataset("benchmark/set", root=Path(root))
    times = {"action": [t / plain.fps for t in range(int(horizon))]}
    dataset = LeRobotDataset("benchmark/set", root=Path(root), delta_timestamps=times)
    wanted = min(int(frames), len(dataset)) // 32 * 32
    part = torch.utils.data.Subset(dataset, range(wanted))
    state, actions = RunningStats(), RunningStats()
    start = time.perf_counter()
    for batch in torch.utils.data.DataLoader(part, batch_size=32, num_workers=2):
        state.update(batch["action"][:, 0].numpy())
        actions.update(batch["action"].numpy())
    return {"seconds": time.perf_counter() - start, "frames": wanted}


if __name__ == "__main__":
    result = {"arrays": arrays, "chunks": chunks}[sys.argv[1]](*sys.argv[2:])
    print("benchmark-result: " + json.dumps(result), flush=True)

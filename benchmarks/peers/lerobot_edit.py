"""lerobot's own way to leave episodes out of a dataset with video, for comparison.

A script for an interpreter of its own that has lerobot 0.4.4; it imports nothing of this project. It does what
``lerobot-edit-dataset`` does with ``delete_episodes``, whose re-encoding of video is also timed by itself.

    python lerobot_edit.py '{"root": "...", "out": "...", "drop": [3]}'

Its last line is `benchmark-result: ` and a JSON object with the CPU seconds of the video step, with those of its
encoder's threads.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from lerobot.datasets import dataset_tools
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def edit(root: str, out: str, drop: list[int]) -> dict[str, Any]:
    """Write the dataset `out` without some episodes."""
    spent: list[float] = []
    real = dataset_tools._copy_and_reindex_videos

    def timed(*given: Any, **more: Any) -> Any:
        begin = time.process_time()
        try:
            return real(*given, **more)
        finally:
            spent.append(time.process_time() - begin)

    dataset_tools._copy_and_reindex_videos = timed
    dataset = LeRobotDataset("bench/set", root=root, video_backend="pyav")
    dataset_tools.delete_episodes(dataset, drop, output_dir=Path(out), repo_id="bench/less")
    names = ("lerobot", "torch", "av")
    return {"video_seconds": sum(spent), "packages": {name: metadata.version(name) for name in names}}


if __name__ == "__main__":
    print("benchmark-result: " + json.dumps(edit(**json.loads(sys.argv[1]))), flush=True)

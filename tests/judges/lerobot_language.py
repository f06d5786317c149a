"""Run by an interpreter that has lerobot 0.6: what its reader makes of language, tools and depth.

Usage: lerobot_language.py ROOT. Imports nothing of ours. An older lerobot prints that it knows no language.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

try:
    from lerobot.datasets.language_render import active_at
except ImportError:
    print('JUDGE {"knows": false}')
    sys.exit()
from lerobot.datasets.lerobot_dataset import LeRobotDataset

dataset = LeRobotDataset("judge/set", root=sys.argv[1], video_backend="pyav")
frames = []
for i in range(len(dataset)):
    item = dataset[i]
    time, rows = float(item["timestamp"]), item["language_persistent"]
    held = {style: active_at(time, persistent=rows, style=style) for style in ("subtask", "plan")}
    frames.append(
        {
            "persistent": rows,
            "events": item["language_events"],
            "held": {style: row["content"] for style, row in held.items() if row is not None},
            "depth": {key: item[key].double().tolist() for key in dataset.meta.depth_keys},
        }
    )
print("JUDGE " + json.dumps({"knows": True, "frames": frames, "tools": dataset.meta.tools}))

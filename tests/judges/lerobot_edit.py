"""Run by an interpreter that has stock lerobot: its own ``lerobot-edit-dataset`` on two datasets, in one process.

Usage: lerobot_edit.py HOME. HOME/judge/a and HOME/judge/b are datasets of three episodes; what the tool makes of
them (deleted, a_first, a_rest, merged) is opened and told. Imports nothing of ours.
"""

import json
import os
import shlex
import sys
from importlib.metadata import version

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_LEROBOT_HOME"] = sys.argv[1]

from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.scripts import lerobot_edit_dataset

NEW = "--new_repo_id" if version("lerobot") >= "0.5" else "--repo_id"  # of merge, which has no old one
CALLS = (
    """--repo_id judge/a --new_repo_id judge/deleted
        --operation.type delete_episodes --operation.episode_indices '[1]'""",
    """--repo_id judge/a --operation.type split --operation.splits '{"first": [0], "rest": [1, 2]}'""",
    f"""{NEW} judge/merged --operation.type merge --operation.repo_ids "['judge/a', 'judge/b']" """,
)


def see(name: str) -> dict[str, object]:
    dataset = LeRobotDataset(
        f"judge/{name}", root=f"{os.environ['HF_LEROBOT_HOME']}/judge/{name}", video_backend="pyav"
    )
    items = [dataset[i] for i in range(len(dataset))]
    return {
        "episodes": dataset.num_episodes,
        "actions": [item["action"].tolist() for item in items],
        "episode_index": [int(item["episode_index"]) for item in items],
        "index": [int(item["index"]) for item in items],
        "tasks": [item["task"] for item in items],
        "means": [
            [round(float(v) * 255, 2) for v in item[camera].mean(dim=(1, 2))]
            for item in items
            for camera in dataset.meta.camera_keys
        ],
        "stats": dataset.meta.stats["action"]["mean"].tolist(),
    }


if __name__ == "__main__":
    for call in CALLS:
        sys.argv = ["lerobot-edit-dataset", *shlex.split(call)]
        lerobot_edit_dataset.main()
    print("JUDGE " + json.dumps({name: see(name) for name in ("deleted", "a_first", "a_rest", "merged")}))

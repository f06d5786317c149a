"""lerobot's own way from rollouts to a LeRobot dataset, for comparison.

A script for an interpreter of its own that has lerobot; it imports nothing of this project. It reads the files
with `np.load` and pickle and hands every step to `LeRobotDataset.create`, `add_frame`, `save_episode` and
`finalize`.

    python lerobot_writer.py '{"rollouts": "...", "out": "...", "mode": {"video": "libsvtav1", "streaming": true}}'

Its last line is `benchmark-result: ` and a JSON object. `seconds` begin when lerobot is imported and the empty
dataset created, and end after `finalize`; `startup_cpu` is what the processor did before. `mode` may hold

    video       encoder for `vcodec`; absent or null: image features
    threads     `image_writer_threads`
    processes   `image_writer_processes`
    streaming   `streaming_encoding`
    preset      for H.264, which lerobot itself gives no preset: its options are patched
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

CAMERA = "observation.images.primary"
PACKAGES = ("lerobot", "torch", "av", "numpy", "pillow", "pyarrow", "datasets")
_FPS = 5
_ACTIONS = ["x", "y", "z", "rot_1", "rot_2", "rot_3", "gripper"]


def write(rollouts: str, out: str, mode: dict[str, Any]) -> dict[str, Any]:
    """Write the dataset `out` of every `.npz` file in `rollouts`."""
    files = sorted(Path(rollouts).glob("*.npz"))
    content = _load(files[0])
    height, width = np.asarray(content["image"][0]).shape[:2]
    steps = len(content["action"])
    del content

    from lerobot.datasets import video_utils
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    codec, preset = mode.get("video"), mode.get("preset")
    if preset is not None:
        stock = video_utils._get_codec_options
        video_utils._get_codec_options = lambda *args, **kwargs: {**stock(*args, **kwargs), "preset": preset}
    options: dict[str, Any] = {"vcodec": codec} if codec else {}
    if mode.get("streaming"):
        if "streaming_encoding" not in inspect.signature(LeRobotDataset.create).parameters:
            return {"missing": "streaming_encoding", "packages": _versions()}
        # A full queue makes lerobot drop frames; one as long as an episode never fills.
        options |= {"streaming_encoding": True, "encoder_queue_maxsize": max(30, steps + 1)}
    dataset = LeRobotDataset.create(
        repo_id="benchmark/rollouts",
        fps=_FPS,
        root=out,
        features={
            "action": {"dtype": "float32", "shape": (7,), "names": _ACTIONS},
            "next.success": {"dtype": "bool", "shape": (1,), "names": None},
            CAMERA: {
                "dtype": "video" if codec else "image",
                "shape": (height, width, 3),
                "names": ["height", "width", "channels"],
            },
        },
        use_videos=codec is not None,
        image_writer_threads=mode.get("threads", 0),
        image_writer_processes=mode.get("processes", 0),
        **options,
    )
    start, startup = time.perf_counter(), sum(os.times()[:4])
    frames = 0
    for path in files:
        content = _load(path)
        task = str(content["instruction"][0])
        infos = content["info"]
        for t, (image, action) in enumerate(zip(content["image"], content["action"], strict=True)):
            after = infos[min(t + 1, len(infos) - 1)]
            frame = {
                "action": np.asarray(action, dtype=np.float32),
                "next.success": np.asarray(after["success"], dtype=bool).reshape(1),
                CAMERA: np.asarray(image),
                "task": task,
            }
            dataset.add_frame(frame)
            frames += 1
        dataset.save_episode()
    dataset.finalize()
    seconds = time.perf_counter() - start
    dataset.stop_image_writer()
    return {"seconds": seconds, "startup_cpu": startup, "frames": frames, "packages": _versions()}


def _load(path: Path) -> Any:
    with np.load(path, allow_pickle=True) as archive:
        return archive["arr_0"].item()


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings for every episode otherwise
    print("benchmark-result: " + json.dumps(write(**json.loads(sys.argv[1]))), flush=True)

"""How openpi's and any4lerobot's scripts make a LeRobot dataset of RLDS or LIBERO files, for comparison.

A script for an interpreter of its own that has lerobot, h5py, TensorFlow and TFDS; it imports nothing of this
project. It takes the steps of these scripts, in their order and with their settings:

    openpi_rlds       openpi ``examples/libero/convert_libero_data_to_lerobot.py``: TFDS decodes step by step;
                      image features; 10 writer threads in each of 5 processes
    any4lerobot_rlds  any4lerobot ``openx2lerobot``: TFDS decodes whole trajectories; the same writers; image or
                      video features
    any4lerobot_hdf5  any4lerobot ``libero2lerobot``: a temporary dataset for each file, files in parallel, then
                      ``aggregate_datasets``; no writer threads; video features, here also images

    python lerobot_conversions.py \
        '{"way": "openpi_rlds", "source": "...", "out": "...", "video": false, "fps": 20}'

Its last line is `benchmark-result: ` and a JSON object. `seconds` begin when everything is imported.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

_STATE = ["x", "y", "z", "rx", "ry", "rz", "finger_1", "finger_2"]
_WRITERS = {"image_writer_processes": 5, "image_writer_threads": 10}


def openpi_rlds(source: str, out: str, *, fps: int, video: bool) -> int:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(source)
    features = _features(_shapes(builder, "observation"), video)
    dataset = _create(out, features, fps=fps, **_WRITERS)
    frames = 0
    for episode in builder.as_dataset(split="train"):
        for step in episode["steps"].as_numpy_iterator():
            images = {name: step["observation"][name.rpartition(".")[2]] for name in features if "image" in name}
            state = step["observation"]["state"].astype(np.float32)
            row = {"observation.state": state, "action": step["action"].astype(np.float32)}
            dataset.add_frame({**images, **row, "task": step["language_instruction"].decode()})
            frames += 1
        dataset.save_episode()
    _finish(dataset)
    return frames


def any4lerobot_rlds(source: str, out: str, *, fps: int, video: bool) -> int:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def trajectory(episode: Any) -> Any:
        steps = next(iter(episode["steps"].batch(episode["steps"].cardinality())))
        steps["action"] = tf.cast(steps["action"], tf.float32)
        steps["proprio"] = tf.cast(steps["observation"]["state"], tf.float32)
        return steps

    builder = tfds.builder_from_directory(source)
    features = _features(_shapes(builder, "observation"), video)
    dataset = _create(out, features, fps=fps, **_WRITERS)
    frames = 0
    for steps in builder.as_dataset(split="train").map(trajectory).as_numpy_iterator():
        task = steps["language_instruction"][0].decode()
        for t in range(len(steps["action"])):
            images = {n: steps["observation"][n.rpartition(".")[2]][t] for n in features if "image" in n}
            row = {"observation.state": steps["proprio"][t], "action": steps["action"][t]}
            dataset.add_frame({**images, **row, "task": task})
            frames += 1
        dataset.save_episode()
    _finish(dataset)
    return frames


def any4lerobot_hdf5(source: str, out: str, *, fps: int, video: bool) -> int:
    from lerobot.datasets.aggregate import aggregate_datasets

    files = sorted(Path(source).glob("*.hdf5"))
    parts = [Path(f"{out}_temp") / file.stem for file in files]
    jobs = [(str(file), str(part), fps, video) for file, part in zip(files, parts, strict=True)]
    workers = min(len(jobs), len(os.sched_getaffinity(0)))
    # Workers start processes of their own: lerobot encodes the videos of several cameras at once.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("forkserver")) as pool:
        frames = list(pool.map(_one_file, *zip(*jobs, strict=True)))
    aggregate_datasets(
        repo_ids=[f"benchmark/{part.name}" for part in parts],
        roots=parts,
        aggr_repo_id="benchmark/all",
        aggr_root=Path(out),
    )
    shutil.rmtree(f"{out}_temp")
    return sum(frames)


def _one_file(source: str, out: str, fps: int, video: bool) -> int:
    import h5py

    frames = 0
    with h5py.File(source) as file:
        shape = next(iter(file["data"].values()))["obs/agentview_rgb"].shape[1:]
        features = _features({"agentview_rgb": shape, "eye_in_hand_rgb": shape}, video)
        dataset = _create(out, features, fps=fps)
        task = Path(source).stem.removesuffix("_demo").replace("_", " ")
        for demo in file["data"].values():
            state = np.concatenate([demo["obs/ee_states"], demo["obs/gripper_states"]], axis=1)
            columns = {
                "observation.images.agentview_rgb": np.array(demo["obs/agentview_rgb"]),
                "observation.images.eye_in_hand_rgb": np.array(demo["obs/eye_in_hand_rgb"]),
                "observation.state": state.astype(np.float32),
                "action": np.array(demo["actions"]).astype(np.float32),
            }
            for t in range(len(state)):
                dataset.add_frame({**{name: column[t] for name, column in columns.items()}, "task": task})
                frames += 1
            dataset.save_episode()
    _finish(dataset)
    return frames


def _shapes(builder: Any, group: str) -> dict[str, tuple[int, ...]]:
    observation = builder.info.features["steps"][group]
    return {key: tuple(feature.shape) for key, feature in observation.items() if len(feature.shape) == 3}


def _features(shapes: dict[str, tuple[int, ...]], video: bool) -> dict[str, Any]:
    kind, axes = "video" if video else "image", ["height", "width", "channels"]
    return {
        **{
            f"observation.images.{key}": {"dtype": kind, "shape": shape, "names": axes}
            for key, shape in shapes.items()
        },
        "observation.state": {"dtype": "float32", "shape": (8,), "names": _STATE},
        "action": {"dtype": "float32", "shape": (7,), "names": [*_STATE[:6], "gripper"]},
    }


def _create(out: str, features: dict[str, Any], *, fps: int, **writers: int) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    videos = any(feature["dtype"] == "video" for feature in features.values())
    return LeRobotDataset.create(
        repo_id="benchmark/part",
        root=out,
        fps=fps,
        robot_type="panda",
        features=features,
        use_videos=videos,
        **writers,
    )


def _finish(dataset: Any) -> None:
    dataset.finalize()  # v3.0 files have no footer without it
    dataset.stop_image_writer()


def main(way: str, source: str, out: str, fps: int, video: bool) -> dict[str, Any]:
    """Run one way; imports are not timed."""
    import h5py
    from lerobot.datasets import aggregate, lerobot_dataset

    del h5py, aggregate, lerobot_dataset
    if way.endswith("rlds"):
        import tensorflow_datasets

        del tensorflow_datasets
    start = time.perf_counter()
    ways = {"openpi_rlds": openpi_rlds, "any4lerobot_rlds": any4lerobot_rlds, "any4lerobot_hdf5": any4lerobot_hdf5}
    frames = ways[way](source, out, fps=fps, video=video)
    seconds = time.perf_counter() - start
    packages = ("lerobot", "torch", "av", "numpy", "pillow", "pyarrow", "datasets", "h5py", "tensorflow-datasets")
    return {"seconds": seconds, "frames": frames, "packages": {name: metadata.version(name) for name in packages}}


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings for every episode otherwise
    print("benchmark-result: " + json.dumps(main(**json.loads(sys.argv[1]))), flush=True)

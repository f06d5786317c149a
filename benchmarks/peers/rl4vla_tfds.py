"""RL4VLA's way from rollouts to a TFDS dataset, for comparison.

Written from the description of its builder: `np.load` with pickle, ten threads with fifty episodes in flight,
whole episodes as arrays, and TFDS encoding the images. Like the original it looks up success by the index in
what the filter left. Unlike it, it takes the image after the last action and lists of actions.

    build("rollouts", "out") -> {"seconds": ..., "frames_in": ..., "frames_out": ..., "peak_mb": ..., ...}
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks import harness

_THREADS = 10
_IN_FLIGHT = 50
_STREAK = 6
_METRES, _RADIANS = 0.01, 0.06


def build(rollouts_dir: str | Path, data_dir: str | Path) -> dict[str, Any]:
    """Build in a process of its own.

    `seconds` begin after TensorFlow is imported and the builder is made; `startup_seconds` are those
    before, and `wall_seconds` the whole process; `cpu_seconds` and `cpu_with_startup` are those of the processor.
    `pss_mb` is measured as for our side;
    `import_mb` is what the process held at the end of the start-up and `import_peak_mb` the most until then.
    """
    if Path(data_dir).exists():
        raise ValueError(f"{data_dir} exists; TFDS would reuse the dataset in it and build nothing")
    run, result = harness.run_function(
        f"{__name__}:build_here", rollouts_dir=str(rollouts_dir), data_dir=str(data_dir)
    )
    if result is None:
        raise RuntimeError(f"the peer's build failed with exit code {run.exit_code}:\n{run.error()}")
    return {
        **result,
        "wall_seconds": run.seconds,
        "cpu_with_startup": run.cpu_seconds,
        "pss_mb": run.pss_mb,
    }


def count_frames(data_dir: str | Path) -> dict[str, int]:
    """Episodes and frames of the one dataset below `data_dir`, as TFDS itself reads them."""
    run, result = harness.run_function(f"{__name__}:count_here", data_dir=str(data_dir))
    if result is None:
        raise RuntimeError(f"TFDS cannot read the dataset, exit code {run.exit_code}:\n{run.error()}")
    return {key: int(value) for key, value in result.items()}


def build_here(rollouts_dir: str, data_dir: str) -> dict[str, float | int]:
    """`build` in this process."""
    tfds = _import_tfds()
    files = sorted(Path(rollouts_dir).glob("*.npz"))
    if not files:
        raise ValueError(f"{rollouts_dir} holds no .npz file")
    counts = {"frames_in": 0, "frames_out": 0}
    builder = _builder_class(tfds, files, counts)(data_dir=data_dir)
    import_mb, import_peak_mb = harness.memory_mb("VmRSS"), harness.memory_mb("VmHWM")
    start, used = time.perf_counter(), time.process_time()
    startup = time.time() - psutil.Process().create_time()
    builder.download_and_prepare()
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - used,
        "startup_seconds": startup,
        "peak_mb": harness.memory_mb("VmHWM"),
        "import_mb": import_mb,
        "import_peak_mb": import_peak_mb,
        "episodes": len(files),
        **counts,
    }


def count_here(data_dir: str) -> dict[str, int]:
    """`count_frames` in this process."""
    tfds = _import_tfds()
    found = sorted(Path(data_dir).rglob("dataset_info.json"))
    if len(found) != 1:
        raise ValueError(f"expected one dataset below {data_dir}, found {len(found)}")
    builder = tfds.builder_from_directory(found[0].parent)
    # Images stay encoded: only how many there are is asked.
    decoders = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}
    episodes = frames = 0
    for split in builder.info.splits:
        for episode in builder.as_dataset(split=split, decoders=decoders):
            episodes += 1
            frames += int(episode["steps"].cardinality())
    return {"episodes": episodes, "frames": frames}


def _import_tfds() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow  # noqa: F401  (tensorflow_datasets would import it late, inside the timed part)
    import tensorflow_datasets

    tensorflow_datasets.disable_progress_bar()
    return tensorflow_datasets


def _builder_class(tfds: Any, files: list[Path], counts: dict[str, int]) -> Any:
    """The builder, made here so that reading this file does not import TensorFlow; it adds to `counts`."""
    with np.load(files[0], allow_pickle=True) as archive:
        shape = np.asarray(archive["arr_0"].item()["image"][0]).shape

    class ExampleDataset(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            image = tfds.features.Image(shape=shape, dtype=np.uint8, encoding_format="jpeg")
            step = {
                "observation": {"image": image},
                "language_instruction": tfds.features.Text(),
                "action": tfds.features.Tensor(shape=(7,), dtype=np.float32),
            }
            features = {
                "steps": tfds.features.Dataset(step),
                "episode_metadata": {"file_path": tfds.features.Text()},
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[str, Any]]:
            for path, images, steps in _in_threads(files):
                counts["frames_in"] += images
                counts["frames_out"] += len(steps)
                yield str(path), {"steps": steps, "episode_metadata": {"file_path": str(path)}}

    return ExampleDataset


def _in_threads(files: list[Path]) -> Iterator[tuple[Path, int, list[dict[str, Any]]]]:
    """Episodes as they get ready: path, images in the file, kept steps."""
    waiting = iter(files)
    with ThreadPoolExecutor(_THREADS) as pool:
        running: dict[Future[tuple[int, list[dict[str, Any]]]], Path] = {}

        def submit_next() -> None:
            path = next(waiting, None)
            if path is not None:
                running[pool.submit(_episode, path)] = path

        for _ in range(_IN_FLIGHT):
            submit_next()
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                path = running.pop(future)
                yield path, *future.result()
                submit_next()


def _episode(path: Path) -> tuple[int, list[dict[str, Any]]]:
    rollout = np.load(path, allow_pickle=True)["arr_0"].tolist()
    instruction = rollout["instruction"]
    if isinstance(instruction, np.ndarray):
        instruction = instruction.tolist()[0]
    actions = np.asarray(rollout["action"], dtype=np.float32)
    if isinstance(rollout["image"], np.ndarray):
        images = rollout["image"]
    else:
        images = np.asarray([np.asarray(image) for image in rollout["image"]])
    count = len(images)
    kept = _moving(actions)
    images = images[: len(actions)][kept]
    actions = actions[kept]
    steps: list[dict[str, Any]] = []
    streak = 0
    for i, (image, action) in enumerate(zip(images, actions, strict=True)):
        steps.append({"observation": {"image": image}, "action": action, "language_instruction": instruction})
        streak = streak + 1 if rollout["info"][i]["success"] else 0
        if streak >= _STREAK:
            break
    return count, steps


def _moving(actions: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Steps that move, turn or switch the gripper."""
    kept = np.linalg.norm(actions[:, :3], axis=1) > _METRES
    kept |= np.linalg.norm(actions[:, 3:6], axis=1) > _RADIANS
    kept[1:] |= actions[1:, 6] != actions[:-1, 6]
    return np.asarray(kept)
